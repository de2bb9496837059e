import { isUtf8 } from 'node:buffer';
import { z } from 'zod';
import {
  type Acknowledgement,
  CallbackError,
  type CallbackOutcome,
  type CallbackRequest,
  type ChannelAccount,
  type ChannelAnswer,
  ChannelError,
  type Credentials,
  type VerifiedCallback,
} from '../../domain/channel.ts';
import { isOldCallback } from '../old-callbacks.ts';
import { fenOrNothing } from './amounts.ts';
import { sdkOf } from './keys.ts';
import { totalOf } from './objects.ts';
import { fromBeijing } from './times.ts';

/** Notifications: https://docs.open.alipay.com/270/105902. */

type Params = Readonly<Record<string, string>>;

const OUR_NUMBER = /^[0-9A-Za-z_]{1,32}$/;
/**
 * The form of every out_trade_no at Alipay, also of a trade that nodrop did not create. nodrop may have adopted such a
 * trade.
 */
const ITS_NUMBER = /^[0-9A-Za-z_]{1,64}$/;
const TRADE_NOTIFICATION = 'trade_status_sync';

/** The fields of every Alipay notification. */
const commonSchema = z.object({
  notify_id: z.string().regex(/^[0-9A-Za-z_-]{1,128}$/),
  notify_type: z.string(),
});

const tradeSchema = z.object({
  seller_id: z.string(),
  out_trade_no: z.string(),
  trade_no: z.string().min(1).max(64),
  trade_status: z.string(),
  total_amount: z.string(),
  buyer_pay_amount: z.string().optional(),
  trans_currency: z.string().optional(),
  gmt_payment: z.string().optional(),
  /** `refund_fee` is the sum of all refunds so far. `gmt_refund` is the time of the latest refund. */
  refund_fee: z.string().optional(),
  gmt_refund: z.string().optional(),
});
type TradeNotification = z.infer<typeof tradeSchema>;

/**
 * Implements `verifyCallback` of the port. Alipay repeats a notification for 25 h, and the adapter does not check the
 * age of a notification. So if the payment is old, nodrop queries Alipay and does not rely on the notification.
 */
export async function verifyCallback(
  account: ChannelAccount,
  { rawBody }: CallbackRequest,
): Promise<VerifiedCallback> {
  const params = readForm(rawBody);
  await verifySignature(account, params);
  const common = commonSchema.safeParse(params);
  if (!common.success) throw new CallbackError('malformed', z.prettifyError(common.error));
  const { notify_id: notificationId, notify_type } = common.data;
  if (notify_type !== TRADE_NOTIFICATION) {
    return { kind: 'ignored', notificationId, reason: `${notify_type.slice(0, 100)} is not about a trade` };
  }
  const trade = tradeSchema.safeParse(params);
  if (!trade.success) throw new CallbackError('malformed', z.prettifyError(trade.error));
  const { out_trade_no: outTradeNo } = trade.data;
  const about = { outTradeNo };
  if (!OUR_NUMBER.test(outTradeNo)) {
    const reason = 'about a trade that nodrop did not create';
    return { kind: 'ignored', notificationId, reason, ...(ITS_NUMBER.test(outTradeNo) ? { about } : {}) };
  }
  try {
    const answer = answerOf(trade.data);
    return answer === undefined
      ? { kind: 'notice', notificationId, about, isProven: true }
      : { kind: 'trade', notificationId, about, answer };
  } catch (error) {
    if (error instanceof ChannelError) throw new CallbackError('malformed', error.message);
    throw error;
  }
}

/**
 * All parameter names of Alipay match this pattern. nodrop rejects any other name, because such a name could be read as
 * further parameters of the signed text (see READS_AS_MORE).
 */
const NAME = /^[A-Za-z0-9_]+$/;

/** Parses the form. Each parameter may occur only once. @throws CallbackError `unverified` */
function readForm(rawBody: Buffer): Params {
  // Reject invalid UTF-8, because decoding would replace different invalid bytes with the same character.
  if (!isUtf8(rawBody)) throw new CallbackError('unverified', 'the body is not UTF-8');
  const params = new Map<string, string>();
  for (const [name, value] of new URLSearchParams(rawBody.toString('utf8'))) {
    if (!NAME.test(name))
      throw new CallbackError('unverified', 'a parameter has a name that Alipay does not use');
    if (params.has(name)) throw new CallbackError('unverified', 'a parameter comes twice');
    params.set(name, value);
  }
  return Object.fromEntries(params);
}

