// Generated from the API's schemas by `npm run generate`: edit src/api/schemas.

/**
 * Accept new ones.
 */
export type OrderStatus = KnownOrderStatus;
export type KnownOrderStatus = 'unpaid' | 'paying' | 'succeeded' | 'refunded' | 'cancelled' | 'closed';
/**
 * Accept new ones.
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
 * Accept new ones.
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
 * Accept new ones.
 */
export type DisputeState = KnownDisputeState;
export type KnownDisputeState = 'open' | 'won' | 'lost';
/**
 * The order as its payer may know it, by this and every other attempt; accept new ones. `open`: it can be paid. `undecided`: money or a decision is on its way by this or another attempt: do not pay again; nobody knows yet that nothing was charged. `paid`: it is paid, by this or another attempt (also when it was refunded since). `over`: it can no longer be paid, and no money is known or expected. Unless it is `open` there is no `nextAction` and nothing in `switchTo`.
 */
export type PayerOrderState = KnownPayerOrderState;
export type KnownPayerOrderState = 'open' | 'undecided' | 'paid' | 'over';
/**
 * Accept new ones. `needs_person`: the channel waits for somebody to do something there; it is asked on. `failed`: it gives nothing back, now or later. `reversed`: it failed after it had succeeded, and the money is here again.
 */
export type RefundStatus = KnownRefundStatus;
/**
 * Accept new ones.
 */
export type RefundReason = KnownRefundReason;
/**
 * Accept new ones.
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
 * Accept new ones. `superseded`: what the event says ceased to be true before the order service answered, as a success once all of its money is back. It is not told any more; newer events say what is true.
 */
export type DeliveryStatus = KnownDeliveryStatus;
export type KnownDeliveryStatus = 'pending' | 'delivered' | 'conflict' | 'gone' | 'superseded';
/**
 * Accept new ones.
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
 * Accept new ones.
 */
