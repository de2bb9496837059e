import type { EventType } from '../domain/event.ts';
import { newDeliveryId, newEventId } from '../domain/ids.ts';
import { json, type LedgerTx } from './client.ts';
import { type EventContent, orderData, paymentData, refundData } from './event-data.ts';
import type { Event, Merchant, Order, Payment, Refund } from './rows.ts';
import { type Writes, write } from './write-decision.ts';

/** An event that the transaction writes for the merchant. */
export interface NewEvent {
  readonly type: EventType;
  /** The id of the refund. It is set only in events about a refund. */
  readonly refundId?: string;
  /**
   * The id of the payment that the event is about, if it is another payment of the order. If the field is absent, the
   * event is about the payment that the transaction locked.
   */
  readonly paymentId?: string;
  /**
   * Whether the event is delivered to the order service. If the field is absent, this depends on the merchant's current
   * settings.
   */
  readonly mustBeTold?: boolean;
}

/** The rows that an event contains. They have the values that the transaction writes. */
export interface Told {
  readonly payment: Payment;
  readonly order: Order;
  readonly merchant: Pick<Merchant, 'orderServiceUrl'>;
  readonly refund?: Refund;
  /** The time of the newest event of the order's payments, or null if the payments have no events. */
  readonly newestEventAt: Date | null;
}

/**
 * Returns the version of the payment's next event. A restore can lose an event that was already delivered. If the next
 * event got the lost event's version, a receiver would ignore it as a repetition. Therefore the version is always
 * higher than the number of seconds since the payment's creation.
 */
export function versionAfter(
  { eventVersion, createdAt }: Pick<Payment, 'eventVersion' | 'createdAt'>,
  now: Date,
): number {
  const seconds = Math.floor((now.getTime() - createdAt.getTime()) / 1000);
  return Math.max(eventVersion, seconds) + 1;
}

/**
 * Builds the event that reports the transaction's changes of the payment to the merchant. If the merchant has an order
 * service, the function also builds the event's delivery. The event has no position in the feed yet: see
 * feed-positions.ts. Each event contains the order (`data.order`), and a receiver that applies events by time must end
 * with the order's current state. Therefore an event of the order that commits later always has a later time, even if
 * the clocks of processes differ.
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
 * Writes an event that contains the current rows. Call this function as the last step of the transaction, because the
 * event reports everything that the transaction does. Call it under the order's lock.
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
