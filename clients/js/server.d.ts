import type * as Api from './api.d.ts';
import type { CallOptions, ClientOptions, WaitOptions } from './index.d.ts';

export type * from './api.d.ts';
export {
  type CallOptions,
  type ClientOptions,
  type Connection,
  type ErrorCode,
  isFinal,
  NodropError,
  type WaitOptions,
} from './index.js';

/** Allows `undefined` as the value of every optional field. */
type Given<T> = {
  [K in keyof T]: Record<never, never> extends Pick<T, K> ? T[K] | undefined : T[K];
};

/** Give either `orderId` or `order`, but not both. `orderId` is for an order that nodrop already has. */
export type NewPayment = Given<Omit<Api.NewPayment, 'orderId' | 'order'>> &
  (
    | { orderId: NonNullable<Api.NewPayment['orderId']>; order?: undefined }
    | { order: NewOrder; orderId?: undefined }
  );
export type NewOrder = Given<Api.NewOrder>;
export type OrderChange = Given<Api.OrderChange>;
export type NewRefund = Given<Api.NewRefund>;
export type NewSwitch = Given<Api.NewSwitch>;
export type NewRedelivery = Given<Api.NewRedelivery>;

/**
 * The answer to a request that creates a payment. It contains the payment, and the two ways for its payer to open it.
 */
export interface CreatedPayment extends Api.Payment {
  /** The token for the payer's page. See `createClient` of `@nodrop/client`. */
  clientToken: string;
  /** The URL of nodrop's own page for the payer. */
  checkoutUrl: string;
}

/** A payment as its merchant sees it. Only `CreatedPayment` has a client token. */
export type Payment = Api.Payment;

export type TimelineEntry = Api.TimelinePage['data'][number];

/**
 * An event of the feed. A later version of the service may add types: keep a default branch, and answer 200 to them.
 */
export type Event = PaymentEvent | RefundEvent;
export interface PaymentEvent extends Omit<Api.Event, 'type' | 'data'> {
  type: Extract<Api.KnownEventType, `payment.${string}`>;
  data: Api.PaymentEventData;
}
export interface RefundEvent extends Omit<Api.Event, 'type' | 'data'> {
  type: Extract<Api.KnownEventType, `refund.${string}`>;
  data: Api.RefundEventData;
}

export interface EventPage extends Omit<Api.EventPage, 'data'> {
  data: Event[];
}

/** An event as nodrop delivered it. */
export type DeliveredEvent = Event & {
  /** The time at which nodrop sent this delivery. */
  readonly sentAt: Date;
  /**
   * True for a test event (`merchants test-event`): verify it, answer 200, and do nothing else. Other events do not
   * have this field.
   */
  readonly test?: boolean;
};

export interface ReadOptions extends CallOptions {
  /** How long the service may wait for a change before it answers, in seconds, up to 60. */
  readonly wait?: number | undefined;
}

export interface WriteOptions extends CallOptions {
  /**
   * A request that is repeated with the same key is carried out once. If your program may repeat the request after a
   * restart, give a key that it can derive again from stored data. By default the client generates a key for each call,
   * uses it for all tries, and reports it in `NodropError.idempotencyKey`.
   */
  readonly idempotencyKey?: string | undefined;
}

export interface RefundOptions extends CallOptions {
  /**
   * A key that your program derives from stored data, such as the number of the customer's return. If your program
   * repeats the request after a restart, it derives the same key, so the money is refunded once.
   */
  readonly idempotencyKey: string;
}

export interface Page<T> {
  data: T[];
  /** Pass this cursor as `cursor` of the next query. It is null on the last page. */
  nextCursor: string | null;
}

/** All results of a query, read page after page: `for await (const one of list)`. */
export interface List<T, P = Page<T>> extends AsyncIterable<T> {
  /** Reads only the page at the query's cursor. */
  page(): Promise<P>;
}

export interface ServerOptions extends ClientOptions {
  /** The merchant's API key. */
  readonly key: string | undefined;
}

/**
 * The calls that a merchant's server may make. The methods have the names of the API's operations. While the result of
 * a call is unknown (timeout, unreachable, 429, 5xx), the client sends the request up to three times. All tries of a
 * write have the same idempotency key. A call rejects with `NodropError`, or with the reason of an aborted signal.
 * Without `timeoutMs`, one try may take 15 s and a call 40 s, plus `wait`.
 */
export interface ServerClient {
  createOrder(order: NewOrder, options?: WriteOptions): Promise<Api.Order>;
  listOrders(query?: Given<Api.ListOrdersQuery>, options?: CallOptions): List<Api.Order>;
  getOrder(id: string, options?: ReadOptions): Promise<Api.Order>;
  changeOrder(id: string, change: OrderChange, options?: WriteOptions): Promise<Api.Order>;
  /**
   * Cancels an order. If the order's status is `cancelled` or `closed`, no money can arrive any longer. Otherwise money
   * can still arrive, so call this again.
   */
  cancelOrder(id: string, options?: WriteOptions): Promise<Api.Order>;

