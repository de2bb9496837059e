// Generated from the API's schemas by `npm run generate`: edit src/api/schemas.

/**
 * New values may be added: accept them.
 */
export type OrderStatus = KnownOrderStatus;
export type KnownOrderStatus = 'unpaid' | 'paying' | 'succeeded' | 'refunded' | 'cancelled' | 'closed';
/**
 * New values may be added: accept them.
 */
export type PaymentStatus = KnownPaymentStatus;
export type KnownPaymentStatus = 'created' | 'paying' | 'succeeded' | 'failed' | 'cancelled' | 'closed';
export type KnownOrderUpdate = 'pending' | 'applied' | 'conflict' | 'review';
export type KnownRefundReason = 'requested' | 'duplicate_payment' | 'late_payment' | 'external' | 'dispute';
export type KnownRefundStatus =
  | 'created'
  | 'processing'
  | 'needs_person'
  | 'succeeded'
  | 'failed'
  | 'reversed';
/**
 * New values may be added: accept them.
 */
export type NextActionType = KnownNextActionType;
export type KnownNextActionType = 'redirect' | 'qr' | 'sdk';
export type KnownSettledBy = 'callback' | 'query' | 'hint' | 'close' | 'statement' | 'operator';
export type KnownAttention =
  | 'channel_unreachable'
  | 'create_unknown'
  | 'channel_misconfigured'
  | 'channel_undecided'
  | 'order_update_failing'
  | 'order_unknown'
  | 'delivery_failing'
  | 'order_conflict'
  | 'amount_mismatch'
  | 'late_payment_review'
  | 'refund_failing'
  | 'refund_reversed'
  | 'statement_mismatch'
  | 'disputed'
  | 'channel_reversed'
  | 'workflow_stuck';
/**
 * New values may be added: accept them.
 */
export type DisputeState = KnownDisputeState;
export type KnownDisputeState = 'open' | 'won' | 'lost';
/**
 * The state of the order for its payer, from all attempts; new values may be added: accept them. `open`: the order can be paid. `undecided`: this or another attempt may have received money or waits for a decision, so the payer must not pay again, and it is not certain that nothing was charged. `paid`: this or another attempt has paid the order (also if it was refunded since). `over`: the order can no longer be paid, and no money is known or expected. Unless the state is `open`, `nextAction` is null and `switchTo` is empty.
 */
export type PayerOrderState = KnownPayerOrderState;
export type KnownPayerOrderState = 'open' | 'undecided' | 'paid' | 'over';
/**
 * New values may be added: accept them. `needs_person`: the channel waits until a person acts there, and nodrop keeps querying it. `failed`: the channel will not refund this money, now or later. `reversed`: the refund failed after it had succeeded, and the merchant has the money again.
 */
export type RefundStatus = KnownRefundStatus;
/**
 * New values may be added: accept them.
 */
export type RefundReason = KnownRefundReason;
/**
 * New values may be added: accept them.
 */
export type EventType = KnownEventType;
export type KnownEventType =
  | 'payment.succeeded'
  | 'payment.conflict'
  | 'payment.review'
  | 'payment.failed'
  | 'payment.cancelled'
  | 'payment.closed'
  | 'refund.succeeded'
  | 'refund.failed'
  | 'refund.reversed';
export type EventData = PaymentEventData & {
  refund?: EventRefund & {
    [k: string]: unknown;
  };
};
export type RefundEventData = PaymentEventData & {
  refund: EventRefund;
};
/**
 * New values may be added: accept them. `superseded`: the event was no longer true before the order service answered, for example a success whose money has been refunded in full. It is no longer delivered; newer events have the current state.
 */
export type DeliveryStatus = KnownDeliveryStatus;
export type KnownDeliveryStatus = 'pending' | 'delivered' | 'conflict' | 'gone' | 'superseded';
/**
 * New values may be added: accept them.
 */
export type DeliveryOutcome = KnownDeliveryOutcome;
export type KnownDeliveryOutcome =
  | 'agreed'
  | 'conflict'
  | 'gone'
  | 'order_unknown'
  | 'not_applied'
  | 'unknown';
/**
 * New values may be added: accept them.
 */
export type CallbackKind = KnownCallbackKind;
export type KnownCallbackKind = 'trade' | 'refund' | 'dispute' | 'notice';
/**
 * Stable. New values may be added: accept them.
 */
export type ProblemCode = KnownProblemCode;
export type KnownProblemCode =
  | 'bad_request'
  | 'invalid_request'
  | 'unauthorized'
  | 'forbidden'
  | 'not_found'
  | 'method_not_allowed'
  | 'order_not_found'
  | 'payment_not_found'
  | 'delivery_not_found'
  | 'delivery_superseded'
  | 'refund_not_found'
  | 'cursor_expired'
  | 'order_exists'
  | 'order_already_paid'
  | 'order_not_payable'
  | 'payment_already_paid'
  | 'not_resolvable'
  | 'attempt_unresolved'
  | 'adopt_mismatch'
  | 'adopt_taken'
  | 'payer_differs'
  | 'not_refundable'
  | 'idempotency_key_in_progress'
  | 'idempotency_key_reused'
  | 'payload_too_large'
  | 'request_timeout'
  | 'headers_too_large'
  | 'unsupported_media_type'
  | 'misdirected_request'
  | 'unknown_channel'
  | 'unknown_account'
  | 'currency_not_supported'
  | 'amount_not_supported'
  | 'adopt_unknown'
  | 'channel_rejected'
  | 'refund_exceeds_payment'
  | 'idempotency_key_missing'
  | 'callback_unverified'
  | 'callback_malformed'
  | 'callback_not_stored'
  | 'too_many_requests'
  | 'internal_error'
  | 'too_many_readers'
  | 'too_busy'
  | 'database_unavailable'
  | 'temporal_unavailable'
  | 'channel_misconfigured'
  | 'channel_unreachable';

