import { activityInfo, cancellationSignal } from '@temporalio/activity';
import { clientToken } from '../client-token.ts';
import { ChannelError, type CloseAnswer, type Payer } from '../domain/channel.ts';
import { defaultSubject, hasMoney, type PaymentSnapshot } from '../domain/payment.ts';
import { nextWait } from '../domain/schedule.ts';
import { isLive, type SettledBy } from '../domain/states.ts';
import * as ledger from '../ledger/payments.ts';
import type { Payment } from '../ledger/rows.ts';
import { repeatAnswer } from '../ledger/same-answer.ts';
import { hasUsableAction, toSnapshot } from '../ledger/snapshot.ts';
import { accountOf, tradeOf } from '../ledger/trade.ts';
import { startDeliveries } from '../temporal/start-deliveries.ts';
import type { ActivityDeps } from './deps.ts';
import { notYet, OWN_TROUBLE_RETRY_MS, reasonOf, unknownOutcome } from './failures.ts';

/** A channel that gives no readable answer for this long is shown to a person. */
const UNREACHABLE_ALARM_MS = 5 * 60_000;
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
}

/**
 * The activities that talk to a channel; task queues `channel-{name}` and, for `queryChannel`,
 * `channel-{name}-poll`. Each writes what the channel said into the ledger before it returns, because a
 * cancelled activity's result is lost.
 */