export type CallbackKind = KnownCallbackKind;
export type KnownCallbackKind = 'trade' | 'refund' | 'dispute' | 'notice';
/**
 * Stable. Accept new ones.
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
   * The merchant's own id of the order. 1 to 64 characters: letters, marks, digits, punctuation and symbols of every script, and single spaces within; not a mark first, in Unicode's form NFC, and neither `.` nor `..`. In an address it is percent-encoded.
   */
  id: string;
  /**
   * Minor units: 1050 is CNY 10.50 or JPY 1,050.
   */
  amount: number;
  /**
   * An ISO 4217 code that people pay in today: no funds code, metal or withdrawn currency. An order that exists keeps its own.
   */
  currency: string;
  /**
   * What the payer reads. It has something to be seen, and no bidirectional overrides, embeddings or isolates (U+202A to U+202E, U+2066 to U+2069); the marks LRM and RLM are taken. Default: `Order {id}`.
   */
  subject?: string;
  /**
   * When the order takes no more payments. At least 60, in test mode 5. Default: never.
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
 * What is absent stays as it is. The currency never changes.
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
   * When the order takes no more payments, counted from the order's `createdAt` as at its creation. Not in the past, and not before a live attempt expires. At least 60, in test mode 5.
   */
  expiresInSeconds?: number;
  /**
   * Replaces all that was there.
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
   * The channel's clock.
   */
  paidAt: string | null;
  metadata: {
    [k: string]: string;
  };
  createdAt: string;
  expiresAt: string | null;
  /**
   * Since when its owner wants it cancelled; it is, once none of its payments can be paid any more.
   */
  cancelRequestedAt: string | null;
  /**
   * When a payment of it was written again after the database had lost it. No refund of its payments is automatic from then on. If the order was lost as well, `subject` is empty until it is created again with the same amount and currency, which fills subject, metadata and expiry.
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
   * What became of the order; to a payer a payment is paid when it is `applied`.
   */
  orderUpdate: KnownOrderUpdate | null;
  /**
   * The order's total as the channel has it.
   */
  receivedAmount: number | null;
  /**
   * What has gone back to the payer.
   */
  refundedAmount: number;
  /**
   * Why all of this payment goes back without anybody having asked for a refund, else null: `duplicate_payment`, the order was paid twice and this is the second; `late_payment`, it came too late for the order; `requested`, it was decided so.
   */
  refundReason: KnownRefundReason | null;
  /**
   * How far that is: `created` and `processing`, on its way; `succeeded`, back; `failed`, the channel refused it and a person sees to it. Null without `refundReason`.
   */
  refundStatus: KnownRefundStatus | null;
  nextAction: NextAction | null;
  /**
   * The next action's URL.
   */
  payUrl: string | null;
  /**
   * nodrop's own page for the payer. Carries the client token: shown only with it.
   */
  checkoutUrl: string | null;
  createdAt: string;
  expiresAt: string;
  /**
   * The channel's clock.
   */
  paidAt: string | null;
  orderId: string;
  /**
   * The name of the merchant's account at the channel.
   */
  account: string;
  /**
   * The trade that the merchant's own code has made; null when nodrop has made it.
   */
  adopted: {
    reference: string;
    own: boolean;
  } | null;
  /**
   * Opens this payment for its payer. Only in the answers of POST /v1/payments and of `switch`.
   */
  clientToken: string | null;
  /**
   * As it was given.
   */
  payer: {
    id?: string;
    ip?: string;
  } | null;
  /**
   * Where the payer goes after the wallet, as it was given last.
   */
  returnUrl: string | null;
  settledBy: KnownSettledBy | null;
  channelPaymentId: string | null;
  receivedCurrency: string | null;
  /**
   * Why a person should look at it; accept new ones.
   *
   * - `channel_unreachable`: No readable answer for 5 min, or after 6 tries to close; or 6 closes refused as paid, and the query says unpaid.
   * - `create_unknown`: The channel did not say after 8 tries (about 90 s) whether it created the trade.
   * - `channel_misconfigured`: At once, when the channel does not take our credentials, permissions or clock, in whichever call. It says nothing of any payment: none fails by it, and each is asked on. Not while something is shown that concerns money.
   * - `channel_undecided`: A day past its expiry the channel still says that it processes the payment. The order takes no new attempt meanwhile.
   * - `order_update_failing`: The money is in, and for 10 min the order did not take it: its order service does not agree or could not be told at all, or 16 tries in our own database failed. At once when the order, read back, is not paid.
   * - `order_unknown`: The money is in, and the last answer of the order service was that it does not know the order: 404 or 410 with the code `order_unknown`. It is told again; when the service has not known it for 24 h by default (`NODROP_ORDER_UNKNOWN_HOURS`), the order counts as gone. Not by a 404 without the code: that settles nothing.
   * - `delivery_failing`: For 10 min the order service has not answered an event of the payment on which the payment does not wait: of a refund, a conflict, an end. Only while nothing else is shown, and everything else takes its place.
   * - `order_conflict`: The order was already paid, cancelled or closed, the merchant refunds late money, or its order service says that the order is paid otherwise or gone, or has not known it for 24 h by default (`NODROP_ORDER_UNKNOWN_HOURS`). An owed refund is recorded. In `review`: the trade is only watched, or two accounts see one adopted trade, whose money another payment has received.
   * - `amount_mismatch`: The channel itself says another amount or currency than asked, or the money is of an attempt made before the order's amount was changed: the order is not paid. Or the channel gave back another amount than a refund asked for: the channel's is recorded, `askedAmount` is ours. Or it says that money came in and some or all of it went back, and not how much, and no refund is known that explains it: the order is not paid.
   * - `late_payment_review`: The money came after the end, and the merchant's `late_payment` is `review`.
   * - `refund_failing`: The channel refused a refund that is owed, and not because a part had gone back there, or any of a conflict whose order was recovered; or it waits for a person to do something there, which is shown at once with its words; or it was silent on any refund (did not know it, or refused it for now: its balance is too low) for 1 h, or has had it in process for 7 days: banks take some.
   * - `refund_reversed`: A refund failed after it had succeeded: the bank returned the money to the merchant. It is not retried automatically, and an order that is `refunded` stays so.
   * - `statement_mismatch`: Reserved for a later release: nothing raises it.
   * - `disputed`: The payer disputes the trade at their bank. Takes the place of everything else, which is shown again afterwards. Meanwhile no refund is asked for: the channel decides over the money. Also when a dispute is lost in another currency than came in.
   * - `channel_reversed`: Money of a paid order went back at the channel, and nobody asked for it here, also when the channel does not say how much; or a dispute of it is lost.
   * - `workflow_stuck`: The task of the payment's workflow, of one of its refunds' or of its deliveries' failed more than 5 times in a row. Not while an attention is shown that is more than `wait`.
   */
  attention: KnownAttention | null;
  attentionSince: string | null;
  attentionDetail: string | null;
  /**
   * What the payer disputes at their bank, the oldest first. While one is open no refund is asked for; while each open one is an inquiry, those that somebody asks for are. What is lost is among the refunds, with the reason `dispute`.
   */
  disputes: Dispute[];
  metadata: {
    [k: string]: string;
  };
  settledAt: string | null;
  orderUpdatedAt: string | null;
  cancelRequestedAt: string | null;
  /**
   * When the payment was written again after the database had lost it. It is being cancelled, and money that came in for it still pays its order.
   */
  recoveredAt: string | null;
  /**
   * The workflow in the Temporal Web UI; operators only.
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
   * The payer's bank only asks: no money is put aside yet.
   */
  isInquiry: boolean;
  reason: string | null;
  /**
   * Until when it can be answered at the channel.
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
 * Of `orderId` and `order` exactly one.
 */
