import { type DeliveryStatus, stillHolds } from '../domain/event.ts';
import type { LedgerTx } from './client.ts';
import type { EventContent } from './event-data.ts';
import type { Delivery, Event, Payment } from './rows.ts';
import { note } from './timeline.ts';

/** How a delivery ends: its order service answers, or it is superseded. */

/** The delivery ends with this status; nobody tells it any more. */
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

/** Whether what the event says still holds, as the rows are now. @param payment the event's. */
export async function holds(tx: LedgerTx, event: Event, payment: Payment): Promise<boolean> {
  const told = event.data as unknown as EventContent;
  const refund =
    told.refund === undefined ? null : await tx.refund.findUnique({ where: { id: told.refund.id } });
  return stillHolds(event.type, told.payment, payment, refund);
}

/**
 * Ends the deliveries of the payment that are pending and whose event does not hold any more, as the rows are now. The
 * stored events stay as they are. An attempt that is under way is logged when its answer comes, and changes nothing.
 * Part of the transaction that makes them untrue, before it writes its own events.
 */
export async function supersedePending(tx: LedgerTx, paymentId: string, now: Date): Promise<void> {
  const untold = await tx.delivery.findMany({
    where: { paymentId, status: 'pending' },
    include: { event: true },
    orderBy: { id: 'asc' },
  });
  if (untold.length === 0) return;
  const payment = await tx.payment.findUniqueOrThrow({ where: { id: paymentId } });
  for (const { id: deliveryId, eventId, event } of untold) {
    if (await holds(tx, event, payment)) continue;
    await settle(tx, deliveryId, 'superseded', now);
    const detail = `${event.type} (${eventId}) is superseded: it does not hold any more, and the order service is not told of it.`;
    await note(tx, paymentId, 'delivery', detail, now, { deliveryId, eventId });
  }
}
