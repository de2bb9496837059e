import { type Attention, isClearedBy, isFree, type Occasion } from '../domain/attention.ts';
import { isAutomaticRefundId } from '../domain/ids.ts';
import { amountText } from '../domain/money.ts';
import { REFUND_FAILING_AFTER_MS, REFUND_PROCESSING_AT_MOST_MS } from '../domain/refund.ts';
import { isOfOthers, isRefundOpen, isRefundVoid } from '../domain/states.ts';
import type { LedgerTx } from './client.ts';
import { cleared, type Locked, raised, update } from './order-lock.ts';
import { releaseOrder } from './order-row.ts';
import { isAllBack } from './payment-facts.ts';
import type { Payment, Refund } from './rows.ts';
import { note } from './timeline.ts';

/** What the refunds of a payment mean for the payment and its order. How changes are made: see refunds.ts. */

/**
 * Adds to what has gone back, and draws the conclusions when that is everything: the order is refunded, and a payment
 * that waits for its order service, or for a person, is a conflict. Its success, if not told yet, is superseded by that.
 */
export async function moneyWentBack(
  { tx, order, payment: { id }, newEvents }: Locked,
  amount: bigint,
  now: Date,
): Promise<Payment> {
  const before = await tx.payment.findUniqueOrThrow({ where: { id } });
  const { orderUpdate } = before;
  const refundedAmount = before.refundedAmount + amount;
  const isBack = isAllBack({ ...before, refundedAmount });
  const isDecided = isBack && (orderUpdate === 'pending' || orderUpdate === 'review');
  // In one statement: the database has no pending payment without money.
  const payment = await update(tx, id, {
    refundedAmount,
    ...(isDecided
      ? { orderUpdate: 'conflict', orderUpdatedAt: now, ...cleared(before, 'order_decided') }
      : {}),
  });
  if (isBack && order.paidPaymentId === id && order.status === 'succeeded') {
    await tx.order.update({
      where: { merchantId_id: { merchantId: order.merchantId, id: order.id } },
      data: { status: 'refunded' },
    });
    await note(tx, id, 'order', `Order ${order.id} is refunded: all of its money is back.`, now);
  }
  if (isDecided) {
    const detail =
      orderUpdate === 'pending'
        ? 'All money is back before the order service agreed: it is told of the conflict instead of the success.'
        : 'All money is back: nothing is left to decide.';
    await note(tx, id, 'order', detail, now, { orderUpdate: 'conflict' });
    if (before.attention !== null && payment.attention === null)
      await note(tx, id, 'attention', `${before.attention} is over.`, now);
    newEvents.push({ type: 'payment.conflict' });
    await releaseOrder(tx, order, now);
  }
  return await reviewAttention(tx, payment, now);
}

/** Shows a payment whose refund does not get on, and stops showing it when that is over. */
export async function reviewAttention(tx: LedgerTx, payment: Payment, now: Date): Promise<Payment> {
  const refunds = await tx.refund.findMany({
    where: { paymentId: payment.id },
    orderBy: [{ createdAt: 'desc' }, { id: 'desc' }],
  });
  const allBack = isAllBack(payment);
  const current = payment.attention;
  const onItsWay = refunds.reduce(
    (sum, { status, amount }) => (isRefundVoid(status) ? sum : sum + amount),
    0n,
  );
  const isHeld = onItsWay < (payment.receivedAmount ?? 0n);
  const isOwedByHand = isHeld && payment.orderUpdate === 'conflict' && (await isRecovered(tx, payment));
  for (const refund of refunds) {
    const trouble = troubleWith(refund, isHeld, isOwedByHand, now);
    if (trouble === undefined) continue;
    if (current === 'refund_failing') {
      // As old as it was, and with what is true of it now.
      if (payment.attentionDetail === trouble) return payment;
      await note(tx, payment.id, 'attention', `refund_failing: ${trouble}`, now);
      return await update(tx, payment.id, { attentionDetail: trouble });
    }
    // Money that cannot be given back hides an open conflict, and what had been given back before.
    if (!isFree(current) && !LESS_THAN_FAILING.includes(current)) return payment;
    await note(tx, payment.id, 'attention', `refund_failing: ${trouble}`, now);
    return await update(tx, payment.id, raised('refund_failing', trouble, now));
  }
  // Money that was given back and is here again stays owed, and nothing pays it again by itself.
  const reversed = refunds.find(({ status }) => status === 'reversed');
  const isHereAgain = reversed !== undefined && isHeld && payment.orderUpdate === 'conflict';
  if (isHereAgain && (isFree(current) || current === 'order_conflict')) {
    const said = `Refund ${reversed.id} of ${amountText(reversed.amount, reversed.currency)} failed after it had succeeded: ${reversed.failure}`;
    await note(tx, payment.id, 'attention', `refund_reversed: ${said}`, now);
    return await update(tx, payment.id, raised('refund_reversed', said, now));
  }
  // That the channel gave back another amount than asked stays to be seen.
  const isOtherAmount = refunds.some(({ askedAmount }) => askedAmount !== null);
  const occasions: Occasion[] = allBack
    ? ['money_back', ...(isOtherAmount ? [] : (['money_back_as_asked'] as const))]
    : ['refunds_get_on'];
  const { hiddenAttention: hidden } = payment;
  if (hidden !== null && isClearedBy(hidden, occasions))
    return await update(tx, payment.id, cleared(payment, ...occasions));
  if (current === null || !isClearedBy(current, occasions)) return payment;
  await note(tx, payment.id, 'attention', `${current} is over.`, now);
  if (payment.orderUpdate === 'conflict' && !allBack) {
    // As old as it was: the money has been here since.
    const detail = 'Its money is on its way back.';
    return await update(tx, payment.id, { attention: 'order_conflict', attentionDetail: detail });
  }
  return await update(tx, payment.id, cleared(payment, ...occasions));
}

