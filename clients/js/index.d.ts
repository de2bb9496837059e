import type { NewPayment, Payment, PaymentForPayer, Problem, ProblemCode, SwitchedPayment } from './api.d.ts';

export type {
  KnownOrderUpdate,
  KnownPayerOrderState,
  KnownPaymentStatus,
  KnownProblemCode,
  NewOrder,
  NewPayment,
  NextAction,
  Payment,
  PaymentForPayer,
  Problem,
  SwitchedPayment,
} from './api.d.ts';

/** The service refused: it has said so itself, in a problem document. */
export declare class NodropError extends Error {
  constructor(problem: Problem, retryAfterSeconds: number | undefined);
  /** Stable; see `/docs/problems`. Accept new ones. */
  readonly code: ProblemCode;
  /** The HTTP status. */
  readonly status: number;
  readonly detail: string;
  /** Names the request in the service's log. */
  readonly requestId: string;
  /** Which fields are wrong (`invalid_request`), or differ from what is there (`order_exists`, `payer_differs`, `idempotency_key_reused`). */
  readonly errors: readonly { path: string; message: string }[];
  readonly retryAfterSeconds: number | undefined;
}

/**
 * The service was not reached, or something else answered in its place. It is not known whether the request was
 * carried out; every request may be repeated.
 */
export declare class NodropNetworkError extends Error {
  constructor(message: string, options?: { cause?: unknown; retryAfterSeconds?: number | undefined });
  readonly retryAfterSeconds: number | undefined;
}

/**
 * `live`: told at once. `polling`: asked again and again, also by a page that is hidden or finds three others streaming.
 * `away`: the service cannot be reached right now.
 */
export type Connection = 'live' | 'polling' | 'away';

export interface ClientOptions {
  /** Of the API, for instance `https://pay.example`. */
  readonly baseUrl: string | URL;
  /** A merchant's key. For servers only: never put one into a page. */
  readonly key?: string;
  /** @default the platform's */
  readonly fetch?: (url: string, init: RequestInit) => Promise<Response>;
}

export interface CallOptions {
  /** The payment's client token; without it the client's key is used. */
  readonly token?: string | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** With a token it is a `PaymentForPayer`, with a key a `Payment`. */
export type VisiblePayment =
  | PaymentForPayer
  | (Payment & {
      readonly orderState?: undefined;
      readonly switchTo?: undefined;
      readonly backUrl?: undefined;
    });

export interface Client {
  /** Starts a payment, or returns the live one of the same order, channel and method. Needs the key. */
  createPayment(
    payment: NewPayment,
    options?: { readonly idempotencyKey?: string; readonly signal?: AbortSignal },
  ): Promise<Payment>;

  /** @param options.wait seconds (up to 60) the service may wait for news before it answers */
  getPayment(id: string, options?: CallOptions & { readonly wait?: number }): Promise<VisiblePayment>;

  /**
   * Resolves with the payment in its final state, see `isFinal`. With a token, an attempt that ended without money is
   * followed on while another one may have paid the order (`orderState` is `undecided`); with a key it resolves at the
   * attempt's own end. Goes on for as long as that takes, whatever the network does; rejects only when the signal is
   * aborted, or with NodropError when the token or key does not open the payment (any more).
   */
  waitForResult(
    id: string,
    options?: CallOptions & {
      /**
       * Called with the first state and with every other one. What it throws is not caught: it is a page's error
       * event, and ends a Node process like any error that nobody catches.
       */
      readonly onUpdate?: (payment: VisiblePayment) => void;
      readonly onConnection?: (connection: Connection) => void;
    },
  ): Promise<VisiblePayment>;

  /** Says that the payer may have paid: the channel is asked at once. May be given freely. */
  hint(id: string, options?: CallOptions): Promise<void>;

  /** A new attempt for the same order on another channel, with a `clientToken` of its own. */
  switchChannel(
    id: string,
    to: { readonly channel: string; readonly method?: string },
    options?: CallOptions,
  ): Promise<SwitchedPayment | (Payment & { readonly clientToken: string; readonly backUrl?: undefined })>;
}

export declare function createClient(options: ClientOptions): Client;

/**
 * Nothing more happens by itself that a payer would want to see. Paid is `succeeded` with the order update `applied`
 * alone: with `conflict` the money goes back, with `review` a person decides. It is about this attempt alone: not paid
 * is only what a payer's `orderState` agrees with, see `waitForResult`.
 */
export declare function isFinal(payment: { status: string; orderUpdate: string | null }): boolean;
