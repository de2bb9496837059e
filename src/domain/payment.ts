import type { Attention } from './attention.ts';
import type { CurrencyCode } from './money.ts';
import type { Adoption, OrderUpdate, PaymentStatus } from './states.ts';

/** The subject of an order that was given none. */
export const defaultSubject = (orderId: string): string => `Order ${orderId}`;

/**
 * The least seconds that a payer has, and that an order lives. In test mode few, so that an expiry can be tested; in live
 * mode no fewer than channels take.
 */
export const EXPIRY_AT_LEAST_S = { test: 5, live: 60 } as const;

/**
 * What a payment was made with, as its workflow's input carries it: enough to write the row again after the database
 * has lost it. No payer data and no secrets. Times are epoch milliseconds, amounts minor units.
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
  /** What its trade is called that the merchant's own code has made. Absent of trades that nodrop makes. */
  readonly adoption?: { readonly reference: string; readonly as: Adoption };
}

/**
 * The row as workflows see it. It goes into Temporal's histories: ids, states and amounts only,
 * no payer data and no secrets. Times are epoch milliseconds, amounts minor units.
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
  /** When it became failed, cancelled or closed. */
  readonly endedAt: number | null;
  readonly cancelRequested: boolean;
  /** The channel gives no next action any more: it is to end, as `closed`. Absent when that is not known. */
  readonly noAction?: true;
  /** The channel closes it no earlier than this; absent when it has not said so. */
  readonly closeNotBefore?: number;
  /** False when there is none, or when it has expired. */
  readonly nextActionReady: boolean;
  /** The channel's last answer in a word, and when it came. */
  readonly channelState: string | null;
  readonly channelAnsweredAt: number | null;
  /** Since when it has given no readable answer; null while it answers, absent in older histories. */
  readonly channelErrorSince?: number | null;
  /** The definite answer on record. */
  readonly answer: 'paid' | 'refunded' | 'closed' | 'failed' | null;
  readonly attention: Attention | null;
}

/** A row that was just written: nothing has happened to it yet. */
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

/** The channel has said that money came in. */
export function hasMoney({ answer }: Pick<PaymentSnapshot, 'answer'>): boolean {
  return answer === 'paid' || answer === 'refunded';
}

/** The callback tells of exactly the money that was asked for. Such a word is on record before anybody is told of it. */
export function reportsFullAmount(notice: CallbackNotice, { amount, currency }: PaymentSnapshot): boolean {
  return notice.state === 'paid' && notice.amount === amount && notice.currency === currency;
}

/** A callback as its signal carries it; the money that counts is read from the ledger's row. */
export interface CallbackNotice {
  readonly callbackId: string;
  readonly state: string;
  readonly amount?: number;
  readonly currency?: CurrencyCode;
  /** Refunded at the channel so far; absent when it tells of no refund at all. */
  readonly refundedAmount?: number;
}
