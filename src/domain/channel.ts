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
  /** Refunded at the channel so far, in minor units. Of a channel that tells only a sum. */
  readonly refundedAmount?: number;
  /** All refunds of the trade at the channel. Of a channel that lists them: then they count, and no sum. */
  readonly refunds?: readonly ChannelRefund[];
  /**
   * Some of it has gone back, or all, or is or was to: of a channel that tells with a trade neither a sum nor a list, and
   * with neither. What went back its refunds tell: ours when they are asked about, others by their callbacks.
   */
  readonly someWentBack?: true;
  /** Every dispute of the trade, and how those ended that are decided; the order says nothing. */
  readonly disputes?: readonly ChannelDispute[];
}

/** One refund as the channel lists it with its trade. */
export interface ChannelRefund {
  readonly id: string;
  /** Ours, when the channel tells it; absent of one that was made at the channel. */
  readonly outRefundNo?: string;
  /** Minor units. */
  readonly amount: number;
  /** `failed` and `reversed`: it gives nothing back; `reversed` had succeeded before. */
  readonly state: 'processing' | 'succeeded' | 'failed' | 'reversed';
}

/** A payer has disputed a trade at their bank. */
export interface ChannelDispute {
  readonly id: string;
  /** Minor units. */
  readonly amount: number;
  readonly currency: CurrencyCode;
  readonly state: 'open' | 'won' | 'lost';
  /** The payer's bank only asks: no money is put aside, and to give it back ends it. */
  readonly isInquiry?: boolean;
  readonly reason?: string;
  /** Until when the merchant can answer it, ISO 8601. */
  readonly respondBy?: string;
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
  /**
   * The settings that the channel declares, by name. More than one set while they are rotated, the newest first: requests
   * use the first, and a callback counts when one of them verifies it. An adapter gets at least one; whoever calls it gives
   * none, and they are read (src/channels/with-credentials.ts).
   */
  readonly credentials: readonly Credentials[];
}

export type Credentials = Readonly<Record<string, string>>;

/** Whether an account's credentials move real money. */
export type AccountMode = 'test' | 'live';

/** The name of the account that a merchant gets first at a channel. */
export const FIRST_ACCOUNT = 'main';
/** A merchant's own name of an account: the database checks the same. */
export const ACCOUNT_NAME = /^[a-z0-9][a-z0-9_-]{0,31}$/;
export const ACCOUNT_NAME_RULE = 'must be 1 to 32 of a-z, 0-9, _ and -, and begin with a letter or a digit';

/** An account that the deployment's own settings describe: every merchant has it, written when a process starts. */
export interface ConfiguredAccount {
  readonly channel: string;
  readonly credentials: Credentials;
}

/** The channel's own id of a trade, and what the adapter wants to keep with it: 4 KiB as JSON at most. */
export interface TradeReference {
  readonly id: string;
  readonly data?: Readonly<Record<string, string | number | boolean | null>>;
}

/** A trade at the channel, by what its payment's row says of it. */
export interface Trade {
  /** The payment's id: the out-trade-no or idempotency key at the channel. Of an adopted trade what it is called there. */
  readonly outTradeNo: string;
  /** The merchant's own code has made it: it has no number of ours, and its reference names it. */
  readonly isAdopted?: true;
  readonly method: string;
  /** Minor units. */
  readonly amount: number;
  readonly currency: CurrencyCode;
  /** The payment's times, ISO 8601. */
  readonly createdAt: string;
  readonly expiresAt: string;
  /** When the channel was first asked to create it, ISO 8601; absent before that, and of an adopted trade. */
  readonly askedAt?: string;
  /** Null until `createTrade` or `findTrade` has told it. */
  readonly reference: TradeReference | null;
  /** What a paid answer or a callback named, once it is on record. */
  readonly channelPaymentId?: string;
}

/** A trade that the merchant's own code may have made, as the channel has it. */
export interface FoundTrade {
  /** Its one name at the channel, also when it was asked for by another one. */
  readonly reference: string;
  /** The method that it is of, where what the channel has differs by method. */
  readonly method?: string;
  /** What it is for; absent where the channel does not tell that of a trade in this state. */
  readonly terms?: { readonly amount: number; readonly currency: CurrencyCode };
  /** As `queryTrade` would answer; `unknown_trade` when there is none. */
  readonly answer: ChannelAnswer;
  /** nodrop has made it. */
  readonly isOurs?: true;
  /** Why it cannot be settled as a payment though it is there, as a sentence. */
  readonly unfit?: string;
}

