import type { OrderUpdate, PaymentStatus, RefundStatus } from './states.ts';

/**
 * What a merchant is told of a payment: by its order service's events and by the feed. An event is written in the
 * transaction of what it tells, and never changes.
 */

export const EVENT_TYPES = [
  /** The money is in and pays the order. */
  'payment.succeeded',
  /** The money is in, does not pay the order, and goes back. */
  'payment.conflict',
  /** The money is in, and a person decides what becomes of it. */
  'payment.review',
  'payment.failed',
  'payment.cancelled',
  'payment.closed',
  'refund.succeeded',
  'refund.failed',
  /** It failed after it had succeeded: the money is back at the merchant. */
  'refund.reversed',
] as const;
export type EventType = (typeof EVENT_TYPES)[number];

/** Of a payment's row, or of one as an event has it: what decides whether an order service is to hand out goods. */
export interface Standing {
  readonly orderUpdate: OrderUpdate | null;
  readonly receivedAmount: bigint | number | null;
  readonly refundedAmount: bigint | number;
}

/** Whether the payment pays its order, or waits for its order service to say so: goods go out for it. */
const pays = ({ orderUpdate, receivedAmount, refundedAmount }: Standing): boolean =>
  (orderUpdate === 'pending' || orderUpdate === 'applied') && refundedAmount < (receivedAmount ?? 0);

/**
 * Whether what an event of this type says is still true of its payment and, for a refund's event, of its refund. One that
 * was not told before it ceased to be true is superseded: a newer event says what is true instead. Ends without money
 * cease to be true by a late success, a success by its refusal or once all of its money is back, a review by its
 * decision, a refund when it turns out to have been another one. Order services go by the payment that an event has, so
 * a refund's event ceases to be true, too, when its payment pays by it, and does not any more.
 * @param told the payment as the event has it.
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
    // It never changes.
    case 'payment.conflict':
      return true;
  }
}

export const DELIVERY_STATUSES = ['pending', 'delivered', 'conflict', 'gone', 'superseded'] as const;
/** What became of an event on its way to the order service. `superseded`: it ceased to be true before it was told. */
export type DeliveryStatus = (typeof DELIVERY_STATUSES)[number];

/** Those that can be told again, and once more after their end. Every other status is left alone. */
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
 * What one call of the order service came to. Only the first three are answers; not knowing is never one (P3).
 * `order_unknown` becomes one when the service has said it for 24 h by default (NODROP_ORDER_UNKNOWN_HOURS).
 */
export type DeliveryOutcome = (typeof DELIVERY_OUTCOMES)[number];

/** The `code` in the body of a 404 or 410: the order service does not know the order. Without it a 404 is a router's. */
export const ORDER_UNKNOWN = 'order_unknown' satisfies DeliveryOutcome;
/**
 * An order service may not know an order for so long by default (NODROP_ORDER_UNKNOWN_HOURS), in ms, counted from its
 * first such answer to the event: see `unknownUntil` in src/ledger/deliveries.ts.
 */
export const ORDER_UNKNOWN_FOR_MS = 86_400_000;

/** An order service's answer to an event. */
export type OrderAnswer =
  | { readonly kind: 'agreed'; readonly statusCode: number }
  /** 409 `{ paidPaymentId }` that names another payment. */
  | { readonly kind: 'conflict'; readonly statusCode: number; readonly paidPaymentId: string }
  /** 410: there is no such order any more. */
  | { readonly kind: 'gone'; readonly statusCode: number }
  | {
      /** 404 or 410 with the code: it does not know the order, at least not yet. */
      readonly kind: 'order_unknown';
      readonly statusCode: number;
      /** What `Retry-After` asked for. */
      readonly retryAfterMs?: number;
    }
  | {
      readonly kind: 'unknown';
      readonly reason: string;
      /** Null when there was no HTTP answer. */
      readonly statusCode: number | null;
      /** What `Retry-After` asked for. */
      readonly retryAfterMs?: number;
    };

/** What reading the order at its service said. */
export type OrderReading =
  | { readonly kind: 'paid' }
  | { readonly kind: 'conflict'; readonly paidPaymentId: string }
  | { readonly kind: 'not_paid'; readonly reason: string }
  | {
      readonly kind: 'unknown';
      readonly reason: string;
      /** What `Retry-After` asked for. */
      readonly retryAfterMs?: number;
    };
