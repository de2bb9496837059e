import type { CurrencyCode } from './money.ts';
import { storable } from './text.ts';

/**
 * The port between nodrop and a payment channel (a wallet, an acquirer). One adapter per channel
 * implements it under `src/channels/`; nothing outside an adapter knows a channel's protocol.
 */

/** What the channel says of a trade, in nodrop's words. Amounts are in minor units of `currency`. */
export type ChannelAnswer =
  /** The payer has not paid yet. */
  | { readonly state: 'unpaid' }
  /** The payer has acted and the channel has not decided: never a failure. */
  | { readonly state: 'processing' }
  /** The channel does not know the trade (yet). Before expiry this is the same as unpaid. */
  | { readonly state: 'unknown_trade' }
  /** Definite: closed at the channel without money received. */
  | { readonly state: 'closed' }
  /** Definite: declined by the channel. */
  | { readonly state: 'failed'; readonly reason?: string }
  | PaidAnswer;

export interface PaidAnswer {
  /** `refunded`: it was paid, and the money has gone back in full at the channel. */
  readonly state: 'paid' | 'refunded';
  readonly channelPaymentId: string;
  /** The order's total as the channel has it, in minor units; compared with what was asked. */
  readonly amount: number;
  readonly currency: CurrencyCode;
  /** The channel's clock, ISO 8601. */
  readonly paidAt: string;
  /** What the payer paid after coupons, in minor units. Informational, never compared. */
  readonly payerAmount?: number;
  /** Refunded at the channel so far, in minor units. */
  readonly refundedAmount?: number;
}

/** What the payer does next; stored with the payment and shown by the API. */
export interface NextAction {
  readonly type: 'redirect' | 'qr' | 'sdk';
  readonly url?: string;
  readonly qr?: string;
  readonly params?: Readonly<Record<string, string>>;
  /** ISO 8601; absent when the action lives as long as the payment. */
  readonly expiresAt?: string;
}

/** The credentials of one merchant at one channel. */
export interface ChannelAccount {
  readonly id: string;
  readonly merchantId: string;
  readonly channel: string;
}

export interface NewTrade {
  /** The payment's id: the channel's idempotency key. */
  readonly outTradeNo: string;
  readonly method: string;
  /** Minor units. */
  readonly amount: number;
  readonly currency: CurrencyCode;
  /** Of any script, and with the order's own id by default: an adapter replaces and cuts what its channel does not take. */
  readonly subject: string;
  readonly notifyUrl: string;
  readonly returnUrl: string;
  /** ISO 8601. */
  readonly expiresAt: string;
}

/** Money that goes back; the channel is never asked for more than `total`. Amounts are minor units. */
export interface NewRefund {
  readonly outTradeNo: string;
  /** The refund's id: the channel's idempotency key. */
  readonly outRefundNo: string;
  readonly amount: number;
  readonly currency: CurrencyCode;
  /** What the payment received in all. */
  readonly total: number;
}

/** What the channel says of a refund, in nodrop's words. */
export type RefundAnswer =
  /** Definite: the money is on its way to the payer for good. */
  | {
      readonly state: 'succeeded';
      readonly channelRefundId: string;
      /** What the channel gave back under this number, in minor units, whatever it was asked for. */
      readonly amount: number;
      /** The channel's clock, ISO 8601. */
      readonly refundedAt?: string;
    }
  /** Taken, and not decided: never a failure. */
  | { readonly state: 'processing' }
  /** Definite: this number gives nothing back, now or later. */
  | { readonly state: 'failed'; readonly reason: string }
  /** To a query alone: the channel does not know the number (yet). */
  | { readonly state: 'unknown_refund' };

/** What a callback says of one refund. */
export interface CallbackRefund {
  readonly outRefundNo: string;
  readonly answer: RefundAnswer;
}

/** A callback whose signature is proven. `notificationId` is the channel's own, the same on its every retry. */
export interface VerifiedCallback {
  readonly notificationId: string;
  readonly outTradeNo: string;
  readonly answer: ChannelAnswer;
  /** The refund it tells of, if it does. */
  readonly refund?: CallbackRefund;
}

export type CloseAnswer = 'closed' | 'already_paid' | 'processing' | 'unknown_trade';