/** Who pays, as far as the merchant said so. Never in a history or a log. */
export interface Payer {
  readonly id?: string;
  readonly ip?: string;
}

/**
 * Everything a trade is created from: the same at every repetition. It derives from the payment's row, which keeps it once
 * the trade has been asked for, but for the two addresses: they are the deployment's. When its public URL or its secret
 * changes in between, a create whose answer was lost is another request under the same number; a channel that refuses that
 * leaves it unknown, and the payment is asked about and closed at its expiry.
 */
export interface NewTrade extends Trade {
  /**
   * Until when the channel is to let it live: the payment's expiry, or the channel's shortest from the first request on when
   * that is later. Every repetition has the same.
   */
  readonly expiresAt: string;
  /** Within the method's limits; of any script, and with the order's own id by default: an adapter replaces what its channel does not take. */
  readonly subject: string;
  readonly notifyUrl: string;
  readonly returnUrl: string;
  readonly payer: Payer;
}

export interface CreatedTrade {
  readonly action: NextAction;
  /** Absent of a channel that is asked by the out-trade-no alone. */
  readonly reference?: TradeReference;
}

/** Money that goes back; the channel is never asked for more than `total`. Amounts are minor units. */
export interface NewRefund extends KnownRefund {
  /** Which key it is asked for under, counted from 1; `outRefundNo` is that key. */
  readonly attempt: number;
  readonly amount: number;
  readonly currency: CurrencyCode;
  /** What the payment received in all. */
  readonly total: number;
  /** What other refunds of the payment that are on record have given back. Absent: not known. */
  readonly otherRefunds?: number;
  /** The account's callback address, for a channel that takes one with each refund. */
  readonly notifyUrl?: string;
}

