import { z } from 'zod';
import {
  type ChannelAdapter,
  type ChannelAnswer,
  ChannelError,
  type CloseAnswer,
  type CreatedTrade,
  type FoundTrade,
  type KnownRefund,
  type NewRefund,
  type NewTrade,
  type NextAction,
  type RefundAnswer,
  type Trade,
} from '../../domain/channel.ts';
import { acknowledge, verifyCallback } from './callback.ts';
import {
  isRefused,
  NO_SUCH_ORDER,
  NO_SUCH_REFUND,
  NOT_TO_CLOSE,
  ORDER_IS_OVER,
  refusalIn,
} from './classify.ts';
import { createWechatpayClient, type Session } from './client.ts';
import { ACTION_LIVES_MS, declaration, modeOf, NO_CLOSE_WITHIN_MS } from './declaration.ts';
import { type Merchant, readMerchant } from './merchant.ts';
import {
  CLOSED_REASON,
  isOf,
  type Order,
  orderAnswer,
  orderSchema,
  type Refund,
  refundAnswer,
  refundSchema,
} from './objects.ts';
import { newNonce, nowInSeconds, signLines } from './signature.ts';

/** No order of nodrop has this out_trade_no, because nodrop's numbers have another prefix. */
const NO_ORDER = 'nodropcheck';

/** Creates the adapter for WeChat Pay's API v3. The adapter supports merchants and service providers. */
export function createWechatpayAdapter(): ChannelAdapter {
  const client = createWechatpayClient();

  return {
    declaration,

    async createTrade(account, trade, signal) {
      return await client.within(account, signal, async (session) => {
        try {
          return await create(session, trade);
        } catch (error) {
          if (isRefused(error, ORDER_IS_OVER)) return 'not_renewable';
          throw error;
        }
      });
    },

    async queryTrade(account, trade, signal) {
      return await client.within(account, signal, (session) => query(session, trade));
    },

    async readTrade(account, reference, signal) {
      return await client.within(account, signal, (session) => find(session, reference));
    },

    async closeTrade(account, trade, signal) {
      return await client.within(account, signal, (session) => close(session, trade));
    },

    async refundTrade(account, trade, refund, signal) {
      return await client.within(account, signal, (session) => giveBack(session, trade, refund));
    },

    async queryRefund(account, trade, refund, signal) {
      return await client.within(account, signal, (session) => findRefund(session, trade, refund));
    },

    verifyCallback: (account, request) => verifyCallback(client.keys, account, request),
    acknowledge,
    // In the callback's body, the payment's number is encrypted. Only the payment's callback URL contains the number in
    // plain text.
    peekOutTradeNo: () => undefined,

    async checkAccount(account, signal) {
      // nodrop uses older credentials only to verify callbacks. So the check tests only whether nodrop can read them.
      for (const credentials of account.credentials) readMerchant(credentials);
      await client.within(account, signal, async (session) => {
        // A merchant in public-key mode may have no certificates.
        if (session.merchant.publicKey === null) await session.renewCertificates();
        await query(session, { outTradeNo: NO_ORDER });
      });
    },
  };
}

const orders = ({ sub }: Merchant): string =>
  sub === null ? '/v3/pay/transactions' : '/v3/pay/partner/transactions';

const orderPath = (merchant: Merchant, { outTradeNo }: Pick<Trade, 'outTradeNo'>): string =>
  `${orders(merchant)}/out-trade-no/${encodeURIComponent(outTradeNo)}`;

/** The merchant that receives the money, in the fields that queries and closes use. */
const payee = ({ mchid, sub }: Merchant): Readonly<Record<string, string>> =>
  sub === null ? { mchid } : { sp_mchid: mchid, sub_mchid: sub.mchid };

/**
 * The parameters of a create request, built only from the payment's row, because WeChat Pay refuses a repeated number
 * with other parameters.
 */
function orderOf(merchant: Merchant, trade: NewTrade): object {
  const { mchid, appid, sub } = merchant;
  const parties =
    sub === null
      ? { appid, mchid }
      : {
          ...{ sp_appid: appid, sp_mchid: mchid, sub_mchid: sub.mchid },
          ...(sub.appid === undefined ? {} : { sub_appid: sub.appid }),
        };
  const openid = sub === null ? 'openid' : sub.appid === undefined ? 'sp_openid' : 'sub_openid';
  return {
    ...parties,
    description: trade.subject,
    out_trade_no: trade.outTradeNo,
    time_expire: inChina(trade.expiresAt),
    notify_url: trade.notifyUrl,
    amount: { total: trade.amount, currency: trade.currency },
    ...(trade.method === 'jsapi' ? { payer: { [openid]: trade.payer.id } } : {}),
    ...(trade.method === 'h5'
      ? { scene_info: { payer_client_ip: trade.payer.ip, h5_info: { type: 'Wap' } } }
      : {}),
  };
}

