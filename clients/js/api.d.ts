// Made from the API's schemas by `npm run generate`: edit src/api/schemas.

/**
 * Accept new ones.
 */
export type PaymentStatus = KnownPaymentStatus | string;
export type KnownPaymentStatus = 'created' | 'paying' | 'succeeded' | 'failed' | 'cancelled' | 'closed';
export type KnownOrderUpdate = 'pending' | 'applied' | 'conflict' | 'review';
export type KnownRefundReason = 'requested' | 'duplicate_payment' | 'late_payment' | 'external';
export type KnownRefundStatus = 'created' | 'processing' | 'succeeded' | 'failed';
/**
 * Accept new ones.
 */
export type NextActionType = KnownNextActionType | string;
export type KnownNextActionType = 'redirect' | 'qr' | 'sdk';
export type KnownSettledBy = 'callback' | 'query' | 'hint' | 'close' | 'statement' | 'operator';
export type KnownAttention =
  | 'channel_unreachable'
  | 'create_unknown'
  | 'channel_undecided'
  | 'order_update_failing'
  | 'delivery_failing'
  | 'order_conflict'
  | 'amount_mismatch'
  | 'late_payment_review'
  | 'refund_failing'
  | 'statement_mismatch'
  | 'disputed'
  | 'channel_reversed'
  | 'workflow_stuck';
/**
 * The order as its payer may know it, by this and every other attempt; accept new ones. `open`: it can be paid. `undecided`: money or a decision is on its way by this or another attempt: do not pay again; nobody knows yet that nothing was charged. `paid`: it is paid, by this or another attempt (also when it was refunded since). `over`: it can no longer be paid, and no money is known or expected. Unless it is `open` there is no `nextAction` and nothing in `switchTo`.
 */
export type PayerOrderState = KnownPayerOrderState | string;
export type KnownPayerOrderState = 'open' | 'undecided' | 'paid' | 'over';
/**
 * Stable. Accept new ones.
 */
export type ProblemCode = KnownProblemCode | string;
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
  | 'currency_not_supported'
  | 'channel_rejected'
  | 'refund_exceeds_payment'
  | 'idempotency_key_missing'
  | 'callback_unverified'
  | 'callback_malformed'
  | 'too_many_requests'
  | 'internal_error'
  | 'too_many_readers'
  | 'too_busy'
  | 'database_unavailable'
  | 'temporal_unavailable'
  | 'channel_unreachable';