/** The plain headers of an HTTP request, names in lower case. */
export type Headers = Readonly<Record<string, string | readonly string[] | undefined>>;

/** A plain object, as it is spread where something stands between it and the rest. */
export interface ChannelAdapter {
  /** The name in routes, task queues and rows. */
  readonly name: string;
  /** ISO 4217 codes this channel takes; empty means every currency. */
  readonly currencies: readonly CurrencyCode[];
  /** The first is the default. */
  readonly methods: readonly [string, ...string[]];
  /** Calls a second the channel allows; shared out over the channel's task queues. */
  readonly rateLimitPerSecond: number;
  /** True for a channel that moves no real money: refused when NODROP_MODE is `live`. */
  readonly testOnly: boolean;

  /**
   * Creates the trade, or returns the existing one's next action: the same `outTradeNo` never makes two.
   * @throws ChannelError `rejected` when the channel definitely refuses; every other kind means unknown.
   */
  createTrade(account: ChannelAccount, trade: NewTrade, signal?: AbortSignal): Promise<NextAction>;
  /** @throws ChannelError, which always means unknown: a refusal to answer says nothing of the trade. */
  queryTrade(account: ChannelAccount, outTradeNo: string, signal?: AbortSignal): Promise<ChannelAnswer>;
  /** @throws ChannelError, which always means unknown. */
  closeTrade(account: ChannelAccount, outTradeNo: string, signal?: AbortSignal): Promise<CloseAnswer>;
  /**
   * Gives money back, or says what became of it: the same `outRefundNo` never gives it back twice, also when it is
   * asked for with another amount.
   * @throws ChannelError `rejected` when the channel definitely refuses: this number gives nothing back, now or later.
   *   Every other kind means unknown. A refusal that can end, such as a balance that is too low, is `not_now`.
   */
  refundTrade(account: ChannelAccount, refund: NewRefund, signal?: AbortSignal): Promise<RefundAnswer>;
  /** @throws ChannelError, which always means unknown. */
  queryRefund(
    account: ChannelAccount,
    outTradeNo: string,
    outRefundNo: string,
    signal?: AbortSignal,
  ): Promise<RefundAnswer>;
  /**
   * Verifies in memory, in this order: headers present, signature, age, content.
   * @throws CallbackError `unverified` (bad signature or too old) or `malformed` (verified, but nonsense).
   */
  verifyCallback(account: ChannelAccount, headers: Headers, rawBody: Buffer): VerifiedCallback;
  /**
   * The out-trade-no an unverifiable callback names, if any. Never trusted: it only makes a query due.
   */
  peekOutTradeNo(rawBody: Buffer): string | undefined;
}

/**
 * - `rejected`: the channel understood the request and refuses it for good (definite).
 * - `not_now`: it understood the request and refuses it at the moment, as the merchant's balance is too low or a limit
 *   of the day is reached. The same request can succeed later, so this is unknown and never a failure.
 * - `unreachable`: no answer, a time-out, or a 5xx.
 * - `garbage`: an answer that cannot be read or whose signature is wrong.
 * - `rate_limited`: told to slow down.
 */
export type ChannelErrorKind = 'rejected' | 'not_now' | 'unreachable' | 'garbage' | 'rate_limited';

export class ChannelError extends Error {
  override readonly name = 'ChannelError';
  readonly kind: ChannelErrorKind;
  /** Milliseconds the channel asked us to wait, if it did. */
  readonly retryAfterMs: number | undefined;

  constructor(
    kind: ChannelErrorKind,
    message: string,
    options: { cause?: unknown; retryAfterMs?: number } = {},
  ) {
    // It may quote the channel, and goes on record.
    super(storable(message), options.cause === undefined ? undefined : { cause: options.cause });
    this.kind = kind;
    this.retryAfterMs = options.retryAfterMs;
  }
}

export class CallbackError extends Error {
  override readonly name = 'CallbackError';
  readonly kind: 'unverified' | 'malformed';

  constructor(kind: 'unverified' | 'malformed', message: string) {
    super(message);
    this.kind = kind;
  }
}

/** True when a channel that takes these currencies can be paid in this one. @param currencies none: it takes any */
export const takesCurrency = (currencies: readonly string[], currency: string): boolean =>
  currencies.length === 0 || currencies.includes(currency);