export interface Schemas {
  NewOrder?: NewOrder;
  OrderChange?: OrderChange;
  Order?: Order;
  OrderPage?: OrderPage;
  NewPayment?: NewPayment;
  Payment?: Payment;
  PaymentPage?: PaymentPage;
  NewSwitch?: NewSwitch;
  PaymentForPayer?: PaymentForPayer;
  SwitchedPayment?: SwitchedPayment;
  TimelinePage?: TimelinePage;
  NewRefund?: NewRefund;
  Refund?: Refund;
  RefundPage?: RefundPage;
  Event?: Event;
  EventPage?: EventPage;
  PaymentEventData?: PaymentEventData;
  RefundEventData?: RefundEventData;
  Delivery?: Delivery;
  DeliveryPage?: DeliveryPage;
  NewRedelivery?: NewRedelivery;
  Redelivery?: Redelivery;
  Callback?: Callback;
  CallbackPage?: CallbackPage;
  Problem?: Problem;
  ListOrdersQuery?: ListOrdersQuery;
  ListPaymentsQuery?: ListPaymentsQuery;
  GetTimelineQuery?: GetTimelineQuery;
  ListRefundsQuery?: ListRefundsQuery;
  ListEventsQuery?: ListEventsQuery;
  ListPaymentDeliveriesQuery?: ListPaymentDeliveriesQuery;
  ListDeliveriesQuery?: ListDeliveriesQuery;
  ListCallbacksQuery?: ListCallbacksQuery;
  NewResolution?: NewResolution;
}
export interface NewOrder {
  /**
   * The merchant's own id of the order. 1 to 64 characters: letters, marks, digits, punctuation and symbols of every script, and single spaces within; not a mark first, in Unicode's form NFC, and neither `.` nor `..`. Percent-encode it in a URL.
   */
  id: string;
  /**
   * Minor units: 1050 is CNY 10.50 or JPY 1,050.
   */
  amount: number;
  /**
   * An ISO 4217 code of a currency in use today: no funds code, metal or withdrawn currency. An existing order keeps its currency, also if it has been withdrawn since.
   */
  currency: string;
  /**
   * What the payer reads. Must have at least one visible character, and no bidirectional overrides, embeddings or isolates (U+202A to U+202E, U+2066 to U+2069); the marks LRM and RLM are allowed. Default: `Order {id}`.
   */
  subject?: string;
  /**
   * After how many seconds the order accepts no more payments. At least 60, in test mode 5. Default: never.
   */
  expiresInSeconds?: number;
  /**
   * At most 20 pairs of texts, names up to 40 and values up to 500 characters. Default: none.
   */
  metadata?: {
    [k: string]: string;
  };
}
/**
 * Absent fields stay unchanged. The currency never changes.
 */
