import { activityInfo, cancellationSignal } from '@temporalio/activity';
import { callbackProof, clientToken } from '../client-token.ts';
import {
  type ChannelAdapter,
  type ChannelAnswer,
  type ChannelDeclaration,
  ChannelError,
  type CloseAnswer,
  methodOf,
  type NewTrade,
  type Payer,
  type Trade,
} from '../domain/channel.ts';
import { expiryAtChannel, mayRepeatCreate } from '../domain/create.ts';
import { cutSubject } from '../domain/limits.ts';
import { defaultSubject, hasMoney, type PaymentSnapshot } from '../domain/payment.ts';
import { closeAgainAt, nextWait } from '../domain/schedule.ts';
import { isLive, isOnlyWatched, type SettledBy } from '../domain/states.ts';
import { knownTrade, ofThisPayment } from '../ledger/known-trade.ts';
import { hasUsableAction, toSnapshot } from '../ledger/payment-facts.ts';
import * as ledger from '../ledger/payments.ts';
import { repeatAnswer } from '../ledger/repeated-answer.ts';
import type { Payment } from '../ledger/rows.ts';
import { accountOf, tradeOf } from '../ledger/trade-of-payment.ts';
import { startDeliveries } from '../temporal/start-deliveries.ts';
import { CREATE_ATTEMPT_MS } from '../workflows/activity-options.ts';
import type { ActivityDeps } from './activity-deps.ts';
import { callbackAddressOf } from './callback-address.ts';
import { describeError, notYet, OWN_TROUBLE_RETRY_MS, unknownOutcome } from './failures.ts';
import { withoutPayer } from './without-payer.ts';

/** A channel that gives no readable answer for this long is shown to a person. */
const UNREACHABLE_ALARM_MS = 5 * 60_000;
/** A listing without the trade that a query has read so lately is not read again for the close. */
const LISTING_COUNTS_FOR_MS = 60_000;
/** How soon a query without a readable answer is repeated at first. */
const SILENCE_RETRY_MS = 2_000;

export interface PollInput {
  readonly paymentId: string;
  /** When the first of the queries is due, epoch ms, and the waits from there to each of the others, in ms. */
  readonly startedAt: number;
  readonly waits: readonly number[];
  /** How many of the coming queries count as brought about by a hint. */
  readonly hintQueries: number;
  /** Past the expiry the channel said "processing": asked for as long as it does, every so many ms. */
  readonly whileProcessingEveryMs: number | null;
  /** It is to end, and the channel does not close it yet. */
  readonly isToEnd?: boolean;
}

/**
 * The activities that talk to a channel; task queues `channel-{name}` and, for `queryChannel`,
 * `channel-{name}-poll`. Each writes what the channel said into the ledger before it returns, because a
 * cancelled activity's result is lost.
 */
