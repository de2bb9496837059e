import type { KnownProblemCode, PaymentForPayer, Problem, SwitchedPayment } from './api.d.ts';

export type {
  KnownOrderUpdate,
  KnownPayerOrderState,
  KnownPaymentStatus,
  KnownProblemCode,
  NextAction,
  PaymentForPayer,
  Problem,
  SwitchedPayment,
} from './api.d.ts';

/**
 * What a `NodropError` says of its cause: a code of the service (`/docs/problems`), or one of the client's own.
 *
 * - `no_answer`: the service was not reached in time, or something else answered in its place. It is not known whether
 *   the request was carried out. Send it again, a write with the `idempotencyKey` of the error.
 * - `event_unverified`, `event_malformed`: see `verifyEvent` of `@nodrop/client/server`.
 *
 * A later service has more codes: keep a default.
 */
export type ErrorCode = KnownProblemCode | 'no_answer' | 'event_unverified' | 'event_malformed';

/** The fields of a problem document, as far as there is one. */
export type Refusal = Pick<Problem, 'detail'> &
  Partial<Omit<Problem, 'code' | 'detail'>> & { readonly code: ErrorCode };

/** Every error of this client, except the reason of an aborted signal and a TypeError for arguments of a wrong type. */
export declare class NodropError extends Error {
  constructor(
    problem: Refusal,
    more?: { readonly cause?: unknown; readonly retryAfterSeconds?: number | undefined },
  );
  readonly name: 'NodropError';
  readonly code: ErrorCode;
  /** What is wrong with this request. */
  readonly detail: string;
  /** The HTTP status of the service's answer; undefined when there was none. */
  readonly status: number | undefined;
  /** A page that explains the code. */
  readonly type: string | undefined;
  readonly title: string | undefined;
  readonly instance: string | undefined;
  /** Names the request in the service's log. */
  readonly requestId: string | undefined;
  /** Which fields are wrong (`invalid_request`), which channels there are (`unknown_channel`), or which fields differ from what is there (`order_exists`, `payer_differs`, `idempotency_key_reused`). */
  readonly errors: readonly { readonly path: string; readonly message: string }[];
  readonly retryAfterSeconds: number | undefined;
  /** Of a write of `@nodrop/client/server`: send the same write again with it. */
  readonly idempotencyKey?: string | undefined;
}

/**
 * `live`: told at once. `polling`: asked again and again, also by a page that is hidden or finds three others streaming.
 * `away`: the service cannot be reached right now.
 */
export type Connection = 'live' | 'polling' | 'away';

export interface ClientOptions {
  /** Of the API, for instance `https://pay.example`. */
  readonly baseUrl: string | URL;
  /** @default the platform's */
  readonly fetch?: ((url: string, init: RequestInit) => Promise<Response>) | undefined;
}

/** Of every call. */
export interface CallOptions {
  /** Ends the call, which rejects with the signal's reason. */
  readonly signal?: AbortSignal | undefined;
  /** Within so many milliseconds the call ends; a `NodropError` `no_answer` then. @default 15,000, beside `wait` */
  readonly timeoutMs?: number | undefined;
}

export interface PayerOptions extends CallOptions {
  /** The payment's client token. */
  readonly token: string;
}

/** Of `waitForResult`, which has no time-out of its own: give an `AbortSignal.timeout` where you want one. */
export interface WaitOptions<P> {
  readonly signal?: AbortSignal | undefined;
  /**
   * Called with the first state and with every other one. What it throws is not caught: it is a page's error
   * event, and ends a Node process like any error that nobody catches.
   */
  readonly onUpdate?: ((payment: P) => void) | undefined;
  readonly onConnection?: ((connection: Connection) => void) | undefined;
}

/** What a payer may do, with the client token of a payment. For pages; servers use `@nodrop/client/server`. */
export interface Client {
  /** @param options.wait seconds (up to 60) the service may wait for news before it answers */
  getPayment(
    id: string,
    options: PayerOptions & { readonly wait?: number | undefined },
  ): Promise<PaymentForPayer>;

  /**
   * Resolves with the payment in its final state, see `isFinal`. An attempt that ended without money is followed on
   * while another one may have paid the order (`orderState` is `undecided`). Goes on for as long as that takes,
   * whatever the network does; rejects only when the signal is aborted, or with NodropError when the token does not
   * open the payment (any more).
   */
  waitForResult(
    id: string,
    options: { readonly token: string } & WaitOptions<PaymentForPayer>,
  ): Promise<PaymentForPayer>;

  /** Says that the payer may have paid: the channel is asked at once. May be given freely. */
  hint(id: string, options: PayerOptions): Promise<void>;

  /** A new attempt for the same order on another channel, with a `clientToken` of its own. May be repeated. */
  switchChannel(
    id: string,
    to: { readonly channel: string; readonly method?: string | undefined },
    options: PayerOptions,
  ): Promise<SwitchedPayment>;
}

export declare function createClient(options: ClientOptions): Client;

/**
 * Nothing more happens by itself that a payer would want to see. Paid is `succeeded` with the order update `applied`
 * alone: with `conflict` the money goes back, with `review` a person decides. It is about this attempt alone: not paid
 * is only what a payer's `orderState` agrees with, see `waitForResult`.
 */
export declare function isFinal(payment: { status: string; orderUpdate: string | null }): boolean;