export interface OrderChange {
  /**
   * Minor units, in the currency of the order.
   */
  amount?: number;
  /**
   * What the payer of the next attempt reads.
   */
  subject?: string;
  /**
   * After how many seconds the order accepts no more payments, counted from the order's `createdAt`. The resulting time must not be in the past or before a live attempt expires. At least 60, in test mode 5.
   */
  expiresInSeconds?: number;
  /**
   * Replaces all metadata of the order.
   */
  metadata?: {
    [k: string]: string;
  };
}
export interface Order {
  id: string;
  /**
   * Minor units: 1050 is CNY 10.50 or JPY 1,050.
   */
  amount: number;
  /**
   * An ISO 4217 code.
   */
  currency: string;
  subject: string;
  status: OrderStatus;
  paidPaymentId: string | null;
  /**
   * When the payer paid, by the channel's clock.
   */
  paidAt: string | null;
  metadata: {
    [k: string]: string;
  };
  createdAt: string;
  expiresAt: string | null;
  /**
   * When the merchant requested cancellation; otherwise null. The order is cancelled once none of its payments can be paid.
   */
  cancelRequestedAt: string | null;
  /**
   * When a payment of the order was restored after the database had lost it; otherwise null. From then on, no refund of its payments is automatic. If the order was lost too, `subject` is empty until you create the order again with the same amount and currency, which sets subject, metadata and expiry.
   */
  recoveredAt: string | null;
  /**
   * Every attempt, newest first.
   */
  payments: Payment[];
}
export interface Payment {
  id: string;
  channel: string;
  method: string;
  /**
   * Minor units: 1050 is CNY 10.50 or JPY 1,050.
   */
  amount: number;
  /**
   * An ISO 4217 code.
   */
  currency: string;
  status: PaymentStatus;
  /**
   * The effect of the received money on the order. Tell a payer that a payment is paid only if this is `applied`.
   */
  orderUpdate: KnownOrderUpdate | null;
  /**
   * The total amount of the trade, as the channel reports it.
   */
  receivedAmount: number | null;
  /**
   * The amount refunded to the payer so far.
   */
  refundedAmount: number;
  /**
   * Why nodrop refunds all of this payment without a refund request; otherwise null. `duplicate_payment`: another payment had already paid the order. `late_payment`: the payment came too late for the order. `requested`: an operator decided it.
   */
  refundReason: KnownRefundReason | null;
  /**
   * The status of that refund: `created` and `processing`: not completed yet; `succeeded`: refunded; `failed`: the channel refused it, and an operator has to look at it. Null without `refundReason`.
   */
  refundStatus: KnownRefundStatus | null;
  nextAction: NextAction | null;
  /**
   * The next action's URL.
   */
  payUrl: string | null;
  /**
   * nodrop's cashier page for the payer. The URL contains the client token, so it is null where the token is not given.
   */
  checkoutUrl: string | null;
  createdAt: string;
  expiresAt: string;
  /**
   * When the payer paid, by the channel's clock.
   */
  paidAt: string | null;
  orderId: string;
  /**
   * The name of the merchant's account at the channel.
   */
  account: string;
  /**
   * The adopted trade, which the merchant's own code has created. Null if nodrop has created the trade.
   */
  adopted: {
    reference: string;
    own: boolean;
  } | null;
  /**
   * Lets the payer read this payment. Only in the answers of `POST /v1/payments` and of `switch`; otherwise null.
   */
  clientToken: string | null;
  /**
   * The `payer` of the request.
   */
  payer: {
    id?: string;
    ip?: string;
  } | null;
  /**
   * Where the payer goes after the wallet: the value of the last request that gave one.
   */
  returnUrl: string | null;
  settledBy: KnownSettledBy | null;
  channelPaymentId: string | null;
  receivedCurrency: string | null;
  /**
   * Why an operator should look at the payment. New values may be added: accept them.
   *
   * - `channel_unreachable`: The channel gave no readable answer for 5 min, or for 6 attempts to close the trade. Or it refused to close the trade as paid 6 times in a row, while its queries report the trade as unpaid.
   * - `create_unknown`: After 8 attempts (about 90 s) the channel has not confirmed whether it created the trade.
   * - `channel_misconfigured`: At once, when the channel rejects our credentials, permissions or clock, in any call. No payment fails because of it, and the queries continue. Not raised while an attention about money is shown.
   * - `channel_undecided`: One day after the expiry of the payment the channel still answers `processing`. The order accepts no new attempt meanwhile.
   * - `order_update_failing`: The money has arrived, but for 10 min the order was not updated: the order service does not agree or cannot be reached, or 16 attempts in nodrop's database failed. Raised at once when the order, read back, is not paid.
   * - `order_unknown`: The money has arrived, but the last answer of the order service was that it does not know the order: 404 or 410 with the code `order_unknown`. Delivery is retried. After 24 h by default (`NODROP_ORDER_UNKNOWN_HOURS`) of such answers the order counts as gone. A 404 without the code decides nothing.
   * - `delivery_failing`: For 10 min the order service has not answered an event for which the payment does not wait (of a refund, a conflict, or an end without money). Raised only while no other attention is shown; any other attention replaces it.
   * - `order_conflict`: The order was already paid, cancelled or closed; or the merchant refunds late money; or the order service answered that the order is paid in another way or gone, or has not known the order for 24 h by default (`NODROP_ORDER_UNKNOWN_HOURS`). A refund is recorded as due. With `orderUpdate` `review`, an operator decides instead: the trade is only watched, or another payment has adopted the same trade at another account and has received its money.
   * - `amount_mismatch`: The channel reports another amount or currency than requested, or the money belongs to an attempt from before the order's amount was changed: the order is not paid. Or the channel refunded another amount than requested: the channel's amount is recorded, and `askedAmount` has the requested one. Or the channel reports that some or all of the money was refunded, but not how much, and no known refund explains it: the order is not paid.
   * - `late_payment_review`: The money arrived after the end of the payment, and the merchant's setting `late_payment` is `review`.
   * - `refund_failing`: The channel refused a refund that is due, for another reason than an earlier partial refund at the channel; or it refused any refund of a conflict whose order was recovered. Or the channel waits for a person to act there: raised at once, with the channel's words. Or for 1 h the channel has not answered about a refund, has not known it, or has refused it temporarily (its balance is too low). Or the channel has been processing a refund for 7 days; banks take some days.
   * - `refund_reversed`: A refund failed after it had succeeded: the bank returned the money to the merchant. It is not retried automatically, and an order that is `refunded` stays so.
   * - `statement_mismatch`: Reserved for a later release: nothing raises it.
   * - `disputed`: The payer disputes the trade at their bank. Replaces every other attention, which is shown again afterwards. Meanwhile no refund is requested, because the channel decides about the money. Also raised when a dispute is lost in another currency than the received one.
   * - `channel_reversed`: Money of a paid order was refunded at the channel without a request to nodrop, even if the channel does not say how much; or a dispute of the payment is lost.
   * - `workflow_stuck`: The workflow task of the payment, of one of its refunds or of one of its deliveries failed more than 5 times in a row. Not raised while an attention of another severity than `wait` is shown.
   */
  attention: KnownAttention | null;
  attentionSince: string | null;
  attentionDetail: string | null;
  /**
   * Disputes that the payer opened at their bank, the oldest first. While a dispute is open, nodrop sends no refund to the channel. If all open disputes are inquiries, it sends only requested refunds. The money of a lost dispute is in the list of refunds, with the reason `dispute`.
   */
  disputes: Dispute[];
  metadata: {
    [k: string]: string;
  };
  settledAt: string | null;
  orderUpdatedAt: string | null;
  cancelRequestedAt: string | null;
  /**
   * When the payment was restored after the database had lost it; otherwise null. nodrop cancels a restored payment, but money received for it still pays its order.
   */
  recoveredAt: string | null;
  /**
   * The workflow in the Temporal Web UI. Only for operators.
   */
  temporalUrl: string | null;
}
/**
 * What the payer does next.
 */