/**
 * Formats a time by RFC 3339, with whole seconds and in China's time zone. The time zone of this process has no effect.
 */
function inChina(time: string): string {
  const shifted = new Date(Date.parse(time) + 8 * 3_600_000);
  return `${shifted.toISOString().slice(0, 19)}+08:00`;
}

async function create({ merchant, ask }: Session, trade: NewTrade): Promise<CreatedTrade> {
  const request = {
    method: 'POST',
    path: `${orders(merchant)}/${trade.method}`,
    content: orderOf(merchant, trade),
    operation: 'create',
  } as const;
  switch (trade.method) {
    case 'native': {
      const { code_url } = await ask(request, z.object({ code_url: z.string().min(1) }));
      return { action: { type: 'qr', qr: code_url, expiresAt: livesFor('code_url') } };
    }
    case 'h5': {
      const { h5_url } = await ask(request, z.object({ h5_url: z.url({ protocol: /^https?$/ }) }));
      const url = `${h5_url}${h5_url.includes('?') ? '&' : '?'}redirect_url=${encodeURIComponent(trade.returnUrl)}`;
      return { action: { type: 'redirect', url, expiresAt: livesFor('h5_url') } };
    }
    case 'jsapi':
    case 'app': {
      const { prepay_id } = await ask(request, z.object({ prepay_id: z.string().min(1) }));
      const params =
        trade.method === 'jsapi' ? jsapiParams(merchant, prepay_id) : appParams(merchant, prepay_id);
      return { action: { type: 'sdk', params, expiresAt: livesFor('prepay_id') } };
    }
    default:
      throw new ChannelError('misconfigured', `wechatpay has no method ${trade.method}`);
  }
}

const livesFor = (what: keyof typeof ACTION_LIVES_MS): string =>
  new Date(Date.now() + ACTION_LIVES_MS[what]).toISOString();

/** For `WeixinJSBridge.invoke('getBrandWCPayRequest', ...)`. */
function jsapiParams(merchant: Merchant, prepayId: string): NonNullable<NextAction['params']> {
  const [timeStamp, nonceStr] = [nowInSeconds(), newNonce()];
  const appId = merchant.sub?.appid ?? merchant.appid;
  const prepay = `prepay_id=${prepayId}`;
  const paySign = signLines(merchant.privateKey, [appId, timeStamp, nonceStr, prepay]);
  return { appId, timeStamp, nonceStr, package: prepay, signType: 'RSA', paySign };
}

/** The parameters that an app passes to WeChat's SDK. */
function appParams(merchant: Merchant, prepayid: string): NonNullable<NextAction['params']> {
  const [timestamp, noncestr] = [nowInSeconds(), newNonce()];
  const appid = merchant.sub?.appid ?? merchant.appid;
  const sign = signLines(merchant.privateKey, [appid, timestamp, noncestr, prepayid]);
  const partnerid = merchant.sub?.mchid ?? merchant.mchid;
  return { appid, partnerid, prepayid, package: 'Sign=WXPay', noncestr, timestamp, sign };
}

/** Reads the order at WeChat Pay. Returns undefined if WeChat Pay does not know the order. */
async function read(
  { merchant, ask }: Session,
  trade: Pick<Trade, 'outTradeNo'>,
): Promise<Order | undefined> {
  const path = `${orderPath(merchant, trade)}?${new URLSearchParams(payee(merchant))}`;
  try {
    const order = await ask({ method: 'GET', path, operation: 'other' }, orderSchema);
    if (order.out_trade_no !== trade.outTradeNo || !isOf(merchant, order)) {
      throw new ChannelError('garbage', `wechatpay answered with an order that is not ${trade.outTradeNo}`);
    }
    return order;
  } catch (error) {
    if (isRefused(error, NO_SUCH_ORDER)) return undefined;
    throw error;
  }
}

async function query(session: Session, trade: Pick<Trade, 'outTradeNo'>): Promise<ChannelAnswer> {
  const order = await read(session, trade);
  return order === undefined ? { state: 'unknown_trade' } : orderAnswer(order);
}

/**
 * Reads an order that nodrop may not have created. WeChat Pay documents the amount only for a paid order
 * (https://pay.weixin.qq.com/doc/v3/merchant/4013070356).
 */
async function find(session: Session, reference: string): Promise<FoundTrade> {
  const order = await read(session, { outTradeNo: reference });
  if (order === undefined) return { reference, answer: { state: 'unknown_trade' } };
  const { amount } = order;
  return {
    reference,
    ...(amount ? { terms: { amount: amount.total, currency: amount.currency ?? 'CNY' } } : {}),
    answer: orderAnswer(order),
    ...(order.trade_state === 'REFUND'
      ? { unfit: 'some of its money was refunded, and WeChat Pay does not report how much.' }
      : {}),
  };
}

/**
 * WeChat Pay answers a close request with 204, even if it does not know the order
 * (https://developers.weixin.qq.com/community/personal/oCJUswwemv3ES_-16uTTxLN3-FZg/answer). So nodrop queries the
 * order after the close.
 */
