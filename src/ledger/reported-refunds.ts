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
 * Refunds at a channel that says with a trade that some of it went back, and not how much (`someWentBack`). Ours are asked
 * about by their numbers; of others its callbacks tell, which are stored. Those count once the trade says so as well.
 */

/** A refund that somebody made at the channel and that has succeeded, as a callback told of it. */
interface ReportedRefund {
  readonly channelRefundId: string;
  /** Minor units. */
  readonly amount: bigint;
}

interface Explanation {
  readonly refunds: readonly Refund[];
  /** Of others, those on record too. */
  readonly told: readonly ReportedRefund[];
  /** Somebody's refund that is known is why the trade says so. */
  readonly isExplained: boolean;
}

/** @param absent a refund of ours that the channel did not know after it said this */
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
  // A trade goes on saying so when a refund that the channel had taken has failed there.
  const explains = ({ id, status, channelRefundId }: Refund) =>
    channelRefundId !== null || (id !== absent && !isRefundVoid(status));
  return { refunds, told: [...told.values()], isExplained: told.size > 0 || refunds.some(explains) };
}

/**
 * What the answer says of money that is not settled yet, by what is known of its refunds: without `someWentBack` when they
 * explain it, and with what callbacks told of.
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
 * The channel says of settled money that some went back: records what its callbacks have told of, and shows a payment when
 * nothing explains it, once.
 * @param given.isExplained the caller looks for refusals that this explains
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
  // One that waits for a decision goes on waiting: what else went back is not told.
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

/** That nothing explains it is kept with the answer on record, by which it is shown once. */
async function showUnexplained({ tx, payment }: Locked, now: Date): Promise<Payment> {
  const { id, attention, attentionDetail, hiddenAttention, hiddenAttentionDetail, orderUpdate } = payment;
  // A conflict's money goes back by a refund of its own, which is shown when it fails.
  if (isBackUnexplained(payment) || orderUpdate === 'conflict') return payment;
  const received = amountText(payment.receivedAmount ?? 0n, payment.receivedCurrency ?? payment.currency);
  const detail = `${received} came in. ${SOME_WENT_BACK}`;
  const isWaiting = orderUpdate === 'review';
  // It is shown by a later look at the channel.
  if (!isWaiting && !isFree(attention)) return payment;
  const shown = !isWaiting
    ? raised('channel_reversed', `${detail} The order was paid by it.`, now)
    : hiddenAttention !== null
      ? { hiddenAttentionDetail: `${hiddenAttentionDetail} ${SOME_WENT_BACK}` }
      : { attentionDetail: `${attentionDetail} ${SOME_WENT_BACK}` };
  await note(tx, id, 'attention', `${isWaiting ? attention : 'channel_reversed'}: ${detail}`, now);
  return await update(tx, id, { channelAnswer: withMark(payment, true), ...shown });
}

/** Of one that waits for a decision, now that the channel told of some. */
async function describeGivenBack(tx: LedgerTx, payment: Payment): Promise<Payment> {
  const say = (sum: bigint) => amountText(sum, payment.receivedCurrency ?? payment.currency);
  const detail = `${say(payment.receivedAmount ?? 0n)} came in. ${say(payment.refundedAmount)} went back, as far as the channel tells.`;
  return await update(
    tx,
    payment.id,
    payment.hiddenAttention === null ? { attentionDetail: detail } : { hiddenAttentionDetail: detail },
  );
}

/** The answer on record, with whether the channel said that some went back, and nothing explains it. */
function withMark(payment: Payment, isMarked: boolean) {
  const { someWentBack: _, ...answer } = recordedAnswer(payment) as PaidAnswer;
  return json({ ...answer, ...(isMarked ? { someWentBack: true } : {}) });
}
