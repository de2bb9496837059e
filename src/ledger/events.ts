import type { EventType } from '../domain/event.ts';
import { newDeliveryId, newEventId } from '../domain/ids.ts';
import { json, type LedgerTx } from './client.ts';
import { type EventContent, orderData, paymentData, refundData } from './event-data.ts';

/** Something happened that the merchant is told of. */
export interface News {
  readonly type: EventType;
  /** Of a refund's events. */
  readonly refundId?: string;
  /** When it is of another payment of the order than the one the work is about. */
  readonly paymentId?: string;
  /** Whether the merchant has an order service, where the work went by that already: it may be set in between. */
  readonly mustBeTold?: boolean;
}

/**
 * Writes the merchant's event of what this transaction does to the payment, as the rows are now, and its delivery when
 * the merchant has an order service. Must be the last thing a transaction does:
 *
 * Readers go on from the last place (`seq`) they have seen, so within a merchant events must become visible in the order
 * of their places. A lock of the merchant's, held from before the place is given until the commit, sees to that. Taken
 * last, after every row lock, nobody can wait for it who holds what its holder still needs.
 */
export async function recordEvent(
  tx: LedgerTx,
  paymentId: string,
  { type, refundId, mustBeTold }: News,
  now: Date,
): Promise<void> {
  // Above the seconds since its creation: a version that a lost commit had given out is not given out again after
  // a restore, and a receiver does not take the new event for one it knows.
  await tx.$executeRaw`
    UPDATE payments SET event_version = GREATEST(
      event_version + 1, FLOOR(EXTRACT(EPOCH FROM ${now}::timestamptz - created_at))::int + 1
    ) WHERE id = ${paymentId}`;
  const payment = await tx.payment.findUniqueOrThrow({
    where: { id: paymentId },
    include: { order: true, merchant: { select: { orderServiceUrl: true } } },
  });
  const { order, merchant, ...row } = payment;
  const { merchantId, eventVersion: version } = row;
  const refund =
    refundId === undefined ? undefined : await tx.refund.findUniqueOrThrow({ where: { id: refundId } });
  const content: EventContent = {
    payment: paymentData(row),
    order: orderData(order),
    ...(refund === undefined ? {} : { refund: refundData(refund) }),
  };
  const id = newEventId();
  await tx.$queryRaw`
    SELECT 1 FROM pg_advisory_xact_lock(hashtextextended(${`nodrop-events-${merchantId}`}, 0))`;
  await tx.event.create({
    data: {
      id,
      merchantId,
      paymentId,
      type,
      version,
      data: json(content),
      createdAt: now,
    },
  });
  if (mustBeTold ?? (merchant.orderServiceUrl !== null || row.orderUpdate === 'pending')) {
    await tx.delivery.create({
      data: { id: newDeliveryId(), eventId: id, merchantId, paymentId, createdAt: now },
    });
  }
}
