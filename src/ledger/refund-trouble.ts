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

/**
 * Records the effects of a payment's refunds on the payment and its order. refunds.ts describes how changes are made.
 */

/**
 * Adds an amount to the payment's refunded amount. Once all money has been given back, the order that the payment has
 * paid becomes `refunded`. If the payment still waits for its order service or for an operator, it becomes a conflict,
 * and an undelivered `payment.succeeded` is superseded.
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
  // These changes need one statement, because a database check forbids a pending payment whose money is all given back.
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
    await note(tx, id, 'order', `Order ${order.id} is refunded: all of its money has been given back.`, now);
  }
  if (isDecided) {
    const detail =
      orderUpdate === 'pending'
        ? 'All money was given back before the order service agreed: it gets payment.conflict instead of payment.succeeded.'
        : 'All money has been given back: nothing is left to decide.';
    await note(tx, id, 'order', detail, now, { orderUpdate: 'conflict' });
    if (before.attention !== null && payment.attention === null)
      await note(tx, id, 'attention', `${before.attention} was cleared.`, now);
    newEvents.push({ type: 'payment.conflict' });
    await releaseOrder(tx, order, now);
  }
  return await reviewAttention(tx, payment, now);
}

/**
 * Raises `refund_failing` for a payment whose refund makes no progress. Clears the attention when the refund makes
 * progress again.
 */
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
      // Only the attention's text changes, and not the time at which it was raised.
      if (payment.attentionDetail === trouble) return payment;
      await note(tx, payment.id, 'attention', `refund_failing: ${trouble}`, now);
      return await update(tx, payment.id, { attentionDetail: trouble });
    }
    // `refund_failing` replaces the attentions of a conflict and of a reversed refund, because it is more important.
    if (!isFree(current) && !LESS_THAN_FAILING.includes(current)) return payment;
    await note(tx, payment.id, 'attention', `refund_failing: ${trouble}`, now);
    return await update(tx, payment.id, raised('refund_failing', trouble, now));
  }
  // The money of a reversed refund must still be given back. nodrop does not refund it automatically a second time,
  // so an attention is raised.
  const reversed = refunds.find(({ status }) => status === 'reversed');
  const isHereAgain = reversed !== undefined && isHeld && payment.orderUpdate === 'conflict';
  if (isHereAgain && (isFree(current) || current === 'order_conflict')) {
    const said = `Refund ${reversed.id} of ${amountText(reversed.amount, reversed.currency)} failed after it had succeeded: ${reversed.failure}`;
    await note(tx, payment.id, 'attention', `refund_reversed: ${said}`, now);
    return await update(tx, payment.id, raised('refund_reversed', said, now));
  }
  // The attention stays raised while a refund's amount differs from the requested amount.
  const isOtherAmount = refunds.some(({ askedAmount }) => askedAmount !== null);
  const occasions: Occasion[] = allBack
    ? ['money_back', ...(isOtherAmount ? [] : (['money_back_as_asked'] as const))]
    : ['refunds_get_on'];
  const { hiddenAttention: hidden } = payment;
  if (hidden !== null && isClearedBy(hidden, occasions))
    return await update(tx, payment.id, cleared(payment, ...occasions));
  if (current === null || !isClearedBy(current, occasions)) return payment;
  await note(tx, payment.id, 'attention', `${current} was cleared.`, now);
  if (payment.orderUpdate === 'conflict' && !allBack) {
    // The time of the attention does not change, because the conflict's money has been held since that time.
    const detail = 'The payment is being refunded.';
    return await update(tx, payment.id, { attention: 'order_conflict', attentionDetail: detail });
  }
  return await update(tx, payment.id, cleared(payment, ...occasions));
}

/** Attentions that are less important than `refund_failing`. */
const LESS_THAN_FAILING: readonly (Attention | null)[] = ['order_conflict', 'refund_reversed'];

/**
 * Attentions that are less important than `amount_mismatch`, which is raised when the refunded amount differs from
 * the requested amount.
 */
const LESS_THAN_OTHER_AMOUNT: readonly Attention[] = ['order_conflict', 'channel_reversed'];

/**
 * Called when the channel gave back another amount than requested, or more than was received. Raises `amount_mismatch`,
 * unless a more important attention is raised.
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
 * Returns the text of the attention for a refund that has failed or makes no progress. Undefined if nothing is wrong.
 * @param isHeld true if no refund gives back some part of the payment's money
 * @param isOwedByHand true if an operator decided to refund that money, because the order is recovered
 */
function troubleWith(refund: Refund, isHeld: boolean, isOwedByHand: boolean, now: Date): string | undefined {
  const what = `refund ${refund.id} of ${amountText(refund.amount, refund.currency)}`;
  if (refund.status === 'failed') {
    // If the channel refuses a requested refund, the requester can make another request. An automatic refund stays
    // due.
    const staysOwed = isAutomaticRefundId(refund.id, refund.paymentId)
      ? isHeld
      : isOwedByHand && !isOfOthers(refund.reason);
    return staysOwed ? `The channel refused ${what}: ${refund.failure ?? 'it gave no reason'}` : undefined;
  }
  // Refunds that were made at the channel are not checked here, because only the channel's lists report their later
  // states.
  if (!isRefundOpen(refund.status) || isOfOthers(refund.reason)) return undefined;
  if (refund.status === 'needs_person')
    return `The channel needs a manual action before it continues ${what}; nodrop keeps querying the channel. The channel's reason: ${refund.failure ?? 'none given'}`;
  const { unknownSince, createdAt, failure } = refund;
  if (unknownSince !== null && now.getTime() - unknownSince.getTime() >= REFUND_FAILING_AFTER_MS)
    return `No definite answer about ${what} since ${unknownSince.toISOString()}; nodrop keeps querying the channel.${failure === null ? '' : ` Last failure: ${failure}`}`;
  if (refund.status === 'processing' && now.getTime() - createdAt.getTime() >= REFUND_PROCESSING_AT_MOST_MS)
    return `The channel is still processing ${what}, due since ${createdAt.toISOString()}; nodrop keeps querying the channel.`;
  return undefined;
}
