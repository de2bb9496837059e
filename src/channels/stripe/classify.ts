import { z } from 'zod';
import { ChannelError, type ChannelErrorKind } from '../../domain/channel.ts';

/**
 * The kind of request that Stripe answered. The same refusal code can be definite for one kind of request and not
 * definite for another kind.
 */
export type Operation = 'create' | 'refund' | 'other';

/** An answer of Stripe, not parsed yet. */
export interface Reply {
  readonly status: number;
  readonly headers: Pick<Headers, 'get'>;
  readonly text: string;
}

/** https://docs.stripe.com/api/errors */
const refusalSchema = z.object({
  type: z.string(),
  code: z.string().optional(),
  param: z.string().optional(),
  message: z.string().optional(),
});
export type StripeRefusal = z.infer<typeof refusalSchema>;
const errorSchema = z.object({ error: refusalSchema });

/**
 * If Stripe refuses a request with one of these codes, Stripe has validated the request and created nothing:
 * https://docs.stripe.com/error-codes.
 */
const DEFINITE: Readonly<Record<Operation, ReadonlySet<string>>> = {
  create: new Set([
    'amount_too_large',
    'amount_too_small',
    'invalid_charge_amount',
    'parameter_invalid_empty',
    'parameter_invalid_integer',
    'parameter_invalid_string_blank',
    'parameter_invalid_string_empty',
    'url_invalid',
  ]),
  refund: new Set(['amount_too_large', 'charge_already_refunded', 'charge_not_refundable']),
  other: new Set(),
};

/**
 * These refusals of a refund are temporary. They end when the merchant's balance is sufficient, or when the dispute
 * ends.
 */
const PASSING_REFUSALS: ReadonlySet<string> = new Set([
  'balance_insufficient',
  'insufficient_funds',
  'charge_disputed',
  'refund_disputed_payment',
]);

/** With these codes, the cause of the refusal is nodrop's keys or account, whatever the HTTP status is. */
const ABOUT_US: ReadonlySet<string> = new Set([
  'account_closed',
  'account_invalid',
  'api_key_expired',
  'livemode_mismatch',
  'platform_account_required',
  'platform_api_key_expired',
  'secret_key_required',
  'testmode_charges_only',
  'tls_version_unsupported',
]);

/**
 * Stripe has no error code for the refusal of an unknown API version. So nodrop recognises this refusal by its message.
 */
const BAD_VERSION = /^Invalid Stripe API version/i;

/** Matches API keys, which Stripe's messages may quote. */
const KEYS = /\b(sk|rk|pk|whsec)_[^\s'"]+/g;
const MESSAGE_AT_MOST = 300;

/**
 * Returns the refusal of Stripe that `classify` has stored in the error. Undefined if `classify` did not make the
 * error.
 */
export function refusalIn(error: unknown): StripeRefusal | undefined {
  return error instanceof ChannelError ? refusalSchema.safeParse(error.cause).data : undefined;
}

/** The refusal in an answer of Stripe. Undefined if the refusal cannot be read. */
function refusalOf({ text }: Pick<Reply, 'text'>): StripeRefusal | undefined {
  try {
    return errorSchema.parse(JSON.parse(text)).error;
  } catch {
    return undefined;
  }
}

/**
 * Classifies an answer that is not a success. Only a listed code of a refused request (400) is definite. After any
 * other answer, the state of the trade or the refund is unknown. If two answers are equal, their errors have equal
 * messages. So nodrop can recognise a replayed answer by its message and by `isReplayed`.
 */
export function classify(reply: Reply, operation: Operation): ChannelError {
  const refusal = refusalOf(reply);
  const retryAfterMs = retryAfter(reply);
  return new ChannelError(kindOf(reply.status, refusal, operation), sentence(reply.status, refusal), {
    ...(retryAfterMs === undefined ? {} : { retryAfterMs }),
    isReplayed: reply.headers.get('idempotent-replayed') === 'true',
    // The error's cause does not contain Stripe's message, because the message may quote the request.
    cause: refusal === undefined ? undefined : { ...refusal, message: undefined },
  });
}

function kindOf(status: number, refusal: StripeRefusal | undefined, operation: Operation): ChannelErrorKind {
  if (status === 429) return 'rate_limited';
  if (status === 401 || status === 403) return 'misconfigured';
  if (status >= 500) return 'unreachable';
  if (refusal === undefined || status < 400) return 'garbage';
  const { type, code = '', param, message = '' } = refusal;
  if (ABOUT_US.has(code) || BAD_VERSION.test(message)) return 'misconfigured';
  if (status !== 400 || type !== 'invalid_request_error') return 'unreachable';
  if (DEFINITE[operation].has(code)) return 'rejected';
  if (operation !== 'refund') return 'unreachable';
  // If a refund exceeds the remaining amount of the charge, Stripe's refusal has a `param` and no code.
  if (code === '' && param === 'amount') return 'rejected';
  return PASSING_REFUSALS.has(code) ? 'not_now' : 'unreachable';
}

function sentence(status: number, refusal: StripeRefusal | undefined): string {
  const words = [refusal?.type, refusal?.code].filter((word) => word !== undefined).join(', ');
  const said = `stripe answered ${status}${words === '' ? '' : ` (${words})`}`;
  const message = refusal?.message?.replace(KEYS, '$1_...').slice(0, MESSAGE_AT_MOST);
  const hint =
    status === 401
      ? ': check the secret key'
      : status === 403
        ? ': check what the restricted key may do'
        : '';
  return message === undefined ? `${said}${hint}` : `${said}: ${message}`;
}

function retryAfter({ headers }: Reply): number | undefined {
  const seconds = Number.parseFloat(headers.get('retry-after') ?? '');
  return Number.isFinite(seconds) && seconds >= 0 ? seconds * 1000 : undefined;
}
