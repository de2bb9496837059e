import type { OrderUpdate, PaymentStatus, RefundStatus } from './states.ts';

/**
 * The events of a payment, which merchants receive at their order service and in the event feed. nodrop writes an event
 * in the same transaction as the change that it reports. The event never changes afterwards.
 */

export const EVENT_TYPES = [
  /** The money has arrived and pays the order. */
  'payment.succeeded',
  /** The money has arrived, but it does not pay the order and is refunded. */
  'payment.conflict',
  /** The money has arrived, and a person must decide about it. */
  'payment.review',
  'payment.failed',
  'payment.cancelled',
  'payment.closed',
  'refund.succeeded',
  'refund.failed',
  /** The refund had succeeded, but it has failed since. So the merchant has the money again. */
  'refund.reversed',
] as const;
export type EventType = (typeof EVENT_TYPES)[number];

/**
 * The fields of a payment (or of a payment in an event) that decide whether the order service should hand out goods.
 */
export interface Standing {
  readonly orderUpdate: OrderUpdate | null;
  readonly receivedAmount: bigint | number | null;
  readonly refundedAmount: bigint | number;
}

/**
 * True if the payment is not fully refunded, and it pays its order or will pay it as soon as the order service agrees.
 */
const pays = ({ orderUpdate, receivedAmount, refundedAmount }: Standing): boolean =>
  (orderUpdate === 'pending' || orderUpdate === 'applied') && refundedAmount < (receivedAmount ?? 0);

/**
 * True if the content of an event is still true for its payment. For the event of a succeeded refund, it must also be
 * true for the refund. If an undelivered event is no longer true, a newer event supersedes it. An event becomes untrue
 * in these cases:
 * - The event reports that the payment ended unpaid, and the payment has succeeded late.
 * - The event reports a success, and the payment no longer pays its order, or all its money was refunded.
 * - The event reports a review, and the review is decided.
 * - The event reports a succeeded refund, and the refund's status is no longer `succeeded`.
 * - The event reports a refund and contains a payment that still pays the order, but the payment no longer pays it.
 *   Order services use the payment in an event.
 * @param told the payment as it is in the event
 */
export function stillHolds(
  type: EventType,
  told: Standing,
  payment: Standing & { readonly status: PaymentStatus },
  refund: { readonly status: RefundStatus } | null,
): boolean {
  switch (type) {
    case 'payment.succeeded':
      return pays(payment);
    case 'payment.review':
      return payment.orderUpdate === 'review';
    case 'payment.failed':
    case 'payment.cancelled':
    case 'payment.closed':
      return payment.status !== 'succeeded';
    case 'refund.succeeded':
      return refund?.status === 'succeeded' && (pays(payment) || !pays(told));
    case 'refund.failed':
    case 'refund.reversed':
      return pays(payment) || !pays(told);
    // A conflict is final, so its event never becomes untrue.
    case 'payment.conflict':
      return true;
  }
}

export const DELIVERY_STATUSES = ['pending', 'delivered', 'conflict', 'gone', 'superseded'] as const;
/**
 * The status of an event's delivery to the order service. An event is `superseded` if it became untrue before it was
 * delivered.
 */
export type DeliveryStatus = (typeof DELIVERY_STATUSES)[number];

/** The statuses in which a person can request another delivery attempt. */
export const REDELIVERABLE_STATUSES = ['pending', 'delivered', 'conflict', 'gone'] as const;
export type RedeliverableStatus = (typeof REDELIVERABLE_STATUSES)[number];

export const isRedeliverable = (status: string): status is RedeliverableStatus =>
  (REDELIVERABLE_STATUSES as readonly string[]).includes(status);

export const DELIVERY_OUTCOMES = [
  'agreed',
  'conflict',
  'gone',
  'order_unknown',
  'not_applied',
  'unknown',
] as const;
/**
 * The outcome of one delivery attempt. Only `agreed`, `conflict` and `gone` are definite answers. nodrop never treats
 * an unknown outcome as a definite answer (P3). `order_unknown` becomes definite when the service has repeated it for
 * 24 h by default (NODROP_ORDER_UNKNOWN_HOURS).
 */
export type DeliveryOutcome = (typeof DELIVERY_OUTCOMES)[number];

/**
 * If the body of a 404 or 410 has this `code`, the order service does not know the order. A 404 without this code may
 * come from a router or proxy.
 */
export const ORDER_UNKNOWN = 'order_unknown' satisfies DeliveryOutcome;
/**
 * The default of NODROP_ORDER_UNKNOWN_HOURS, in ms. If an order service answers for this long that it does not know an
 * order, nodrop treats the order as gone. The time begins with the first such answer to the event (see `unknownUntil`
 * in src/ledger/deliveries.ts).
 */
export const ORDER_UNKNOWN_FOR_MS = 86_400_000;

/** An order service's answer to an event that was sent to it. */
export type OrderAnswer =
  | { readonly kind: 'agreed'; readonly statusCode: number }
  /** The order service answered 409 `{ paidPaymentId }`, which names another payment. */
  | { readonly kind: 'conflict'; readonly statusCode: number; readonly paidPaymentId: string }
  /** The order service answered 410: the order no longer exists. */
  | { readonly kind: 'gone'; readonly statusCode: number }
  | {
      /**
       * The order service answered 404 or 410 with the code `order_unknown`. It does not know the order now, but may
       * know it later.
       */
      readonly kind: 'order_unknown';
      readonly statusCode: number;
      /** The wait that the order service asked for with `Retry-After`, in ms. */
      readonly retryAfterMs?: number;
    }
  | {
      readonly kind: 'unknown';
      readonly reason: string;
      /** The HTTP status. Null if the order service gave no HTTP answer. */
      readonly statusCode: number | null;
      /** The wait that the order service asked for with `Retry-After`, in ms. */
      readonly retryAfterMs?: number;
    };

/** The result of reading the order at the order service's status URL. */
export type OrderReading =
  | { readonly kind: 'paid' }
  | { readonly kind: 'conflict'; readonly paidPaymentId: string }
  | { readonly kind: 'not_paid'; readonly reason: string }
  | {
      readonly kind: 'unknown';
      readonly reason: string;
      /** The wait that the order service asked for with `Retry-After`, in ms. */
      readonly retryAfterMs?: number;
    };
