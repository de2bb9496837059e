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

/** Money that went back at the channel without our asking. How changes are made: see refunds.ts. */

/** What a stored callback says of money that went back without our asking. */
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

/** Whether it speaks of the money that was settled. */
const isOfSettled = ({ receivedAmount, receivedCurrency }: Payment, answer: PaidAnswer): boolean =>
  receivedAmount !== null && BigInt(answer.amount) === receivedAmount && answer.currency === receivedCurrency;

/** What has gone back at the channel, at most what came in; null when it speaks of other money than was settled. */
const goneBack = (payment: Payment, answer: PaidAnswer): bigint | null =>
  isOfSettled(payment, answer) ? smaller(payment.receivedAmount ?? 0n, BigInt(goneBackBy(answer))) : null;

/** How an answer came that tells of refunds. */
export interface ReportedBy {
  /** A refund of ours whose number the channel did not know after it said this: the sum does not hold it. */
  readonly absent?: string;
  /** It was stored for a while, as a callback. */
  readonly isOld?: boolean;
}

/**
 * Records what the channel has given back beyond every refund that is known: somebody made it there. Of a channel that
 * lists its refunds the list counts. A sum says less: refunds of ours that are under way count as known, as the sum may
 * hold them already, and so do those that failed after they had succeeded, as it may hold them still.
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
  // Else it is the caller's, once it has recorded the refund.
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
 * The channel gave back `amount` under the refund's number, and more is recorded than it has given back in all: what was
 * concluded from the trade's sum, while the refund was unknown here, was this refund. Such external refunds are failed,
 * and what others did give back of them is recorded anew. One that a list told of is this refund when it has its id.
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
  // The sum may be older than a refund that has just been made, so it counts for one that was there before we asked,
  // and for one that is more than we asked: what is beyond that was nobody's known refund, and was taken for external.
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
  // Its row before the payment's, which those of the others lock.
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

/** What the channel says of another amount than it was settled with tells nothing of refunds; a person may see it. */
async function noteOtherMoney(
  tx: LedgerTx,
  { id: paymentId, receivedAmount, receivedCurrency, currency }: Payment,
  answer: PaidAnswer,
  now: Date,
): Promise<void> {
  if (receivedAmount === null) return;
  const settled = amountText(receivedAmount, receivedCurrency ?? currency);
  const detail = `The channel speaks of ${amountText(answer.amount, answer.currency)}, settled were ${settled}: not acted on.`;
  // A repetition changes nothing.
  const known = await tx.timelineEntry.findFirst({
    where: { paymentId, kind: 'query', detail },
    select: { id: true },
  });
  if (known === null) await note(tx, paymentId, 'query', detail, now, { state: answer.state });
}
