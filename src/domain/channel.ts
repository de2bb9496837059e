import type { CurrencyCode } from './money.ts';
import { storable } from './text.ts';

/**
 * Defines the port between nodrop and a payment channel (a wallet, an acquirer). Each channel has one adapter under
 * `src/channels/` that implements the port. Only the adapter knows the channel's protocol.
 */

/** A channel's report about a trade, in nodrop's terms. Amounts are in minor units of `currency`. */
export type ChannelAnswer =
  /** The payer has not paid yet. */
  | { readonly state: 'unpaid' }
  /** The payer has acted and the channel has not decided yet. nodrop never treats this state as a failure. */
  | { readonly state: 'processing' }
  /**
   * The channel does not know the trade now, but may know it later. Until the expiry, nodrop treats the trade as
   * unpaid.
   */
  | { readonly state: 'unknown_trade' }
  /** This answer is definite: the channel has closed the trade and received no money. */
  | { readonly state: 'closed' }
  /** This answer is definite: the channel has declined the payment. */
  | { readonly state: 'failed'; readonly reason?: string }
  | PaidAnswer;

export interface PaidAnswer {
  /** `refunded` means that the trade was paid, and that the channel has refunded all of the money. */
  readonly state: 'paid' | 'refunded';
  readonly channelPaymentId: string;
  /** The trade's total according to the channel, in minor units. nodrop compares it with the requested amount. */
  readonly amount: number;
  readonly currency: CurrencyCode;
  /** When the trade was paid, by the channel's clock, ISO 8601. */
  readonly paidAt: string;
  /** The amount that the payer paid after coupons, in minor units. For information only. nodrop does not check it. */
  readonly payerAmount?: number;
  /** The amount refunded so far, in minor units. An adapter sets it if its channel reports only a sum. */
  readonly refundedAmount?: number;
  /**
   * All refunds of the trade. An adapter sets this list if its channel lists refunds. If the list is set, nodrop
   * ignores a reported sum.
   */
  readonly refunds?: readonly ChannelRefund[];
  /**
   * Set if the channel reports that the trade has a refund, but reports neither a sum nor a list of refunds. nodrop
   * then gets the amounts from the single refunds: it queries the refunds that it requested, and callbacks report the
   * other refunds.
   */
  readonly someWentBack?: true;
  /** All disputes of the trade, open and decided, in any order. */
  readonly disputes?: readonly ChannelDispute[];
}

/** One refund in the channel's list of a trade's refunds. */
export interface ChannelRefund {
  readonly id: string;
  /** nodrop's refund number, if the channel reports it. Absent if nodrop did not request the refund. */
  readonly outRefundNo?: string;
  /** Minor units. */
  readonly amount: number;
  /**
   * A `failed` refund returned no money to the payer. A `reversed` refund succeeded first and failed later, so the
   * payer has no money from it either.
   */
  readonly state: 'processing' | 'succeeded' | 'failed' | 'reversed';
}

/** A dispute: a payer contests a trade at their bank. */
export interface ChannelDispute {
  readonly id: string;
  /** Minor units. */
  readonly amount: number;
  readonly currency: CurrencyCode;
  readonly state: 'open' | 'won' | 'lost';
  /**
   * True if the dispute is only an inquiry of the payer's bank. An inquiry withholds no money, and a refund ends it.
   */
  readonly isInquiry?: boolean;
  readonly reason?: string;
  /** The deadline for the merchant's answer, ISO 8601. */
  readonly respondBy?: string;
}

/** What the payer must do next to pay. It is stored with the payment and returned by the API. */
export interface NextAction {
  readonly type: 'redirect' | 'qr' | 'sdk';
  readonly url?: string;
  readonly qr?: string;
  readonly params?: Readonly<Record<string, string>>;
  /** When the next action expires, ISO 8601. Absent if it is valid until the payment expires. */
  readonly expiresAt?: string;
}

/** The credentials of one merchant at one channel. */
export interface ChannelAccount {
  readonly id: string;
  readonly merchantId: string;
  readonly channel: string;
  /**
   * Sets of credentials, newest first. Each set has the settings that the channel declares. There is more than one set
   * while credentials are rotated. Requests use the first set, and a callback is valid if any set verifies it. Callers
   * of an adapter pass an empty list. src/channels/with-credentials.ts fills the list before the adapter gets it, with
   * at least one set.
   */
  readonly credentials: readonly Credentials[];
}

export type Credentials = Readonly<Record<string, string>>;

