import { activityInfo, cancellationSignal } from '@temporalio/activity';
import { clientToken } from '../client-token.ts';
import { type ChannelAnswer, ChannelError } from '../domain/channel.ts';
import type { PaymentSnapshot } from '../domain/payment.ts';
import { nextWait } from '../domain/schedule.ts';
import { isLive, type SettledBy } from '../domain/states.ts';
import * as ledger from '../ledger/payments.ts';
import { hasUsableAction, toSnapshot } from '../ledger/snapshot.ts';
import type { ActivityDeps } from './deps.ts';
import { notYet, reasonOf, unknownOutcome } from './failures.ts';

/** A channel that gives no readable answer for this long is shown to a person. */
const UNREACHABLE_ALARM_MS = 5 * 60_000;
/** How soon a query without a readable answer is repeated at first. */
const SILENCE_RETRY_MS = 2_000;
/** How soon a poll that our own database kept from its answer is tried again. */
const OWN_TROUBLE_RETRY_MS = 5_000;

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
export function channelActivities({ db, channels, publicUrl, secret, now }: ActivityDeps) {
  const load = (paymentId: string) =>
    db.payment.findUniqueOrThrow({
      where: { id: paymentId },
      include: { channelAccount: true, order: true },
    });

  const adapterOf = (channel: string) => {
    const adapter = channels.get(channel);
    if (adapter === undefined)
      throw new ChannelError('unreachable', `channel ${channel} is not configured on this worker`);
    return adapter;
  };

  type Row = Awaited<ReturnType<typeof load>>;

  /** Asks once and writes the answer down; a definite answer without money ends a live payment. */
  const ask = async (
    payment: Row,
    by: SettledBy,
  ): Promise<{ answer: ChannelAnswer; snapshot: PaymentSnapshot }> => {
    const answer = await adapterOf(payment.channel).queryTrade(
      payment.channelAccount,
      payment.id,
      cancellationSignal(),
    );
    const at = await now();
    const snapshot = await ledger.recordAnswer(db, payment.id, answer, by, at);
    if (!isLive(snapshot.status)) return { answer, snapshot };
    if (answer.state === 'failed') {
      return {
        answer,
        snapshot: await ledger.endPayment(db, payment.id, 'failed', answer.reason ?? 'declined.', at),
      };
    }
    if (answer.state === 'closed') {
      const to = snapshot.cancelRequested ? 'cancelled' : 'closed';
      return { answer, snapshot: await ledger.endPayment(db, payment.id, to, 'closed at the channel.', at) };
    }
    return { answer, snapshot };
  };

  const silence = async (payment: { id: string }, error: unknown) =>
    await ledger.recordSilence(db, payment.id, reasonOf(error), UNREACHABLE_ALARM_MS, await now());

  return {
    /** Creates the trade, or finds it created; a refusal of the channel is definite and fails the payment. */
    async createAtChannel(paymentId: string): Promise<PaymentSnapshot> {
      const payment = await load(paymentId);
      const snapshot = toSnapshot(payment, await now());
      if (!isLive(snapshot.status) || hasUsableAction(payment, await now())) return snapshot;
      try {
        const action = await adapterOf(payment.channel).createTrade(
          payment.channelAccount,
          {
            outTradeNo: payment.id,
            method: payment.method,
            amount: Number(payment.amount),
            currency: payment.currency,
            subject: payment.order.subject,
            notifyUrl: `${publicUrl}/callbacks/${payment.channel}/${payment.channelAccountId}`,
            returnUrl: `${publicUrl}/return/${payment.id}?token=${clientToken(secret, payment.id)}`,
            expiresAt: payment.expiresAt.toISOString(),
          },
          cancellationSignal(),
        );
        return await ledger.recordCreated(db, payment.id, action, await now());
      } catch (error) {
        // Only of a payment that was never created is a refusal the channel's last word.
        if (error instanceof ChannelError && error.kind === 'rejected' && payment.status === 'created') {
          const at = await now();
          await ledger.recordAnswer(db, payment.id, { state: 'failed', reason: error.message }, 'query', at);
          return await ledger.endPayment(
            db,
            payment.id,
            'failed',
            `refused by the channel: ${error.message}`,
            at,
          );
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
      const payment = await load(input.paymentId);
      const before = toSnapshot(payment, await now());
      // An earlier attempt may have written its answer down and died before it could return it.
      if (hasNews(before)) return before;
      const by: SettledBy = attempt <= input.hintQueries ? 'hint' : 'query';
      let after: PaymentSnapshot;
      let state: string;
      try {
        const asked = await ask(payment, by);
        after = asked.snapshot;
        state = asked.answer.state;
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
        (input.whileProcessingEveryMs !== null && !isProcessing);
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

    /**
     * The end of an unpaid payment: ask, and only if it is unpaid close it at the channel. "Already paid" in the
     * close's answer means paid; "processing" leaves everything as it is.
     */
    async closeAtChannel(paymentId: string, to: 'closed' | 'cancelled'): Promise<PaymentSnapshot> {
      const payment = await load(paymentId);
      const before = toSnapshot(payment, await now());
      if (!isLive(before.status) || hasNews(before)) return before;
      try {
        const { answer, snapshot } = await ask(payment, 'close');
        if (!isLive(snapshot.status) || hasNews(snapshot) || answer.state === 'processing') return snapshot;
        const closed =
          answer.state === 'unknown_trade'
            ? 'unknown_trade'
            : await adapterOf(payment.channel).closeTrade(
                payment.channelAccount,
                payment.id,
                cancellationSignal(),
              );
        if (closed === 'processing') {
          return await ledger.recordAnswer(db, payment.id, { state: 'processing' }, 'close', await now());
        }
        if (closed === 'already_paid') {
          const again = await ask(payment, 'close');
          if (hasNews(again.snapshot)) return again.snapshot;
          // Its query lags behind its close: it will say so.
          throw new ChannelError('garbage', `close says paid, query says ${again.answer.state}`);
        }
        const detail =
          closed === 'closed' ? 'unpaid, closed at the channel.' : 'unpaid, and unknown to the channel.';
        return await ledger.endPayment(db, payment.id, to, detail, await now());
      } catch (error) {
        if (error instanceof ChannelError) await silence(payment, error);
        throw unknownOutcome(payment.channel, error);
      }
    },
  };
}

/** Money is on record that has not been settled. */
function hasNews(snapshot: PaymentSnapshot): boolean {
  return snapshot.status !== 'succeeded' && (snapshot.answer === 'paid' || snapshot.answer === 'refunded');
}

export type ChannelActivities = ReturnType<typeof channelActivities>;