export function channelActivities(deps: ActivityDeps) {
  const { db, channels, publicUrl, secret, now, deliveryWorkflows } = deps;
  const load = (paymentId: string) => db.payment.findUniqueOrThrow({ where: { id: paymentId } });

  const adapterOf = ({ channel, payer }: Payment) => {
    const adapter = channels.get(channel);
    if (adapter === undefined)
      throw new ChannelError('unreachable', `channel ${channel} is not configured on this worker`);
    return withoutPayer(adapter, (payer ?? {}) as Payer);
  };

  /** Its order service is told when this ended it. */
  const told = async (snapshot: PaymentSnapshot): Promise<PaymentSnapshot> => {
    if (!isLive(snapshot.status)) await startDeliveries({ db, deliveryWorkflows }, snapshot.id);
    return snapshot;
  };

  /** What the channel says of the trade. @throws ChannelError */
  const query = async (adapter: ChannelAdapter, payment: Payment): Promise<ChannelAnswer> => {
    const trade = await knownTrade(deps, adapter, payment, cancellationSignal());
    if (trade === 'absent') return { state: 'unknown_trade' };
    return await adapter.queryTrade(accountOf(payment), trade, cancellationSignal());
  };

  /** @throws ChannelError */
  const close = async (adapter: ChannelAdapter, payment: Payment, at: Date): Promise<CloseAnswer> => {
    // A listing is many requests, and the query before the close has just read it.
    const isAskedById = adapter.findTrade !== undefined && payment.reference === null;
    const { channelState, channelAnsweredAt: answeredAt } = payment;
    const isFresh = answeredAt !== null && at.getTime() - answeredAt.getTime() < LISTING_COUNTS_FOR_MS;
    if (isAskedById && channelState === 'unknown_trade' && isFresh) return { state: 'unknown_trade' };
    const trade = await knownTrade(deps, adapter, payment, cancellationSignal());
    if (trade === 'absent') return { state: 'unknown_trade' };
    return await adapter.closeTrade(accountOf(payment), trade, cancellationSignal());
  };

  /** Asks once and writes the answer down; a definite answer without money ends a live payment. */
  const ask = async (
    payment: Payment,
    by: SettledBy,
  ): Promise<{ state: string; snapshot: PaymentSnapshot }> => {
    const answer = await query(adapterOf(payment), payment);
    const at = await now();
    const repeated = await repeatAnswer(db, payment, answer, at);
    return {
      state: answer.state,
      snapshot:
        repeated ??
        (await told(await ledger.recordAnswer(db, payment.id, answer, by, at, payment.noticedAt))),
    };
  };

  /** Where the channel takes an address with each trade, ours proves that what comes to it is of this one. */
  const notifyUrl = (payment: Payment, { takesCallbackAddress }: ChannelDeclaration): string => {
    const { id, channelAccountId } = payment;
    const address = callbackAddressOf(payment, publicUrl);
    return takesCallbackAddress ? `${address}/${id}/${callbackProof(secret, channelAccountId, id)}` : address;
  };

  /** Of a payment that an older release made: one of today has its own. */
  const subjectOfOrder = async ({ merchantId, orderId }: { merchantId: string; orderId: string }) => {
    const where = { merchantId_id: { merchantId, id: orderId } };
    return (await db.order.findUniqueOrThrow({ where, select: { subject: true } })).subject;
  };

  /** No answer that says anything of the trade: written down, and shown when it lasts, or at once when it is ours to mend. */
  const silence = async (payment: { id: string }, error: ChannelError) =>
    error.kind === 'misconfigured'
      ? await ledger.recordMisconfigured(db, payment.id, error.message, await now())
      : await ledger.recordSilence(db, payment.id, describeError(error), UNREACHABLE_ALARM_MS, await now());

  /** Everything that the trade is created from, the same however often it is asked for. */
  const newTradeOf = async (
    payment: Payment,
    { declaration }: ChannelAdapter,
    known: Trade,
  ): Promise<NewTrade> => {
    const { id, method, orderId, createdAt } = payment;
    const limits = methodOf(declaration, method) ?? declaration.methods[0];
    // As it was when the payment was made: the order's can change, and the trade's number stands for its terms.
    const subject = (payment.subject ?? (await subjectOfOrder(payment))) || defaultSubject(orderId);
    return {
      ...known,
      expiresAt: expiryAtChannel(known, payment.createAskedAt ?? createdAt, limits.expiry.atLeastMs),
      subject: cutSubject(subject, limits.subject),
      notifyUrl: notifyUrl(payment, declaration),
      returnUrl: `${publicUrl}/return/${id}?token=${clientToken(secret, id)}`,
      payer: (payment.payer ?? {}) as Payer,
    };
  };

  /**
   * The trade as its create is asked for (again). Past the channel's idempotency horizon a repetition could make a second
   * one: it is looked for instead.
   * @returns `absent` when it is not there and is not created any more
   * @throws ChannelError
   */
  const tradeToCreate = async (
    adapter: ChannelAdapter,
    payment: Payment,
    at: Date,
  ): Promise<Trade | 'absent'> => {
    const { create } = adapter.declaration.repeatableForMs;
    return mayRepeatCreate(payment.createAskedAt ?? payment.createdAt, create, at)
      ? tradeOf(payment)
      : await knownTrade(deps, adapter, payment, cancellationSignal());
  };

  /**
   * A refusal to create the trade is definite when nothing was unknown before it. Otherwise an earlier request may have made
   * the trade, and used up its number: only when a query does not know it either, the payment fails.
   * @throws ChannelError when that is not known
   */
  const refused = async (
    payment: Payment,
    isAlone: boolean,
    refusal: ChannelError,
  ): Promise<PaymentSnapshot> => {
    // Of a payment that has got further a refusal says nothing: the trade is there.
    if (payment.status !== 'created') throw refusal;
    if (!isAlone) {
      const current = await load(payment.id);
      const answer = await query(adapterOf(payment), current);
      if (answer.state !== 'unknown_trade') {
        const after = await told(await ledger.recordAnswer(db, payment.id, answer, 'query', await now()));
        if (answer.state !== 'unpaid') return after;
        const why = `The channel has the trade, and gives no next action: ${refusal.message}`;
        return await ledger.endAttempt(db, payment.id, why, await now());
      }
    }
    const after = await ledger.recordRefusal(db, payment.id, refusal.message, await now());
    if (after.status === 'created') throw refusal;
    return await told(after);
  };

  return {
    /**
     * Creates the trade, or finds it created. A definite refusal of the channel fails the payment; when the channel gives no
     * next action any more, the attempt ends.
     */
    async createAtChannel(paymentId: string): Promise<PaymentSnapshot> {
      // The row says that it is asked for before it is.
      const at = await now();
      const { payment, isFirst } = await ledger.askForTrade(db, paymentId, at);
      const snapshot = toSnapshot(payment, at);
      if (!isLive(snapshot.status) || hasUsableAction(payment, at)) return snapshot;
      // The channel has the trade, or never will: nobody is to pay what is only being found out about.
      if (payment.recoveredAt !== null || payment.adopted !== null) return snapshot;
      // A new payment's workflow has not read the row: nobody is to pay what is paid, may be, or is to be cancelled.
      const { status, channelState, cancelRequested } = snapshot;
      const isInProcess = status === 'created' && channelState === 'processing';
      if (hasUnsettledMoney(snapshot) || cancelRequested || isInProcess) return snapshot;
      const { merchantId, orderId, channel } = payment;
      try {
        const adapter = adapterOf(payment);
        const known = await tradeToCreate(adapter, payment, at);
        if (known === 'absent') {
          const why = 'The channel does not have the trade, and cannot be told again to create it';
          return await ledger.endAttempt(db, paymentId, why, await now());
        }
        const trade = await newTradeOf(payment, adapter, known);
        // What is above can be slow: CREATE_ATTEMPT_MS holds only for a request that begins before the expiry. It is no
        // result: by another clock the payment may still have time, and is to be tried again.
        if ((await now()) >= payment.expiresAt)
          throw new Error('the payment expired before its trade was created');
        const created = await adapter.createTrade(accountOf(payment), trade, cancellationSignal());
        if (created === 'not_renewable')
          return await ledger.endAttempt(db, paymentId, 'The channel gives no new next action', await now());
        const { action, reference } = created;
        return await ofThisPayment(payment, async () =>
          ledger.recordCreated(db, { paymentId, merchantId, orderId }, action, await now(), reference),
        );
      } catch (error) {
        const unknown = await (async (): Promise<PaymentSnapshot | { cause: unknown }> => {
          if (!(error instanceof ChannelError) || error.kind !== 'rejected') return { cause: error };
          // Later another attempt may have begun beside this one.
          const isAlone = isFirst && (await now()).getTime() - at.getTime() < CREATE_ATTEMPT_MS;
          return await refused(payment, isAlone, error).catch((cause: unknown) => ({ cause }));
        })();
        if (!('cause' in unknown)) return unknown;
        const { cause } = unknown;
        if (cause instanceof ChannelError && cause.kind === 'misconfigured') await silence(payment, cause);
        throw unknownOutcome(channel, cause);
      }
    },

    /**
     * The active queries: one activity whose own retries are the schedule, so that any number of rounds costs
     * three events. Returns when the channel's word ends the wait, when the waits are used up, or when what a
     * person should see of the payment has changed.
     */
    async queryChannel(input: PollInput): Promise<PaymentSnapshot> {
      const { attempt } = activityInfo();
      const payment = await load(input.paymentId).catch((error: unknown) => {
        throw unknownOutcome('channel', error, OWN_TROUBLE_RETRY_MS);
      });
      const before = toSnapshot(payment, await now());
      // An earlier attempt may have written its answer down and died before it could return it.
      if (hasUnsettledMoney(before)) return before;
      const by: SettledBy = attempt <= input.hintQueries ? 'hint' : 'query';
      let after: PaymentSnapshot;
      let state: string;
      try {
        ({ snapshot: after, state } = await ask(payment, by));
      } catch (error) {
        if (!(error instanceof ChannelError))
          throw unknownOutcome(payment.channel, error, OWN_TROUBLE_RETRY_MS);
        after = await silence(payment, error);
        const at = (await now()).getTime();
        const wait = nextWait(input.waits, input.startedAt, at) ?? input.whileProcessingEveryMs;
        if (wait === null || after.attention !== before.attention) return after;
        // Sooner than on schedule, as nothing was learnt; ever later while the silence lasts.
        const silentFor = at - (after.channelErrorSince ?? at);
        throw unknownOutcome(payment.channel, error, Math.min(wait, Math.max(SILENCE_RETRY_MS, silentFor)));
      }
      const wait =
        nextWait(input.waits, input.startedAt, (await now()).getTime()) ?? input.whileProcessingEveryMs;
      const isProcessing = state === 'processing';
      // What the Web UI says of the payment would no longer be true, or what it waits for is another thing.
      const changed =
        after.status !== before.status ||
        after.attention !== before.attention ||
        isProcessing !== (before.channelState === 'processing') ||
        // It was asked because the channel was deciding, and is still to be created; an earlier attempt may have seen that.
        (after.status === 'created' && !isProcessing) ||
        (input.whileProcessingEveryMs !== null && !isProcessing) ||
        (input.whileProcessingEveryMs === null &&
          input.isToEnd !== true &&
          after.cancelRequested &&
          isLive(after.status));
      if (wait === null || hasUnsettledMoney(after) || changed) return after;
      throw notYet(payment.channel, state, wait);
    },

    /** One query now, for somebody who waits for the answer. */
    async askChannel(paymentId: string): Promise<{ snapshot: PaymentSnapshot; answered: boolean }> {
      const payment = await load(paymentId);
      try {
        return { snapshot: (await ask(payment, 'query')).snapshot, answered: true };
      } catch (error) {
        if (!(error instanceof ChannelError)) throw error;
        return { snapshot: await silence(payment, error), answered: false };
      }
    },

    /** The same for a payment that is to end, which must not be closed without having been asked about. */
    async askBeforeEnd(paymentId: string): Promise<PaymentSnapshot> {
      const payment = await load(paymentId);
      const before = toSnapshot(payment, await now());
      if (!isLive(before.status) || hasUnsettledMoney(before)) return before;
      try {
        return (await ask(payment, 'close')).snapshot;
      } catch (error) {
        if (error instanceof ChannelError) await silence(payment, error);
        throw unknownOutcome(payment.channel, error);
      }
    },

    /**
     * Closes an unpaid payment at the channel and ends it. "Already paid" in the channel's answer means paid, and
     * "processing" that it decides: both leave everything as it is, to be asked about. So does "not yet", with its time.
     * A trade that is only watched stays open: it is the merchant's to close, and the late watch asks on.
     */
    async closeAtChannel(
      paymentId: string,
      to: 'closed' | 'cancelled',
    ): Promise<{ snapshot: PaymentSnapshot; closed: CloseAnswer['state'] }> {
      const payment = await load(paymentId);
      const begun = await now();
      const before = toSnapshot(payment, begun);
      if (!isLive(before.status) || hasUnsettledMoney(before)) return { snapshot: before, closed: 'closed' };
      if (isOnlyWatched(payment)) {
        const detail = "unpaid; the trade is the merchant's, and stays as it is: the late watch asks on.";
        return {
          snapshot: await told(await ledger.endPayment(db, payment.id, to, detail, begun)),
          closed: 'closed',
        };
      }
      try {
        const adapter = adapterOf(payment);
        const answer = await close(adapter, payment, begun);
        const { state: closed } = answer;
        const at = await now();
        if (answer.state === 'not_yet') {
          const until = closeAgainAt(Date.parse(answer.until), at.getTime());
          return { snapshot: await ledger.recordNotYet(db, payment.id, new Date(until), at), closed };
        }
        if (closed === 'already_paid') return { snapshot: before, closed };
        if (closed === 'processing') {
          const processing = await ledger.recordAnswer(db, payment.id, { state: 'processing' }, 'close', at);
          return { snapshot: processing, closed };
        }
        const isOpen = closed === 'unknown_trade' && adapter.declaration.unknownTradeCanBePaid;
        const detail =
          closed === 'closed'
            ? 'unpaid, closed at the channel.'
            : `unpaid, and unknown to the channel${isOpen ? ', where its link can still be paid: the late watch asks on' : ''}.`;
        return { snapshot: await told(await ledger.endPayment(db, payment.id, to, detail, at)), closed };
      } catch (error) {
        if (error instanceof ChannelError) await silence(payment, error);
        throw unknownOutcome(payment.channel, error);
      }
    },
  };
}

/** Money is on record that has not been settled. */
function hasUnsettledMoney(snapshot: PaymentSnapshot): boolean {
  return snapshot.status !== 'succeeded' && hasMoney(snapshot);
}

export type ChannelActivities = ReturnType<typeof channelActivities>;