/** The mode of an account: `live` if its credentials move real money, otherwise `test`. */
export type AccountMode = 'test' | 'live';

/** The name of a merchant's first account at a channel. */
export const FIRST_ACCOUNT = 'main';
/** The pattern of the name that a merchant gives a channel account. The database checks the same pattern. */
export const ACCOUNT_NAME = /^[a-z0-9][a-z0-9_-]{0,31}$/;
export const ACCOUNT_NAME_RULE = 'must be 1 to 32 of a-z, 0-9, _ and -, and begin with a letter or a digit';

/**
 * A channel account from the deployment's settings. Every merchant gets this account, because each process stores it
 * for all merchants when the process starts.
 */
export interface ConfiguredAccount {
  readonly channel: string;
  readonly credentials: Credentials;
}

/**
 * The channel's own id of a trade, and data that the adapter stores together with the id. As JSON, the data has at most
 * 4 KiB.
 */
export interface TradeReference {
  readonly id: string;
  readonly data?: Readonly<Record<string, string | number | boolean | null>>;
}

/** A trade at the channel. Its data comes from the payment's row. */
export interface Trade {
  /**
   * The payment's id. The channel uses it as the out-trade-no or as the idempotency key. For an adopted trade, this
   * field is the trade's name at the channel.
   */
  readonly outTradeNo: string;
  /**
   * True if the merchant's own code has created the trade. Such a trade does not have the payment's id at the channel,
   * so its reference identifies it.
   */
  readonly isAdopted?: true;
  readonly method: string;
  /** Minor units. */
  readonly amount: number;
  readonly currency: CurrencyCode;
  /** When the payment was created, ISO 8601. `expiresAt` is when the payment expires. */
  readonly createdAt: string;
  readonly expiresAt: string;
  /** When nodrop sent the first create request, ISO 8601. Absent before that request, and for an adopted trade. */
  readonly askedAt?: string;
  /** Null until `createTrade` or `findTrade` has returned the reference. */
  readonly reference: TradeReference | null;
  /** The channel's payment id, from a recorded answer or callback that reports that the trade was paid. */
  readonly channelPaymentId?: string;
}

/** A trade at the channel that the merchant's own code may have created. */
export interface FoundTrade {
  /** The canonical name of the trade at the channel. The request may have used another name of the same trade. */
  readonly reference: string;
  /** The payment method of the trade. Set if the channel's trades differ by method. */
  readonly method?: string;
  /** The amount of the trade. Absent if the channel does not report an amount for a trade in this state. */
  readonly terms?: { readonly amount: number; readonly currency: CurrencyCode };
  /** The answer that `queryTrade` would give. It is `unknown_trade` if the trade does not exist. */
  readonly answer: ChannelAnswer;
  /** True if nodrop created the trade. */
  readonly isOurs?: true;
  /** The reason why nodrop cannot adopt an existing trade, as a sentence. */
  readonly unfit?: string;
}

/** The data about the payer that the merchant has given. It never appears in a workflow history or a log. */
export interface Payer {
  readonly id?: string;
  readonly ip?: string;
}

/**
 * The parameters of a create request. They come from the payment's row, which does not change after the first request.
 * So every repetition has the same parameters. Only `notifyUrl` and `returnUrl` come from the deployment's public URL
 * and secret. If the URL or the secret changes before a repetition, the channel gets a different request under the same
 * number. If the channel refuses that request, the outcome stays unknown, and nodrop queries the payment and closes it
 * at its expiry.
 */
export interface NewTrade extends Trade {
  /**
   * When the trade expires at the channel. This is the payment's expiry, or a later time if the channel requires a
   * longer lifetime of the trade. The lifetime is measured from the first create request, so that every repetition
   * sends the same expiry.
   */
  readonly expiresAt: string;
  /**
   * The subject of the payment, in any script and within the method's length limit. By default it contains the order's
   * id. The adapter replaces characters that its channel does not accept.
   */
  readonly subject: string;
  readonly notifyUrl: string;
  readonly returnUrl: string;
  readonly payer: Payer;
}

export interface CreatedTrade {
  readonly action: NextAction;
  /** The channel's own id of the created trade. Absent if the channel identifies trades only by the out-trade-no. */
  readonly reference?: TradeReference;
}

