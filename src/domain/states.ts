/** The states of orders, payments and refunds, and which changes are legal. The database holds the same rules. */

export const ORDER_STATUSES = ['unpaid', 'paying', 'succeeded', 'refunded', 'cancelled', 'closed'] as const;
export type OrderStatus = (typeof ORDER_STATUSES)[number];

export const PAYER_ORDER_STATES = ['open', 'undecided', 'paid', 'over'] as const;
/** An order as the payer of one of its attempts may know it. */
export type PayerOrderState = (typeof PAYER_ORDER_STATES)[number];

export const PAYMENT_STATUSES = ['created', 'paying', 'succeeded', 'failed', 'cancelled', 'closed'] as const;
export type PaymentStatus = (typeof PAYMENT_STATUSES)[number];

export const ORDER_UPDATES = ['pending', 'applied', 'conflict', 'review'] as const;
/** What became of the order when the money came in; null until then. */
export type OrderUpdate = (typeof ORDER_UPDATES)[number];

export const SETTLED_BY = ['callback', 'query', 'hint', 'close', 'statement', 'operator'] as const;
/** What brought the news that ended a payment. */
export type SettledBy = (typeof SETTLED_BY)[number];

export const ADOPTIONS = ['watched', 'own'] as const;
/**
 * Whose a trade is that the merchant's own code has made. `watched`: the merchant's; nodrop neither closes it nor gives its
 * money back by itself. `own`: nodrop's, as those that it makes.
 */
export type Adoption = (typeof ADOPTIONS)[number];

/** True for a payment whose trade the merchant's own code has made and keeps. */
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

/** The channel has not said its last word. `needs_person`: it waits for somebody to do something there. */
export const OPEN_REFUND_STATUSES = ['created', 'processing', 'needs_person'] as const;
/** It gives nothing back, now or later. `reversed`: it had succeeded before. */
export const VOID_REFUND_STATUSES = ['failed', 'reversed'] as const;

export const REFUND_REASONS = [
  'requested',
  'duplicate_payment',
  'late_payment',
  'external',
  'dispute',
] as const;
export type RefundReason = (typeof REFUND_REASONS)[number];

/** Money that went back without our asking: it has no number of ours, no workflow, and nobody asks for it again. */
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

/** True for a refund that nodrop owes by itself. */
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

/** Live: the payer may still pay. */
export function isLive(status: PaymentStatus): boolean {
  return status === 'created' || status === 'paying';
}

/** Ended without money; a late success can still come. */
export function isEnded(status: PaymentStatus): boolean {
  return status === 'failed' || status === 'cancelled' || status === 'closed';
}

/** Final for somebody who waits: nothing more happens by itself that a payer would want to see. */
export function isFinal(status: PaymentStatus, orderUpdate: OrderUpdate | null): boolean {
  return isEnded(status) || (status === 'succeeded' && orderUpdate !== null && orderUpdate !== 'pending');
}
