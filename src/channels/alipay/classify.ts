import { z } from 'zod';
import { ChannelError, type ChannelErrorKind } from '../../domain/channel.ts';

/**
 * The kind of request that Alipay answered. The same refusal code can be definite for one kind of request and not
 * definite for another kind.
 */
export type Operation = 'create' | 'refund' | 'other';

/** The fields that every answer has: https://opendocs.alipay.com/common/02km9f. */
export const resultSchema = z.object({
  code: z.string(),
  msg: z.string().optional(),
  sub_code: z.string().optional(),
  sub_msg: z.string().optional(),
});
export type Result = z.infer<typeof resultSchema>;

/** Alipay answers with this code if it has processed the request successfully. */
export const DONE = '10000';
/**
 * Alipay answers with this code if it understands the request but refuses its content. Without this code, no `sub_code`
 * is definite.
 */
const REFUSED = '40004';
const TOO_MANY = '40005';

/**
 * If Alipay refuses a request with one of these codes, Alipay has created no trade or refund. Sources: the tables of
 * https://docs.open.alipay.com/api_1/alipay.trade.precreate (precreate) and
 * https://docs.open.alipay.com/api_1/alipay.trade.refund (refund).
 */
const DEFINITE: Readonly<Record<Operation, ReadonlySet<string>>> = {
  create: new Set(['ACQ.INVALID_PARAMETER', 'ACQ.EXIST_FORBIDDEN_WORD', 'ACQ.TOTAL_FEE_EXCEED']),
  refund: new Set([
    'ACQ.REFUND_AMT_NOT_EQUAL_TOTAL',
    'ACQ.REASON_TRADE_REFUND_FEE_ERR',
    'ACQ.REFUND_FEE_ERROR',
    'ACQ.ONLINE_TRADE_VOUCHER_NOT_ALLOW_REFUND',
  ]),
  other: new Set(),
};

/**
 * These refusals of a refund can be temporary. The causes are a low balance, a frozen trade, or the merchant's
 * contract.
 */
const PASSING_REFUSALS: ReadonlySet<string> = new Set([
  'ACQ.SELLER_BALANCE_NOT_ENOUGH',
  'ACQ.REASON_TRADE_BEEN_FREEZEN',
  'ACQ.REFUND_CHARGE_ERROR',
  'ACQ.TRADE_NOT_ALLOW_REFUND',
]);

/**
 * With these codes, the cause of the refusal is nodrop's keys, permissions or clock. Codes 20001 and 40006 have no
 * other meaning, so nodrop does not check their `sub_code`.
 */
const ABOUT_US_CODES: ReadonlySet<string> = new Set(['20001', '40006']);
const ABOUT_US: ReadonlySet<string> = new Set([
  'isv.missing-signature',
  'isv.missing-signature-type',
  'isv.missing-signature-key',
  'isv.missing-app-id',
  'isv.missing-timestamp',
  'isv.invalid-app-id',
  'isv.invalid-signature',
  'isv.invalid-signature-type',
  'isv.invalid-timestamp',
  'isv.not-support-app-auth',
  'isv.missing-app-cert-sn',
  'isv.invalid-app-cert-sn',
  'isv.invalid-alipay-root-cert-sn',
  'isv.app-cert-sn-not-match',
  'ACQ.ACCESS_FORBIDDEN',
  'ACQ.PARTNER_ERROR',
  'ACQ.SELLER_BEEN_BLOCKED',
]);

const CALL_LIMITS: ReadonlySet<string> = new Set(['isv.app-call-limited', 'isv.method-call-limited']);

const HINTS: ReadonlyMap<string | undefined, string> = new Map([
  ['isv.invalid-app-id', 'check app_id, and that it belongs to this gateway: the sandbox has its own app_id'],
  [
    'isv.invalid-signature',
    'check private_key: the platform has the public key of another private key for this app_id',
  ],
  ['isv.invalid-timestamp', 'the clock of this machine is off: set it'],
  ['isv.insufficient-isv-permissions', 'the application is not online, or has no contract for this product'],
]);

const MESSAGE_AT_MOST = 200;
/**
 * Alipay's message for a refusal with this code quotes the complete signed text, which contains the subject and
 * nodrop's address.
 */
const QUOTES_THE_REQUEST = 'isv.invalid-signature';

/**
 * Returns the refusal of Alipay that `classify` has stored in the error. Undefined if `classify` did not make the
 * error.
 */
export const refusalIn = (error: unknown): Result | undefined =>
  error instanceof ChannelError ? resultSchema.safeParse(error.cause).data : undefined;

/**
 * Classifies an answer of Alipay whose code is not 10000. Only a listed `sub_code` together with code 40004 is
 * definite.
 */
export function classify(result: Result, operation: Operation): ChannelError {
  const { code, sub_code } = result;
  return new ChannelError(kindOf(result, operation), sentence(result), { cause: { code, sub_code } });
}

/**
 * Classifies an answer whose HTTP status is not 200. Such an answer does not come from Alipay's gateway, which always
 * answers with 200.
 */
export function classifyStatus(status: number, retryAfter: string | null): ChannelError {
  const seconds = /^\d{1,5}$/.test(retryAfter ?? '') ? Number(retryAfter) : undefined;
  const kind = status === 429 ? 'rate_limited' : status >= 500 ? 'unreachable' : 'garbage';
  return new ChannelError(
    kind,
    `alipay answered with status ${status}`,
    seconds === undefined ? {} : { retryAfterMs: seconds * 1000 },
  );
}

/** True for a refusal whose only possible cause is a wrong account, permission or clock. */
export const isAboutUs = ({ code, sub_code = '' }: Result): boolean =>
  code !== DONE && (ABOUT_US_CODES.has(code) || ABOUT_US.has(sub_code));

function kindOf(result: Result, operation: Operation): ChannelErrorKind {
  const { code, sub_code = '' } = result;
  if (code === TOO_MANY || CALL_LIMITS.has(sub_code)) return 'rate_limited';
  if (isAboutUs(result)) return 'misconfigured';
  if (code !== REFUSED) return 'unreachable';
  if (DEFINITE[operation].has(sub_code)) return 'rejected';
  return operation === 'refund' && PASSING_REFUSALS.has(sub_code) ? 'not_now' : 'unreachable';
}

function sentence({ code, msg, sub_code, sub_msg }: Result): string {
  const said = `alipay answered ${[code, sub_code].filter((word) => word !== undefined).join(', ')}`;
  const quoted = sub_code === QUOTES_THE_REQUEST ? msg : (sub_msg ?? msg);
  return [said, quoted?.slice(0, MESSAGE_AT_MOST), HINTS.get(sub_code)]
    .filter((part) => part !== undefined)
    .join(': ');
}