/** A request for a refund. All refunds of a payment together never exceed `total`. Amounts are in minor units. */
export interface NewRefund extends KnownRefund {
  /** The position of the current idempotency key (`outRefundNo`) among the refund's keys, counted from 1. */
  readonly attempt: number;
  readonly amount: number;
  readonly currency: CurrencyCode;
  /** The total amount that the payment has received. */
  readonly total: number;
  /** The sum of the payment's other recorded refunds. Absent if it is not known. */
  readonly otherRefunds?: number;
  /** The account's callback URL. Set if the channel accepts a callback URL with each refund. */
  readonly notifyUrl?: string;
}

/** The fields that identify a refund, from the refund's row. */
export interface KnownRefund {
  /**
   * The refund's idempotency key at the channel. The first key is the refund's id. If the channel only repeats a stored
   * failure for a key, nodrop uses the next key, which is derived from the refund's id.
   */
  readonly outRefundNo: string;
  /** The channel's own id of the refund that was requested under this key. Null until nodrop knows it. */
  readonly channelRefundId: string | null;
}

/** The channel's report about a refund, in nodrop's terms. */
export type RefundAnswer =
  /** This answer is definite: the channel has refunded the money. */
  | {
      readonly state: 'succeeded';
      readonly channelRefundId: string;
      /** The amount that the channel refunded, in minor units. It may differ from the requested amount. */
      readonly amount: number;
      /** When the channel refunded the money, by the channel's clock, ISO 8601. */
      readonly refundedAt?: string;
    }
  /** The channel has accepted the refund and has not decided yet. nodrop never treats this state as a failure. */
  | { readonly state: 'processing'; readonly channelRefundId?: string }
  /** This answer is definite: the refund under this number has failed and will never succeed. */
  | { readonly state: 'failed'; readonly reason: string; readonly channelRefundId?: string }
  /**
   * This answer is definite: the refund had succeeded and has failed since. The bank has returned the money to the
   * merchant.
   */
  | { readonly state: 'reversed'; readonly reason: string; readonly channelRefundId?: string }
  /** The refund is not decided yet. It needs a person to act at the channel. */
  | { readonly state: 'needs_person'; readonly reason: string; readonly channelRefundId?: string }
  /** The refund failed, and the channel expects a new request under the same number. */
  | { readonly state: 'ask_again'; readonly reason: string; readonly channelRefundId?: string }
  /** Only a query returns this answer: the channel does not know the refund number now, but may know it later. */
  | { readonly state: 'unknown_refund' };

/** A callback's report about one refund. */
export interface CallbackRefund {
  /** At least one of `outRefundNo` and `channelRefundId` is set. */
  readonly outRefundNo?: string;
  readonly channelRefundId?: string;
  readonly answer: RefundAnswer;
}

/** The trade that a callback concerns. At least one of the three ids is set. */
export interface CallbackSubject {
  readonly outTradeNo?: string;
  /** The channel's own id, `TradeReference.id`. */
  readonly reference?: string;
  /** The channel's payment id. If a refund or dispute began at the channel, its callback may contain no other id. */
  readonly channelPaymentId?: string;
}

/**
 * A callback that nodrop accepts. Its signature was verified, or it is a notice without `isProven`, which needs no
 * signature. `notificationId` is the channel's own id of the callback. A repeated callback has the same id.
 */
export type VerifiedCallback = { readonly notificationId: string } & (
  | {
      readonly kind: 'trade';
      readonly about: CallbackSubject;
      readonly answer: ChannelAnswer;
      /** The refund that the callback also reports, if any. */
      readonly refund?: CallbackRefund;
    }
  | { readonly kind: 'refund'; readonly about: CallbackSubject; readonly refund: CallbackRefund }
  | { readonly kind: 'dispute'; readonly about: CallbackSubject; readonly dispute: ChannelDispute }
  /** The callback only says that something changed, so nodrop must query the channel. */
  | {
      readonly kind: 'notice';
      readonly about: CallbackSubject;
      /**
       * True if the channel has signed the notice. Absent if any sender could have sent the notice, for example as an
       * unsigned form. nodrop acts only on a limited number of unsigned notices.
       */
      readonly isProven?: true;
    }
  /**
   * The callback does not concern nodrop. nodrop acknowledges it, because otherwise the channel would repeat it for
   * days. `about` can name a trade that nodrop did not create. If nodrop has adopted that trade, nodrop treats the
   * callback as a signed notice.
   */
  | { readonly kind: 'ignored'; readonly reason: string; readonly about?: CallbackSubject }
);