export interface NextAction {
  type: NextActionType;
  url?: string;
  qr?: string;
  params?: {
    [k: string]: string;
  };
  expiresAt?: string;
}
export interface Dispute {
  /**
   * The channel's own id.
   */
  id: string;
  /**
   * Minor units: 1050 is CNY 10.50 or JPY 1,050.
   */
  amount: number;
  /**
   * An ISO 4217 code.
   */
  currency: string;
  state: DisputeState;
  /**
   * True while the payer's bank only inquires: no money is withheld yet.
   */
  isInquiry: boolean;
  reason: string | null;
  /**
   * Deadline for an answer to the dispute at the channel.
   */
  respondBy: string | null;
  openedAt: string;
  decidedAt: string | null;
}
/**
 * Newest first.
 */
export interface OrderPage {
  data: Order[];
  nextCursor: string | null;
}
/**
 * Must have exactly one of `orderId` and `order`.
 */
export interface NewPayment {
  /**
   * The merchant's own id of the order. 1 to 64 characters: letters, marks, digits, punctuation and symbols of every script, and single spaces within; not a mark first, in Unicode's form NFC, and neither `.` nor `..`. Percent-encode it in a URL.
   */
  orderId?: string;
  order?: NewOrder;
  /**
   * The channel to pay with. The merchant needs an account there. Channels and their methods: simulator (wallet); simulator2 (wallet); stripe (checkout, payment_intent); alipay (page, wap, precreate); wechatpay (native, h5, jsapi, app); mollie (checkout, ideal, creditcard, bancontact, paypal).
   */
  channel: string;
  /**
   * One of the channel's methods. Default: the first.
   */
  method?: string;
  /**
   * The name of the merchant's account at the channel. Default: the merchant's default account. If a live attempt uses another account than the named one, that attempt is closed first.
   */
  account?: string;
  /**
   * Who pays, for channels that need to know. A request without a field that the method needs is refused. If the live payment has a different `id`, the request is refused (`payer_differs`). Fields that the live payment does not have are added to it, until nodrop has asked the channel to create the trade.
   */
  payer?: {
    id?: string;
    ip?: string;
  };
  /**
   * Adopts a trade that the merchant's own code has created at the channel; nodrop does not create one. nodrop queries the trade: its amount and currency must be those of the order. From then on the trade is queried, settled and reported like any other payment. A request with the same order and reference returns the same payment, with the `own` of the first request. `returnUrl` and `payer` are ignored. See docs/adopt.md.
   */
  adopt?: {
    /**
     * The channel's reference of the trade. simulator: must be the outTradeNo of a trade: 1 to 32 of 0-9, A-Z, a-z, _ and -, as SHOP20260101001; simulator2: must be the outTradeNo of a trade: 1 to 32 of 0-9, A-Z, a-z, _ and -, as SHOP20260101001; stripe: must be the id of a Checkout Session (cs_...) or of a payment intent (pi_...), as cs_test_a1b2c3; alipay: must be the out_trade_no of a trade: 1 to 64 of 0-9, A-Z, a-z and _, as SHOP20260101001; wechatpay: must be the out_trade_no of an order: 6 to 32 of 0-9, A-Z, a-z, _, -, | and *, as SHOP20260101001; mollie: must be the id of a payment (tr_...), as tr_5B8cwPMGnU6qLbRvo7qEZo
     */
    reference: string;
    /**
     * True: nodrop treats the trade like one that it has created. It closes the trade at its expiry or when it is cancelled, and refunds a duplicate payment. Default: false: nodrop never closes the trade, and a duplicate payment waits for an operator.
     */
    own?: boolean;
  };
  /**
   * Where the payer goes after the wallet. nodrop adds `paymentId` to it, never a status. An http or https URL, or a URL with a scheme of the merchant's own app (`myapp://thanks`) after `merchants set --return-schemes` has allowed it.
   */
  returnUrl?: string;
  /**
   * How long the payer has to pay; the payment never expires after its order. At least 60, in test mode 5. Default: a setting of the deployment.
   */
  expiresInSeconds?: number;
  /**
   * At most 20 pairs of texts, names up to 40 and values up to 500 characters. Default: a new payment has none, and a live one keeps what it has.
   */
  metadata?: {
    [k: string]: string;
  };
}
/**
 * Newest first.
 */