/** What says less than that money cannot be given back. */
const LESS_THAN_FAILING: readonly (Attention | null)[] = ['order_conflict', 'refund_reversed'];

/** What says less than that the channel gave back another amount than it was asked for. */
const LESS_THAN_OTHER_AMOUNT: readonly Attention[] = ['order_conflict', 'channel_reversed'];

/**
 * Shows that the channel gave back another amount than it was asked for, or than came in, unless something else is shown.
 */
export async function showOtherAmount(
  tx: LedgerTx,
  payment: Payment,
  detail: string,
  now: Date,
): Promise<Payment> {
  const { attention } = payment;
  if (attention !== null && !isFree(attention) && !LESS_THAN_OTHER_AMOUNT.includes(attention)) return payment;
  await note(tx, payment.id, 'attention', `amount_mismatch: ${detail}.`, now);
  return await update(tx, payment.id, raised('amount_mismatch', `${detail}.`, now));
}

async function isRecovered(tx: LedgerTx, { merchantId, orderId: id }: Payment): Promise<boolean> {
  const order = await tx.order.findUnique({
    where: { merchantId_id: { merchantId, id } },
    select: { recoveredAt: true },
  });
  return (order?.recoveredAt ?? null) !== null;
}

/**
 * @param isHeld money of the payment is here that no refund brings back
 * @param isOwedByHand and it must go back, by a person's decision: the order is recovered
 */
function troubleWith(refund: Refund, isHeld: boolean, isOwedByHand: boolean, now: Date): string | undefined {
  const what = `refund ${refund.id} of ${amountText(refund.amount, refund.currency)}`;
  if (refund.status === 'failed') {
    // One that was asked for is its asker's to ask for again; one that is owed stays owed.
    const staysOwed = isAutomaticRefundId(refund.id, refund.paymentId)
      ? isHeld
      : isOwedByHand && !isOfOthers(refund.reason);
    return staysOwed ? `The channel refused ${what}: ${refund.failure ?? 'it gave no reason'}` : undefined;
  }
  // Of others' refunds the channel tells when it lists them.
  if (!isRefundOpen(refund.status) || isOfOthers(refund.reason)) return undefined;
  if (refund.status === 'needs_person')
    return `The channel waits for a person before it goes on with ${what}; nodrop keeps asking the channel. It says: ${refund.failure ?? 'nothing'}`;
  const { unknownSince, createdAt, failure } = refund;
  if (unknownSince !== null && now.getTime() - unknownSince.getTime() >= REFUND_FAILING_AFTER_MS)
    return `No definite answer on ${what} since ${unknownSince.toISOString()}; nodrop keeps asking the channel.${failure === null ? '' : ` Last: ${failure}`}`;
  if (refund.status === 'processing' && now.getTime() - createdAt.getTime() >= REFUND_PROCESSING_AT_MOST_MS)
    return `The channel still has ${what} in process, owed since ${createdAt.toISOString()}; nodrop keeps asking the channel.`;
  return undefined;
}
