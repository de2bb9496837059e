import { activityInfo, cancellationSignal } from '@temporalio/activity';
import { ChannelError, type RefundAnswer } from '../domain/channel.ts';
import type { PaymentSnapshot } from '../domain/payment.ts';
import { REFUND_HELD_BACK_MS, type RefundSnapshot } from '../domain/refund.ts';
import { isAutomatic, isRefundOpen } from '../domain/states.ts';
import { recordAnswer } from '../ledger/payments.ts';
import * as answers from '../ledger/refund-answers.ts';
import { findRefund } from '../ledger/refunds.ts';
import { recordRefundsOfCallback } from '../ledger/reversals.ts';
import type { Payment } from '../ledger/rows.ts';
import { isAllBack, toRefundSnapshot } from '../ledger/snapshot.ts';
import { accountOf, tradeOf } from '../ledger/trade.ts';
import { startDeliveries } from '../temporal/start-deliveries.ts';
import type { ActivityDeps } from './deps.ts';
import { notYet, OWN_TROUBLE_RETRY_MS, unknownOutcome } from './failures.ts';

export interface RefundQueryInput {
  readonly refundId: string;
  /** The waits after each of the coming queries, in ms; the last repeats for ever. */
  readonly waits: readonly [number, ...number[]];
}

const WAKE_DEADLINE_MS = 2_000;

/**
 * Has the order service told of what was recorded of the payment's refunds. A payment that waited for its order service
 * and is a conflict by now is woken: its workflow waits for the time of the next attempt, up to a day, and would show
 * until then what is over. Never fails: what is not told here is the sweep's, and who is not woken finds out by itself.
 * @param before the payment as it was before that
 */
async function tell(
  { db, deliveryWorkflows, workflows }: Pick<ActivityDeps, 'db' | 'deliveryWorkflows' | 'workflows'>,
  before: Payment,
): Promise<void> {
  await startDeliveries({ db, deliveryWorkflows }, before.id);
  if (before.orderUpdate !== 'pending') return;
  try {
    const after = await db.payment.findUniqueOrThrow({ where: { id: before.id } });
    if (after.orderUpdate === 'conflict') await workflows.wake(after, WAKE_DEADLINE_MS);
  } catch {
    // It is in the ledger.
  }
}

/** The refund activities that only touch the ledger; task queue `nodrop`. */
export function refundLedgerActivities({ db, now, deliveryWorkflows, workflows }: ActivityDeps) {
  return {
    /** The row as it is: every run's first activity, as its input may be stale. Null when the row is gone. */
    async loadRefund(refundId: string): Promise<RefundSnapshot | null> {
      return await findRefund(db, refundId);
    },

    /** What a verified callback says of a refund of ours. */
    async recordRefundCallback(refundId: string, callbackId: string): Promise<RefundSnapshot> {
      const { payment } = await db.refund.findUniqueOrThrow({
        where: { id: refundId },
        include: { payment: true },
      });
      const snapshot = await answers.recordRefundCallback(db, refundId, callbackId, await now());
      await tell({ db, deliveryWorkflows, workflows }, payment);
      return snapshot;
    },

    /** What a verified callback says of money that went back without our asking. */
    async recordRefunds(paymentId: string, callbackId: string): Promise<PaymentSnapshot> {
      const snapshot = await recordRefundsOfCallback(db, paymentId, callbackId, await now());
      await startDeliveries({ db, deliveryWorkflows }, paymentId);
      return snapshot;
    },
  };
}

/**
 * The refund activities that talk to a channel; task queues `channel-{name}` and, for `queryRefund`,
 * `channel-{name}-poll`. Each writes what the channel said into the ledger before it returns.
 */