export interface PaymentPage {
  data: Payment[];
  nextCursor: string | null;
}
/**
 * The channel and method to switch to.
 */
export interface NewSwitch {
  channel: string;
  /**
   * One of the channel's methods. Default: the first.
   */
  method?: string;
}
/**
 * A payment as its payer sees it, with the client token.
 */
export interface PaymentForPayer {
  id: string;
  channel: string;
  method: string;
  /**
   * Minor units: 1050 is CNY 10.50 or JPY 1,050.
   */
  amount: number;
  /**
   * An ISO 4217 code.
   */
  currency: string;
  status: PaymentStatus;
  /**
   * The effect of the received money on the order. Tell a payer that a payment is paid only if this is `applied`.
   */
  orderUpdate: KnownOrderUpdate | null;
  /**
   * The total amount of the trade, as the channel reports it.
   */
  receivedAmount: number | null;
  /**
   * The amount refunded to the payer so far.
   */
  refundedAmount: number;
  /**
   * Why nodrop refunds all of this payment without a refund request; otherwise null. `duplicate_payment`: another payment had already paid the order. `late_payment`: the payment came too late for the order. `requested`: an operator decided it.
   */
  refundReason: KnownRefundReason | null;
  /**
   * The status of that refund: `created` and `processing`: not completed yet; `succeeded`: refunded; `failed`: the channel refused it, and an operator has to look at it. Null without `refundReason`.
   */
  refundStatus: KnownRefundStatus | null;
  nextAction: NextAction | null;
  /**
   * The next action's URL.
   */
  payUrl: string | null;
  /**
   * nodrop's cashier page for the payer. The URL contains the client token, so it is null where the token is not given.
   */
  checkoutUrl: string | null;
  createdAt: string;
  expiresAt: string;
  /**
   * When the payer paid, by the channel's clock.
   */
  paidAt: string | null;
  /**
   * Where the page sends the payer afterwards: the merchant's current `returnUrl` with `paymentId`.
   */
  backUrl: string | null;
  orderState: PayerOrderState;
  /**
   * The other ways to pay this order, for `POST /v1/payments/{id}/switch`. Empty once the order can no longer be paid.
   */
  switchTo: {
    channel: string;
    method: string;
  }[];
}
/**
 * The new attempt as its payer sees it, with its own client token.
 */
export interface SwitchedPayment {
  id: string;
  channel: string;
  method: string;
  /**
   * Minor units: 1050 is CNY 10.50 or JPY 1,050.
   */
  amount: number;
  /**
   * An ISO 4217 code.
   */
  currency: string;
  status: PaymentStatus;
  /**
   * The effect of the received money on the order. Tell a payer that a payment is paid only if this is `applied`.
   */
  orderUpdate: KnownOrderUpdate | null;
  /**
   * The total amount of the trade, as the channel reports it.
   */
  receivedAmount: number | null;
  /**
   * The amount refunded to the payer so far.
   */
  refundedAmount: number;
  /**
   * Why nodrop refunds all of this payment without a refund request; otherwise null. `duplicate_payment`: another payment had already paid the order. `late_payment`: the payment came too late for the order. `requested`: an operator decided it.
   */
  refundReason: KnownRefundReason | null;
  /**
   * The status of that refund: `created` and `processing`: not completed yet; `succeeded`: refunded; `failed`: the channel refused it, and an operator has to look at it. Null without `refundReason`.
   */
  refundStatus: KnownRefundStatus | null;
  nextAction: NextAction | null;
  /**
   * The next action's URL.
   */
  payUrl: string | null;
  /**
   * nodrop's cashier page for the payer. The URL contains the client token, so it is null where the token is not given.
   */
  checkoutUrl: string | null;
  createdAt: string;
  expiresAt: string;
  /**
   * When the payer paid, by the channel's clock.
   */
  paidAt: string | null;
  /**
   * Where the page sends the payer afterwards: the merchant's current `returnUrl` with `paymentId`.
   */
  backUrl: string | null;
  orderState: PayerOrderState;
  /**
   * The other ways to pay this order, for `POST /v1/payments/{id}/switch`. Empty once the order can no longer be paid.
   */
  switchTo: {
    channel: string;
    method: string;
  }[];
  clientToken: string;
}
/**
 * Oldest first. A query whose answer equals the previous one has no entry of its own. When the answer changes, or the payment ends without money, one entry gives the first time, the last time and the count of the equal answers (`data.first`, `data.last`, `data.count`).
 */