async function close(session: Session, trade: Trade): Promise<CloseAnswer> {
  const { merchant, tell } = session;
  // WeChat Pay measures this time from the creation of the order. nodrop measures it from its first create request,
  // because the order cannot be older than that request.
  const until = Date.parse(trade.askedAt ?? trade.createdAt) + NO_CLOSE_WITHIN_MS;
  const isYoung = Date.now() < until;
  if (!isYoung) {
    try {
      await tell({
        method: 'POST',
        path: `${orderPath(merchant, trade)}/close`,
        content: payee(merchant),
        operation: 'other',
      });
    } catch (error) {
      if (!isRefused(error, NOT_TO_CLOSE)) throw error;
    }
  }
  const { state } = await query(session, trade);
  switch (state) {
    case 'paid':
    case 'refunded':
      return { state: 'already_paid' };
    case 'closed':
    case 'failed':
      return { state: 'closed' };
    case 'processing':
    case 'unknown_trade':
      return { state };
    case 'unpaid':
      if (isYoung) return { state: 'not_yet', until: new Date(until).toISOString() };
      throw new ChannelError('unreachable', `wechatpay has not closed ${trade.outTradeNo} yet`);
  }
}

const refundsPath = '/v3/refund/domestic/refunds';

/**
 * The callback URL of a refund, which must be https
 * (https://payapp.weixin.qq.com/wiki/doc/apiv3_partner/apis/chapter4_1_11.shtml). nodrop omits a URL that WeChat Pay
 * would reject, because the refund would fail otherwise. nodrop does not depend on the callback, because it also
 * queries the refund.
 */
function notifyUrlOf({ baseUrl }: Merchant, { notifyUrl }: NewRefund): { readonly notify_url?: string } {
  const isTaken = notifyUrl?.startsWith('https://') || modeOf({ base_url: baseUrl }) === 'test';
  return notifyUrl !== undefined && isTaken ? { notify_url: notifyUrl } : {};
}

/**
 * Requests a refund. If WeChat Pay refuses, an earlier refund may have this number. So nodrop queries the refund before
 * it accepts the refusal. If WeChat Pay has closed the earlier refund, a new request with its number has no effect. The
 * refund stays closed, and the merchant needs a refund with another number
 * (https://pay.weixin.qq.com/doc/v3/merchant/4013071031).
 */
async function giveBack(session: Session, trade: Trade, refund: NewRefund): Promise<RefundAnswer> {
  const { merchant, ask } = session;
  const content = {
    ...(merchant.sub === null ? {} : { sub_mchid: merchant.sub.mchid }),
    out_trade_no: trade.outTradeNo,
    out_refund_no: refund.outRefundNo,
    ...notifyUrlOf(merchant, refund),
    amount: { refund: refund.amount, total: refund.total, currency: refund.currency },
  };
  try {
    const made = await ask({ method: 'POST', path: refundsPath, content, operation: 'refund' }, refundSchema);
    const answer = refundAnswer(oursOf(made, trade, refund));
    return answer.state === 'ask_again'
      ? { state: 'failed', reason: CLOSED_REASON, channelRefundId: made.refund_id }
      : answer;
  } catch (error) {
    const isDecided =
      error instanceof ChannelError && (error.kind === 'rejected' || error.kind === 'not_now');
    if (!isDecided || refusalIn(error) === undefined) throw error;
    const found = await findRefund(session, trade, refund);
    if (found.state === 'unknown_refund') throw error;
    return found;
  }
}

async function findRefund(
  { merchant, ask }: Session,
  trade: Pick<Trade, 'outTradeNo' | 'currency'>,
  refund: KnownRefund,
): Promise<RefundAnswer> {
  const sub = merchant.sub === null ? '' : `?${new URLSearchParams({ sub_mchid: merchant.sub.mchid })}`;
  const path = `${refundsPath}/${encodeURIComponent(refund.outRefundNo)}${sub}`;
  try {
    const found = await ask({ method: 'GET', path, operation: 'other' }, refundSchema);
    return refundAnswer(oursOf(found, trade, refund));
  } catch (error) {
    if (isRefused(error, NO_SUCH_REFUND)) return { state: 'unknown_refund' };
    throw error;
  }
}

/**
 * Returns the refund if it has nodrop's payment and refund numbers and the payment's currency.
 * @throws ChannelError `garbage` if one of these values differs
 */
function oursOf(
  found: Refund,
  { outTradeNo, currency }: Pick<Trade, 'outTradeNo' | 'currency'>,
  { outRefundNo }: KnownRefund,
): Refund {
  const its = found.amount.currency ?? 'CNY';
  if (found.out_refund_no === outRefundNo && found.out_trade_no === outTradeNo && its === currency)
    return found;
  throw new ChannelError('garbage', `wechatpay answered with a refund that is not ${outRefundNo}`);
}
