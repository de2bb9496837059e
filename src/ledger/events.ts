import type { EventType } from '../domain/event.ts';
import { newDeliveryId, newEventId } from '../domain/ids.ts';
import type { Prisma } from '../generated/prisma/client.ts';
import type { LedgerTx } from './client.ts';
import { type EventContent, orderData, paymentData, refundData } from './event-data.ts';

/** Something happened that the merchant is told of. */
export interface News {
  readonly type: EventType;
  /** Of a refund's events. */
  readonly refundId?: string;
  /** When it is of another payment of the order than the one the work is about. */
  readonly paymentId?: string;
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
  { type, refundId }: News,
  now: Date,
): Promise<void> {
  const payment = await tx.payment.update({
    where: { id: paymentId },
    data: { eventVersion: { increment: 1 } },
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
      data: content as unknown as Prisma.InputJsonObject,
      createdAt: now,
    },
  });
  // Whoever waits for the order service's word must be told to it, whatever was set in between.
  if (merchant.orderServiceUrl !== null || row.orderUpdate === 'pending') {
    await tx.delivery.create({
      data: { id: newDeliveryId(), eventId: id, merchantId, paymentId, createdAt: now },
    });
  }
}
