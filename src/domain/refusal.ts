/** Every stable `code` a refused request can carry, with its HTTP status and title (RFC 9457). */
export const REFUSALS = {
  bad_request: { status: 400, title: 'The request cannot be read' },
  invalid_request: { status: 422, title: 'The request is not valid' },
  unauthorized: { status: 401, title: 'A valid key is needed' },
  forbidden: { status: 403, title: 'This key may not do that' },
  not_found: { status: 404, title: 'Nothing is here' },
  method_not_allowed: { status: 405, title: 'This route has no such method' },
  order_not_found: { status: 404, title: 'There is no such order' },
  payment_not_found: { status: 404, title: 'There is no such payment' },
  delivery_not_found: { status: 404, title: 'There is no such delivery' },
  delivery_superseded: { status: 409, title: 'What the event says does not hold any more' },
  refund_not_found: { status: 404, title: 'There is no such refund' },
  cursor_expired: { status: 410, title: 'The feed cannot go on from this cursor' },
  order_exists: { status: 409, title: 'An order with this id and other content exists' },
  order_already_paid: { status: 409, title: 'The order is already paid' },
  order_not_payable: { status: 409, title: 'The order takes no payments any more' },
  payment_already_paid: { status: 409, title: 'The payment is already paid' },
  not_resolvable: { status: 409, title: 'There is nothing to decide in this way' },
  attempt_unresolved: { status: 409, title: 'An earlier attempt is not resolved yet' },
  adopt_mismatch: { status: 409, title: 'The trade does not fit the order' },
  adopt_taken: { status: 409, title: 'Another payment already has this trade' },
  payer_differs: { status: 409, title: "The live attempt is another payer's" },
  not_refundable: { status: 409, title: 'The payment has nothing to give back' },
  idempotency_key_in_progress: { status: 409, title: 'The request with this key has not ended yet' },
  idempotency_key_reused: { status: 422, title: 'The idempotency key stands for another request' },
  payload_too_large: { status: 413, title: 'The body is too large' },
  request_timeout: { status: 408, title: 'The request did not arrive in time' },
  headers_too_large: { status: 431, title: 'The headers are too large' },
  unsupported_media_type: { status: 415, title: 'The body must be JSON, in an encoding that is known' },
  misdirected_request: { status: 421, title: 'The admin listener is for its own machine' },
  unknown_channel: { status: 422, title: 'There is no such channel' },
  unknown_account: { status: 422, title: 'There is no such account at the channel' },
  currency_not_supported: { status: 422, title: 'The channel does not take this currency' },
  amount_not_supported: { status: 422, title: 'The channel does not take this amount' },
  adopt_unknown: { status: 422, title: 'The channel knows no such trade' },
  channel_rejected: { status: 422, title: 'The channel refused the payment' },
  refund_exceeds_payment: { status: 422, title: 'More than is left of the payment' },
  idempotency_key_missing: { status: 400, title: 'An Idempotency-Key is needed' },
  callback_unverified: { status: 401, title: 'The callback is not signed by the channel' },
  callback_malformed: { status: 400, title: 'The callback makes no sense' },
  callback_not_stored: { status: 503, title: 'The callback could not be taken' },
  too_many_requests: { status: 429, title: 'Too much of this address led to nothing' },
  internal_error: { status: 500, title: 'Something went wrong on our side' },
  too_many_readers: { status: 503, title: 'Too many event streams are open' },
  too_busy: { status: 503, title: 'Too much is under way for this order or merchant' },
  database_unavailable: { status: 503, title: 'The database cannot be reached' },
  temporal_unavailable: { status: 503, title: 'Temporal cannot be reached' },
  channel_misconfigured: { status: 503, title: 'The channel does not take our credentials' },
  channel_unreachable: { status: 504, title: 'The channel did not answer' },
} as const;

export type RefusalCode = keyof typeof REFUSALS;

/** A request that is refused, for a reason its sender can act on. Shown as problem+json. */
export class Refusal extends Error {
  override readonly name = 'Refusal';
  readonly code: RefusalCode;
  /** Seconds after which asking again makes sense. */
  readonly retryAfterSeconds: number | undefined;
  /** Which fields of the request are wrong, or differ from what is there, and how. */
  readonly errors: readonly { path: string; message: string }[] | undefined;

  constructor(
    code: RefusalCode,
    detail: string,
    options: {
      cause?: unknown;
      retryAfterSeconds?: number;
      errors?: readonly { path: string; message: string }[];
    } = {},
  ) {
    super(detail, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.retryAfterSeconds = options.retryAfterSeconds;
    this.errors = options.errors;
  }
}