export interface NewPayment {
  /**
   * The merchant's own id of the order. 1 to 64 characters: letters, marks, digits, punctuation and symbols of every script, and single spaces within; not a mark first, in Unicode's form NFC, and neither `.` nor `..`. In an address it is percent-encoded.
   */
  orderId?: string;
  order?: NewOrder;
  /**
   * The channel. There are, with their methods: simulator (wallet); simulator2 (wallet); stripe (checkout, payment_intent); alipay (page, wap, precreate); wechatpay (native, h5, jsapi, app); mollie (checkout, ideal, creditcard, bancontact, paypal). The merchant needs an account there.
   */
  channel: string;
  /**
   * One of the channel's methods; its first by default.
   */
  method?: string;
  /**
   * Which of the merchant's accounts at the channel, by its name. Default: the merchant's default account. A live attempt at another account than the one that is named is closed first.
   */
  account?: string;
  /**
   * Who pays, for channels that want to know; what the method needs and is not there is refused. Another `id` than that of the live payment is refused (`payer_differs`); what the live payment does not know is added to it until the channel has been asked for its trade.
   */
  payer?: {
    id?: string;
    ip?: string;
  };
  /**
   * The trade is there: the merchant's own code has made it, and nodrop makes none. The channel is asked what it is for, which must be what the order costs; then it is watched, settled and told as any payment. The same order and reference again is the same payment, with the `own` of the first. `returnUrl` and `payer` go unused. See docs/adopt.md.
   */
  adopt?: {
    /**
     * What the trade is called at the channel. simulator: must be the outTradeNo of a trade: 1 to 32 of 0-9, A-Z, a-z, _ and -, as SHOP20260101001; simulator2: must be the outTradeNo of a trade: 1 to 32 of 0-9, A-Z, a-z, _ and -, as SHOP20260101001; stripe: must be the id of a Checkout Session (cs_...) or of a payment intent (pi_...), as cs_test_a1b2c3; alipay: must be the out_trade_no of a trade: 1 to 64 of 0-9, A-Z, a-z and _, as SHOP20260101001; wechatpay: must be the out_trade_no of an order: 6 to 32 of 0-9, A-Z, a-z, _, -, | and *, as SHOP20260101001; mollie: must be the id of a payment (tr_...), as tr_5B8cwPMGnU6qLbRvo7qEZo
     */
    reference: string;
    /**
     * True: nodrop closes the trade at its expiry or when it is cancelled, and gives back what comes in twice, as with trades of its own. Default: false, the trade stays as it is, and a second success waits for a person.
     */
    own?: boolean;
  };
  /**
   * Where the payer goes after the wallet; `paymentId` is added, never a status. An http or https URL, or one of a scheme of the merchant's own app (`myapp://thanks`), once it is allowed: `merchants set --return-schemes`.
   */
  returnUrl?: string;
  /**
   * How long the payer has; never longer than the order. At least 60, in test mode 5. Default: the deployment's.
   */
  expiresInSeconds?: number;
  /**
   * At most 20 pairs of texts, names up to 40 and values up to 500 characters. Default: none for a new payment, and for the live one those it has.
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
 * How the payer would rather pay.
 */
export interface NewSwitch {
  channel: string;
  /**
   * One of the channel's methods; its first by default.
   */
  method?: string;
}
/**
 * A payment as its client token shows it.
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
   * What became of the order; to a payer a payment is paid when it is `applied`.
   */
  orderUpdate: KnownOrderUpdate | null;
  /**
   * The order's total as the channel has it.
   */
  receivedAmount: number | null;
  /**
   * What has gone back to the payer.
   */
  refundedAmount: number;
  /**
   * Why all of this payment goes back without anybody having asked for a refund, else null: `duplicate_payment`, the order was paid twice and this is the second; `late_payment`, it came too late for the order; `requested`, it was decided so.
   */
  refundReason: KnownRefundReason | null;
  /**
   * How far that is: `created` and `processing`, on its way; `succeeded`, back; `failed`, the channel refused it and a person sees to it. Null without `refundReason`.
   */
  refundStatus: KnownRefundStatus | null;
  nextAction: NextAction | null;
  /**
   * The next action's URL.
   */
  payUrl: string | null;
  /**
   * nodrop's own page for the payer. Carries the client token: shown only with it.
   */
  checkoutUrl: string | null;
  createdAt: string;
  expiresAt: string;
  /**
   * The channel's clock.
   */
  paidAt: string | null;
  /**
   * Where the payer goes on to: the merchant's `returnUrl` with `paymentId`, as it is now.
   */
  backUrl: string | null;
  orderState: PayerOrderState;
  /**
   * What else this order can be paid with, for `POST /v1/payments/{id}/switch`; empty once it cannot.
   */
  switchTo: {
    channel: string;
    method: string;
  }[];
}
/**
 * The new attempt as its payer sees it, with a client token of its own.
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
   * What became of the order; to a payer a payment is paid when it is `applied`.
   */
  orderUpdate: KnownOrderUpdate | null;
  /**
   * The order's total as the channel has it.
   */
  receivedAmount: number | null;
  /**
   * What has gone back to the payer.
   */
  refundedAmount: number;
  /**
   * Why all of this payment goes back without anybody having asked for a refund, else null: `duplicate_payment`, the order was paid twice and this is the second; `late_payment`, it came too late for the order; `requested`, it was decided so.
   */
  refundReason: KnownRefundReason | null;
  /**
   * How far that is: `created` and `processing`, on its way; `succeeded`, back; `failed`, the channel refused it and a person sees to it. Null without `refundReason`.
   */
  refundStatus: KnownRefundStatus | null;
  nextAction: NextAction | null;
  /**
   * The next action's URL.
   */
  payUrl: string | null;
  /**
   * nodrop's own page for the payer. Carries the client token: shown only with it.
   */
  checkoutUrl: string | null;
  createdAt: string;
  expiresAt: string;
  /**
   * The channel's clock.
   */
  paidAt: string | null;
  /**
   * Where the payer goes on to: the merchant's `returnUrl` with `paymentId`, as it is now.
   */
  backUrl: string | null;
  orderState: PayerOrderState;
  /**
   * What else this order can be paid with, for `POST /v1/payments/{id}/switch`; empty once it cannot.
   */
  switchTo: {
    channel: string;
    method: string;
  }[];
  clientToken: string;
}
/**
 * Oldest first. A query that is answered as the one before has no entry: once the answer changes, or the payment ends without money, one entry has the first time, the last time and the count of the equal answers (`data.first`, `data.last`, `data.count`).
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
   * Minor units. Default: all that is left of the payment.
   */
  amount?: number;
  /**
   * For those who read the refund later. It has something to be seen, and no bidirectional overrides, embeddings or isolates (U+202A to U+202E, U+2066 to U+2069); the marks LRM and RLM are taken.
   */
  note?: string;
}
export interface Refund {
  id: string;
  paymentId: string;
  /**
   * Minor units. Once it has succeeded: what the channel gave back, at most what came in for the payment.
   */
  amount: number;
  /**
   * What was asked for, when the channel gave back another amount.
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
   * Why the channel refused it, for good or for now, waits for a person, took it back after it had succeeded, or gave no readable answer.
   */
  failure: string | null;
  /**
   * The refund that goes out in its place: this one is `failed`, as part of the money had gone back at the channel, and the rest goes back under another number without being asked for. That one may be replaced too. While another refund of the payment is in process, this may be set only once that one settles.
   */
  replacedBy: string | null;
  /**
   * The channel's own id, as soon as it has told it, while it is in process too.
   */
  channelRefundId: string | null;
  createdAt: string;
  /**
   * When it succeeded or failed for good.
   */
  settledAt: string | null;
  /**
   * The workflow in the Temporal Web UI; operators only.
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
   * The same as the `webhook-id` of its deliveries.
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
   * Grows with every event of the payment. Events may overtake each other. Each carries the whole state of its payment, so what is older than one you know is never news.
   */
  version: number;
}
/**
 * The payment as it was.
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
   * What became of the order; to a payer a payment is paid when it is `applied`.
   */
  orderUpdate: KnownOrderUpdate | null;
  /**
   * The order's total as the channel has it.
   */
  receivedAmount: number | null;
  /**
   * What has gone back to the payer.
   */
  refundedAmount: number;
  createdAt: string;
  expiresAt: string;
  /**
   * The channel's clock.
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
   * Why a person should look at it; accept new ones.
   *
   * - `channel_unreachable`: No readable answer for 5 min, or after 6 tries to close; or 6 closes refused as paid, and the query says unpaid.
   * - `create_unknown`: The channel did not say after 8 tries (about 90 s) whether it created the trade.
   * - `channel_misconfigured`: At once, when the channel does not take our credentials, permissions or clock, in whichever call. It says nothing of any payment: none fails by it, and each is asked on. Not while something is shown that concerns money.
   * - `channel_undecided`: A day past its expiry the channel still says that it processes the payment. The order takes no new attempt meanwhile.
   * - `order_update_failing`: The money is in, and for 10 min the order did not take it: its order service does not agree or could not be told at all, or 16 tries in our own database failed. At once when the order, read back, is not paid.
   * - `order_unknown`: The money is in, and the last answer of the order service was that it does not know the order: 404 or 410 with the code `order_unknown`. It is told again; when the service has not known it for 24 h by default (`NODROP_ORDER_UNKNOWN_HOURS`), the order counts as gone. Not by a 404 without the code: that settles nothing.
   * - `delivery_failing`: For 10 min the order service has not answered an event of the payment on which the payment does not wait: of a refund, a conflict, an end. Only while nothing else is shown, and everything else takes its place.
   * - `order_conflict`: The order was already paid, cancelled or closed, the merchant refunds late money, or its order service says that the order is paid otherwise or gone, or has not known it for 24 h by default (`NODROP_ORDER_UNKNOWN_HOURS`). An owed refund is recorded. In `review`: the trade is only watched, or two accounts see one adopted trade, whose money another payment has received.
   * - `amount_mismatch`: The channel itself says another amount or currency than asked, or the money is of an attempt made before the order's amount was changed: the order is not paid. Or the channel gave back another amount than a refund asked for: the channel's is recorded, `askedAmount` is ours. Or it says that money came in and some or all of it went back, and not how much, and no refund is known that explains it: the order is not paid.
   * - `late_payment_review`: The money came after the end, and the merchant's `late_payment` is `review`.
   * - `refund_failing`: The channel refused a refund that is owed, and not because a part had gone back there, or any of a conflict whose order was recovered; or it waits for a person to do something there, which is shown at once with its words; or it was silent on any refund (did not know it, or refused it for now: its balance is too low) for 1 h, or has had it in process for 7 days: banks take some.
   * - `refund_reversed`: A refund failed after it had succeeded: the bank returned the money to the merchant. It is not retried automatically, and an order that is `refunded` stays so.
   * - `statement_mismatch`: Reserved for a later release: nothing raises it.
   * - `disputed`: The payer disputes the trade at their bank. Takes the place of everything else, which is shown again afterwards. Meanwhile no refund is asked for: the channel decides over the money. Also when a dispute is lost in another currency than came in.
   * - `channel_reversed`: Money of a paid order went back at the channel, and nobody asked for it here, also when the channel does not say how much; or a dispute of it is lost.
   * - `workflow_stuck`: The task of the payment's workflow, of one of its refunds' or of its deliveries' failed more than 5 times in a row. Not while an attention is shown that is more than `wait`.
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
   * When the payment was written again after the database had lost it. It is being cancelled, and money that came in for it still pays its order.
   */
  recoveredAt: string | null;
}
/**
 * The order as it was.
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
   * The channel's clock.
   */
  paidAt: string | null;
  metadata: {
    [k: string]: string;
  };
  createdAt: string;
  expiresAt: string | null;
  /**
   * Since when its owner wants it cancelled; it is, once none of its payments can be paid any more.
   */
  cancelRequestedAt: string | null;
  /**
   * When a payment of it was written again after the database had lost it. No refund of its payments is automatic from then on. If the order was lost as well, `subject` is empty until it is created again with the same amount and currency, which fills subject, metadata and expiry.
   */
  recoveredAt: string | null;
}
/**
 * The refund as it was.
 */