export function refundChannelActivities({ db, channels, now, deliveryWorkflows, workflows }: ActivityDeps) {
  const load = (refundId: string) =>
    db.refund.findUniqueOrThrow({
      where: { id: refundId },
      include: { payment: true },
    });

  type Row = Awaited<ReturnType<typeof load>>;

  const adapterOf = ({ payment: { channel } }: Pick<Row, 'payment'>) => {
    const adapter = channels.get(channel);
    if (adapter === undefined)
      throw new ChannelError('unreachable', `channel ${channel} is not configured on this worker`);
    return adapter;
  };

  const query = async (row: Row): Promise<RefundAnswer> =>
    await adapterOf(row).queryRefund(
      accountOf(row.payment),
      tradeOf(row.payment),
      { outRefundNo: row.id, channelRefundId: row.channelRefundId },
      cancellationSignal(),
    );

  /**
   * What the channel knows of a refund it was not asked for yet: the ledger may have lost that it was. The trade comes
   * first: when the number is unknown after that, the trade's sum does not hold it. Money that went back unknown to us is
   * on record when this returns, and the refund's row may have changed by it.
   * @returns undefined when the channel does not know the number
   * @throws ChannelError
   */
  const lookFirst = async (row: Row): Promise<RefundAnswer | undefined> => {
    const { payment } = row;
    const trade = await adapterOf(row).queryTrade(accountOf(payment), tradeOf(payment), cancellationSignal());
    const known = await query(row);
    if (known.state !== 'unknown_refund') return known;
    await answers.recordFirstAsk(db, row.id, trade, await now());
    await tell({ db, deliveryWorkflows, workflows }, row.payment);
    return undefined;
  };

  /**
   * Asks for the refund. A refusal counts only when the channel does not know the number either: an earlier call
   * whose answer got lost may have used up what is now refused for want of money.
   */
  const ask = async (row: Row): Promise<RefundAnswer> => {
    const { payment } = row;
    try {
      return await adapterOf(row).refundTrade(
        accountOf(payment),
        tradeOf(payment),
        {
          outRefundNo: row.id,
          channelRefundId: row.channelRefundId,
          amount: Number(row.amount),
          currency: row.currency,
          total: Number(payment.receivedAmount ?? payment.amount),
        },
        cancellationSignal(),
      );
    } catch (error) {
      if (!(error instanceof ChannelError) || error.kind !== 'rejected') throw error;
      const known = await query(row);
      return known.state === 'unknown_refund' ? { state: 'failed', reason: error.message } : known;
    }
  };

  /**
   * Writes the channel's answer down. With one that settles the refund goes what the trade says: somebody else may have
   * given the money back, and what told of it while ours was open was taken for ours. It is asked before anything is
   * written, as nobody would ask afterwards: while the trade is silent the refund is not settled.
   * @throws ChannelError
   */
  const record = async (row: Row, answer: RefundAnswer): Promise<RefundSnapshot> => {
    const { payment } = row;
    const trade =
      answer.state === 'succeeded' || answer.state === 'failed'
        ? await adapterOf(row).queryTrade(accountOf(payment), tradeOf(payment), cancellationSignal())
        : undefined;
    const snapshot = await answers.recordRefundAnswer(db, row.id, answer, await now(), trade);
    // The order service is told when this settled the refund.
    if (!isRefundOpen(snapshot.status)) await tell({ db, deliveryWorkflows, workflows }, row.payment);
    return snapshot;
  };

  const silence = async (row: Row, error: ChannelError) =>
    await answers.recordRefundSilence(db, row.id, error, await now());

  /** The channel decides over a dispute, and may give the money back itself: then nobody owes it twice. */
  const isHeldBack = (row: Row) =>
    row.payment.attention === 'disputed' &&
    isAutomatic(row.reason) &&
    row.status === 'created' &&
    row.askedAt === null;

  const isOver = (row: Row) => !isRefundOpen(toRefundSnapshot(row, row.payment).status);

  return {
    /** Has the channel give the money back, always under the same number: asking twice gives it back once. */
    async refundAtChannel(refundId: string): Promise<RefundSnapshot> {
      const row = await load(refundId);
      if (isOver(row)) return toRefundSnapshot(row, row.payment);
      if (isHeldBack(row))
        throw notYet('nodrop', 'that a disputed payment is not refunded', REFUND_HELD_BACK_MS);
      try {
        const isFirst = row.status === 'created' && row.askedAt === null;
        if (!isFirst) return await record(row, await ask(row));
        const known = await lookFirst(row);
        if (known !== undefined) return await record(row, known);
        // Less is asked for now, or nothing, when money went back unknown to us.
        const looked = await load(refundId);
        if (isOver(looked)) return toRefundSnapshot(looked, looked.payment);
        return await record(looked, await ask(looked));
      } catch (error) {
        if (error instanceof ChannelError) await silence(row, error);
        throw unknownOutcome(row.payment.channel, error);
      }
    },

    /**
     * What the trade says, once a callback has settled the refund: that is as old as the callback, and what told of
     * money that others gave back while ours was open was taken for ours. Asked until it answers.
     */
    async askTradeOfRefund(refundId: string): Promise<void> {
      const { payment } = await load(refundId);
      // Nobody can have given back more.
      if (isAllBack(payment)) return;
      const { id, channel } = payment;
      try {
        const trade = await adapterOf({ payment }).queryTrade(
          accountOf(payment),
          tradeOf(payment),
          cancellationSignal(),
        );
        await recordAnswer(db, id, trade, 'query', await now());
      } catch (error) {
        throw unknownOutcome(channel, error);
      }
      await tell({ db, deliveryWorkflows, workflows }, payment);
    },

    /**
     * The queries of a refund in process: one activity whose own retries are the schedule.
     * @returns when the channel has decided, or does not know the number: then it is to be asked for again.
     */
    async queryRefund(input: RefundQueryInput): Promise<{ snapshot: RefundSnapshot; known: boolean }> {
      const row = await load(input.refundId);
      if (isOver(row)) return { snapshot: toRefundSnapshot(row, row.payment), known: true };
      const wait = input.waits[activityInfo().attempt - 1] ?? input.waits.at(-1);
      const { channel } = row.payment;
      let answer: RefundAnswer;
      let snapshot: RefundSnapshot;
      try {
        answer = await query(row);
        snapshot = await record(row, answer);
      } catch (error) {
        if (!(error instanceof ChannelError)) throw unknownOutcome(channel, error, OWN_TROUBLE_RETRY_MS);
        await silence(row, error);
        throw unknownOutcome(channel, error, wait);
      }
      if (isRefundOpen(snapshot.status) && answer.state === 'processing')
        throw notYet(channel, 'processing', wait ?? OWN_TROUBLE_RETRY_MS);
      return { snapshot, known: answer.state !== 'unknown_refund' };
    },
  };
}

export type RefundLedgerActivities = ReturnType<typeof refundLedgerActivities>;
export type RefundChannelActivities = ReturnType<typeof refundChannelActivities>;