/** A request to a callback address. */
export interface CallbackRequest {
  readonly headers: Headers;
  readonly rawBody: Buffer;
}

/** The HTTP answer to a callback. */
export interface Acknowledgement {
  readonly status: number;
  /** The content type. */
  readonly type: string;
  readonly body: string;
}

/**
 * The outcome of a callback.
 * - `refused`: the callback could not be verified or read, and was only logged.
 * - `unreadable`: the callback could not be verified or read, but it arrived at a payment's own callback URL. So nodrop
 *   queries the channel. nodrop also refuses the callback, so that the channel repeats it. The repetition may be
 *   verifiable.
 */
export type CallbackOutcome = 'stored' | 'ignored' | 'refused' | 'unreadable';

export type CloseAnswer =
  | { readonly state: 'closed' | 'already_paid' | 'processing' | 'unknown_trade' }
  /** The channel does not close the trade before the time `until`, ISO 8601. */
  | { readonly state: 'not_yet'; readonly until: string };

/** The headers of an HTTP request as a plain object, with names in lower case. */
export type Headers = Readonly<Record<string, string | readonly string[] | undefined>>;

export const PAYER_FIELDS = ['id', 'ip'] as const;
export type PayerField = (typeof PAYER_FIELDS)[number];

/** The amounts that a channel accepts in one currency, in minor units of ISO 4217. */
export interface CurrencyLimits {
  readonly atLeast?: number;
  readonly atMost?: number;
  /** Each amount must be a multiple of this. Set if the channel counts in larger units than ISO 4217. */
  readonly multipleOf?: number;
}

/** A payment method of a channel. */
export interface MethodDeclaration {
  readonly name: string;
  /** The kind of the payer's next action. */
  readonly action: NextAction['type'];
  /**
   * The amounts that the method accepts, by ISO 4217 code. `any` means that every currency is accepted without limits.
   */
  readonly currencies: 'any' | Readonly<Record<CurrencyCode, CurrencyLimits>>;
  /**
   * The shortest and the longest lifetime of a trade at the channel, in ms. If a payment expires sooner than the
   * shortest lifetime, the trade gets the shortest lifetime, and nodrop closes it at the payment's expiry.
   */
  readonly expiry: { readonly atLeastMs: number; readonly atMostMs: number | null };
  /** The longest subject that the channel accepts, and the unit in which the channel counts. */
  readonly subject: { readonly atMost: number; readonly countedIn: 'characters' | 'utf16' | 'bytes' };
  /** The payer data that the merchant must provide. */
  readonly needs: readonly PayerField[];
  /**
   * The channel's own form on the cashier page, for an `sdk` action. If it is absent, the payer does not pay on the
   * cashier page.
   */
  readonly form?: FormDeclaration;
  /**
   * The browsers in which the payer can pay with this method, the best one first. Empty if the method works only in
   * apps. Absent if it works in every browser. For a `qr` action, `desktop` means that the payer can scan the code from
   * the screen. Any other browser in the list means that the payer can open the code as a link, if the code is a URL.
   */
  readonly paidIn?: readonly BrowserKind[];
}

/**
 * The kinds of browsers that wallets distinguish: WeChat's browser, Alipay's browser, another browser on a phone or
 * tablet, and a browser on a larger screen.
 */
export type BrowserKind = 'wechat' | 'alipay' | 'phone' | 'desktop';

/**
 * A channel's form on the cashier page. `src/channels/{channel}/form.js` mounts the form. For some channels, the page
 * must first load a script from the channel's own server.
 */
export interface FormDeclaration {
  readonly script?: {
    readonly url: string;
    /** The additional sources that the content security policy of the cashier page must allow. */
    readonly sources: Readonly<Record<'script' | 'connect' | 'frame', readonly string[]>>;
  };
}

/** One setting of an account at a channel. */
export interface SettingDeclaration {
  readonly name: string;
  /** A sentence that explains the setting to the person who enters it. */
  readonly description: string;
  /** True for a secret. nodrop never shows a stored secret, not even in part. */
  readonly isSecret: boolean;
  readonly isRequired: boolean;
  /**
   * True if the setting identifies the account at the channel. Such a setting can never change. Otherwise the channel
   * would no longer know the open trades of the account.
   */
  readonly isIdentity?: true;
  /**
   * A regular expression that the value must match, and the same rule in words, for example `must start with sk_test_
   * or sk_live_`.
   */
  readonly pattern?: readonly [RegExp, string];
  /** The names of other settings that must be set if this setting is set. */
  readonly needs?: readonly string[];
}

