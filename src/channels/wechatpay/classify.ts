import { z } from 'zod';
import { ChannelError, type ChannelErrorKind } from '../../domain/channel.ts';

/**
 * The kind of request that WeChat Pay answered. The same refusal code can be definite for one kind of request and not
 * definite for another kind.
 */
export type Operation = 'create' | 'refund' | 'other';

/** An answer of WeChat Pay, not parsed yet. */
export interface Reply {
  readonly status: number;
  readonly headers: Pick<Headers, 'get'>;
  readonly text: string;
}

/** In a refusal of WeChat Pay, `detail` names the field that is wrong. */
const refusalSchema = z.object({
  code: z.string(),
  message: z.string().optional(),
  detail: z
    .object({ field: z.string().optional().catch(undefined) })
    .optional()
    .catch(undefined),
});

/** The content of a refusal, without the text that may quote the request. */
export interface Refusal {
  readonly status: number;
  readonly code: string;
  readonly field?: string | undefined;
}

/**
 * A definite refusal means that WeChat Pay validated the request and created nothing. Codes about the number of the
 * order or refund (OUT_TRADE_NO_USED, ORDERPAID, ORDER_CLOSED) are not definite. INVALID_REQUEST is not definite
 * either, because it has many causes, for example a used number or a refund that is requested too soon. Sources of the
 * codes:
 * - closes and orders, which have the same table: https://pay.weixin.qq.com/doc/v3/merchant/4012556398
 * - orders: https://pay.weixin.qq.com/doc/v3/merchant/4012525095
 * - refunds: the tables in WeChat Pay's own library (https://github.com/wechatpay-apiv3/wechatpay-go,
 *   services/refunddomestic/api_refunds.go)
 */
const DEFINITE: Readonly<Record<Operation, Readonly<Record<string, number>>>> = {
  create: { PARAM_ERROR: 400 },
  refund: { PARAM_ERROR: 400, USER_ACCOUNT_ABNORMAL: 403 },
  other: {},
};

/** These refusals are temporary. They end after some time, or when the merchant acts. */
const PASSING: Readonly<Record<Operation, ReadonlySet<string>>> = {
  create: new Set(['RULE_LIMIT']),
  refund: new Set(['NOT_ENOUGH', 'RULE_LIMIT', 'INVALID_REQUEST']),
  other: new Set(),
};

/**
 * With these codes, the cause of the refusal is the account's numbers, keys or permissions, whatever the HTTP status
 * is.
 */
const ABOUT_US: ReadonlySet<string> = new Set([
  'APPID_MCHID_NOT_MATCH',
  'MCH_NOT_EXISTS',
  'NOAUTH',
  'NO_AUTH',
  'SIGN_ERROR',
]);

/** The fields of a request to WeChat Pay whose values come from the settings. */
const SETTINGS_FIELD = /(^|\/)((sp_|sub_)?(appid|mchid)|notify_url)$/;

const TOO_OFTEN: ReadonlySet<string> = new Set(['FREQUENCY_LIMITED', 'RATELIMIT_EXCEEDED']);

/** If WeChat Pay refuses a query or a close with one of these codes, the order does not exist. */
export const NO_SUCH_ORDER: ReadonlySet<string> = new Set(['ORDER_NOT_EXIST', 'ORDERNOTEXIST']);
/** If WeChat Pay refuses the query of a refund with one of these codes, the refund does not exist. */
export const NO_SUCH_REFUND: ReadonlySet<string> = new Set(['RESOURCE_NOT_EXISTS']);
/**
 * If WeChat Pay refuses to create an order with one of these codes, the order exists, but WeChat Pay issues no new next
 * action for it.
 */
export const ORDER_IS_OVER: ReadonlySet<string> = new Set(['ORDERPAID', 'ORDER_CLOSED', 'ORDERCLOSED']);
/**
 * If WeChat Pay refuses a close with one of these codes, the order cannot be closed or is already closed. Only a query
 * shows the state of the order.
 */
export const NOT_TO_CLOSE: ReadonlySet<string> = new Set([
  ...ORDER_IS_OVER,
  ...NO_SUCH_ORDER,
  'USERPAYING',
  'USER_PAYING',
]);

const MESSAGE_AT_MOST = 300;

/**
 * Returns the refusal of WeChat Pay that `classify` has stored in the error. Undefined if `classify` did not make the
 * error.
 */
export function refusalIn(error: unknown): Refusal | undefined {
  return error instanceof ChannelError && error.cause instanceof RefusalCause
    ? error.cause.refusal
    : undefined;
}

/** True if the error is a refusal of WeChat Pay with one of these codes. */
export const isRefused = (error: unknown, codes: ReadonlySet<string>): boolean =>
  codes.has(refusalIn(error)?.code ?? '');

class RefusalCause {
  readonly refusal: Refusal;
  constructor(refusal: Refusal) {
    this.refusal = refusal;
  }
}

/**
 * Classifies an answer that is not a success. Only a listed code with its HTTP status is definite. After any other
 * answer, the state of the trade or the refund is unknown.
 */
export function classify(reply: Reply, operation: Operation): ChannelError {
  const { status } = reply;
  const parsed = refusalSchema.safeParse(parseJson(reply.text));
  const isRefusal = parsed.success && status >= 400 && status < 500 && status !== 401 && status !== 429;
  const refusal = parsed.success
    ? { status, code: parsed.data.code, field: parsed.data.detail?.field }
    : undefined;
  const message = parsed.success ? parsed.data.message?.slice(0, MESSAGE_AT_MOST) : undefined;
  const retryAfterMs = retryAfter(reply);
  const said = `wechatpay answered ${status}${refusal === undefined ? '' : ` (${refusal.code.slice(0, 40)})`}`;
  return new ChannelError(
    kindOf(status, refusal, operation),
    `${said}${hintOf(status, refusal)}${message === undefined ? '' : `: ${message}`}`,
    {
      ...(retryAfterMs === undefined ? {} : { retryAfterMs }),
      ...(refusal === undefined || !isRefusal ? {} : { cause: new RefusalCause(refusal) }),
    },
  );
}

function kindOf(status: number, refusal: Refusal | undefined, operation: Operation): ChannelErrorKind {
  if (status === 429) return 'rate_limited';
  if (status === 401) return 'misconfigured';
  if (status >= 500) return 'unreachable';
  if (refusal === undefined || status < 400) return 'garbage';
  const { code, field } = refusal;
  if (ABOUT_US.has(code)) return 'misconfigured';
  if (TOO_OFTEN.has(code)) return 'rate_limited';
  if (code === 'PARAM_ERROR' && field !== undefined && SETTINGS_FIELD.test(field)) return 'misconfigured';
  const definite = DEFINITE[operation];
  if (Object.hasOwn(definite, code) && definite[code] === status) return 'rejected';
  return PASSING[operation].has(code) ? 'not_now' : 'unreachable';
}

function hintOf(status: number, refusal: Refusal | undefined): string {
  if (status === 401) return ': check mchid, serial_no, private_key and the clock of this machine';
  if (refusal?.code === 'APPID_MCHID_NOT_MATCH') return ': bind appid to mchid at WeChat Pay';
  return '';
}

function retryAfter({ headers }: Reply): number | undefined {
  const seconds = Number.parseFloat(headers.get('retry-after') ?? '');
  return Number.isFinite(seconds) && seconds >= 0 ? seconds * 1000 : undefined;
}

export function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