export interface TimelinePage {
  data: {
    at: string;
    kind: string;
    detail: string;
    data: {
      [k: string]: unknown;
    };
  }[];
  nextCursor: string | null;
}
export interface NewRefund {
  /**
   * Minor units. Default: everything that is left of the payment.
   */
  amount?: number;
  /**
   * A note, returned with the refund. Must have at least one visible character, and no bidirectional overrides, embeddings or isolates (U+202A to U+202E, U+2066 to U+2069); the marks LRM and RLM are allowed.
   */
  note?: string;
}
export interface Refund {
  id: string;
  paymentId: string;
  /**
   * Minor units. Once the refund has succeeded: the amount that the channel refunded, at most the amount received for the payment.
   */
  amount: number;
  /**
   * The requested amount, if the channel refunded a different amount; otherwise null.
   */
  askedAmount: number | null;
  /**
   * An ISO 4217 code.
   */
  currency: string;
  status: RefundStatus;
  reason: RefundReason;
  note: string | null;
  /**
   * Why the refund has not succeeded: the channel refused it (for good or for now), waits for a person to act, reversed it after it had succeeded, or gave no readable answer.
   */
  failure: string | null;
  /**
   * The id of the refund that replaces this one. This refund is `failed` because part of the money had already been refunded at the channel; nodrop refunds the rest automatically under the new id. The new refund may be replaced too. While another refund of the payment is processing, this field may stay null until that refund settles.
   */
  replacedBy: string | null;
  /**
   * The channel's own id of the refund, set as soon as the channel reports it, also while the refund is processing.
   */
  channelRefundId: string | null;
  createdAt: string;
  /**
   * When the refund succeeded or failed for good.
   */
  settledAt: string | null;
  /**
   * The workflow in the Temporal Web UI. Only for operators.
   */
  temporalUrl: string | null;
}
/**
 * Newest first.
 */
export interface RefundPage {
  data: Refund[];
  nextCursor: string | null;
}
export interface Event {
  /**
   * Equals the header `webhook-id` of its deliveries.
   */
  id: string;
  type: EventType;
  /**
   * When it happened.
   */
  timestamp: string;
  data: EventData;
}
export interface PaymentEventData {
  payment: EventPayment;
  order: EventOrder;
  /**
   * Increases with every event of the payment. Events may arrive out of order. Each has the whole state of its payment, so ignore an event that is older than one you have processed.
   */
  version: number;
}
/**
 * The payment at the time of the event.
 */
export interface EventPayment {
  id: string;
  channel: string;
  method: string;
  /**
   * Minor units: 1050 is CNY 10.50 or JPY 1,050.
   */
  amount: number;
  /**
   * An ISO 4217 code.
   */
  currency: string;
  status: PaymentStatus;
  /**
   * The effect of the received money on the order. Tell a payer that a payment is paid only if this is `applied`.
   */
  orderUpdate: KnownOrderUpdate | null;
  /**
   * The total amount of the trade, as the channel reports it.
   */
  receivedAmount: number | null;
  /**
   * The amount refunded to the payer so far.
   */
  refundedAmount: number;
  createdAt: string;
  expiresAt: string;
  /**
   * When the payer paid, by the channel's clock.
   */
  paidAt: string | null;
  orderId: string;
  /**
   * The name of the merchant's account at the channel.
   */
  account: string;
  settledBy: KnownSettledBy | null;
  channelPaymentId: string | null;
  receivedCurrency: string | null;
  /**
   * Why an operator should look at the payment. New values may be added: accept them.
   *
   * - `channel_unreachable`: The channel gave no readable answer for 5 min, or for 6 attempts to close the trade. Or it refused to close the trade as paid 6 times in a row, while its queries report the trade as unpaid.
   * - `create_unknown`: After 8 attempts (about 90 s) the channel has not confirmed whether it created the trade.
   * - `channel_misconfigured`: At once, when the channel rejects our credentials, permissions or clock, in any call. No payment fails because of it, and the queries continue. Not raised while an attention about money is shown.
   * - `channel_undecided`: One day after the expiry of the payment the channel still answers `processing`. The order accepts no new attempt meanwhile.
   * - `order_update_failing`: The money has arrived, but for 10 min the order was not updated: the order service does not agree or cannot be reached, or 16 attempts in nodrop's database failed. Raised at once when the order, read back, is not paid.
   * - `order_unknown`: The money has arrived, but the last answer of the order service was that it does not know the order: 404 or 410 with the code `order_unknown`. Delivery is retried. After 24 h by default (`NODROP_ORDER_UNKNOWN_HOURS`) of such answers the order counts as gone. A 404 without the code decides nothing.
   * - `delivery_failing`: For 10 min the order service has not answered an event for which the payment does not wait (of a refund, a conflict, or an end without money). Raised only while no other attention is shown; any other attention replaces it.
   * - `order_conflict`: The order was already paid, cancelled or closed; or the merchant refunds late money; or the order service answered that the order is paid in another way or gone, or has not known the order for 24 h by default (`NODROP_ORDER_UNKNOWN_HOURS`). A refund is recorded as due. With `orderUpdate` `review`, an operator decides instead: the trade is only watched, or another payment has adopted the same trade at another account and has received its money.
   * - `amount_mismatch`: The channel reports another amount or currency than requested, or the money belongs to an attempt from before the order's amount was changed: the order is not paid. Or the channel refunded another amount than requested: the channel's amount is recorded, and `askedAmount` has the requested one. Or the channel reports that some or all of the money was refunded, but not how much, and no known refund explains it: the order is not paid.
   * - `late_payment_review`: The money arrived after the end of the payment, and the merchant's setting `late_payment` is `review`.
   * - `refund_failing`: The channel refused a refund that is due, for another reason than an earlier partial refund at the channel; or it refused any refund of a conflict whose order was recovered. Or the channel waits for a person to act there: raised at once, with the channel's words. Or for 1 h the channel has not answered about a refund, has not known it, or has refused it temporarily (its balance is too low). Or the channel has been processing a refund for 7 days; banks take some days.
   * - `refund_reversed`: A refund failed after it had succeeded: the bank returned the money to the merchant. It is not retried automatically, and an order that is `refunded` stays so.
   * - `statement_mismatch`: Reserved for a later release: nothing raises it.
   * - `disputed`: The payer disputes the trade at their bank. Replaces every other attention, which is shown again afterwards. Meanwhile no refund is requested, because the channel decides about the money. Also raised when a dispute is lost in another currency than the received one.
   * - `channel_reversed`: Money of a paid order was refunded at the channel without a request to nodrop, even if the channel does not say how much; or a dispute of the payment is lost.
   * - `workflow_stuck`: The workflow task of the payment, of one of its refunds or of one of its deliveries failed more than 5 times in a row. Not raised while an attention of another severity than `wait` is shown.
   */
  attention: KnownAttention | null;
  attentionSince: string | null;
  attentionDetail: string | null;
  metadata: {
    [k: string]: string;
  };
  settledAt: string | null;
  orderUpdatedAt: string | null;
  cancelRequestedAt: string | null;
  /**
   * When the payment was restored after the database had lost it; otherwise null. nodrop cancels a restored payment, but money received for it still pays its order.
   */
  recoveredAt: string | null;
}
/**
 * The order at the time of the event.
 */
