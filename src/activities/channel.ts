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

/** If the channel gives no readable answer for this long, nodrop raises the attention `channel_unreachable`. */
const UNREACHABLE_ALARM_MS = 5 * 60_000;
/**
 * If a query has searched the channel's listing without success within this time, a close does not search the listing
 * again.
 */
const LISTING_COUNTS_FOR_MS = 60_000;
/** The first retry delay after a query without a readable answer. */
const SILENCE_RETRY_MS = 2_000;

export interface PollInput {
  readonly paymentId: string;
  /** When the first query is due, epoch ms. */
  readonly startedAt: number;
  /** The waits between the queries, in ms. */
  readonly waits: readonly number[];
  /** The first queries, up to this number, are recorded as caused by a hint. */
  readonly hintQueries: number;
  /**
   * After the last of `waits`, queries continue at this interval, in ms, while the channel reports "processing". Null
   * if they do not continue.
   */
  readonly whileProcessingEveryMs: number | null;
  /** True if the payment must end, but the channel still refuses to close the trade. */
  readonly isToEnd?: boolean;
}

/**
 * The activities that call a channel. Their task queue is `channel-{name}`, and `channel-{name}-poll` for
 * `queryChannel`. Each activity records the channel's answer in the ledger before it returns, because the result of a
 * cancelled activity is lost.
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

  /** Starts the payment's event deliveries if it has just ended. */
  const withDeliveries = async (snapshot: PaymentSnapshot): Promise<PaymentSnapshot> => {
    if (!isLive(snapshot.status)) await startDeliveries({ db, deliveryWorkflows }, snapshot.id);
    return snapshot;
  };

  /**
   * Queries the trade. If the query needs the channel's id of the trade and the ledger lacks it, a listing is searched
   * first.
   * @throws ChannelError
   */
  const query = async (adapter: ChannelAdapter, payment: Payment): Promise<ChannelAnswer> => {
    const trade = await knownTrade(deps, adapter, payment, cancellationSignal());
    if (trade === 'absent') return { state: 'unknown_trade' };
    return await adapter.queryTrade(accountOf(payment), trade, cancellationSignal());
  };

  /**
   * Closes the trade. If the close needs the channel's id of the trade and the ledger lacks it, a listing is searched
   * first.
   * @throws ChannelError
   */
  const close = async (adapter: ChannelAdapter, payment: Payment, at: Date): Promise<CloseAnswer> => {
    // Reading a listing takes many requests. Therefore the close does not read it if the query before the close has
    // just read it.
    const isAskedById = adapter.findTrade !== undefined && payment.reference === null;
    const { channelState, channelAnsweredAt: answeredAt } = payment;
    const isFresh = answeredAt !== null && at.getTime() - answeredAt.getTime() < LISTING_COUNTS_FOR_MS;
    if (isAskedById && channelState === 'unknown_trade' && isFresh) return { state: 'unknown_trade' };
    const trade = await knownTrade(deps, adapter, payment, cancellationSignal());
    if (trade === 'absent') return { state: 'unknown_trade' };
    return await adapter.closeTrade(accountOf(payment), trade, cancellationSignal());
  };

  /** Queries once and records the answer. A live payment ends if the answer is definite and reports no money. */
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
        (await withDeliveries(await ledger.recordAnswer(db, payment.id, answer, by, at, payment.noticedAt))),
    };
  };

  /**
   * Returns the callback URL of a new trade. If the channel accepts a URL with each trade, the URL contains a proof
   * that nodrop gives only to the channel. Therefore nodrop accepts a request to that URL as a request about this
   * payment.
   */
  const notifyUrl = (payment: Payment, { takesCallbackAddress }: ChannelDeclaration): string => {
    const { id, channelAccountId } = payment;
    const address = callbackAddressOf(payment, publicUrl);
    return takesCallbackAddress ? `${address}/${id}/${callbackProof(secret, channelAccountId, id)}` : address;
  };

  /** Returns the order's subject. It is used for payments of an older release, because their rows have no subject. */
  const subjectOfOrder = async ({ merchantId, orderId }: { merchantId: string; orderId: string }) => {
    const where = { merchantId_id: { merchantId, id: orderId } };
    return (await db.order.findUniqueOrThrow({ where, select: { subject: true } })).subject;
  };

  /**
   * Records that a call gave no information about the trade. If this lasts 5 min, an attention is raised. If nodrop's
   * configuration is the cause, the attention is raised immediately.
   */
  const silence = async (payment: { id: string }, error: ChannelError) =>
    error.kind === 'misconfigured'
      ? await ledger.recordMisconfigured(db, payment.id, error.message, await now())
      : await ledger.recordSilence(db, payment.id, describeError(error), UNREACHABLE_ALARM_MS, await now());

  /** Builds the parameters of a payment's trade. Every repeated create sends the same parameters. */
  const newTradeOf = async (
    payment: Payment,
    { declaration }: ChannelAdapter,
    known: Trade,
  ): Promise<NewTrade> => {
    const { id, method, orderId, createdAt } = payment;
    const limits = methodOf(declaration, method) ?? declaration.methods[0];
    // A repeated create must send the same subject. Therefore the code sends the payment's subject. The order's subject
    // can change.
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
   * Returns the trade that the channel must create. After the channel's idempotency horizon, a repeated create could
   * create a second trade. Therefore, after that horizon, nodrop looks up the existing trade instead.
   * @returns `absent` if the trade does not exist and can no longer be created safely
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
   * Handles the channel's refusal to create the trade. The refusal is definite if no earlier request had an unknown
   * outcome. Otherwise an earlier request may have created the trade and used up its number. In that case the payment
   * fails only if the channel also answers a query with "unknown trade".
   * @param isAlone true if no earlier or concurrent request can have created the trade
   * @throws ChannelError when the outcome is unknown
   */
  const refused = async (
    payment: Payment,
    isAlone: boolean,
    refusal: ChannelError,
  ): Promise<PaymentSnapshot> => {
    // The payment is no longer `created`, so its trade exists. The refusal says nothing about that trade.
    if (payment.status !== 'created') throw refusal;
    if (!isAlone) {
      const current = await load(payment.id);
      const answer = await query(adapterOf(payment), current);
      if (answer.state !== 'unknown_trade') {
        const after = await withDeliveries(
          await ledger.recordAnswer(db, payment.id, answer, 'query', await now()),
        );
        if (answer.state !== 'unpaid') return after;
        const why = `The channel has the trade, but gives no next action: ${refusal.message}`;
        return await ledger.endAttempt(db, payment.id, why, await now());
      }
    }
    const after = await ledger.recordRefusal(db, payment.id, refusal.message, await now());
    if (after.status === 'created') throw refusal;
    return await withDeliveries(after);
  };

  return {
    /**
     * Creates the trade, unless it exists already. If the channel definitely refuses, the payment fails. If the
     * channel no longer gives a next action, the payment attempt ends.
     */
    async createAtChannel(paymentId: string): Promise<PaymentSnapshot> {
      // The ledger records the request to create the trade before the request is sent to the channel.
      const at = await now();
      const { payment, isFirst } = await ledger.askForTrade(db, paymentId, at);
      const snapshot = toSnapshot(payment, at);
      if (!isLive(snapshot.status) || hasUsableAction(payment, at)) return snapshot;
      // nodrop never creates a trade for a recovered or adopted payment. The trade of such a payment either exists
      // already or will never exist.
      if (payment.recoveredAt !== null || payment.adopted !== null) return snapshot;
      // The workflow of a new payment has not read the row yet. Therefore this code checks the row, and creates no
      // trade if the payment is paid, may be paid, or is being cancelled.
      const { status, channelState, cancelRequested } = snapshot;
      const isInProcess = status === 'created' && channelState === 'processing';
      if (hasUnsettledMoney(snapshot) || cancelRequested || isInProcess) return snapshot;
      const { merchantId, orderId, channel } = payment;
      try {
        const adapter = adapterOf(payment);
        const known = await tradeToCreate(adapter, payment, at);
        if (known === 'absent') {
          const why = 'The channel does not have the trade, and a repeated create would no longer be safe';
          return await ledger.endAttempt(db, paymentId, why, await now());
        }
        const trade = await newTradeOf(payment, adapter, known);
        // The steps above can be slow, so the payment may have expired meanwhile. No request may begin after the
        // expiry, because the workflow expects that every attempt has ended by CREATE_ATTEMPT_MS after the expiry. The
        // code throws and does not end the payment, because a process with a slower clock may still be allowed to
        // retry.
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
          // If this attempt took longer than CREATE_ATTEMPT_MS, another attempt to create the trade may run at the
          // same time.
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
     * Sends the scheduled queries. All queries are retries of one activity, so they add only three events to the
     * workflow's history. The activity returns when the channel's answer ends the wait, when the waits are used up, or
     * when the Web UI must show something else.
     */
    async queryChannel(input: PollInput): Promise<PaymentSnapshot> {
      const { attempt } = activityInfo();
      const payment = await load(input.paymentId).catch((error: unknown) => {
        throw unknownOutcome('channel', error, OWN_TROUBLE_RETRY_MS);
      });
      const before = toSnapshot(payment, await now());
      // An earlier attempt of this activity may have recorded the channel's answer and died before it returned.
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
        // The query gave no answer, so it is retried sooner than scheduled. The retry delay grows while the channel
        // does not answer.
        const silentFor = at - (after.channelErrorSince ?? at);
        throw unknownOutcome(payment.channel, error, Math.min(wait, Math.max(SILENCE_RETRY_MS, silentFor)));
      }
      const wait =
        nextWait(input.waits, input.startedAt, (await now()).getTime()) ?? input.whileProcessingEveryMs;
      const isProcessing = state === 'processing';
      // True if the Web UI's text about the payment is out of date, or if the workflow must now wait for something
      // else.
      const changed =
        after.status !== before.status ||
        after.attention !== before.attention ||
        isProcessing !== (before.channelState === 'processing') ||
        // A payment with the status `created` is queried only while the channel processes its trade. Once the channel
        // no longer processes the trade, the workflow must create it. This condition does not use `before`, because an
        // earlier attempt of this activity may have recorded the change.
        (after.status === 'created' && !isProcessing) ||
        (input.whileProcessingEveryMs !== null && !isProcessing) ||
        (input.whileProcessingEveryMs === null &&
          input.isToEnd !== true &&
          after.cancelRequested &&
          isLive(after.status));
      if (wait === null || hasUnsettledMoney(after) || changed) return after;
      throw notYet(payment.channel, state, wait);
    },

    /** Queries the channel once, for a request that waits for the answer. */
    async askChannel(paymentId: string): Promise<{ snapshot: PaymentSnapshot; answered: boolean }> {
      const payment = await load(paymentId);
      try {
        return { snapshot: (await ask(payment, 'query')).snapshot, answered: true };
      } catch (error) {
        if (!(error instanceof ChannelError)) throw error;
        return { snapshot: await silence(payment, error), answered: false };
      }
    },

    /** Queries a payment that must end, because a payment must be queried before it is closed. */
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
     * Closes the trade of an unpaid payment at the channel, and ends the payment. If the channel answers "already
     * paid", "processing" or "not yet", the payment does not end, and further queries follow. If nodrop only watches
     * the trade, the trade belongs to the merchant and stays open at the channel. In that case the payment ends, and
     * the late watch continues to query the trade.
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
        const detail = "unpaid. The trade is the merchant's and stays open: the late watch continues.";
        return {
          snapshot: await withDeliveries(await ledger.endPayment(db, payment.id, to, detail, begun)),
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
            : `unpaid, and unknown to the channel.${isOpen ? ' Its link can still be paid: the late watch continues.' : ''}`;
        return {
          snapshot: await withDeliveries(await ledger.endPayment(db, payment.id, to, detail, at)),
          closed,
        };
      } catch (error) {
        if (error instanceof ChannelError) await silence(payment, error);
        throw unknownOutcome(payment.channel, error);
      }
    },
  };
}

/** True if received money is on record and not settled yet. */
function hasUnsettledMoney(snapshot: PaymentSnapshot): boolean {
  return snapshot.status !== 'succeeded' && hasMoney(snapshot);
}

export type ChannelActivities = ReturnType<typeof channelActivities>;
