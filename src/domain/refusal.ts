/**
 * Every `code` that the answer to a refused request can have, with its HTTP status and title (RFC 9457). Codes are
 * stable.
 */
export const REFUSALS = {
  bad_request: { status: 400, title: 'The request cannot be read' },
  invalid_request: { status: 422, title: 'The request is not valid' },
  unauthorized: { status: 401, title: 'A valid key is needed' },
  forbidden: { status: 403, title: 'This key may not do that' },
  not_found: { status: 404, title: 'Nothing exists at this address' },
  method_not_allowed: { status: 405, title: 'This route does not support the method' },
  order_not_found: { status: 404, title: 'There is no such order' },
  payment_not_found: { status: 404, title: 'There is no such payment' },
  delivery_not_found: { status: 404, title: 'There is no such delivery' },
  delivery_superseded: { status: 409, title: 'The event is superseded' },
  refund_not_found: { status: 404, title: 'There is no such refund' },
  cursor_expired: { status: 410, title: 'The feed cannot continue from this cursor' },
  order_exists: { status: 409, title: 'An order with this id but different content exists' },
  order_already_paid: { status: 409, title: 'The order is already paid' },
  order_not_payable: { status: 409, title: 'The order no longer accepts payments' },
  payment_already_paid: { status: 409, title: 'The payment is already paid' },
  not_resolvable: { status: 409, title: 'The payment does not allow this decision' },
  attempt_unresolved: { status: 409, title: 'An earlier attempt is not resolved yet' },
  adopt_mismatch: { status: 409, title: 'The trade does not match the order' },
  adopt_taken: { status: 409, title: 'Another payment already has this trade' },
  payer_differs: { status: 409, title: 'The live attempt belongs to another payer' },
  not_refundable: { status: 409, title: 'The payment has no money to refund' },
  idempotency_key_in_progress: { status: 409, title: 'A request with this key is still in progress' },
  idempotency_key_reused: { status: 422, title: 'The idempotency key belongs to another request' },
  payload_too_large: { status: 413, title: 'The body is too large' },
  request_timeout: { status: 408, title: 'The request did not arrive in time' },
  headers_too_large: { status: 431, title: 'The headers are too large' },
  unsupported_media_type: { status: 415, title: 'The body must be JSON in a supported encoding' },
  misdirected_request: { status: 421, title: 'The admin listener serves only its own machine' },
  unknown_channel: { status: 422, title: 'There is no such channel' },
  unknown_account: { status: 422, title: 'There is no such account at the channel' },
  currency_not_supported: { status: 422, title: 'The channel does not support this currency' },
  amount_not_supported: { status: 422, title: 'The channel does not support this amount' },
  adopt_unknown: { status: 422, title: 'The channel does not know this trade' },
  channel_rejected: { status: 422, title: 'The channel refused the payment' },
  refund_exceeds_payment: { status: 422, title: 'The refund exceeds what is left of the payment' },
  idempotency_key_missing: { status: 400, title: 'An Idempotency-Key is required' },
  callback_unverified: { status: 401, title: 'The callback is not signed by the channel' },
  callback_malformed: { status: 400, title: 'The callback is signed but malformed' },
  callback_not_stored: { status: 503, title: 'The callback could not be stored' },
  too_many_requests: { status: 429, title: 'Too many failed requests from this address' },
  internal_error: { status: 500, title: 'Internal error' },
  too_many_readers: { status: 503, title: 'Too many event streams are open' },
  too_busy: { status: 503, title: 'Too many requests in progress for this order or merchant' },
  database_unavailable: { status: 503, title: 'The database cannot be reached' },
  temporal_unavailable: { status: 503, title: 'Temporal cannot be reached' },
  channel_misconfigured: { status: 503, title: 'The channel rejects the credentials of the account' },
  channel_unreachable: { status: 504, title: 'The channel did not answer' },
} as const;

export type RefusalCode = keyof typeof REFUSALS;

/**
 * The error with which nodrop refuses a request, for a reason that the sender can act on. The API returns it as
 * problem+json.
 */
export class Refusal extends Error {
  override readonly name = 'Refusal';
  readonly code: RefusalCode;
  /** The number of seconds after which the sender should retry. It is sent as `Retry-After`. */
  readonly retryAfterSeconds: number | undefined;
  /** The fields of the request that are wrong or that differ from the stored values, with an explanation for each. */
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
