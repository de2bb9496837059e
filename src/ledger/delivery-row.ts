import { type DeliveryStatus, stillHolds } from '../domain/event.ts';
import type { LedgerTx } from './client.ts';
import type { EventContent } from './event-data.ts';
import type { Delivery, Event, Payment } from './rows.ts';
import { note } from './timeline.ts';

/**
 * This file ends deliveries. A delivery ends when the order service gives a definite answer, or when its event is
 * superseded.
 */

/**
 * Ends a delivery with the given status. The delivery's event is not delivered again unless a redelivery is requested.
 */
export async function settle(
  tx: LedgerTx,
  deliveryId: string,
  status: Exclude<DeliveryStatus, 'pending'>,
  now: Date,
): Promise<Delivery> {
  return await tx.delivery.update({
    where: { id: deliveryId },
    data: { status, settledAt: now, nextAttemptAt: null, leasedUntil: null },
  });
}

/** True if the event still describes the current rows correctly. @param payment the event's payment. */
export async function holds(tx: LedgerTx, event: Event, payment: Payment): Promise<boolean> {
  const told = event.data as unknown as EventContent;
  const refund =
    told.refund === undefined ? null : await tx.refund.findUnique({ where: { id: told.refund.id } });
  return stillHolds(event.type, told.payment, payment, refund);
}

/**
 * Supersedes the payment's pending deliveries whose event no longer describes the current rows correctly. The stored
 * events do not change. If a delivery attempt is running, the order service's answer is only logged. Call this function
 * in the transaction that changes the rows, before that transaction writes its own events.
 */
export async function supersedePending(tx: LedgerTx, paymentId: string, now: Date): Promise<void> {
  const pending = await tx.delivery.findMany({
    where: { paymentId, status: 'pending' },
    include: { event: true },
    orderBy: { id: 'asc' },
  });
  if (pending.length === 0) return;
  const payment = await tx.payment.findUniqueOrThrow({ where: { id: paymentId } });
  for (const { id: deliveryId, eventId, event } of pending) {
    if (await holds(tx, event, payment)) continue;
    await settle(tx, deliveryId, 'superseded', now);
    const detail = `${event.type} (${eventId}) is superseded: it is no longer true, so it is not delivered to the order service.`;
    await note(tx, paymentId, 'delivery', detail, now, { deliveryId, eventId });
  }
}
