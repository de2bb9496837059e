import type { Attention } from '../domain/attention.ts';
import { reviewInstead, whyAPersonDecides } from '../domain/decision.ts';
import { isDeliveredByPayment } from '../domain/delivery.ts';
import type { DeliveryOutcome } from '../domain/event.ts';
import { isOnlyWatched, type RefundReason } from '../domain/states.ts';
import { settle } from './delivery-row.ts';
import { showReversed } from './external-refunds.ts';
import { cleared, type Locked, raisedUnlessDisputed, update } from './order-lock.ts';
import { oweRefund } from './refunds.ts';
import type { Event, Payment } from './rows.ts';
import { note } from './timeline.ts';

/** This file applies the order service's answer to a payment. The answer decides what changes in the payment. */

/** The result of one delivery attempt. */
export interface AttemptResult {
  readonly outcome: DeliveryOutcome;
  /** The HTTP status of the order service's answer, or null if there was no answer. */
  readonly statusCode: number | null;
  /** A sentence. */
  readonly detail: string;
  readonly durationMs: number;
  /** The start of the order service's response body, if the answer was not a success. */
  readonly answer?: string;
  /** The waiting time that the order service requests by `Retry-After`. */
  readonly retryAfterMs?: number;
  /** The time at which the delivery attempt began. */
  readonly at: Date;
}

/**
 * Applies the order service's answer to the payment that waits for this answer. An answer to any other event changes no
 * payment. The caller passes `order_unknown` only after the order service has answered for `unknownForMs` that it does
 * not know the order.
 */
export async function applyOutcome(
  locked: Locked,
  event: Event,
  attempt: AttemptResult,
  now: Date,
  unknownForMs: number,
): Promise<Payment> {
  const { tx, payment, order } = locked;
  if (!isDeliveredByPayment(event.type, payment.orderUpdate)) return payment;
  switch (attempt.outcome) {
    case 'agreed':
      return await applyAgreement(locked, `The order service agrees: order ${order.id} is paid.`, now);
    case 'conflict':
      return await giveBack(
        locked,
        'duplicate_payment',
        `The order service refuses the payment. ${attempt.detail}`,
        now,
      );
    case 'gone':
    case 'order_unknown': {
      const merchant = await tx.merchant.findUniqueOrThrow({ where: { id: payment.merchantId } });
      const detail =
        attempt.outcome === 'gone'
          ? 'The order service no longer has the order'
          : `The order service has not known the order for ${unknownForMs / 3_600_000} h`;
      if (merchant.latePayment !== 'review')
        return await giveBack(locked, 'late_payment', `${detail}; a refund is due.`, now);
      const said = `${detail}; the merchant has to decide.`;
      return await applyRefusal(locked, 'review', 'late_payment_review', said, now);
    }
    default:
      return payment;
  }
}

/** Called when the order service has agreed. The payment then pays its order. */
async function applyAgreement({ tx, payment }: Locked, detail: string, now: Date): Promise<Payment> {
  const over = cleared(payment, 'order_decided');
  if (over.attention === null)
    await note(tx, payment.id, 'attention', `${payment.attention} was cleared.`, now);
  await note(tx, payment.id, 'order', detail, now, { orderUpdate: 'applied' });
  const applied = await update(tx, payment.id, { orderUpdate: 'applied', orderUpdatedAt: now, ...over });
  return await showReversed(tx, applied, now);
}

async function giveBack(locked: Locked, reason: RefundReason, detail: string, now: Date): Promise<Payment> {
  const why = whyAPersonDecides({
    recovered: locked.order.recoveredAt !== null,
    isOnlyWatched: isOnlyWatched(locked.payment),
  });
  if (why !== null && reason !== 'requested') {
    const { orderUpdate, attention, detail: said } = reviewInstead(reason, detail, why);
    return await applyRefusal(locked, orderUpdate, attention, said, now);
  }
  const payment = await applyRefusal(locked, 'conflict', 'order_conflict', detail, now);
  await oweRefund(locked.tx, payment, reason, now);
  return payment;
}

/**
 * Applies a refusal to the payment. The order's row continues to name this payment, so that no other payment can pay
 * the order. The order becomes `refunded` when the money is refunded.
 */
async function applyRefusal(
  { tx, payment, newEvents }: Locked,
  to: 'conflict' | 'review',
  attention: Attention,
  detail: string,
  now: Date,
): Promise<Payment> {
  await note(tx, payment.id, 'order', detail, now, { orderUpdate: to });
  newEvents.push({ type: `payment.${to}` });
  return await update(tx, payment.id, {
    orderUpdate: to,
    orderUpdatedAt: now,
    ...raisedUnlessDisputed(payment, attention, detail, now),
  });
}

/**
 * Applies an operator's decision to a payment that still waits for its order service.
 * @returns null if the payment does not wait for its order service; otherwise the payment
 */
export async function decidePending(
  locked: Locked,
  action: 'accept' | 'refund',
  now: Date,
): Promise<Payment | null> {
  const { tx, payment } = locked;
  if (payment.orderUpdate !== 'pending') return null;
  const waiting = await tx.delivery.findMany({
    where: { paymentId: payment.id, status: 'pending', event: { type: 'payment.succeeded' } },
    select: { id: true },
  });
  const detail = `An operator decided: ${action}.`;
  for (const { id: deliveryId } of waiting) {
    await settle(tx, deliveryId, action === 'accept' ? 'delivered' : 'conflict', now);
    const outcome = action === 'accept' ? 'agreed' : 'conflict';
    await tx.deliveryAttempt.create({
      data: { deliveryId, at: now, outcome, statusCode: null, detail, durationMs: 0 },
    });
  }
  if (action === 'refund')
    return await giveBack(locked, 'requested', 'An operator refunds the payment.', now);
  return await applyAgreement(
    locked,
    `Order ${payment.orderId} is paid: an operator accepted the payment.`,
    now,
  );
}
