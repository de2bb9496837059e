import { z } from 'zod';
import { ChannelError, type ChannelErrorKind } from '../../domain/channel.ts';

/**
 * The kind of request that Mollie answered. The same refusal can be definite for one kind of request and not definite
 * for another kind.
 */
export type Operation = 'create' | 'refund' | 'other';

/** An answer of Mollie, not parsed yet. */
export interface Reply {
  readonly status: number;
  readonly headers: Pick<Headers, 'get'>;
  readonly text: string;
}

/**
 * A refusal of Mollie: https://docs.mollie.com/reference/handling-errors. Mollie has no error codes. `field` names the
 * field that Mollie refused.
 */
const refusalSchema = z.object({
  status: z.int(),
  title: z.string(),
  detail: z.string(),
  field: z.string().nullish(),
});
export type MollieRefusal = z.infer<typeof refusalSchema>;

/**
 * A 422 that names one of these fields is a definite refusal, because Mollie has validated the request and created
 * nothing.
 */
const DEFINITE: Readonly<Record<Operation, ReadonlySet<string>>> = {
  create: new Set(['amount', 'amount.currency', 'amount.value', 'description', 'method']),
  refund: new Set(['amount', 'amount.currency', 'amount.value']),
  other: new Set(),
};

/**
 * The URL fields of a request, which come from the deployment's settings. Mollie refuses them for example with "The
 * webhook URL is invalid because it is unreachable from Mollie's point of view".
 */
const OUR_ADDRESSES: Readonly<Record<string, string>> = {
  webhookUrl: ': Mollie cannot reach NODROP_PUBLIC_URL',
  redirectUrl: ': Mollie does not accept NODROP_PUBLIC_URL',
};

/**
 * Mollie's message if it refuses a second refund of the same amount within an hour:
 * https://docs.mollie.com/docs/refunds.
 */
const DUPLICATE = /duplicate refund/i;

/** Matches API keys, which Mollie's messages may quote. */
const KEYS = /\b(test|live|access)_[^\s'"]+/g;
const MESSAGE_AT_MOST = 300;

/**
 * Returns the refusal of Mollie that `classify` has stored in the error. Undefined if `classify` did not make the
 * error.
 */
export function refusalIn(error: unknown): MollieRefusal | undefined {
  return error instanceof ChannelError ? refusalSchema.safeParse(error.cause).data : undefined;
}

/**
 * True if Mollie itself reports that it does not know the id. False for a 404 without Mollie's own error body, because
 * a proxy may have sent it.
 */
export function isUnknown(error: unknown, id: string): boolean {
  const refusal = refusalIn(error);
  return refusal?.status === 404 && refusal.detail.includes(id);
}

/**
 * The refusal in Mollie's answer. Undefined if the answer cannot be read, or if the status in its body differs from the
 * HTTP status.
 */
function refusalOf({ status, text }: Pick<Reply, 'status' | 'text'>): MollieRefusal | undefined {
  try {
    const refusal = refusalSchema.parse(JSON.parse(text));
    if (refusal.status !== status) return undefined;
    return { ...refusal, detail: refusal.detail.replace(KEYS, '$1_...').slice(0, MESSAGE_AT_MOST) };
  } catch {
    return undefined;
  }
}

/**
 * Classifies an answer that is not a success. Only a 422 for a listed field is definite. After any other answer, the
 * state of the trade or the refund is unknown.
 */
export function classify(reply: Reply, operation: Operation): ChannelError {
  const refusal = refusalOf(reply);
  const retryAfterMs = retryAfter(reply);
  return new ChannelError(kindOf(reply.status, refusal, operation), sentence(reply.status, refusal), {
    ...(retryAfterMs === undefined ? {} : { retryAfterMs }),
    isReplayed: reply.headers.get('idempotent-replayed') === 'true',
    ...(refusal === undefined ? {} : { cause: refusal }),
  });
}

function kindOf(status: number, refusal: MollieRefusal | undefined, operation: Operation): ChannelErrorKind {
  if (status === 429) return 'rate_limited';
  if (status === 401 || status === 403) return 'misconfigured';
  if (status >= 500) return 'unreachable';
  if (refusal === undefined || status < 400) return 'garbage';
  const { detail, field } = refusal;
  if (operation === 'refund' && status === 409 && DUPLICATE.test(detail)) return 'not_now';
  if (status !== 422 || typeof field !== 'string') return 'unreachable';
  if (operation === 'create' && Object.hasOwn(OUR_ADDRESSES, field)) return 'misconfigured';
  return DEFINITE[operation].has(field) ? 'rejected' : 'unreachable';
}

function sentence(status: number, refusal: MollieRefusal | undefined): string {
  const field = typeof refusal?.field === 'string' ? ` (${refusal.field})` : '';
  const hint =
    status === 401
      ? ': check the API key'
      : status === 403
        ? ': check what the API key may do'
        : hintOf(refusal);
  return `mollie answered ${status}${field}${hint}${refusal === undefined ? '' : `: ${refusal.detail}`}`;
}

const hintOf = (refusal: MollieRefusal | undefined): string => {
  const field = refusal?.field ?? '';
  return (Object.hasOwn(OUR_ADDRESSES, field) && OUR_ADDRESSES[field]) || '';
};

function retryAfter({ headers }: Reply): number | undefined {
  const seconds = Number.parseFloat(headers.get('retry-after') ?? '');
  return Number.isFinite(seconds) && seconds >= 0 ? seconds * 1000 : undefined;
}
