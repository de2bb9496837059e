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
/** As Alipay takes them: of a trade that was made elsewhere, and may be adopted. */
const ITS_NUMBER = /^[0-9A-Za-z_]{1,64}$/;
const TRADE_NOTIFICATION = 'trade_status_sync';

/** Of every notification of Alipay's. */
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
  /** All that has gone back so far, and when the last of it did. */
  refund_fee: z.string().optional(),
  gmt_refund: z.string().optional(),
});
type TradeNotification = z.infer<typeof tradeSchema>;

/** As the port has it. Its signature has no time, and it comes again for 25 h: of an old payment Alipay is asked. */
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
    return { kind: 'ignored', notificationId, reason: `${notify_type.slice(0, 100)} is about no trade` };
  }
  const trade = tradeSchema.safeParse(params);
  if (!trade.success) throw new CallbackError('malformed', z.prettifyError(trade.error));
  const { out_trade_no: outTradeNo } = trade.data;
  const about = { outTradeNo };
  if (!OUR_NUMBER.test(outTradeNo)) {
    const reason = 'about a trade that has no number of ours';
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

/** As all of Alipay's are: another one could hold a part of what is signed, see READS_AS_MORE. */
const NAME = /^[A-Za-z0-9_]+$/;

/** The parameters, each of which comes once. @throws CallbackError `unverified` */
function readForm(rawBody: Buffer): Params {
  // Decoded, bytes that are no UTF-8 all become the same character.
  if (!isUtf8(rawBody)) throw new CallbackError('unverified', 'the body is not UTF-8');
  const params = new Map<string, string>();
  for (const [name, value] of new URLSearchParams(rawBody.toString('utf8'))) {
    if (!NAME.test(name))
      throw new CallbackError('unverified', 'a parameter has a name that none of Alipay has');
    if (params.has(name)) throw new CallbackError('unverified', 'a parameter comes twice');
    params.set(name, value);
  }
  return Object.fromEntries(params);
}

/**
 * What is signed is `name=value` joined by `&`, without escapes: a value with both signs can be read as more parameters,
 * under the same signature. Our own subjects have none of them.
 */
const READS_AS_MORE = /&[^&=]*=/;

/** @throws CallbackError `unverified` unless a set of the account's settings has the key, the application and the seller. */
async function verifySignature({ credentials }: ChannelAccount, params: Params): Promise<void> {
  const { sign = '', sign_type, charset = '', app_id, seller_id } = params;
  if (sign === '') throw new CallbackError('unverified', 'it has no signature');
  // The library takes the algorithm from here, SHA-1 too.
  if (sign_type !== 'RSA2') throw new CallbackError('unverified', 'its sign_type is not RSA2');
  if (charset.toLowerCase() !== 'utf-8') throw new CallbackError('unverified', 'its charset is not utf-8');
  if (Buffer.from(sign, 'base64').toString('base64') !== sign) {
    throw new CallbackError('unverified', 'its signature is not base64');
  }
  if (Object.values(params).some((value) => READS_AS_MORE.test(value))) {
    throw new CallbackError('unverified', 'a value can be read as more parameters than it came with');
  }
  const signers: Credentials[] = [];
  for (const one of credentials) if (await isSignedBy(one, params)) signers.push(one);
  if (signers.length === 0) throw new CallbackError('unverified', 'it is not signed by a key of the account');
  const ours = signers.filter((one) => one.app_id === app_id);
  if (ours.length === 0) throw new CallbackError('unverified', 'it is for another app_id');
  if (seller_id !== undefined && ours.every((one) => one.seller_id !== seller_id)) {
    throw new CallbackError('unverified', 'it is about another seller_id');
  }
}

async function isSignedBy(credentials: Credentials, params: Params): Promise<boolean> {
  try {
    return (await sdkOf(credentials)).checkNotifySignV2(params);
  } catch {
    // Settings that cannot be read have signed nothing.
    return false;
  }
}

/** What it says of the trade; undefined when Alipay is better asked. @throws ChannelError `garbage` */
function answerOf(trade: TradeNotification): ChannelAnswer | undefined {
  const { trade_status, trade_no: channelPaymentId, total_amount, trans_currency } = trade;
  if (trade_status === 'WAIT_BUYER_PAY') return { state: 'unpaid' };
  const isPaid = trade_status === 'TRADE_SUCCESS' || trade_status === 'TRADE_FINISHED';
  // Closed without money is told by a query alone: a closed trade can be one whose money has all gone back.
  if (!isPaid && (trade_status !== 'TRADE_CLOSED' || trade.gmt_payment === undefined)) return undefined;
  if (trade.gmt_payment === undefined) throw new ChannelError('garbage', 'paid without a time');
  const total = totalOf(total_amount, trans_currency);
  const paidAt = fromBeijing(trade.gmt_payment);
  const back = isPaid ? trade.refund_fee : (trade.refund_fee ?? total_amount);
  // What went back no query tells, and an order does not become paid by it.
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

/** The body `success`, of seven characters, ends its repetitions: nothing else does. */
export const acknowledge = (outcome: CallbackOutcome): Acknowledgement =>
  outcome === 'refused' || outcome === 'unreadable'
    ? { status: 400, type: 'text/plain', body: 'fail' }
    : { status: 200, type: 'text/plain', body: 'success' };

/** Our number in a body that nothing is proven of. */
export function peekOutTradeNo(rawBody: Buffer): string | undefined {
  const no = new URLSearchParams(rawBody.toString('utf8')).get('out_trade_no');
  return no !== null && OUR_NUMBER.test(no) ? no : undefined;
}
