import type { Attention } from './attention.ts';
import type { CurrencyCode } from './money.ts';
import type { Adoption, OrderUpdate, PaymentStatus } from './states.ts';

/** The default subject of an order. */
export const defaultSubject = (orderId: string): string => `Order ${orderId}`;

/**
 * The shortest lifetime of a payment and of an order, in seconds. In test mode the times are short, so that an expiry
 * can be tested. In live mode they are long enough for the channels.
 */
export const EXPIRY_AT_LEAST_S = { test: 5, live: 60 } as const;

/**
 * The terms of a payment, which are the input of its workflow. They are enough to restore the payment's row if the
 * database has lost it. They contain no payer data and no secrets. Times are epoch milliseconds, and amounts are in
 * minor units.
 */
export interface PaymentTerms {
  readonly paymentId: string;
  readonly merchantId: string;
  readonly orderId: string;
  readonly channel: string;
  readonly channelAccountId: string;
  readonly method: string;
  readonly amount: number;
  readonly currency: CurrencyCode;
  readonly createdAt: number;
  readonly expiresAt: number;
  /** The name of an adopted trade, which the merchant's own code has created. Absent if nodrop created the trade. */
  readonly adoption?: { readonly reference: string; readonly as: Adoption };
}

/**
 * The part of a payment's row that workflows get. Temporal's histories store it. So it contains only ids, states and
 * amounts, and no payer data or secrets. Times are epoch milliseconds, and amounts are in minor units.
 */
export interface PaymentSnapshot {
  readonly id: string;
  readonly orderId: string;
  readonly channel: string;
  readonly amount: number;
  readonly currency: CurrencyCode;
  readonly status: PaymentStatus;
  readonly orderUpdate: OrderUpdate | null;
  readonly createdAt: number;
  readonly expiresAt: number;
  /** When the payment became failed, cancelled or closed. */
  readonly endedAt: number | null;
  readonly cancelRequested: boolean;
  /**
   * True if the channel no longer gives a next action. The payment must then end as `closed`. Absent if nodrop does not
   * know this.
   */
  readonly noAction?: true;
  /** The channel does not close the trade before this time. Absent if the channel has named no such time. */
  readonly closeNotBefore?: number;
  /** False if the payment has no next action, or if its next action has expired. */
  readonly nextActionReady: boolean;
  /** The state in the channel's last answer. `channelAnsweredAt` is the time of that answer. */
  readonly channelState: string | null;
  readonly channelAnsweredAt: number | null;
  /**
   * The time since which the channel has given no readable answer. Null while the channel answers, and absent in older
   * histories.
   */
  readonly channelErrorSince?: number | null;
  /** The state of the recorded definite answer of the channel. */
  readonly answer: 'paid' | 'refunded' | 'closed' | 'failed' | null;
  readonly attention: Attention | null;
}

/**
 * Returns the snapshot of a payment that was just inserted. It is built from the terms of the payment, without reading
 * the row.
 */
export function newSnapshot({ paymentId, createdAt, expiresAt, ...terms }: PaymentTerms): PaymentSnapshot {
  const { orderId, channel, amount, currency } = terms;
  return {
    id: paymentId,
    orderId,
    channel,
    amount,
    currency,
    status: 'created',
    orderUpdate: null,
    createdAt,
    expiresAt,
    endedAt: null,
    cancelRequested: false,
    nextActionReady: false,
    channelState: null,
    channelAnsweredAt: null,
    channelErrorSince: null,
    answer: null,
    attention: null,
  };
}

/** True if the recorded answer of the channel reports received money. */
export function hasMoney({ answer }: Pick<PaymentSnapshot, 'answer'>): boolean {
  return answer === 'paid' || answer === 'refunded';
}

/**
 * True if the callback reports exactly the requested amount. The ledger records such a callback before the workflow
 * gets its signal.
 */
export function reportsFullAmount(notice: CallbackNotice, { amount, currency }: PaymentSnapshot): boolean {
  return notice.state === 'paid' && notice.amount === amount && notice.currency === currency;
}

/**
 * The content of a callback, as the signal carries it to the workflow. nodrop does not settle with the amounts in the
 * signal, but with the amounts in the ledger's row.
 */
export interface CallbackNotice {
  readonly callbackId: string;
  readonly state: string;
  readonly amount?: number;
  readonly currency?: CurrencyCode;
  /** The amount that was refunded so far. Absent if the callback reports no refund. */
  readonly refundedAmount?: number;
}
