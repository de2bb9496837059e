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

/** What the order service's answer means: which answers settle a delivery, and what they do to the payment. */

/** What one call of the order service came to. */
export interface AttemptResult {
  readonly outcome: DeliveryOutcome;
  /** Null when there was no answer. */
  readonly statusCode: number | null;
  /** A sentence. */
  readonly detail: string;
  readonly durationMs: number;
  /** The start of the body of an answer that fails. */
  readonly answer?: string;
  /** What the service asked for. */
  readonly retryAfterMs?: number;
  /** When it began. */
  readonly at: Date;
}

/**
 * What the order service's word does to the payment that waits for it. Of every other event it settles the delivery
 * alone. `order_unknown` is given once its time, `unknownForMs`, is over.
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
        `The order service refuses it. ${attempt.detail}`,
        now,
      );
    case 'gone':
    case 'order_unknown': {
      const merchant = await tx.merchant.findUniqueOrThrow({ where: { id: payment.merchantId } });
      const detail =
        attempt.outcome === 'gone'
          ? 'The order service has no such order any more'
          : `The order service has not known the order for ${unknownForMs / 3_600_000} h`;
      if (merchant.latePayment !== 'review')
        return await giveBack(locked, 'late_payment', `${detail}; the money is owed back.`, now);
      const said = `${detail}; the merchant wants to decide.`;
      return await applyRefusal(locked, 'review', 'late_payment_review', said, now);
    }
    default:
      return payment;
  }
}

/** The payment that was told to its order service is applied. */
async function applyAgreement({ tx, payment }: Locked, detail: string, now: Date): Promise<Payment> {
  const over = cleared(payment, 'order_decided');
  if (over.attention === null) await note(tx, payment.id, 'attention', `${payment.attention} is over.`, now);
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

/** Our order row keeps naming the payment: nobody else can pay it, and it is refunded when the money is back. */
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
 * An operator decides in the order service's stead about a payment that waits for it.
 * @returns the payment, or null when it waits for none.
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
  if (action === 'refund') return await giveBack(locked, 'requested', 'An operator refunds it.', now);
  return await applyAgreement(locked, `Order ${payment.orderId} is paid, by an operator's word.`, now);
}