/**
 * The signed text joins each `name=value` with `&`, without escapes. So a value that contains `&` and `=` could be read
 * as further parameters, and the signature would still match. The subjects of nodrop's own trades contain neither sign.
 */
const READS_AS_MORE = /&[^&=]*=/;

/**
 * @throws CallbackError `unverified` if none of the account's credentials has the signing key, the app_id and the
 * seller_id of the callback
 */
async function verifySignature({ credentials }: ChannelAccount, params: Params): Promise<void> {
  const { sign = '', sign_type, charset = '', app_id, seller_id } = params;
  if (sign === '') throw new CallbackError('unverified', 'the notification has no signature');
  // Without this check, Alipay's library would also accept SHA-1, because it reads the algorithm from `sign_type`.
  if (sign_type !== 'RSA2') throw new CallbackError('unverified', 'the sign_type is not RSA2');
  if (charset.toLowerCase() !== 'utf-8') throw new CallbackError('unverified', 'the charset is not utf-8');
  if (Buffer.from(sign, 'base64').toString('base64') !== sign) {
    throw new CallbackError('unverified', 'the signature is not base64');
  }
  if (Object.values(params).some((value) => READS_AS_MORE.test(value))) {
    throw new CallbackError('unverified', 'a value could be read as more parameters');
  }
  const signers: Credentials[] = [];
  for (const one of credentials) if (await isSignedBy(one, params)) signers.push(one);
  if (signers.length === 0)
    throw new CallbackError('unverified', 'the signature was not made with a key of the account');
  const ours = signers.filter((one) => one.app_id === app_id);
  if (ours.length === 0) throw new CallbackError('unverified', 'the notification is for another app_id');
  if (seller_id !== undefined && ours.every((one) => one.seller_id !== seller_id)) {
    throw new CallbackError('unverified', 'the notification is about another seller_id');
  }
}

async function isSignedBy(credentials: Credentials, params: Params): Promise<boolean> {
  try {
    return (await sdkOf(credentials)).checkNotifySignV2(params);
  } catch {
    // Credentials that cannot be read cannot verify a callback.
    return false;
  }
}

/**
 * Returns the trade's state according to the notification. Undefined if nodrop must query Alipay instead.
 * @throws ChannelError `garbage`
 */
function answerOf(trade: TradeNotification): ChannelAnswer | undefined {
  const { trade_status, trade_no: channelPaymentId, total_amount, trans_currency } = trade;
  if (trade_status === 'WAIT_BUYER_PAY') return { state: 'unpaid' };
  const isPaid = trade_status === 'TRADE_SUCCESS' || trade_status === 'TRADE_FINISHED';
  // Only a query can show that a trade was closed without money, because TRADE_CLOSED can also mean that all of the
  // money was refunded.
  if (!isPaid && (trade_status !== 'TRADE_CLOSED' || trade.gmt_payment === undefined)) return undefined;
  if (trade.gmt_payment === undefined)
    throw new ChannelError('garbage', 'the notification reports a payment without its time');
  const total = totalOf(total_amount, trans_currency);
  const paidAt = fromBeijing(trade.gmt_payment);
  const back = isPaid ? trade.refund_fee : (trade.refund_fee ?? total_amount);
  // Alipay's answer to a query does not report refunded amounts. So if a notification reports a refunded amount, nodrop
  // uses it even if the payment is old. Otherwise an order could become paid with refunded money.
  const wentBack = back === undefined ? 0 : fenOrNothing(back);
  if (wentBack === 0 && isOldCallback(paidAt, Date.now())) return undefined;
  return {
    state: isPaid ? 'paid' : 'refunded',
    channelPaymentId,
    ...total,
    paidAt,
    ...(trade.buyer_pay_amount === undefined ? {} : { payerAmount: fenOrNothing(trade.buyer_pay_amount) }),
    ...(back === undefined ? {} : { refundedAmount: fenOrNothing(back) }),
  };
}

/** Alipay repeats a notification unless the answer's body is exactly the seven characters `success`. */
export const acknowledge = (outcome: CallbackOutcome): Acknowledgement =>
  outcome === 'refused' || outcome === 'unreadable'
    ? { status: 400, type: 'text/plain', body: 'fail' }
    : { status: 200, type: 'text/plain', body: 'success' };

/** The out_trade_no in an unverified body, if it has the form of a nodrop payment id. */
export function peekOutTradeNo(rawBody: Buffer): string | undefined {
  const no = new URLSearchParams(rawBody.toString('utf8')).get('out_trade_no');
  return no !== null && OUR_NUMBER.test(no) ? no : undefined;
}
