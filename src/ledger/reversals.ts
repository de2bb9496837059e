import { goneBackBy, isMoney } from '../domain/answer.ts';
import type { ChannelAnswer, PaidAnswer } from '../domain/channel.ts';
import { amountText, smaller } from '../domain/money.ts';
import type { PaymentSnapshot } from '../domain/payment.ts';
import { REASONS_OF_OTHERS } from '../domain/states.ts';
import { readCallback } from './callbacks.ts';
import type { LedgerClient, LedgerTx } from './client.ts';
import { claimExternal, failExternals, insertExternal, showReversed, wasRefund } from './external-refunds.ts';
import { recordListed } from './listed-refunds.ts';
import { type Locked, underOrderLock } from './order-lock.ts';
import { toSnapshot } from './payment-facts.ts';
import { promised } from './refunds.ts';
import { oweExplainedLate } from './replacement.ts';
import { recordReported } from './reported-refunds.ts';
import type { Payment, Refund } from './rows.ts';
import { note } from './timeline.ts';

/**
 * Records refunds that were made at the channel and not through nodrop. refunds.ts describes how changes are made.
 */

/** Records the refunds made at the channel that a stored callback reports. */
export async function recordRefundsOfCallback(
  db: LedgerClient,
  paymentId: string,
  callbackId: string,
  now: Date,
): Promise<PaymentSnapshot> {
  return await underOrderLock(db, paymentId, now, async (locked) => {
    const callback = await locked.tx.callback.findUnique({ where: { id: callbackId } });
    const answer =
      callback === null || callback.paymentId !== paymentId ? null : readCallback(callback).answer;
    if (answer === null || !isMoney(answer)) return toSnapshot(locked.payment, now);
    return toSnapshot(await recordExternalRefunds(locked, answer, now, { isOld: true }), now);
  });
}

/** True if the answer is about the money with which the payment was settled. */
const isOfSettled = ({ receivedAmount, receivedCurrency }: Payment, answer: PaidAnswer): boolean =>
  receivedAmount !== null && BigInt(answer.amount) === receivedAmount && answer.currency === receivedCurrency;

/**
 * The amount refunded at the channel, at most the received amount. Null if the answer is not about the settled money.
 */
const goneBack = (payment: Payment, answer: PaidAnswer): bigint | null =>
  isOfSettled(payment, answer) ? smaller(payment.receivedAmount ?? 0n, BigInt(goneBackBy(answer))) : null;

export interface ReportedBy {
  /**
   * A refund made by nodrop that the answer's refunded sum cannot include. The channel did not know the refund's number
   * even after it gave the answer.
   */
  readonly absent?: string;
  /** True if the answer may be old, because it was stored as part of a callback. */
  readonly isOld?: boolean;
}

/**
 * Compares the refunds that the channel reports with all known refunds. If the channel reports more than is known, the
 * difference is recorded as refunds made at the channel. If the channel lists its refunds, the list is used, because
 * the trade's sum is less precise. The known refunds include open refunds made by nodrop, because the sum may contain
 * them already. They also include reversed refunds, because the sum may still contain them.
 */
export async function recordExternalRefunds(
  locked: Locked,
  answer: PaidAnswer,
  now: Date,
  { absent, isOld = false }: ReportedBy = {},
): Promise<Payment> {
  const { tx, payment } = locked;
  const atChannel = goneBack(payment, answer);
  if (atChannel === null) {
    await noteOtherMoney(tx, payment, answer, now);
    return payment;
  }
  const isExplained = absent !== undefined;
  if (answer.someWentBack === true) return await recordReported(locked, { absent, isExplained }, now);
  if (answer.refunds !== undefined)
    return await recordListed(locked, answer.refunds, { isOld, isExplained }, now);
  if (atChannel === 0n) return payment;
  const known = (await promised(tx, payment.id, absent)) + (await reversedSum(tx, payment.id));
  const amount = atChannel - known;
  if (amount <= 0n) return payment;
  const after = await insertExternal(locked, { amount, state: 'succeeded' }, now);
  // A caller that passes `absent` calls oweExplainedLate itself, after it has recorded that refund.
  return isExplained ? after : await oweExplainedLate({ ...locked, payment: after }, now);
}