/** A refund by what its row says of it. */
export interface KnownRefund {
  /** The channel's idempotency key: the refund's id, or one derived from it once that is spent. */
  readonly outRefundNo: string;
  /** The channel's own id of the refund under this key, once it has told it. */
  readonly channelRefundId: string | null;
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
  | { readonly state: 'processing'; readonly channelRefundId?: string }
  /** Definite: this number gives nothing back, now or later. */
  | { readonly state: 'failed'; readonly reason: string; readonly channelRefundId?: string }
  /** It failed after it had succeeded: the bank has returned the money to the merchant. Definite. */
  | { readonly state: 'reversed'; readonly reason: string; readonly channelRefundId?: string }
  /** The channel waits for a person, who has to do something at the channel. It is still open. */
  | { readonly state: 'needs_person'; readonly reason: string; readonly channelRefundId?: string }
  /** It failed, and the channel wants it asked for again under the same number. */
  | { readonly state: 'ask_again'; readonly reason: string; readonly channelRefundId?: string }
  /** To a query alone: the channel does not know the number (yet). */
  | { readonly state: 'unknown_refund' };

/** What a callback says of one refund. */
export interface CallbackRefund {
  /** At least one of the two. */
  readonly outRefundNo?: string;
  readonly channelRefundId?: string;
  readonly answer: RefundAnswer;
}

/** Of which trade a callback speaks: at least one of the three. */
export interface CallbackSubject {
  readonly outTradeNo?: string;
  /** The channel's own id, `TradeReference.id`. */
  readonly reference?: string;
  /** What a paid answer named. Refunds and disputes that are made at the channel may name nothing else. */
  readonly channelPaymentId?: string;
}

/** A callback whose signature is proven, unless it is a notice that says otherwise. `notificationId` is the channel's own, the same on its every retry. */
export type VerifiedCallback = { readonly notificationId: string } & (
  | {
      readonly kind: 'trade';
      readonly about: CallbackSubject;
      readonly answer: ChannelAnswer;
      /** The refund it tells of, if it does. */
      readonly refund?: CallbackRefund;
    }
  | { readonly kind: 'refund'; readonly about: CallbackSubject; readonly refund: CallbackRefund }
  | { readonly kind: 'dispute'; readonly about: CallbackSubject; readonly dispute: ChannelDispute }
  /** Something happened: the channel is to be asked. */
  | {
      readonly kind: 'notice';
      readonly about: CallbackSubject;
      /** The channel has signed it. Absent of what anybody may have sent, such as an unsigned form: so many of these count. */
      readonly isProven?: true;
    }
  /**
   * Nothing of ours. Acknowledged, as the channel would send it again for days. `about` a trade without a number of ours: when
   * that is adopted, this is a notice that the channel has signed.
   */
  | { readonly kind: 'ignored'; readonly reason: string; readonly about?: CallbackSubject }
);

/** A request to a callback address. */
export interface CallbackRequest {
  readonly headers: Headers;
  readonly rawBody: Buffer;
}

/** What a callback is answered with. */
export interface Acknowledgement {
  readonly status: number;
  /** The content type. */
  readonly type: string;
  readonly body: string;
}

/**
 * `refused`: it could not be verified or read, and nothing was done but to note it. `unreadable`: the same at a payment's own
 * address, whose channel is asked; refused, it comes again, by when it may be verified.
 */
export type CallbackOutcome = 'stored' | 'ignored' | 'refused' | 'unreadable';

export type CloseAnswer =
  | { readonly state: 'closed' | 'already_paid' | 'processing' | 'unknown_trade' }
  /** The channel closes it no earlier than this, ISO 8601. */
  | { readonly state: 'not_yet'; readonly until: string };

/** The plain headers of an HTTP request, names in lower case. */
export type Headers = Readonly<Record<string, string | readonly string[] | undefined>>;

export const PAYER_FIELDS = ['id', 'ip'] as const;
export type PayerField = (typeof PAYER_FIELDS)[number];

/** What a channel takes of one currency; minor units as ISO 4217 has them. */
export interface CurrencyLimits {
  readonly atLeast?: number;
  readonly atMost?: number;
  /** Where the channel counts in larger units than ISO 4217. */
  readonly multipleOf?: number;
}

/** One way to pay at a channel. */
export interface MethodDeclaration {
  readonly name: string;
  /** What the payer does. */
  readonly action: NextAction['type'];
  /** By ISO 4217 code; `any`: every currency, without limits. */
  readonly currencies: 'any' | Readonly<Record<CurrencyCode, CurrencyLimits>>;
  /**
   * How long the channel lets a trade live, ms. A payment with less time gets the channel's shortest there, and is closed
   * by us at its own.
   */
  readonly expiry: { readonly atLeastMs: number; readonly atMostMs: number | null };
  /** How much of a subject the channel takes, counted as it counts. */
  readonly subject: { readonly atMost: number; readonly countedIn: 'characters' | 'utf16' | 'bytes' };
  /** What the merchant must say of the payer. */
  readonly needs: readonly PayerField[];
  /** Of an `sdk` action: the channel's own form within the cashier page. Absent: the payer pays elsewhere. */
  readonly form?: FormDeclaration;
  /**
   * In which browsers the payer can pay with it, the one that it is made for first; none for a method of apps alone. Of a
   * `qr` action: where its code can be scanned from the screen (`desktop`), and where the code, if it is a web address, can
   * be opened as a link (the others). Absent: in every browser.
   */
  readonly paidIn?: readonly BrowserKind[];
}

/** A browser as wallets tell them apart: WeChat's own, Alipay's own, another one on a phone or a tablet, or one on a larger screen. */
export type BrowserKind = 'wechat' | 'alipay' | 'phone' | 'desktop';

/**
 * A channel's form on the cashier page. `src/channels/{channel}/form.js` mounts it, if need be by a script that the channel
 * wants to be loaded from its own address.
 */
export interface FormDeclaration {
  readonly script?: {
    readonly url: string;
    /** What else than our own files the page may load then, as sources of a content security policy. */
    readonly sources: Readonly<Record<'script' | 'connect' | 'frame', readonly string[]>>;
  };
}

/** One setting of an account at a channel. */
export interface SettingDeclaration {
  readonly name: string;
  /** A sentence for whoever sets it. */
  readonly description: string;
  /** Never shown again, not even in part. */
  readonly isSecret: boolean;
  readonly isRequired: boolean;
  /**
   * It names who is paid, or by whom trades are asked for: an account keeps it for life, as what is under way would be
   * unknown to another one.
   */
  readonly isIdentity?: true;
  /** A regular expression that a value matches, and the rule in words: `must start with sk_test_ or sk_live_`. */
  readonly pattern?: readonly [RegExp, string];
  /** Other settings, without which it means nothing. */
  readonly needs?: readonly string[];
}

/**
 * Everything that is known of a channel without asking it. What the API validates, the cashier shows, and the tables of
 * OpenAPI and docs say of it follow from this.
 */
export interface ChannelDeclaration {
  /** The name in routes, task queues and rows: `[a-z][a-z0-9]*`. */
  readonly name: string;
  /** As payers know it. */
  readonly title: { readonly en: string; readonly zh: string };
  /** True for a channel that moves no real money: refused when NODROP_MODE is `live`. */
  readonly testOnly: boolean;
  /** The first is the default. */
  readonly methods: readonly [MethodDeclaration, ...MethodDeclaration[]];
  /**
   * Calls of the adapter a second, of one request or a few each, by what the channel allows, and who says so; shared out over
   * the channel's task queues.
   */
  readonly rateLimit: { readonly perSecond: number; readonly source: string };
  /** The waits between active queries, ms, and who advises them; null: nodrop's own. */
  readonly querySchedule: { readonly waitsMs: readonly number[]; readonly source: string } | null;
  /**
   * For how long after the first request a repeated create or refund is certainly the same one, ms; null: for ever. After
   * it the channel may make a second one under the same key.
   */
  readonly repeatableForMs: { readonly create: number | null; readonly refund: number | null };
  /** A trade that the channel says it does not know can still be paid: its link makes it. */
  readonly unknownTradeCanBePaid: boolean;
  /**
   * How trades are named that the merchant's own code has made, so that they can be adopted: what a name matches, the rule in
   * words (`must be ...`), and one of them. `isGlobal`: a name means one trade at the whole channel, whatever account asks.
   * Absent: the adapter has no `readTrade`, and none can be.
   */
  readonly adoption?: {
    readonly pattern: RegExp;
    readonly rule: string;
    readonly example: string;
    readonly isGlobal?: true;
  };
  /**
   * The channel takes a callback address with each trade, and tells it nobody, the payer least of all: ours then proves the
   * payment, see docs/channels. False: it is given the account's address.
   */
  readonly takesCallbackAddress: boolean;
  readonly settings: readonly SettingDeclaration[];
  /**
   * Whether credentials move real money, of a channel whose credentials say so.
   * @returns undefined when these do not
   */
  readonly modeOf?: (credentials: Credentials) => AccountMode | undefined;
}

/** A plain object, as it is spread where something stands between it and the rest. */
export interface ChannelAdapter {
  readonly declaration: ChannelDeclaration;