export interface EventOrder {
  id: string;
  /**
   * Minor units: 1050 is CNY 10.50 or JPY 1,050.
   */
  amount: number;
  /**
   * An ISO 4217 code.
   */
  currency: string;
  subject: string;
  status: OrderStatus;
  paidPaymentId: string | null;
  /**
   * When the payer paid, by the channel's clock.
   */
  paidAt: string | null;
  metadata: {
    [k: string]: string;
  };
  createdAt: string;
  expiresAt: string | null;
  /**
   * When the merchant requested cancellation; otherwise null. The order is cancelled once none of its payments can be paid.
   */
  cancelRequestedAt: string | null;
  /**
   * When a payment of the order was restored after the database had lost it; otherwise null. From then on, no refund of its payments is automatic. If the order was lost too, `subject` is empty until you create the order again with the same amount and currency, which sets subject, metadata and expiry.
   */
  recoveredAt: string | null;
}
/**
 * The refund at the time of the event.
 */
export interface EventRefund {
  id: string;
  paymentId: string;
  /**
   * Minor units. Once the refund has succeeded: the amount that the channel refunded, at most the amount received for the payment.
   */
  amount: number;
  /**
   * The requested amount, if the channel refunded a different amount; otherwise null.
   */
  askedAmount: number | null;
  /**
   * An ISO 4217 code.
   */
  currency: string;
  status: RefundStatus;
  reason: RefundReason;
  note: string | null;
  /**
   * Why the refund has not succeeded: the channel refused it (for good or for now), waits for a person to act, reversed it after it had succeeded, or gave no readable answer.
   */
  failure: string | null;
  /**
   * The id of the refund that replaces this one. This refund is `failed` because part of the money had already been refunded at the channel; nodrop refunds the rest automatically under the new id. The new refund may be replaced too. While another refund of the payment is processing, this field may stay null until that refund settles.
   */
  replacedBy: string | null;
  /**
   * The channel's own id of the refund, set as soon as the channel reports it, also while the refund is processing.
   */
  channelRefundId: string | null;
  createdAt: string;
  /**
   * When the refund succeeded or failed for good.
   */
  settledAt: string | null;
}
/**
 * Oldest first.
 */
export interface EventPage {
  data: Event[];
  /**
   * Send it as `after` in the next request. Always given, also if there are no new events: store it.
   */
  nextCursor: string;
}
/**
 * The delivery of one event to the order service.
 */
export interface Delivery {
  id: string;
  eventId: string;
  paymentId: string;
  orderId: string;
  type: EventType;
  version: number;
  status: DeliveryStatus;
  /**
   * Number of delivery attempts so far.
   */
  attempts: number;
  firstAttemptAt: string | null;
  /**
   * Time of the next attempt while the delivery is `pending`. Null: now.
   */
  nextAttemptAt: string | null;
  /**
   * When the order service accepted or refused the event for good, or the event was superseded.
   */
  settledAt: string | null;
  /**
   * The last 20 calls, newest first.
   */
  log: {
    at: string;
    outcome: DeliveryOutcome;
    /**
     * Null if there was no answer.
     */
    statusCode: number | null;
    detail: string;
    /**
     * The start of the body of an answer that counts as a failure: at most 512 characters, without control characters and secrets. Null if the answer has no body or accepts the event.
     */
    answer: string | null;
    durationMs: number;
  }[];
  /**
   * The workflow that delivers the event, in the Temporal Web UI. Only for operators.
   */
  temporalUrl: string | null;
}
/**
 * Newest first.
 */