async function reversedSum(tx: LedgerTx, paymentId: string): Promise<bigint> {
  const { _sum } = await tx.refund.aggregate({
    where: { paymentId, status: 'reversed', reason: { notIn: [...REASONS_OF_OTHERS] } },
    _sum: { amount: true },
  });
  return _sum.amount ?? 0n;
}

/**
 * Called when the channel has given back `amount` under the refund's number. nodrop may have inferred external refunds
 * from the trade's sum that were really this refund. This is so if the recorded total now exceeds the sum that the
 * channel has given back. These external refunds are marked as failed, and any part that was refunded at the channel is
 * recorded again. An external refund from a list is this refund if it has this refund's channel id.
 */
export async function correctExternal(
  locked: Locked,
  refund: Refund,
  { amount, channelRefundId }: { readonly amount: bigint; readonly channelRefundId: string },
  trade: ChannelAnswer | undefined,
  now: Date,
): Promise<Payment> {
  const { tx, payment } = locked;
  const claimed = await claimExternal(locked, refund, channelRefundId, now);
  if (claimed !== null) return claimed;
  const received = payment.receivedAmount ?? 0n;
  // The trade's refunded sum may be older than a refund that was just made. Therefore the sum is used in only two
  // cases. In the first case, the channel had the refund before nodrop requested it. In the second case, the refund is
  // larger than requested, and the excess was recorded as external because it belonged to no known refund.
  const isBySum = refund.askedAt === null || amount > refund.amount;
  const most =
    (isBySum && trade !== undefined && isMoney(trade) ? goneBack(payment, trade) : null) ?? received;
  const surplus = smaller(amount, payment.refundedAmount + amount - most);
  if (surplus <= 0n) return payment;
  const externals = await tx.refund.findMany({
    where: { paymentId: payment.id, reason: 'external', status: 'succeeded', channelRefundId: null },
    orderBy: [{ createdAt: 'desc' }, { id: 'desc' }],
  });
  if (externals.length === 0) return payment;
  // This write locks the refund's row. It must come first, because the changes of the external refunds lock the
  // payment's row.
  await tx.refund.update({ where: { id: refund.id }, data: { askedAt: refund.askedAt ?? now } });
  const ofSurplus: Refund[] = [];
  for (let sum = 0n; sum < surplus; ) {
    const external = externals[ofSurplus.length];
    if (external === undefined) break;
    ofSurplus.push(external);
    sum += external.amount;
  }
  const { payment: corrected, freed } = await failExternals(locked, ofSurplus, wasRefund(refund.id), now);
  if (freed > surplus) {
    const rest = { amount: freed - surplus, state: 'succeeded' } as const;
    return await insertExternal({ ...locked, payment: corrected }, rest, now);
  }
  return payment.attention === 'channel_reversed' ? await showReversed(tx, corrected, now) : corrected;
}

/**
 * Writes a timeline entry about a report whose amount differs from the settled amount. nodrop does not use the
 * refunded amount in such a report.
 */
async function noteOtherMoney(
  tx: LedgerTx,
  { id: paymentId, receivedAmount, receivedCurrency, currency }: Payment,
  answer: PaidAnswer,
  now: Date,
): Promise<void> {
  if (receivedAmount === null) return;
  const settled = amountText(receivedAmount, receivedCurrency ?? currency);
  const detail = `The channel reports ${amountText(answer.amount, answer.currency)}, but the payment was settled with ${settled}: ignored.`;
  // A repeated report gets no further timeline entry.
  const known = await tx.timelineEntry.findFirst({
    where: { paymentId, kind: 'query', detail },
    select: { id: true },
  });
  if (known === null) await note(tx, paymentId, 'query', detail, now, { state: answer.state });
}
