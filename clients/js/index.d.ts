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
 * The cause of a `NodropError`: a code of the service (`/docs/problems`), or one of the client's own codes.
 *
 * - `no_answer`: the service did not answer in time, or another server answered, for example a proxy. The client does
 *   not know whether the request was carried out. Send the request again; send a write with the error's
 *   `idempotencyKey`.
 * - `event_unverified`, `event_malformed`: see `verifyEvent` of `@nodrop/client/server`.
 *
 * A later version of the service may add codes: keep a default branch.
 */
export type ErrorCode = KnownProblemCode | 'no_answer' | 'event_unverified' | 'event_malformed';

/** The fields of a problem document. Only `code` and `detail` are always present. */
export type Refusal = Pick<Problem, 'detail'> &
  Partial<Omit<Problem, 'code' | 'detail'>> & { readonly code: ErrorCode };

/**
 * The error with which a call rejects, with two exceptions. An aborted call rejects with the reason of its signal. A
 * call with arguments of a wrong type rejects with a TypeError.
 */
export declare class NodropError extends Error {
  constructor(
    problem: Refusal,
    more?: { readonly cause?: unknown; readonly retryAfterSeconds?: number | undefined },
  );
  readonly name: 'NodropError';
  readonly code: ErrorCode;
  /** A sentence that says what is wrong with the request. */
  readonly detail: string;
  /** The HTTP status of the service's answer; undefined when there was no answer. */
  readonly status: number | undefined;
  /** The URL of a page that explains the code. */
  readonly type: string | undefined;
  readonly title: string | undefined;
  readonly instance: string | undefined;
  /** The id of the request in the service's log. */
  readonly requestId: string | undefined;
  /**
   * The fields that are wrong (`invalid_request`), the channels that exist (`unknown_channel`), or the fields that
   * differ from what is stored (`order_exists`, `payer_differs`, `idempotency_key_reused`).
   */
  readonly errors: readonly { readonly path: string; readonly message: string }[];
  readonly retryAfterSeconds: number | undefined;
  /**
   * The idempotency key of the failed request. Only the writes of `@nodrop/client/server` set it: send the same write
   * again with this key.
   */
  readonly idempotencyKey?: string | undefined;
}

/**
 * How a page receives changes of the payment. `live`: the service streams every change. `polling`: the client reads the
 * payment at intervals. A page also polls while it is hidden, and while three other pages of the same browser stream.
 * `away`: the service cannot be reached at the moment.
 */
export type Connection = 'live' | 'polling' | 'away';

export interface ClientOptions {
  /** The address of the API, for example `https://pay.example`. */
  readonly baseUrl: string | URL;
  /** @default the platform's `fetch` */
  readonly fetch?: ((url: string, init: RequestInit) => Promise<Response>) | undefined;
}

/** Options of every call. */
export interface CallOptions {
  /** Aborts the call. The call then rejects with the signal's reason. */
  readonly signal?: AbortSignal | undefined;
  /** After this time, in ms, the call rejects with the `NodropError` `no_answer`. @default 15,000, plus `wait` */
  readonly timeoutMs?: number | undefined;
}

export interface PayerOptions extends CallOptions {
  /** The payment's client token. */
  readonly token: string;
}

/**
 * Options of `waitForResult`. By default this call has no timeout. To set one, pass `AbortSignal.timeout(ms)` as
 * `signal`.
 */
export interface WaitOptions<P> {
  readonly signal?: AbortSignal | undefined;
  /**
   * Called with the first state and with every change. The client does not catch an error that this function throws: a
   * page gets an `error` event, and a Node process ends as on any uncaught error.
   */
  readonly onUpdate?: ((payment: P) => void) | undefined;
  readonly onConnection?: ((connection: Connection) => void) | undefined;
}

/**
 * The calls that a payer may make with the client token of a payment. They are for pages; a server uses
 * `@nodrop/client/server`.
 */
export interface Client {
  /** @param options.wait how long the service may wait for a change before it answers, in seconds, up to 60 */
  getPayment(
    id: string,
    options: PayerOptions & { readonly wait?: number | undefined },
  ): Promise<PaymentForPayer>;

  /**
   * Resolves with the payment in its final state, see `isFinal`. If this attempt has ended unpaid, but another attempt
   * may have paid the order (`orderState` is `undecided`), the call keeps waiting. It waits without a limit and through
   * network failures. It rejects only if the signal is aborted, or with NodropError if the token is not valid for the
   * payment or has become invalid.
   */
  waitForResult(
    id: string,
    options: { readonly token: string } & WaitOptions<PaymentForPayer>,
  ): Promise<PaymentForPayer>;

  /**
   * Reports that the payer may have paid. nodrop then queries the channel immediately. You may call this any number of
   * times.
   */
  hint(id: string, options: PayerOptions): Promise<void>;

  /**
   * Starts a new attempt for the same order on another channel. The new attempt has its own `clientToken`. You may
   * repeat the call.
   */
  switchChannel(
    id: string,
    to: { readonly channel: string; readonly method?: string | undefined },
    options: PayerOptions,
  ): Promise<SwitchedPayment>;
}

export declare function createClient(options: ClientOptions): Client;

/**
 * True when no later change of the payment matters to the payer. A payment is paid only when its status is `succeeded`
 * and its order update is `applied`. With `conflict`, the money is refunded; with `review`, an operator decides. The
 * result covers only this attempt. The order is unpaid only if the payer's `orderState` also says that, see
 * `waitForResult`.
 */
export declare function isFinal(payment: { status: string; orderUpdate: string | null }): boolean;
