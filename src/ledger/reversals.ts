import { isMoney } from '../domain/answer.ts';
import { isFree } from '../domain/attention.ts';
import type { ChannelAnswer, PaidAnswer } from '../domain/channel.ts';
import { externalRefundId } from '../domain/ids.ts';
import { sayAmount, smaller } from '../domain/money.ts';
import type { PaymentSnapshot } from '../domain/payment.ts';
import { readCallback } from './callbacks.ts';
import type { LedgerClient, LedgerTx } from './client.ts';
import { cleared, type Locked, raised, underLock, update } from './locked.ts';
import { moneyWentBack } from './refund-trouble.ts';
import { promised } from './refunds.ts';
import { oweExplainedLate } from './replacement.ts';
import type { Payment, Refund } from './rows.ts';
import { toSnapshot } from './snapshot.ts';
import { note } from './timeline.ts';

/** Money that went back at the channel without our asking. How changes are made: see refunds.ts. */

/** What a stored callback says of money that went back without our asking. */
export async function recordRefundsOfCallback(
  db: LedgerClient,
  paymentId: string,
  callbackId: string,
  now: Date,
): Promise<PaymentSnapshot> {
  return await underLock(db, paymentId, now, async (locked) => {
    const callback = await locked.tx.callback.findUnique({ where: { id: callbackId } });
    const answer =
      callback === null || callback.paymentId !== paymentId ? null : readCallback(callback).answer;
    if (answer === null || !isMoney(answer)) return toSnapshot(locked.payment, now);
    return toSnapshot(await recordExternalRefunds(locked, answer, now), now);
  });
}

/** What has gone back at the channel, at most what came in; null when it speaks of other money than was settled. */
function goneBack({ receivedAmount, receivedCurrency }: Payment, answer: PaidAnswer): bigint | null {
  if (receivedAmount === null) return null;
  if (BigInt(answer.amount) !== receivedAmount || answer.currency !== receivedCurrency) return null;
  return answer.state === 'refunded'
    ? receivedAmount
    : smaller(receivedAmount, BigInt(answer.refundedAmount ?? 0));
}

/**
 * Records what the channel has given back beyond every refund that is known: somebody made it there. Refunds of
 * ours that are under way count as known, as the channel's sum may hold them already.
 * @param absent a refund of ours whose number the channel did not know after it said this: the sum does not hold it.
 */
export async function recordExternalRefunds(
  locked: Locked,
  answer: PaidAnswer,
  now: Date,
  absent?: string,
): Promise<Payment> {
  const { tx, payment } = locked;
  const atChannel = goneBack(payment, answer);
  if (atChannel === null) {
    await noteOtherMoney(tx, payment, answer, now);
    return payment;
  }
  if (atChannel === 0n) return payment;
  const amount = atChannel - (await promised(tx, payment.id, absent));
  if (amount <= 0n) return payment;
  const after = await insertExternal(locked, amount, now);
  // Else it is the caller's, once it has recorded the refund.
  return absent === undefined ? await oweExplainedLate({ ...locked, payment: after }, now) : after;
}

async function insertExternal(locked: Locked, amount: bigint, now: Date): Promise<Payment> {
  const { tx, payment } = locked;
  const currency = payment.receivedCurrency ?? payment.currency;
  const nth = 1 + (await tx.refund.count({ where: { paymentId: payment.id, reason: 'external' } }));
  const id = externalRefundId(payment.id, nth);
  await tx.refund.create({
    data: {
      id,
      merchantId: payment.merchantId,
      paymentId: payment.id,
      amount,
      currency,
      reason: 'external',
      status: 'succeeded',
      createdAt: now,
      settledAt: now,
    },
  });
  const said = `${sayAmount(amount, currency)} went back at the channel, and nobody asked for it here`;
  await note(tx, payment.id, 'refund', `${said}.`, now, { refundId: id });
  locked.news.push({ type: 'refund.succeeded', refundId: id });
  const after = await moneyWentBack(locked, amount, now);
  return after.orderUpdate === 'applied' ? await showReversed(tx, after, now) : after;
}

/** Shows an applied payment whose money went back at the channel, unless something else is shown of it. */
export async function showReversed(tx: LedgerTx, payment: Payment, now: Date): Promise<Payment> {
  if (!isFree(payment.attention)) return payment;
  const { _sum } = await tx.refund.aggregate({
    where: { paymentId: payment.id, reason: 'external', status: 'succeeded' },
    _sum: { amount: true },
  });
  if (_sum.amount === null) return payment;
  const currency = payment.receivedCurrency ?? payment.currency;
  const said = `${sayAmount(_sum.amount, currency)} went back at the channel, and nobody asked for it here`;
  await note(tx, payment.id, 'attention', `channel_reversed: ${said}.`, now);
  return await update(tx, payment.id, raised('channel_reversed', `${said}; the order was paid by it.`, now));
}

/**
 * The channel gave back `amount` under the refund's number, and more is recorded than it has given back in all: what was
 * concluded from the trade's sum, while the refund was unknown here, was this refund. Such external refunds are failed,
 * and what others did give back of them is recorded anew.
 */
export async function correctExternal(
  locked: Locked,
  refund: Refund,
  amount: bigint,
  trade: ChannelAnswer | undefined,
  now: Date,
): Promise<Payment> {
  const { tx, payment, news } = locked;
  const received = payment.receivedAmount ?? 0n;
  // The sum may be older than a refund that has just been made, so it counts for one that was there before we asked,
  // and for one that is more than we asked: what is beyond that was nobody's known refund, and was taken for external.
  const isBySum = refund.askedAt === null || amount > refund.amount;
  const most =
    (isBySum && trade !== undefined && isMoney(trade) ? goneBack(payment, trade) : null) ?? received;
  const surplus = smaller(amount, payment.refundedAmount + amount - most);
  if (surplus <= 0n) return payment;
  const externals = await tx.refund.findMany({
    where: { paymentId: payment.id, reason: 'external', status: 'succeeded' },
    orderBy: [{ createdAt: 'desc' }, { id: 'desc' }],
  });
  if (externals.length === 0) return payment;
  // Its row before the payment's, which those of the others lock.
  await tx.refund.update({ where: { id: refund.id }, data: { askedAt: refund.askedAt ?? now } });
  let freed = 0n;
  for (const external of externals) {
    if (freed >= surplus) break;
    freed += external.amount;
    const failure = `It was refund ${refund.id}.`;
    await tx.refund.update({ where: { id: external.id }, data: { status: 'failed', failure } });
    const said = `Refund ${external.id} of ${sayAmount(external.amount, external.currency)} was refund ${refund.id}.`;
    await note(tx, payment.id, 'refund', said, now, { refundId: external.id, status: 'failed' });
    news.push({ type: 'refund.failed', refundId: external.id });
  }
  const corrected = await update(tx, payment.id, {
    refundedAmount: { decrement: freed },
    ...cleared(payment, 'reversal_explained'),
  });
  if (freed > surplus) return await insertExternal({ ...locked, payment: corrected }, freed - surplus, now);
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
  const settled = sayAmount(receivedAmount, receivedCurrency ?? currency);
  const detail = `The channel speaks of ${sayAmount(answer.amount, answer.currency)}, settled were ${settled}: not acted on.`;
  // Said again it is no news.
  const known = await tx.timelineEntry.findFirst({
    where: { paymentId, kind: 'query', detail },
    select: { id: true },
  });
  if (known === null) await note(tx, paymentId, 'query', detail, now, { state: answer.state });
}