/**
 * The static description of a channel. The API's validation, the cashier page, the OpenAPI document and the tables in
 * docs are derived from it.
 */
export interface ChannelDeclaration {
  /** The name of the channel in routes, task queues and rows. It matches `[a-z][a-z0-9]*`. */
  readonly name: string;
  /** The name that payers know. */
  readonly title: { readonly en: string; readonly zh: string };
  /** True for a channel that moves no real money. Such a channel is refused when NODROP_MODE is `live`. */
  readonly testOnly: boolean;
  /** The payment methods; the first one is the default. */
  readonly methods: readonly [MethodDeclaration, ...MethodDeclaration[]];
  /**
   * How many adapter calls per second the channel allows, and the source of that number. One call sends one request, or
   * a few. All task queues of the channel share this limit.
   */
  readonly rateLimit: { readonly perSecond: number; readonly source: string };
  /**
   * The waits between scheduled queries, in ms, and the source that recommends them. Null if the channel uses nodrop's
   * default.
   */
  readonly querySchedule: { readonly waitsMs: readonly number[]; readonly source: string } | null;
  /**
   * If nodrop repeats a create or a refund within this time (in ms) after the first request, the channel certainly
   * treats it as the same request. Null means forever. After that time the channel may make a second trade or refund
   * under the same key.
   */
  readonly repeatableForMs: { readonly create: number | null; readonly refund: number | null };
  /**
   * True if the channel creates the trade only when the payer opens the payment link. So a trade that the channel does
   * not know can still be paid.
   */
  readonly unknownTradeCanBePaid: boolean;
  /**
   * Describes how trades of the merchant's own code are named: a pattern, the rule in words (`must be ...`), and an
   * example. `isGlobal` is true if a name identifies the same trade for every account of the channel. If `adoption` is
   * absent, nodrop cannot adopt such trades, and the adapter has no `readTrade`.
   */
  readonly adoption?: {
    readonly pattern: RegExp;
    readonly rule: string;
    readonly example: string;
    readonly isGlobal?: true;
  };
  /**
   * True if the channel accepts a callback URL with each trade and keeps it secret, in particular from the payer. A
   * request to that URL then proves which payment it concerns, see docs/channels. Otherwise the channel gets the
   * account's callback URL.
   */
  readonly takesCallbackAddress: boolean;
  readonly settings: readonly SettingDeclaration[];
  /**
   * Returns whether credentials move real money, if their form shows this. Absent if the form of the channel's
   * credentials never shows it.
   * @returns undefined if the form of these credentials does not show it
   */
  readonly modeOf?: (credentials: Credentials) => AccountMode | undefined;
}

/** The adapter of a channel. Must be a plain object, because wrappers copy it with spread. */
export interface ChannelAdapter {
  readonly declaration: ChannelDeclaration;

