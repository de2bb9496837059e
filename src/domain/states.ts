/**
 * Defines the states of orders, payments and refunds, and their legal transitions. The database enforces the same
 * rules.
 */

export const ORDER_STATUSES = ['unpaid', 'paying', 'succeeded', 'refunded', 'cancelled', 'closed'] as const;
export type OrderStatus = (typeof ORDER_STATUSES)[number];

export const PAYER_ORDER_STATES = ['open', 'undecided', 'paid', 'over'] as const;
/** The state of an order as nodrop shows it to the payer of one of the order's attempts. */
export type PayerOrderState = (typeof PAYER_ORDER_STATES)[number];

export const PAYMENT_STATUSES = ['created', 'paying', 'succeeded', 'failed', 'cancelled', 'closed'] as const;
export type PaymentStatus = (typeof PAYMENT_STATUSES)[number];

export const ORDER_UPDATES = ['pending', 'applied', 'conflict', 'review'] as const;
/** The effect of a payment's received money on the order. Null until money has arrived. */
export type OrderUpdate = (typeof ORDER_UPDATES)[number];

export const SETTLED_BY = ['callback', 'query', 'hint', 'close', 'statement', 'operator'] as const;
/** The source of the answer that settled or ended a payment. */
export type SettledBy = (typeof SETTLED_BY)[number];

export const ADOPTIONS = ['watched', 'own'] as const;
/**
 * The owner of an adopted trade, which the merchant's own code has created. `watched`: the merchant owns the trade, and
 * nodrop neither closes it nor refunds its money automatically. `own`: nodrop owns the trade, and treats it in the same
 * way as a trade that nodrop created.
 */
export type Adoption = (typeof ADOPTIONS)[number];

/** True for a payment whose trade the merchant's own code has created and still owns. */
export const isOnlyWatched = ({ adopted }: { readonly adopted?: Adoption | null }): boolean =>
  adopted === 'watched';

export const REFUND_STATUSES = [
  'created',
  'processing',
  'needs_person',
  'succeeded',
  'failed',
  'reversed',
] as const;
export type RefundStatus = (typeof REFUND_STATUSES)[number];

/** The statuses of a refund that is not final. With `needs_person`, a person must act at the channel. */
export const OPEN_REFUND_STATUSES = ['created', 'processing', 'needs_person'] as const;
/**
 * The final statuses of a refund that leaves no money with the payer. A `reversed` refund succeeded before it failed.
 */
export const VOID_REFUND_STATUSES = ['failed', 'reversed'] as const;

export const REFUND_REASONS = [
  'requested',
  'duplicate_payment',
  'late_payment',
  'external',
  'dispute',
] as const;
export type RefundReason = (typeof REFUND_REASONS)[number];

/**
 * The reasons of refunds that nodrop did not request. Such a refund does not have nodrop's refund number and has no
 * workflow. nodrop never retries it.
 */
export const REASONS_OF_OTHERS = ['external', 'dispute'] as const satisfies readonly RefundReason[];

export function isOfOthers(reason: RefundReason): boolean {
  return (REASONS_OF_OTHERS as readonly string[]).includes(reason);
}

export function isRefundOpen(status: RefundStatus): boolean {
  return (OPEN_REFUND_STATUSES as readonly string[]).includes(status);
}

export function isRefundVoid(status: RefundStatus): boolean {
  return (VOID_REFUND_STATUSES as readonly string[]).includes(status);
}

/** True for a refund that nodrop makes automatically. */
export function isAutomatic(reason: RefundReason): boolean {
  return reason === 'duplicate_payment' || reason === 'late_payment';
}

const PAYMENT_TRANSITIONS: Readonly<Record<PaymentStatus, readonly PaymentStatus[]>> = {
  created: ['paying', 'succeeded', 'failed', 'cancelled', 'closed'],
  paying: ['succeeded', 'failed', 'cancelled', 'closed'],
  succeeded: [],
  failed: ['succeeded'],
  cancelled: ['succeeded'],
  closed: ['succeeded'],
};

const ORDER_TRANSITIONS: Readonly<Record<OrderStatus, readonly OrderStatus[]>> = {
  unpaid: ['paying', 'succeeded', 'cancelled', 'closed'],
  paying: ['unpaid', 'succeeded', 'cancelled', 'closed'],
  succeeded: ['refunded'],
  refunded: [],
  cancelled: [],
  closed: [],
};

export function canPaymentGo(from: PaymentStatus, to: PaymentStatus): boolean {
  return PAYMENT_TRANSITIONS[from].includes(to);
}

export function canOrderGo(from: OrderStatus, to: OrderStatus): boolean {
  return ORDER_TRANSITIONS[from].includes(to);
}

/** True while the payer may still pay. */
export function isLive(status: PaymentStatus): boolean {
  return status === 'created' || status === 'paying';
}

/** True for a payment that ended without money. A late success is still possible. */
export function isEnded(status: PaymentStatus): boolean {
  return status === 'failed' || status === 'cancelled' || status === 'closed';
}

/** True if the payer no longer needs to wait, because no later automatic change of the payment matters to the payer. */
export function isFinal(status: PaymentStatus, orderUpdate: OrderUpdate | null): boolean {
  return isEnded(status) || (status === 'succeeded' && orderUpdate !== null && orderUpdate !== 'pending');
}