export interface DeliveryPage {
  data: Delivery[];
  nextCursor: string | null;
}
export interface NewRedelivery {
  /**
   * `pending`: deliveries that wait for their next attempt are attempted now. `delivered`, `conflict`, `gone`: settled deliveries with this status are sent once more; nodrop logs the calls, and nothing else changes.
   */
  status: 'pending' | 'delivered' | 'conflict' | 'gone';
  /**
   * Only events of this time or later. Default: all events kept.
   */
  since?: string;
}
export interface Redelivery {
  /**
   * How many deliveries are sent again. Includes those that an earlier request asked for and that are not sent yet.
   */
  count: number;
  /**
   * If there are more deliveries than one request covers: send the next request with this `since`. Null: there are no more.
   */
  nextSince: string | null;
}
export interface Callback {
  id: string;
  channel: string;
  channelAccountId: string;
  /**
   * The channel's own id of the callback, the same on every retry.
   */
  notificationId: string;
  kind: CallbackKind;
  /**
   * The payment id in the callback; this account has no payment with that id. Empty if the callback only has ids of the channel.
   */
  outTradeNo: string;
  /**
   * The channel's own id of the trade, as the callback names it.
   */
  reference: string | null;
  /**
   * The channel's own id of the payer's payment, as the callback names it.
   */
  channelPaymentId: string | null;
  /**
   * The state that the callback reports.
   */
  state: string;
  receivedAt: string;
  ageSeconds: number;
  /**
   * True while the sweep still tries to match the callback. False after 72 h: then an operator has to look at it.
   */
  retrying: boolean;
}
/**
 * Newest first.
 */
export interface CallbackPage {
  data: Callback[];
  nextCursor: string | null;
}
/**
 * RFC 9457 problem details.
 */
export interface Problem {
  /**
   * A page that explains the code.
   */
  type: string;
  title: string;
  status: number;
  /**
   * What is wrong with this request, in words.
   */
  detail: string;
  code: ProblemCode;
  /**
   * The path of the request. Absent if the request was refused before its path was read.
   */
  instance?: string;
  /**
   * Also in the header x-request-id and in every log line.
   */
  requestId: string;
  /**
   * For `invalid_request`: which fields are wrong, and why. For `unknown_channel`: which channels exist. For `order_exists`, `payer_differs` and `idempotency_key_reused`: which fields differ.
   */
  errors?: {
    path: string;
    message: string;
  }[];
}
export interface ListOrdersQuery {
  status?: KnownOrderStatus;
  /**
   * Maximum number of items.
   */
  limit?: number;
  /**
   * The `nextCursor` of the previous page. Opaque.
   */
  cursor?: string;
}
export interface ListPaymentsQuery {
  status?: KnownPaymentStatus;
  /**
   * The merchant's own id of the order. 1 to 64 characters: letters, marks, digits, punctuation and symbols of every script, and single spaces within; not a mark first, in Unicode's form NFC, and neither `.` nor `..`. Percent-encode it in a URL.
   */
  orderId?: string;
  channel?: string;
  /**
   * `true`: only payments that need attention. `false`: all payments, as without the parameter.
   */
  attention?: boolean;
  /**
   * Maximum number of items.
   */
  limit?: number;
  /**
   * The `nextCursor` of the previous page. Opaque.
   */
  cursor?: string;
}
export interface GetTimelineQuery {
  /**
   * Maximum number of items.
   */
  limit?: number;
  /**
   * The `nextCursor` of the previous page. Opaque.
   */
  cursor?: string;
}
export interface ListRefundsQuery {
  /**
   * Maximum number of items.
   */
  limit?: number;
  /**
   * The `nextCursor` of the previous page. Opaque.
   */
  cursor?: string;
}
export interface ListEventsQuery {
  /**
   * The `nextCursor` of the previous answer. Opaque. Default: start at the oldest event kept.
   */
  after?: string;
  /**
   * Maximum number of items.
   */
  limit?: number;
  /**
   * How many seconds the answer may wait for a change. Default: it does not wait.
   */
  wait?: number;
}
export interface ListPaymentDeliveriesQuery {
  /**
   * Maximum number of items.
   */
  limit?: number;
  /**
   * The `nextCursor` of the previous page. Opaque.
   */
  cursor?: string;
}
export interface ListDeliveriesQuery {
  /**
   * Maximum number of items.
   */
  limit?: number;
  /**
   * The `nextCursor` of the previous page. Opaque.
   */
  cursor?: string;
  status?: KnownDeliveryStatus;
}
export interface ListCallbacksQuery {
  /**
   * Maximum number of items.
   */
  limit?: number;
  /**
   * The `nextCursor` of the previous page. Opaque.
   */
  cursor?: string;
}
export interface NewResolution {
  /**
   * `accept`: the money that is left pays the order; the channel is queried first for that amount. `refund`: the money is refunded. `retry`: failed calls are retried, also a refund that the channel refused. `dismiss`: clears the attention; refused while money must be refunded or waits for a decision. Exception: if money waits for a decision, and the channel reports that it was refunded, but not how much, `dismiss` records that none of it is left.
   */
  action: 'accept' | 'refund' | 'retry' | 'dismiss';
  /**
   * The reason for the decision. Kept on the timeline. Must have at least one visible character, and no bidirectional overrides, embeddings or isolates (U+202A to U+202E, U+2066 to U+2069); the marks LRM and RLM are allowed.
   */
  note: string;
}