  /**
   * Creates the trade, or returns the next action of the existing trade. The same `outTradeNo` must never create two
   * trades. If `trade.reference` is set, the trade exists, and its payer needs a new next action.
   * @returns `not_renewable` when the trade exists but no longer gives a next action
   * @throws ChannelError `rejected` when the channel definitely refuses. After an error of any other kind, the outcome
   *   is unknown.
   */
  createTrade(
    account: ChannelAccount,
    trade: NewTrade,
    signal?: AbortSignal,
  ): Promise<CreatedTrade | 'not_renewable'>;
  /**
   * Looks for the trade in a complete listing, by the payment's id. Only adapters of channels that identify a trade by
   * their own id have this method. nodrop calls it before any other call except `createTrade`, so that the trade's
   * reference is known. If the method is absent, every method of the adapter can get a trade without a reference.
   * @returns `absent` only when the listing is complete and would certainly contain a trade that was created
   * @throws ChannelError, after which the result is always unknown.
   */
  findTrade?(account: ChannelAccount, trade: Trade, signal?: AbortSignal): Promise<TradeReference | 'absent'>;
  /**
   * Queries the trade, and never creates one.
   * @throws ChannelError. The trade's state is then always unknown, because a refused query says nothing about it.
   */
  queryTrade(account: ChannelAccount, trade: Trade, signal?: AbortSignal): Promise<ChannelAnswer>;
  /**
   * Reads a trade that the merchant wants to adopt. `reference` is the merchant's name for the trade, and it matches
   * the pattern in the declaration's `adoption`.
   * @throws ChannelError, after which the trade's state is always unknown.
   */
  readTrade?(account: ChannelAccount, reference: string, signal?: AbortSignal): Promise<FoundTrade>;
  /** Closes the trade, and never creates one. @throws ChannelError, after which the outcome is always unknown. */
  closeTrade(account: ChannelAccount, trade: Trade, signal?: AbortSignal): Promise<CloseAnswer>;
  /**
   * Requests a refund, or returns the state of the existing refund. Within the channel's `repeatableForMs` the same
   * `outRefundNo` never refunds twice, even if the amount differs.
   * @throws ChannelError `rejected` when the channel definitely refuses. The refund under this number then never
   *   succeeds. After an error of any other kind, the outcome is unknown. For example, the kind is `not_now` if the
   *   channel refuses temporarily because a balance is too low.
   */
  refundTrade(
    account: ChannelAccount,
    trade: Trade,
    refund: NewRefund,
    signal?: AbortSignal,
  ): Promise<RefundAnswer>;
  /** @throws ChannelError, after which the refund's state is always unknown. */
  queryRefund(
    account: ChannelAccount,
    trade: Trade,
    refund: KnownRefund,
    signal?: AbortSignal,
  ): Promise<RefundAnswer>;
  /**
   * Verifies a callback in memory. It checks first that the headers are present, then the signature, then the age, then
   * the content. It is asynchronous, because it may have to read certificates.
   * @throws CallbackError `unverified` (bad signature or too old) or `malformed` (verified, but with invalid content).
   */
  verifyCallback(account: ChannelAccount, request: CallbackRequest): Promise<VerifiedCallback>;
  /**
   * Returns the HTTP answer that the channel expects. If this method is absent, nodrop answers 200 with `{}`, or a
   * refusal in the format of its API.
   */
  acknowledge?(outcome: CallbackOutcome): Acknowledgement;
  /**
   * Returns the out-trade-no from a callback that could not be verified, if it contains one. nodrop does not trust this
   * number, and uses it only to query the channel.
   */
  peekOutTradeNo(rawBody: Buffer): string | undefined;
  /**
   * Checks the credentials with a harmless request to the channel.
   * @throws ChannelError with a sentence that says what is wrong
   */
  checkAccount(account: ChannelAccount, signal?: AbortSignal): Promise<void>;
  /**
   * Pays a trade with a test payment method, as a payer would. Absent if a program cannot pay in the sandbox of this
   * channel.
   * @returns false when the trade's method cannot be paid this way
   * @throws ChannelError, also for credentials that move real money
   */
  payInSandbox?(account: ChannelAccount, trade: Trade, signal?: AbortSignal): Promise<boolean>;
}

/**
 * The kinds of errors of a call to a channel.
 * - `rejected`: the channel understood the request and refuses it forever (definite).
 * - `not_now`: the channel understood the request and refuses it at the moment, for example because the merchant's
 *   balance is too low or a daily limit is reached. The same request can succeed later, so nodrop treats the outcome as
 *   unknown and not as a failure.
 * - `unreachable`: the channel gave no answer in time, or answered with a 5xx.
 * - `garbage`: an answer that cannot be read or whose signature is wrong.
 * - `rate_limited`: the channel asked for fewer requests.
 * - `misconfigured`: the channel rejects nodrop's credentials, permissions or clock. This error says nothing about any
 *   trade. A person has to correct the cause.
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
  /** The wait in ms that the channel asked for. Undefined if it asked for none. */
  readonly retryAfterMs: number | undefined;
  /**
   * True if the channel has stored this failure under the idempotency key, and repeats it for every request with that
   * key. It is unknown whether the channel carried out the request, and repeating the request with that key does not
   * show it.
   */
  readonly isReplayed: boolean;

  constructor(
    kind: ChannelErrorKind,
    message: string,
    options: { cause?: unknown; retryAfterMs?: number; isReplayed?: boolean } = {},
  ) {
    // The message may quote the channel. nodrop stores the message in the database, which accepts no NUL and no lone
    // surrogates.
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

/** The channel's payment method with this name. */
export const methodOf = ({ methods }: ChannelDeclaration, name: string): MethodDeclaration | undefined =>
  methods.find((method) => method.name === name);

/** True if the method accepts this currency. */
export const takesCurrency = (
  { currencies }: Pick<MethodDeclaration, 'currencies'>,
  currency: string,
): boolean => currencies === 'any' || Object.hasOwn(currencies, currency);