  /**
   * Creates the trade, or returns the existing one's next action: the same `outTradeNo` never makes two. With a reference
   * the trade is there, and its payer needs a new next action.
   * @returns `not_renewable` when the trade is there and gives no next action any more
   * @throws ChannelError `rejected` when the channel definitely refuses; every other kind means unknown.
   */
  createTrade(
    account: ChannelAccount,
    trade: NewTrade,
    signal?: AbortSignal,
  ): Promise<CreatedTrade | 'not_renewable'>;
  /**
   * Looks for a trade of which only our number is known, in a complete listing. Of a channel that is asked by its own id
   * alone: absent, the others are given trades without a reference. Where it is there, only `createTrade` is called
   * without one, and what else is called for such a trade is called with what this has found.
   * @returns `absent` only when the listing is complete and certain to hold a trade that was created
   * @throws ChannelError, which always means unknown.
   */
  findTrade?(account: ChannelAccount, trade: Trade, signal?: AbortSignal): Promise<TradeReference | 'absent'>;
  /** Never creates a trade. @throws ChannelError, which always means unknown: a refusal to answer says nothing of the trade. */
  queryTrade(account: ChannelAccount, trade: Trade, signal?: AbortSignal): Promise<ChannelAnswer>;
  /**
   * Reads a trade that is to be adopted, by what the merchant calls it: a name that matches the declaration's `adoption`.
   * @throws ChannelError, which always means unknown.
   */
  readTrade?(account: ChannelAccount, reference: string, signal?: AbortSignal): Promise<FoundTrade>;
  /** Never creates a trade. @throws ChannelError, which always means unknown. */
  closeTrade(account: ChannelAccount, trade: Trade, signal?: AbortSignal): Promise<CloseAnswer>;
  /**
   * Gives money back, or says what became of it: the same `outRefundNo` never gives it back twice within the channel's
   * `repeatableForMs`, also when it is asked for with another amount.
   * @throws ChannelError `rejected` when the channel definitely refuses: this number gives nothing back, now or later.
   *   Every other kind means unknown. A refusal that can end, such as a balance that is too low, is `not_now`.
   */
  refundTrade(
    account: ChannelAccount,
    trade: Trade,
    refund: NewRefund,
    signal?: AbortSignal,
  ): Promise<RefundAnswer>;
  /** @throws ChannelError, which always means unknown. */
  queryRefund(
    account: ChannelAccount,
    trade: Trade,
    refund: KnownRefund,
    signal?: AbortSignal,
  ): Promise<RefundAnswer>;
  /**
   * Verifies in memory, in this order: headers present, signature, age, content. Asynchronous, as certificates may have to
   * be read.
   * @throws CallbackError `unverified` (bad signature or too old) or `malformed` (verified, but nonsense).
   */
  verifyCallback(account: ChannelAccount, request: CallbackRequest): Promise<VerifiedCallback>;
  /** What a channel takes for an acknowledgement, or a refusal. Absent: 200 with `{}`, and a refusal as our API writes it. */
  acknowledge?(outcome: CallbackOutcome): Acknowledgement;
  /**
   * The out-trade-no an unverifiable callback names, if any. Never trusted: it only makes a query due.
   */
  peekOutTradeNo(rawBody: Buffer): string | undefined;
  /**
   * Asks the channel something harmless that needs working credentials.
   * @throws ChannelError whose message says in a sentence what is wrong
   */
  checkAccount(account: ChannelAccount, signal?: AbortSignal): Promise<void>;
  /**
   * Pays a trade as its payer would, with a means of payment for tests. Absent where no program can.
   * @returns false when the trade's method cannot be paid so
   * @throws ChannelError; and for credentials that move real money
   */
  payInSandbox?(account: ChannelAccount, trade: Trade, signal?: AbortSignal): Promise<boolean>;
}

/**
 * - `rejected`: the channel understood the request and refuses it for good (definite).
 * - `not_now`: it understood the request and refuses it at the moment, as the merchant's balance is too low or a limit
 *   of the day is reached. The same request can succeed later, so this is unknown and never a failure.
 * - `unreachable`: no answer, a time-out, or a 5xx.
 * - `garbage`: an answer that cannot be read or whose signature is wrong.
 * - `rate_limited`: told to slow down.
 * - `misconfigured`: the channel does not take our credentials, permissions or clock. It says nothing of any trade, and a
 *   person has to mend it.
 */
export type ChannelErrorKind =
  | 'rejected'
  | 'not_now'
  | 'unreachable'
  | 'garbage'
  | 'rate_limited'
  | 'misconfigured';

export class ChannelError extends Error {
  override readonly name = 'ChannelError';
  readonly kind: ChannelErrorKind;
  /** Milliseconds the channel asked us to wait, if it did. */
  readonly retryAfterMs: number | undefined;
  /**
   * The channel has stored this failure under the idempotency key and answers it to every repetition: whether it did what
   * it was asked for is unknown, and asking under the same key tells nothing more.
   */
  readonly isReplayed: boolean;

  constructor(
    kind: ChannelErrorKind,
    message: string,
    options: { cause?: unknown; retryAfterMs?: number; isReplayed?: boolean } = {},
  ) {
    // It may quote the channel, and goes on record.
    super(storable(message), options.cause === undefined ? undefined : { cause: options.cause });
    this.kind = kind;
    this.retryAfterMs = options.retryAfterMs;
    this.isReplayed = options.isReplayed ?? false;
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

/** The method of this name. */
export const methodOf = ({ methods }: ChannelDeclaration, name: string): MethodDeclaration | undefined =>
  methods.find((method) => method.name === name);

/** True when a method can be paid in this currency. */
export const takesCurrency = (
  { currencies }: Pick<MethodDeclaration, 'currencies'>,
  currency: string,
): boolean => currencies === 'any' || Object.hasOwn(currencies, currency);
