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

/** Fields that may be left out may also be undefined. */
type Given<T> = {
  [K in keyof T]: Record<never, never> extends Pick<T, K> ? T[K] | undefined : T[K];
};

/** Exactly one of `orderId`, for an order that nodrop has, and `order`. */
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

/** Who creates a payment is given what opens it for its payer. */
export interface CreatedPayment extends Api.Payment {
  /** For the payer's page, see `createClient` of `@nodrop/client`. */
  clientToken: string;
  /** nodrop's own page for the payer. */
  checkoutUrl: string;
}

/** A payment as its merchant sees it; `CreatedPayment` alone has a client token. */
export type Payment = Api.Payment;

export type TimelineEntry = Api.TimelinePage['data'][number];

/** An event of the feed. A later service has more types: keep a default, and answer 200 to them. */
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

/** An event as it was delivered. */
export type DeliveredEvent = Event & {
  /** When this delivery was sent. */
  readonly sentAt: Date;
  /** True of a test event (`merchants test-event`): verify it, answer 200, and do nothing else. Other events have none. */
  readonly test?: boolean;
};

export interface ReadOptions extends CallOptions {
  /** Seconds (up to 60) the service may wait for news before it answers. */
  readonly wait?: number | undefined;
}

export interface WriteOptions extends CallOptions {
  /**
   * The same request sent again with the same key runs no second time. Give one of your own, from what you have stored,
   * where you may ask again after a restart. By default a new one for each call, kept for its retries and in
   * `NodropError.idempotencyKey`.
   */
  readonly idempotencyKey?: string | undefined;
}

export interface RefundOptions extends CallOptions {
  /**
   * Of your own, from what you have stored, such as the number of the return. A program that asks again after a restart
   * gives the same key, and money goes back once.
   */
  readonly idempotencyKey: string;
}

export interface Page<T> {
  data: T[];
  /** For `cursor` of the next query; null on the last page. */
  nextCursor: string | null;
}

/** All that a query finds, page after page: `for await (const one of list)`. */
export interface List<T, P = Page<T>> extends AsyncIterable<T> {
  /** One page alone, the one of the query's cursor. */
  page(): Promise<P>;
}

export interface ServerOptions extends ClientOptions {
  /** The merchant's API key. */
  readonly key: string | undefined;
}

/**
 * What a merchant's server may do; the methods have the names of the API's operations. A call is sent up to three times
 * while nothing is known of it (time-out, unreachable, 429, 5xx), a write under one idempotency key. It rejects with
 * `NodropError`, or with the reason of an aborted signal. Without `timeoutMs` a try has 15 s and a call 40 s, beside
 * `wait`.
 */
export interface ServerClient {
  createOrder(order: NewOrder, options?: WriteOptions): Promise<Api.Order>;
  listOrders(query?: Given<Api.ListOrdersQuery>, options?: CallOptions): List<Api.Order>;
  getOrder(id: string, options?: ReadOptions): Promise<Api.Order>;
  changeOrder(id: string, change: OrderChange, options?: WriteOptions): Promise<Api.Order>;
  /** No money can come any more only when the order's status is `cancelled` or `closed`; else ask again. */
  cancelOrder(id: string, options?: WriteOptions): Promise<Api.Order>;

  /** Starts a payment, or returns the live one of the same order, channel and method. */
  createPayment(payment: NewPayment, options?: WriteOptions): Promise<CreatedPayment>;
  listPayments(query?: Given<Api.ListPaymentsQuery>, options?: CallOptions): List<Api.Payment>;
  getPayment(id: string, options?: ReadOptions): Promise<Api.Payment>;
  /**
   * Resolves with the payment at this attempt's own end, see `isFinal`. Goes on for as long as that takes, whatever the
   * network does; rejects only when the signal is aborted, or with NodropError when the key does not open the payment.
   */
  waitForResult(id: string, options?: WaitOptions<Api.Payment>): Promise<Api.Payment>;
  getTimeline(id: string, query?: Given<Api.GetTimelineQuery>, options?: CallOptions): List<TimelineEntry>;
  /** Has the channel asked now. */
  queryPayment(id: string, options?: WriteOptions): Promise<Api.Payment>;
  hintPayment(id: string, options?: WriteOptions): Promise<void>;
  switchPayment(id: string, to: NewSwitch, options?: WriteOptions): Promise<CreatedPayment>;
  /** It has ended unpaid when its status says so; while it is `created` or `paying` the channel has not answered. */
  cancelPayment(id: string, options?: WriteOptions): Promise<Api.Payment>;
  /** For operators. Sent once: after `no_answer` read the payment. */
  resolvePayment(id: string, resolution: Api.NewResolution, options?: WriteOptions): Promise<Api.Payment>;

  /**
   * All that is left without `amount`. The `idempotencyKey` makes it one refund, however often it is asked for. Rejects
   * with TypeError, and sends nothing, without one.
   */
  createRefund(id: string, refund: NewRefund, options: RefundOptions): Promise<Api.Refund>;
  listRefunds(id: string, query?: Given<Api.ListRefundsQuery>, options?: CallOptions): List<Api.Refund>;
  getRefund(id: string, options?: CallOptions): Promise<Api.Refund>;

  /** The feed up to its present end. For its cursors read it by `page()`, or follow it. */
  listEvents(query?: Given<Omit<Api.ListEventsQuery, 'wait'>>, options?: CallOptions): List<Event, EventPage>;
  /**
   * The feed without an end: each page that has events, with the `nextCursor` to store beside what was made of them.
   * Goes on whatever the network does, until it is left. Rejects with the reason of its aborted signal, and with
   * NodropError when the service refuses (`cursor_expired`, `unauthorized`).
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
  /** Those that match no payment. */
  listCallbacks(query?: Given<Api.ListCallbacksQuery>, options?: CallOptions): List<Api.Callback>;
}

/** @throws TypeError without a key */
export declare function createServerClient(options: ServerOptions): ServerClient;

/** Those of Fetch, of Node, or a plain object with names in lower case. */
export type HeadersLike = Headers | Readonly<Record<string, string | readonly string[] | undefined>>;

export interface SignedRequest {
  /** The bytes, or the text, as they came; empty for a read-back. */
  readonly body: string | Uint8Array;
  readonly headers: HeadersLike;
  /** What signs the merchant's events, `whsec_...`. */
  readonly secret: string | undefined;
  /** How far `webhook-timestamp` may be from this clock. @default 300 */
  readonly toleranceSeconds?: number | undefined;
}

/**
 * Verifies by Standard Webhooks, in constant time, that nodrop sent a request: an event, or a read-back.
 * @throws NodropError `event_unverified` (status 401). @throws TypeError without a secret, or for a parsed body
 */
export declare function verifySignature(request: SignedRequest): {
  readonly id: string;
  readonly sentAt: Date;
};

/**
 * Verifies an event and reads it. `id` is its `webhook-id`.
 * @throws NodropError `event_unverified` (status 401), `event_malformed` (status 400). @throws TypeError as above
 */
export declare function verifyEvent(request: SignedRequest): DeliveredEvent;
