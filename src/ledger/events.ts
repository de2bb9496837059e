import type { EventType } from '../domain/event.ts';
import { newDeliveryId, newEventId } from '../domain/ids.ts';
import { json, type LedgerTx } from './client.ts';
import { type EventContent, orderData, paymentData, refundData } from './event-data.ts';
import type { Event, Merchant, Order, Payment, Refund } from './rows.ts';
import { type Writes, write } from './write-decision.ts';

/** Something happened that the merchant is told of. */
export interface NewEvent {
  readonly type: EventType;
  /** Of a refund's events. */
  readonly refundId?: string;
  /** When it is of another payment of the order than the one the work is about. */
  readonly paymentId?: string;
  /** Whether the merchant has an order service, where the work went by that already: it may be set in between. */
  readonly mustBeTold?: boolean;
}

/** The rows of an event, as they are once the transaction has written them. */
export interface Told {
  readonly payment: Payment;
  readonly order: Order;
  readonly merchant: Pick<Merchant, 'orderServiceUrl'>;
  readonly refund?: Refund;
  /** When the newest event of the order's payments is from; null: they have none. */
  readonly newestEventAt: Date | null;
}

/**
 * The version of the payment's next event. Above the seconds since its creation: a version that a lost commit had given out
 * is not given out again after a restore, and a receiver does not take the new event for one it knows.
 */
export function versionAfter(
  { eventVersion, createdAt }: Pick<Payment, 'eventVersion' | 'createdAt'>,
  now: Date,
): number {
  const seconds = Math.floor((now.getTime() - createdAt.getTime()) / 1000);
  return Math.max(eventVersion, seconds) + 1;
}

/**
 * The merchant's event of what the transaction does to the payment, and its delivery when the merchant has an order
 * service. The event has no place in the feed yet: see feed-places.ts.
 *
 * The events of an order's payments have times in the order of their commits, whatever the clocks of the processes say: each
 * has the order as it is then (`data.order`), and who applies them by their times must end with the order as it is.
 */
export function eventOf(
  { payment, order, merchant, refund, newestEventAt }: Told,
  { type, mustBeTold }: NewEvent,
  now: Date,
): Writes & { readonly payment: Partial<Payment> } {
  const version = versionAfter(payment, now);
  const content: EventContent = {
    payment: paymentData(payment),
    order: orderData(order),
    ...(refund === undefined ? {} : { refund: refundData(refund) }),
  };
  const isTold = mustBeTold ?? (merchant.orderServiceUrl !== null || payment.orderUpdate === 'pending');
  return {
    payment: { eventVersion: version },
    event: {
      id: newEventId(),
      merchantId: payment.merchantId,
      paymentId: payment.id,
      type,
      version,
      data: json(content) as Event['data'],
      createdAt:
        newestEventAt === null ? now : new Date(Math.max(now.getTime(), newestEventAt.getTime() + 1)),
    },
    ...(isTold ? { deliveryId: newDeliveryId() } : {}),
  };
}

/**
 * Writes the event, of the rows as they are now. The last step of a transaction, which tells of all that it does; under
 * the order's lock.
 */
export async function recordEvent(
  tx: LedgerTx,
  paymentId: string,
  newEvent: NewEvent,
  now: Date,
): Promise<void> {
  const { order, merchant, ...payment } = await tx.payment.findUniqueOrThrow({
    where: { id: paymentId },
    include: { order: true, merchant: { select: { orderServiceUrl: true } } },
  });
  const { refundId } = newEvent;
  const refund =
    refundId === undefined ? undefined : await tx.refund.findUniqueOrThrow({ where: { id: refundId } });
  const { merchantId, orderId } = payment;
  const { _max: newest } = await tx.event.aggregate({
    _max: { createdAt: true },
    where: { payment: { merchantId, orderId } },
  });
  const told = {
    ...{ payment, order, merchant, newestEventAt: newest.createdAt },
    ...(refund === undefined ? {} : { refund }),
  };
  await write(tx, payment, eventOf(told, newEvent, now));
}