  /** Starts a payment, or returns the live payment of the same order, channel and method. */
  createPayment(payment: NewPayment, options?: WriteOptions): Promise<CreatedPayment>;
  listPayments(query?: Given<Api.ListPaymentsQuery>, options?: CallOptions): List<Api.Payment>;
  getPayment(id: string, options?: ReadOptions): Promise<Api.Payment>;
  /**
   * Resolves with the payment when this attempt has ended, see `isFinal`. It waits without a limit and through network
   * failures. It rejects only when the signal is aborted, or with NodropError when the key gives no access to the
   * payment.
   */
  waitForResult(id: string, options?: WaitOptions<Api.Payment>): Promise<Api.Payment>;
  getTimeline(id: string, query?: Given<Api.GetTimelineQuery>, options?: CallOptions): List<TimelineEntry>;
  /** Makes nodrop query the channel now. */
  queryPayment(id: string, options?: WriteOptions): Promise<Api.Payment>;
  hintPayment(id: string, options?: WriteOptions): Promise<void>;
  switchPayment(id: string, to: NewSwitch, options?: WriteOptions): Promise<CreatedPayment>;
  /**
   * Cancels a payment. The payment has ended unpaid only if its status says that. While the status is `created` or
   * `paying`, the channel has not answered yet.
   */
  cancelPayment(id: string, options?: WriteOptions): Promise<Api.Payment>;
  /**
   * For operators. The client sends this request only once: after `no_answer`, read the payment to learn the result.
   */
  resolvePayment(id: string, resolution: Api.NewResolution, options?: WriteOptions): Promise<Api.Payment>;

  /**
   * Refunds a payment. Without `amount`, refunds all the money that is left. Calls with the same `idempotencyKey` make
   * one refund. Without a key the call rejects with TypeError and sends nothing.
   */
  createRefund(id: string, refund: NewRefund, options: RefundOptions): Promise<Api.Refund>;
  listRefunds(id: string, query?: Given<Api.ListRefundsQuery>, options?: CallOptions): List<Api.Refund>;
  getRefund(id: string, options?: CallOptions): Promise<Api.Refund>;

  /**
   * The events of the feed, up to the newest event at the time of the call. Call `page()` to get cursors, or use
   * `followEvents`.
   */
  listEvents(query?: Given<Omit<Api.ListEventsQuery, 'wait'>>, options?: CallOptions): List<Event, EventPage>;
  /**
   * Follows the feed without an end, and yields each page that has events. Store the page's `nextCursor` together with
   * the results of its events. Network failures do not end the loop. When the signal is aborted, the loop throws the
   * signal's reason. When the service refuses (`cursor_expired`, `unauthorized`), the loop throws NodropError.
   */
  followEvents(
    from?: Given<Pick<Api.ListEventsQuery, 'after' | 'limit'>>,
    options?: { readonly signal?: AbortSignal | undefined },
  ): AsyncIterable<EventPage>;

  listPaymentDeliveries(
    id: string,
    query?: Given<Api.ListPaymentDeliveriesQuery>,
    options?: CallOptions,
  ): List<Api.Delivery>;
  listDeliveries(query?: Given<Api.ListDeliveriesQuery>, options?: CallOptions): List<Api.Delivery>;
  redeliver(id: string, options?: WriteOptions): Promise<Api.Delivery>;
  redeliverMany(which: NewRedelivery, options?: WriteOptions): Promise<Api.Redelivery>;
  /** Callbacks that match no payment. */
  listCallbacks(query?: Given<Api.ListCallbacksQuery>, options?: CallOptions): List<Api.Callback>;
}

/** @throws TypeError if the key is missing */
export declare function createServerClient(options: ServerOptions): ServerClient;

/** The headers of a request: Fetch's `Headers`, Node's `request.headers`, or a plain object with lower-case names. */
export type HeadersLike = Headers | Readonly<Record<string, string | readonly string[] | undefined>>;

export interface SignedRequest {
  /** The body of the request as it was received, as bytes or text. It is empty when nodrop reads an order back. */
  readonly body: string | Uint8Array;
  readonly headers: HeadersLike;
  /** The secret that signs the merchant's events, `whsec_...`. */
  readonly secret: string | undefined;
  /** The largest accepted difference between `webhook-timestamp` and this machine's clock, in seconds. @default 300 */
  readonly toleranceSeconds?: number | undefined;
}

/**
 * Verifies that nodrop sent this request, by its signature (Standard Webhooks). The request delivers an event or reads
 * an order back. The signatures are compared in constant time.
 * @throws NodropError `event_unverified` (status 401).
 * @throws TypeError if the secret is missing, or the body is already parsed
 */
export declare function verifySignature(request: SignedRequest): {
  readonly id: string;
  readonly sentAt: Date;
};

/**
 * Verifies an event and parses it. The result's `id` is the event's `webhook-id`.
 * @throws NodropError `event_unverified` (status 401), `event_malformed` (status 400).
 * @throws TypeError if the secret is missing, or the body is already parsed
 */
export declare function verifyEvent(request: SignedRequest): DeliveredEvent;
