import { z } from 'zod';
import { ChannelError, type ChannelErrorKind } from '../../domain/channel.ts';

/** What was asked: a refusal is definite only for what it refuses. */
export type Operation = 'create' | 'refund' | 'other';

/** An answer of Mollie's as it came in. */
export interface Reply {
  readonly status: number;
  readonly headers: Pick<Headers, 'get'>;
  readonly text: string;
}

/** https://docs.mollie.com/reference/handling-errors. There are no codes: what is refused is told by its field. */
const refusalSchema = z.object({
  status: z.int(),
  title: z.string(),
  detail: z.string(),
  field: z.string().nullish(),
});
export type MollieRefusal = z.infer<typeof refusalSchema>;

/** Each says, with 422, that the request was validated and nothing was made of it. */
const DEFINITE: Readonly<Record<Operation, ReadonlySet<string>>> = {
  create: new Set(['amount', 'amount.currency', 'amount.value', 'description', 'method']),
  refund: new Set(['amount', 'amount.currency', 'amount.value']),
  other: new Set(),
};

/** "The webhook URL is invalid because it is unreachable from Mollie's point of view": the addresses are the deployment's. */
const OUR_ADDRESSES: Readonly<Record<string, string>> = {
  webhookUrl: ': Mollie does not reach NODROP_PUBLIC_URL',
  redirectUrl: ': Mollie does not take NODROP_PUBLIC_URL',
};

/** Of another refund of the same amount within an hour: https://docs.mollie.com/docs/refunds. */
const DUPLICATE = /duplicate refund/i;

/** Keys that Mollie may quote. */
const KEYS = /\b(test|live|access)_[^\s'"]+/g;
const MESSAGE_AT_MOST = 300;

/** The refusal that an error of `classify` was made of, or undefined when it is of another kind. */
export function refusalIn(error: unknown): MollieRefusal | undefined {
  return error instanceof ChannelError ? refusalSchema.safeParse(error.cause).data : undefined;
}

/** True when Mollie itself says that it has nothing of this id. A 404 alone can come from a proxy on the way. */
export function isUnknown(error: unknown, id: string): boolean {
  const refusal = refusalIn(error);
  return refusal?.status === 404 && refusal.detail.includes(id);
}

/** The refusal in an answer; undefined when there is none to be read. It has the same status as the answer. */
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
 * What an answer other than a success means. Only a listed field of a refused request (422) is definite: every other answer
 * says nothing of the trade or the refund.
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
