import { isUtf8 } from 'node:buffer';
import { z } from 'zod';
import {
  type Acknowledgement,
  CallbackError,
  type CallbackOutcome,
  type CallbackRequest,
  type ChannelAccount,
  ChannelError,
  type VerifiedCallback,
} from '../../domain/channel.ts';
import { inTime } from '../exchange.ts';
import { isOldCallback } from '../old-callbacks.ts';
import { parseJson } from './classify.ts';
import { TOLERANCE_S } from './client.ts';
import { type Merchant, readMerchant } from './merchant.ts';
import { isOf, orderAnswer, orderSchema, refundAnswer, refundNewsSchema } from './objects.ts';
import type { PlatformKeys } from './platform-keys.ts';
import { decrypt, isSignedBy, type Signed, signedOf } from './signature.ts';

/** WeChat Pay waits five seconds for the acknowledgement, which also has to be stored. */
const CERTIFICATES_WITHIN_MS = 3_000;

/** Wrong signatures, by which WeChat Pay finds out whether they are checked (wechatpay-php, README). */
const PROBE = 'WECHATPAY/SIGNTEST/';

/** https://pay.weixin.qq.com/docs/partner/apis/partner-scannedpos-payment/payment-notice.html */
const callbackSchema = z.object({
  id: z.string().min(1).max(200),
  event_type: z.string(),
  resource: z.object({
    algorithm: z.literal('AEAD_AES_256_GCM'),
    ciphertext: z.string(),
    nonce: z.string(),
    associated_data: z.string().optional(),
  }),
});
type Callback = z.infer<typeof callbackSchema>;

const REFUND_EVENTS: ReadonlySet<string> = new Set(['REFUND.SUCCESS', 'REFUND.ABNORMAL', 'REFUND.CLOSED']);

/** As the port has it: by any of the account's settings while they are rotated. */
export async function verifyCallback(
  keys: PlatformKeys,
  { credentials }: ChannelAccount,
  { headers, rawBody }: CallbackRequest,
): Promise<VerifiedCallback> {
  const signed = signedOf((name) => {
    const value = headers[name];
    return typeof value === 'string' ? value : undefined;
  });
  if (signed === undefined) throw unverified('a header of the signature is missing, or of another kind');
  if (signed.signature.startsWith(PROBE)) throw unverified('WeChat Pay tries whether signatures are checked');
  // Decoded, bytes that are no UTF-8 all become the same character.
  if (!isUtf8(rawBody)) throw unverified('the body is not UTF-8');
  const merchants = await inTime(CERTIFICATES_WITHIN_MS, undefined, (signal) =>
    signersOf(keys, credentials, signed, rawBody, signal),
  );
  const age = Date.now() / 1000 - Number(signed.timestamp);
  if (Math.abs(age) > TOLERANCE_S) {
    throw unverified(age > 0 ? 'it is too old' : 'it is from the future: check the clock');
  }
  const parsed = callbackSchema.safeParse(parseJson(rawBody.toString('utf8')));
  if (!parsed.success) throw new CallbackError('malformed', z.prettifyError(parsed.error));
  return read(merchants, parsed.data);
}

/**
 * The merchants of those settings whose keys of WeChat Pay have signed it, at least one. Settings that cannot be read have
 * signed nothing, and keep none of the others from it.
 * @throws CallbackError
 */
async function signersOf(
  keys: PlatformKeys,
  credentials: ChannelAccount['credentials'],
  signed: Signed,
  rawBody: Buffer,
  signal: AbortSignal,
): Promise<readonly Merchant[]> {
  const failures: string[] = [];
  const found = await Promise.all(
    credentials.map(async (settings) => {
      let failed = 'the settings cannot be read';
      try {
        const merchant = readMerchant(settings);
        failed = 'the certificates could not be fetched';
        const key = await keys.keyOf(merchant, signed.serial, signal);
        return key !== undefined && isSignedBy(key, signed, rawBody) ? [merchant] : [];
      } catch (error) {
        if (!(error instanceof ChannelError)) throw error;
        failures.push(`${failed}: ${error.message}`);
        return [];
      }
    }),
  );
  if (found.flat().length > 0) return found.flat();
  // It comes again, when they can be fetched, or read.
  throw unverified(failures[0] ?? 'the signature is by no key of WeChat Pay');
}

function read(merchants: readonly Merchant[], { id: notificationId, event_type, resource }: Callback) {
  const isTrade = event_type === 'TRANSACTION.SUCCESS';
  if (!isTrade && !REFUND_EVENTS.has(event_type)) {
    return ignored(notificationId, `${event_type.slice(0, 80)} says nothing of a payment`);
  }
  for (const merchant of merchants) {
    const text = decrypt(merchant.apiV3Key, resource);
    if (text === undefined) continue;
    const content = parseJson(text);
    return isTrade
      ? readTrade(merchant, notificationId, content)
      : readRefund(merchant, notificationId, content);
  }
  throw unverified('its resource is encrypted with another key, or was changed');
}

function readTrade(merchant: Merchant, notificationId: string, content: unknown): VerifiedCallback {
  const order = parse(orderSchema, content);
  if (!isOf(merchant, order)) throw unverified('it is of another merchant');
  const about = { outTradeNo: order.out_trade_no };
  const appid = merchant.sub === null ? order.appid : order.sp_appid;
  // By another account or app of the same merchant, whose orders can be adopted.
  if (appid !== merchant.appid) return { kind: 'notice', notificationId, about, isProven: true };
  try {
    const answer = orderAnswer(order);
    // What else an order is, is asked: callbacks come in any order, and late.
    if (answer.state !== 'paid' || answer.someWentBack === true || isOldCallback(answer.paidAt, Date.now()))
      return { kind: 'notice', notificationId, about, isProven: true };
    return { kind: 'trade', notificationId, about, answer };
  } catch (error) {
    if (error instanceof ChannelError) throw new CallbackError('malformed', error.message);
    throw error;
  }
}

function readRefund(merchant: Merchant, notificationId: string, content: unknown): VerifiedCallback {
  const { refund_status: status, ...refund } = parse(refundNewsSchema, content);
  if (!isOf(merchant, refund)) throw unverified('it is of another merchant');
  return {
    kind: 'refund',
    notificationId,
    about: { outTradeNo: refund.out_trade_no },
    refund: {
      outRefundNo: refund.out_refund_no,
      channelRefundId: refund.refund_id,
      answer: refundAnswer({ ...refund, status }),
    },
  };
}

function parse<T>(schema: z.ZodType<T>, content: unknown): T {
  const parsed = schema.safeParse(content);
  if (parsed.success) return parsed.data;
  throw new CallbackError('malformed', z.prettifyError(parsed.error));
}

const unverified = (why: string): CallbackError => new CallbackError('unverified', why);

const ignored = (notificationId: string, reason: string): VerifiedCallback => ({
  kind: 'ignored',
  notificationId,
  reason,
});

/** 200 or 204 is taken; anything else comes again, for a day. Probes of whether signatures are checked must be refused. */
export function acknowledge(outcome: CallbackOutcome): Acknowledgement {
  const type = 'application/json';
  return outcome === 'refused' || outcome === 'unreadable'
    ? { status: 401, type, body: '{"code":"FAIL","message":"refused"}' }
    : { status: 200, type, body: '{"code":"SUCCESS","message":"OK"}' };
}
