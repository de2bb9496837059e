import { isBackUnexplained, recordedAnswer } from '../domain/answer.ts';
import { isFree } from '../domain/attention.ts';
import type { CallbackRefund, PaidAnswer } from '../domain/channel.ts';
import { SOME_WENT_BACK } from '../domain/decision.ts';
import { refundIdOf } from '../domain/ids.ts';
import { amountText } from '../domain/money.ts';
import { isOfOthers, isRefundVoid } from '../domain/states.ts';
import { readCallback } from './callbacks.ts';
import { json, type LedgerTx } from './client.ts';
import { insertExternal } from './external-refunds.ts';
import { cleared, type Locked, raised, update } from './order-lock.ts';
import { oweExplainedLate } from './replacement.ts';
import type { Payment, Refund } from './rows.ts';
import { note } from './timeline.ts';

/**
 * Handles the refunds of a channel whose trades report only that part of the money was refunded (`someWentBack`),
 * without the amount. Refunds made by nodrop are queried by their numbers. Refunds made at the channel are known from
 * the channel's stored callbacks. Such a refund is recorded once the trade also reports `someWentBack`.
 */

/** A successful refund that was made at the channel, as a callback reported it. */
interface ReportedRefund {
  readonly channelRefundId: string;
  /** Minor units. */
  readonly amount: bigint;
}

interface Explanation {
  readonly refunds: readonly Refund[];
  /** The refunds made at the channel, including those already recorded. */
  readonly told: readonly ReportedRefund[];
  /** True if a known refund explains why the trade reports that a part was refunded. */
  readonly isExplained: boolean;
}

/**
 * @param absent the id of a refund made by nodrop. The channel did not know this refund even after it reported the
 *   trade.
 */
async function explanationOf(tx: LedgerTx, paymentId: string, absent?: string): Promise<Explanation> {
  const refunds = await tx.refund.findMany({ where: { paymentId } });
  const ours = refunds.filter(({ reason }) => !isOfOthers(reason));
  const isOurs = ({ outRefundNo, channelRefundId }: CallbackRefund) =>
    ours.some(
      (row) =>
        (outRefundNo !== undefined && row.id === refundIdOf(outRefundNo)) ||
        (channelRefundId !== undefined && row.channelRefundId === channelRefundId),
    );
  const callbacks = await tx.callback.findMany({
    where: { paymentId, kind: 'refund' },
    orderBy: { id: 'asc' },
    select: { kind: true, answer: true },
  });
  const told = new Map<string, ReportedRefund>();
  for (const callback of callbacks) {
    const { refund } = readCallback(callback);
    if (refund === undefined || refund.answer.state !== 'succeeded' || isOurs(refund)) continue;
    const { channelRefundId, amount } = refund.answer;
    told.set(channelRefundId, { channelRefundId, amount: BigInt(amount) });
  }
  // A refund that the channel had accepted explains why the trade reports a refund. This is true even if the refund
  // failed later, because the trade still reports that refund.
  const explains = ({ id, status, channelRefundId }: Refund) =>
    channelRefundId !== null || (id !== absent && !isRefundVoid(status));
  return { refunds, told: [...told.values()], isExplained: told.size > 0 || refunds.some(explains) };
}

/**
 * Adds the known refunds to an answer about unsettled money. If these refunds explain `someWentBack`, that field is
 * removed, and the amounts from callbacks are added.
 */
export async function asExplained<Answer extends PaidAnswer>(
  tx: LedgerTx,
  { id }: Payment,
  answer: Answer,
): Promise<Answer> {
  if (answer.someWentBack !== true) return answer;
  const { told, isExplained } = await explanationOf(tx, id);
  if (!isExplained) return answer;
  const { someWentBack: _, ...known } = answer;
  const back = told.reduce((sum, { amount }) => sum + amount, 0n);
  return { ...known, ...(back > 0n ? { refundedAmount: Number(back) } : {}) } as unknown as Answer;
}