export interface EventRefund {
  id: string;
  paymentId: string;
  /**
   * Minor units. Once it has succeeded: what the channel gave back, at most what came in for the payment.
   */
  amount: number;
  /**
   * What was asked for, when the channel gave back another amount.
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
   * Why the channel refused it, for good or for now, waits for a person, took it back after it had succeeded, or gave no readable answer.
   */
  failure: string | null;
  /**
   * The refund that goes out in its place: this one is `failed`, as part of the money had gone back at the channel, and the rest goes back under another number without being asked for. That one may be replaced too. While another refund of the payment is in process, this may be set only once that one settles.
   */
  replacedBy: string | null;
  /**
   * The channel's own id, as soon as it has told it, while it is in process too.
   */
  channelRefundId: string | null;
  createdAt: string;
  /**
   * When it succeeded or failed for good.
   */
  settledAt: string | null;
}
/**
 * Oldest first.
 */
export interface EventPage {
  data: Event[];
  /**
   * Where to go on. Always given, also where there is nothing new: keep it as your place.
   */
  nextCursor: string;
}
/**
 * One event on its way to the order service.
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
   * How often the order service was told so far.
   */
  attempts: number;
  firstAttemptAt: string | null;
  /**
   * While it is pending; null: at once.
   */
  nextAttemptAt: string | null;
  /**
   * When the order service agreed or refused for good, or the event was superseded.
   */
  settledAt: string | null;
  /**
   * The last 20 calls, newest first.
   */
  log: {
    at: string;
    outcome: DeliveryOutcome;
    /**
     * Null when there was no answer.
     */
    statusCode: number | null;
    detail: string;
    /**
     * The start of the body of an answer that fails, at most 512 characters, without control characters and secrets. Null when it has no body, and of an answer that agrees.
     */
    answer: string | null;
    durationMs: number;
  }[];
  /**
   * The workflow that tells it, in the Temporal Web UI; operators only.
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
   * `pending`: those that wait for their next attempt are told now. `delivered`, `conflict`, `gone`: those that are settled are told once more; the calls are logged, and nothing else changes.
   */
  status: 'pending' | 'delivered' | 'conflict' | 'gone';
  /**
   * Only events of this time and later. Default: all that are kept.
   */
  since?: string;
}
export interface Redelivery {
  /**
   * How many are told again: those that were asked for before and have not been told are counted too.
   */
  count: number;
  /**
   * There are more than one request takes: ask for them with this `since`. Null: these are all.
   */
  nextSince: string | null;
}
export interface Callback {
  id: string;
  channel: string;
  channelAccountId: string;
  /**
   * The channel's own id, the same on its every retry.
   */
  notificationId: string;
  kind: CallbackKind;
  /**
   * The payment it names, of which this account knows nothing; empty when it has ids of the channel alone.
   */
  outTradeNo: string;
  /**
   * The channel's own id of the trade it names.
   */
  reference: string | null;
  /**
   * The channel's own id of what the payer paid, which it names.
   */
  channelPaymentId: string | null;
  /**
   * What it says in a word.
   */
  state: string;
  receivedAt: string;
  ageSeconds: number;
  /**
   * Still tried again by the sweep; false after 72 h: then only a person can tell what it is.
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
   * What is wrong with this request.
   */
  detail: string;
  code: ProblemCode;
  /**
   * The path that was asked for; absent when the request could not be read so far.
   */
  instance?: string;
  /**
   * Also in the header x-request-id and in every log line.
   */
  requestId: string;
  /**
   * For invalid_request: what is wrong where. For unknown_channel: which channels there are. For order_exists, payer_differs and idempotency_key_reused: which fields differ.
   */
  errors?: {
    path: string;
    message: string;
  }[];
}
export interface ListOrdersQuery {
  status?: KnownOrderStatus;
  /**
   * Rows at most.
   */
  limit?: number;
  /**
   * The `nextCursor` of the page before. Opaque.
   */
  cursor?: string;
}
export interface ListPaymentsQuery {
  status?: KnownPaymentStatus;
  /**
   * The merchant's own id of the order. 1 to 64 characters: letters, marks, digits, punctuation and symbols of every script, and single spaces within; not a mark first, in Unicode's form NFC, and neither `.` nor `..`. In an address it is percent-encoded.
   */
  orderId?: string;
  channel?: string;
  /**
   * `true`: only payments a person should look at. `false` is the same as none.
   */
  attention?: boolean;
  /**
   * Rows at most.
   */
  limit?: number;
  /**
   * The `nextCursor` of the page before. Opaque.
   */
  cursor?: string;
}
export interface GetTimelineQuery {
  /**
   * Rows at most.
   */
  limit?: number;
  /**
   * The `nextCursor` of the page before. Opaque.
   */
  cursor?: string;
}
export interface ListRefundsQuery {
  /**
   * Rows at most.
   */
  limit?: number;
  /**
   * The `nextCursor` of the page before. Opaque.
   */
  cursor?: string;
}
export interface ListEventsQuery {
  /**
   * The `nextCursor` of the answer before. Opaque. Absent: from the oldest event kept.
   */
  after?: string;
  /**
   * Rows at most.
   */
  limit?: number;
  /**
   * Seconds to hold the answer back until there is news.
   */
  wait?: number;
}
export interface ListPaymentDeliveriesQuery {
  /**
   * Rows at most.
   */
  limit?: number;
  /**
   * The `nextCursor` of the page before. Opaque.
   */
  cursor?: string;
}
export interface ListDeliveriesQuery {
  /**
   * Rows at most.
   */
  limit?: number;
  /**
   * The `nextCursor` of the page before. Opaque.
   */
  cursor?: string;
  status?: KnownDeliveryStatus;
}
export interface ListCallbacksQuery {
  /**
   * Rows at most.
   */
  limit?: number;
  /**
   * The `nextCursor` of the page before. Opaque.
   */
  cursor?: string;
}
export interface NewResolution {
  /**
   * accept: the money that is left pays the order all the same; the channel is asked first how much that is. refund: it goes back. retry: what failed is tried again, a refund that the channel refused too. dismiss: seen; refused while money is here that must go back, or that waits for a decision. Where the channel says that money that waits for one has gone back, and not how much: nothing of it is left, which is recorded.
   */
  action: 'accept' | 'refund' | 'retry' | 'dismiss';
  /**
   * Why. Kept on the timeline. It has something to be seen, and no bidirectional overrides, embeddings or isolates (U+202A to U+202E, U+2066 to U+2069); the marks LRM and RLM are taken.
   */
  note: string;
}
