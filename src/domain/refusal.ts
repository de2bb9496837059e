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
  order_exists: { status: 409, title: 'An order with this id and other content exists' },
  order_already_paid: { status: 409, title: 'The order is already paid' },
  order_not_payable: { status: 409, title: 'The order takes no payments any more' },
  attempt_unresolved: { status: 409, title: 'An earlier attempt is not resolved yet' },
  idempotency_key_in_progress: { status: 409, title: 'The request with this key has not ended yet' },
  idempotency_key_reused: { status: 422, title: 'The idempotency key stands for another request' },
  payload_too_large: { status: 413, title: 'The body is too large' },
  unsupported_media_type: { status: 415, title: 'The body must be JSON' },
  unknown_channel: { status: 422, title: 'There is no such channel' },
  currency_not_supported: { status: 422, title: 'The channel does not take this currency' },
  channel_rejected: { status: 422, title: 'The channel refused the payment' },
  callback_unverified: { status: 401, title: 'The callback is not signed by the channel' },
  callback_malformed: { status: 400, title: 'The callback makes no sense' },
  too_many_requests: { status: 429, title: 'Too many requests' },
  internal_error: { status: 500, title: 'Something went wrong on our side' },
  database_unavailable: { status: 503, title: 'The database cannot be reached' },
  temporal_unavailable: { status: 503, title: 'Temporal cannot be reached' },
  channel_unreachable: { status: 504, title: 'The channel did not answer' },
} as const;

export type RefusalCode = keyof typeof REFUSALS;

/** A request that is refused, for a reason its sender can act on. Shown as problem+json. */
export class Refusal extends Error {
  override readonly name = 'Refusal';
  readonly code: RefusalCode;
  /** Seconds after which asking again makes sense. */
  readonly retryAfterSeconds: number | undefined;
  /** What is wrong where, for `invalid_request`. */
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
