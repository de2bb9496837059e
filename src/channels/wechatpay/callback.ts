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

/**
 * Maximum time for fetching certificates while nodrop verifies a callback. WeChat Pay waits 5 s for the
 * acknowledgement, and nodrop must also store the callback in that time.
 */
const CERTIFICATES_WITHIN_MS = 3_000;

/**
 * The prefix of the wrong signatures with which WeChat Pay tests whether a merchant checks signatures (wechatpay-php,
 * README).
 */
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

/**
 * Implements `verifyCallback` of the port. While an account's credentials are rotated, a callback is valid if the old
 * or the new credentials verify it.
 */
export async function verifyCallback(
  keys: PlatformKeys,
  { credentials }: ChannelAccount,
  { headers, rawBody }: CallbackRequest,
): Promise<VerifiedCallback> {
  const signed = signedOf((name) => {
    const value = headers[name];
    return typeof value === 'string' ? value : undefined;
  });
  if (signed === undefined) throw unverified('a signature header is missing or invalid');
  if (signed.signature.startsWith(PROBE))
    throw unverified('WeChat Pay is testing whether signatures are checked');
  // Reject invalid UTF-8, because decoding would replace different invalid bytes with the same character.
  if (!isUtf8(rawBody)) throw unverified('the body is not UTF-8');
  const merchants = await inTime(CERTIFICATES_WITHIN_MS, undefined, (signal) =>
    signersOf(keys, credentials, signed, rawBody, signal),
  );
  const age = Date.now() / 1000 - Number(signed.timestamp);
  if (Math.abs(age) > TOLERANCE_S) {
    throw unverified(
      age > 0 ? 'the callback is too old' : 'the callback is from the future: check the clock',
    );
  }
  const parsed = callbackSchema.safeParse(parseJson(rawBody.toString('utf8')));
  if (!parsed.success) throw new CallbackError('malformed', z.prettifyError(parsed.error));
  return read(merchants, parsed.data);
}

/**
 * Finds the credentials whose WeChat Pay key has signed the callback, and returns the merchants of these credentials
 * (at least one). Credentials that cannot be read are skipped, so that the other credentials can still verify the
 * callback.
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
  // WeChat Pay repeats the callback after this error. By then, nodrop may be able to get the certificates or to read
  // the credentials.
  throw unverified(failures[0] ?? 'the signature was not made with a key of WeChat Pay');
}

function read(merchants: readonly Merchant[], { id: notificationId, event_type, resource }: Callback) {
  const isTrade = event_type === 'TRANSACTION.SUCCESS';
  if (!isTrade && !REFUND_EVENTS.has(event_type)) {
    return ignored(notificationId, `${event_type.slice(0, 80)} is not about a payment`);
  }
  for (const merchant of merchants) {
    const text = decrypt(merchant.apiV3Key, resource);
    if (text === undefined) continue;
    const content = parseJson(text);
    return isTrade
      ? readTrade(merchant, notificationId, content)
      : readRefund(merchant, notificationId, content);
  }
  throw unverified('the resource is encrypted with another key, or was changed');
}

function readTrade(merchant: Merchant, notificationId: string, content: unknown): VerifiedCallback {
  const order = parse(orderSchema, content);
  if (!isOf(merchant, order)) throw unverified('the callback is for another merchant');
  const about = { outTradeNo: order.out_trade_no };
  const appid = merchant.sub === null ? order.appid : order.sp_appid;
  // The order belongs to another account or app of the same merchant. nodrop may still have adopted it.
  if (appid !== merchant.appid) return { kind: 'notice', notificationId, about, isProven: true };
  try {
    const answer = orderAnswer(order);
    // Callbacks can arrive late and in any order. So nodrop relies only on a callback that reports a recent payment
    // without refunds. After any other callback, nodrop queries the order.
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
  if (!isOf(merchant, refund)) throw unverified('the callback is for another merchant');
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

/**
 * Answers a callback of WeChat Pay. WeChat Pay accepts 200 or 204, and repeats the callback for a day after any other
 * status. nodrop must refuse the callbacks with which WeChat Pay tests the signature check.
 */
export function acknowledge(outcome: CallbackOutcome): Acknowledgement {
  const type = 'application/json';
  return outcome === 'refused' || outcome === 'unreadable'
    ? { status: 401, type, body: '{"code":"FAIL","message":"refused"}' }
    : { status: 200, type, body: '{"code":"SUCCESS","message":"OK"}' };
}