export interface Schemas {
  NewPayment?: NewPayment;
  Payment?: Payment;
  PaymentForPayer?: PaymentForPayer;
  SwitchedPayment?: SwitchedPayment;
  Problem?: Problem;
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
  channel: string;
  /**
   * One of the channel's methods; its first by default.
   */
  method?: string;
  /**
   * Who pays, for channels that want to know. Another `id` than that of the live payment is refused (`payer_differs`); what the live payment does not know yet is added to it.
   */
  payer?: {
    id?: string;
    ip?: string;
  };
  /**
   * Where the payer goes after the wallet; `paymentId` is added, never a status. An http or https URL, or one of a scheme of the merchant's own app (`myapp://thanks`), once it is allowed: `merchants set --return-schemes`.
   */
  returnUrl?: string;
  /**
   * How long the payer has; never longer than the order. Default: the deployment's.
   */
  expiresInSeconds?: number;
  /**
   * At most 20 pairs of texts, names up to 40 and values up to 500 characters. Default: none for a new payment, and for the live one those it has.
   */
  metadata?: {
    [k: string]: string;
  };
}
export interface NewOrder {
  /**
   * The merchant's own id of the order. 1 to 64 characters: letters, marks, digits, punctuation and symbols of every script, and single spaces within; not a mark first, in Unicode's form NFC, and neither `.` nor `..`. In an address it is percent-encoded.
   */
  id: string;
  /**
   * Minor units: 1050 is 10.50 CNY or 1050 JPY.
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
   * When the order takes no more payments. Default: never.
   */
  expiresInSeconds?: number;
  /**
   * At most 20 pairs of texts, names up to 40 and values up to 500 characters. Default: none.
   */
  metadata?: {
    [k: string]: string;
  };
}
export interface Payment {
  id: string;
  channel: string;
  method: string;
  /**
   * Minor units: 1050 is 10.50 CNY or 1050 JPY.
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
  orderUpdate: KnownOrderUpdate | string | null;
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
  refundReason: KnownRefundReason | string | null;
  /**
   * How far that is: `created` and `processing`, on its way; `succeeded`, back; `failed`, the channel refused it and a person sees to it. Null without `refundReason`.
   */
  refundStatus: KnownRefundStatus | string | null;
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
  settledBy: KnownSettledBy | string | null;
  channelPaymentId: string | null;
  receivedCurrency: string | null;
  /**
   * Why a person should look at it; accept new ones.
   *
   * - `channel_unreachable`: No readable answer for 5 min, or after 6 tries to close; or 6 closes refused as paid, and the query says unpaid.
   * - `create_unknown`: The channel did not say after 8 tries (about 90 s) whether it created the trade.
   * - `channel_undecided`: A day past its expiry the channel still says that it processes the payment. The order takes no new attempt meanwhile.
   * - `order_update_failing`: The money is in, and for 10 min the order did not take it: its order service does not agree or could not be told at all, or 16 tries in our own database failed. At once when the order, read back, is not paid.
   * - `delivery_failing`: For 10 min the order service has not answered an event of the payment on which the payment does not wait: of a refund, a conflict, an end. Only while nothing else is shown, and everything else takes its place.
   * - `order_conflict`: The order was already paid, cancelled or closed, the merchant refunds late money, or its order service says that the order is paid otherwise or gone. An owed refund is recorded.
   * - `amount_mismatch`: The channel itself says another amount or currency than asked, or the money is of an attempt made before the order's amount was changed: the order is not paid. Or the channel gave back another amount than a refund asked for: the channel's is recorded, `askedAmount` is ours.
   * - `late_payment_review`: The money came after the end, and the merchant's `late_payment` is `review`.
   * - `refund_failing`: The channel refused a refund that is owed, and not because a part had gone back there, or any of a conflict whose order was recovered; or it was silent on any refund (did not know it, or refused it for now: its balance is too low) for 1 h, or has had it in process for 7 days: banks take some.
   * - `statement_mismatch`: Reserved for a later release: nothing raises it.
   * - `disputed`: Reserved for a later release: nothing raises it.
   * - `channel_reversed`: Money of a paid order went back at the channel, and nobody asked for it here.
   * - `workflow_stuck`: The task of the payment's workflow, of one of its refunds' or of its deliveries' failed more than 5 times in a row. Not while an attention is shown that is more than `wait`.
   */
  attention: KnownAttention | string | null;
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
/**
 * A payment as its client token shows it.
 */
export interface PaymentForPayer {
  id: string;
  channel: string;
  method: string;
  /**
   * Minor units: 1050 is 10.50 CNY or 1050 JPY.
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
  orderUpdate: KnownOrderUpdate | string | null;
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
  refundReason: KnownRefundReason | string | null;
  /**
   * How far that is: `created` and `processing`, on its way; `succeeded`, back; `failed`, the channel refused it and a person sees to it. Null without `refundReason`.
   */
  refundStatus: KnownRefundStatus | string | null;
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
   * Minor units: 1050 is 10.50 CNY or 1050 JPY.
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
  orderUpdate: KnownOrderUpdate | string | null;
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
  refundReason: KnownRefundReason | string | null;
  /**
   * How far that is: `created` and `processing`, on its way; `succeeded`, back; `failed`, the channel refused it and a person sees to it. Null without `refundReason`.
   */
  refundStatus: KnownRefundStatus | string | null;
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
   * For invalid_request: what is wrong where. For order_exists, payer_differs and idempotency_key_reused: which fields differ.
   */
  errors?: {
    path: string;
    message: string;
  }[];
}