/**
 * Called when the channel reports that a part of settled money was refunded. Records the refunds that the channel's
 * callbacks have reported. If no known refund explains the report, an attention is raised once.
 * @param given.isExplained true if the caller itself calls `oweExplainedLate`, which replaces refused refunds
 */
export async function recordReported(
  locked: Locked,
  given: { readonly absent: string | undefined; readonly isExplained: boolean },
  now: Date,
): Promise<Payment> {
  const { tx } = locked;
  let { payment } = locked;
  const { refunds, told, isExplained } = await explanationOf(tx, payment.id, given.absent);
  if (!isExplained) return await showUnexplained(locked, now);
  const known = new Set(refunds.map(({ channelRefundId }) => channelRefundId));
  const unknown = told.filter(({ channelRefundId }) => !known.has(channelRefundId));
  // If the payment waits for a decision, its recorded answer keeps the mark `someWentBack`, because the callbacks may
  // not report every refund.
  const isOver = isBackUnexplained(payment) && payment.orderUpdate !== 'review';
  if (isOver)
    payment = await update(tx, payment.id, {
      channelAnswer: withMark(payment, false),
      ...cleared(payment, 'reversal_explained'),
    });
  if (unknown.length === 0) return payment;
  for (const refund of unknown)
    payment = await insertExternal({ ...locked, payment }, { ...refund, state: 'succeeded' }, now);
  if (payment.orderUpdate === 'review' && isBackUnexplained(payment))
    payment = await describeGivenBack(tx, payment);
  return given.isExplained ? payment : await oweExplainedLate({ ...locked, payment }, now);
}

/**
 * Raises the attention about a reported refund that no known refund explains. The attention is raised only once,
 * because the recorded answer keeps the mark `someWentBack`.
 */
async function showUnexplained({ tx, payment }: Locked, now: Date): Promise<Payment> {
  const { id, attention, attentionDetail, hiddenAttention, hiddenAttentionDetail, orderUpdate } = payment;
  // No attention is needed for a conflict, because its money is refunded automatically. If that refund fails, another
  // attention is raised.
  if (isBackUnexplained(payment) || orderUpdate === 'conflict') return payment;
  const received = amountText(payment.receivedAmount ?? 0n, payment.receivedCurrency ?? payment.currency);
  const detail = `${received} was received. ${SOME_WENT_BACK}`;
  const isWaiting = orderUpdate === 'review';
  // The payment has another attention. After the next query of the channel, nodrop tries again to raise this one.
  if (!isWaiting && !isFree(attention)) return payment;
  const shown = !isWaiting
    ? raised('channel_reversed', `${detail} The payment had paid its order.`, now)
    : hiddenAttention !== null
      ? { hiddenAttentionDetail: `${hiddenAttentionDetail} ${SOME_WENT_BACK}` }
      : { attentionDetail: `${attentionDetail} ${SOME_WENT_BACK}` };
  await note(tx, id, 'attention', `${isWaiting ? attention : 'channel_reversed'}: ${detail}`, now);
  return await update(tx, id, { channelAnswer: withMark(payment, true), ...shown });
}

/**
 * Updates the text of the attention of a payment that waits for a decision. Called after a callback reported refunds.
 */
async function describeGivenBack(tx: LedgerTx, payment: Payment): Promise<Payment> {
  const say = (sum: bigint) => amountText(sum, payment.receivedCurrency ?? payment.currency);
  const detail = `${say(payment.receivedAmount ?? 0n)} was received. ${say(payment.refundedAmount)} was refunded, as far as the channel reports.`;
  return await update(
    tx,
    payment.id,
    payment.hiddenAttention === null ? { attentionDetail: detail } : { hiddenAttentionDetail: detail },
  );
}

/**
 * Returns the recorded answer with or without the mark `someWentBack`. The mark means that the channel reported a
 * refund that no known refund explains.
 */
function withMark(payment: Payment, isMarked: boolean) {
  const { someWentBack: _, ...answer } = recordedAnswer(payment) as PaidAnswer;
  return json({ ...answer, ...(isMarked ? { someWentBack: true } : {}) });
}