export function channelActivities({ db, channels, publicUrl, secret, now, deliveryWorkflows }: ActivityDeps) {
  const load = (paymentId: string) => db.payment.findUniqueOrThrow({ where: { id: paymentId } });

  const adapterOf = (channel: string) => {
    const adapter = channels.get(channel);
    if (adapter === undefined)
      throw new ChannelError('unreachable', `channel ${channel} is not configured on this worker`);
    return adapter;
  };

  /** Its order service is told when this ended it. */
  const told = async (snapshot: PaymentSnapshot): Promise<PaymentSnapshot> => {
    if (!isLive(snapshot.status)) await startDeliveries({ db, deliveryWorkflows }, snapshot.id);
    return snapshot;
  };

  /** Asks once and writes the answer down; a definite answer without money ends a live payment. */
  const ask = async (
    payment: Payment,
    by: SettledBy,
  ): Promise<{ state: string; snapshot: PaymentSnapshot }> => {
    const answer = await adapterOf(payment.channel).queryTrade(
      accountOf(payment),
      tradeOf(payment),
      cancellationSignal(),
    );
    const at = await now();
    const repeated = await repeatAnswer(db, payment, answer, at);
    return {
      state: answer.state,
      snapshot: repeated ?? (await told(await ledger.recordAnswer(db, payment.id, answer, by, at))),
    };
  };

  /** Of a payment that an older release made: one of today has its own. */
  const subjectOfOrder = async ({ merchantId, orderId }: { merchantId: string; orderId: string }) => {
    const where = { merchantId_id: { merchantId, id: orderId } };
    return (await db.order.findUniqueOrThrow({ where, select: { subject: true } })).subject;
  };

  const silence = async (payment: { id: string }, error: unknown) =>
    await ledger.recordSilence(db, payment.id, reasonOf(error), UNREACHABLE_ALARM_MS, await now());

  return {
    /** Creates the trade, or finds it created; a refusal of the channel is definite and fails the payment. */
    async createAtChannel(paymentId: string): Promise<PaymentSnapshot> {
      const payment = await db.payment.findUniqueOrThrow({ where: { id: paymentId } });
      const snapshot = toSnapshot(payment, await now());
      if (!isLive(snapshot.status) || hasUsableAction(payment, await now())) return snapshot;
      // The channel has the trade, or never will: nobody is to pay what is only being found out about.
      if (payment.recoveredAt !== null) return snapshot;
      // A new payment's workflow has not read the row: nobody is to pay what is paid, may be, or is to be cancelled.
      const { status, channelState, cancelRequested } = snapshot;
      const isInProcess = status === 'created' && channelState === 'processing';
      if (hasNews(snapshot) || cancelRequested || isInProcess) return snapshot;
      const subject = payment.subject ?? (await subjectOfOrder(payment));
      // The reads above can be slow: CREATE_ATTEMPT_MS holds only for a request that begins before the expiry. It is no
      // result: by another clock the payment may still have time, and is to be tried again.
      if ((await now()) >= payment.expiresAt)
        throw unknownOutcome(payment.channel, new Error('the payment expired before its trade was created'));
      try {
        const created = await adapterOf(payment.channel).createTrade(
          accountOf(payment),
          {
            ...tradeOf(payment),
            // As it was when the payment was made: the order's can change, and the trade's number stands for its terms.
            subject: subject || defaultSubject(payment.orderId),
            notifyUrl: `${publicUrl}/callbacks/${payment.channel}/${payment.channelAccountId}`,
            returnUrl: `${publicUrl}/return/${payment.id}?token=${clientToken(secret, payment.id)}`,
            payer: (payment.payer ?? {}) as Payer,
          },
          cancellationSignal(),
        );
        const { merchantId, orderId } = payment;
        if (created === 'not_renewable') return snapshot;
        return await ledger.recordCreated(
          db,
          { paymentId, merchantId, orderId },
          created.action,
          await now(),
        );
      } catch (error) {
        if (error instanceof ChannelError && error.kind === 'rejected') {
          const after = await ledger.recordRefusal(db, payment.id, error.message, await now());
          // Of a payment that has got further a refusal says nothing: the trade is there.
          if (after.status !== 'created') return await told(after);
        }
        throw unknownOutcome(payment.channel, error);
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
      if (hasNews(before)) return before;
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
        (input.whileProcessingEveryMs === null && after.cancelRequested && isLive(after.status));
      if (wait === null || hasNews(after) || changed) return after;
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
      if (!isLive(before.status) || hasNews(before)) return before;
      try {
        return (await ask(payment, 'close')).snapshot;
      } catch (error) {
        if (error instanceof ChannelError) await silence(payment, error);
        throw unknownOutcome(payment.channel, error);
      }
    },

    /**
     * Closes an unpaid payment at the channel and ends it. "Already paid" in the channel's answer means paid, and
     * "processing" that it decides: both leave everything as it is, to be asked about.
     */
    async closeAtChannel(
      paymentId: string,
      to: 'closed' | 'cancelled',
    ): Promise<{ snapshot: PaymentSnapshot; closed: CloseAnswer['state'] }> {
      const payment = await load(paymentId);
      const before = toSnapshot(payment, await now());
      if (!isLive(before.status) || hasNews(before)) return { snapshot: before, closed: 'closed' };
      try {
        const { state: closed } = await adapterOf(payment.channel).closeTrade(
          accountOf(payment),
          tradeOf(payment),
          cancellationSignal(),
        );
        const at = await now();
        if (closed === 'already_paid') return { snapshot: before, closed };
        if (closed === 'processing') {
          const processing = await ledger.recordAnswer(db, payment.id, { state: 'processing' }, 'close', at);
          return { snapshot: processing, closed };
        }
        const detail =
          closed === 'closed' ? 'unpaid, closed at the channel.' : 'unpaid, and unknown to the channel.';
        return { snapshot: await told(await ledger.endPayment(db, payment.id, to, detail, at)), closed };
      } catch (error) {
        if (error instanceof ChannelError) await silence(payment, error);
        throw unknownOutcome(payment.channel, error);
      }
    },
  };
}

/** Money is on record that has not been settled. */
function hasNews(snapshot: PaymentSnapshot): boolean {
  return snapshot.status !== 'succeeded' && hasMoney(snapshot);
}

export type ChannelActivities = ReturnType<typeof channelActivities>;
