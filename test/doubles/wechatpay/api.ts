import type { Books, Merchant, Order } from './books.ts';

/** An answer that is not signed yet. `content` is null if the answer has no body. */
export interface Answer {
  readonly status: number;
  readonly content: object | null;
}

const refusal = (status: number, code: string, message: string, field?: string): Answer => ({
  status,
  content: {
    code,
    message,
    ...(field === undefined ? {} : { detail: { field, issue: message, location: 'body' } }),
  },
});
const wrong = (field: string) => refusal(400, 'PARAM_ERROR', '参数错误', `/${field}`);
const ok = (content: object): Answer => ({ status: 200, content });

const MINUTE_MS = 60_000;
const DAY_MS = 86_400_000;
const METHODS = ['native', 'h5', 'jsapi', 'app'];

/** The part of the API v3 that the adapter uses. The double refuses what WeChat Pay refuses. */
export async function handleApi(
  books: Books,
  merchant: Merchant,
  {
    method,
    path,
    query,
    content,
  }: {
    readonly method: string;
    readonly path: string;
    readonly query: URLSearchParams;
    readonly content: Record<string, unknown>;
  },
): Promise<Answer | 'certificates'> {
  if (method === 'GET' && path === '/v3/certificates') return 'certificates';
  if (path.startsWith('/v3/refund/domestic/refunds')) {
    return method === 'POST'
      ? askRefund(books, merchant, content)
      : showRefund(books, merchant, decodeURIComponent(path.split('/').at(-1) ?? ''), query);
  }
  const isPartner = path.startsWith('/v3/pay/partner/transactions/');
  const [, rest] = /^\/v3\/pay\/(?:partner\/)?transactions\/(.+)$/.exec(path) ?? [];
  if (rest === undefined) return refusal(404, 'RESOURCE_NOT_EXISTS', '接口不存在');
  if (method === 'POST' && METHODS.includes(rest)) return create(books, merchant, rest, isPartner, content);
  const [, number = '', close] = /^out-trade-no\/([^/]+)(\/close)?$/.exec(rest) ?? [];
  const given = close === undefined ? Object.fromEntries(query) : content;
  const isTheirs = isPartner
    ? given.sp_mchid === merchant.mchid && merchant.subMchids.includes(String(given.sub_mchid))
    : given.mchid === merchant.mchid && merchant.subMchids.length === 0;
  if (!isTheirs) return refusal(400, 'MCH_NOT_EXISTS', '商户号不存在');
  const order = books.orders.get(`${merchant.mchid} ${decodeURIComponent(number)}`);
  if (close !== undefined && method === 'POST') return closeOrder(books, order);
  return order === undefined ? refusal(404, 'ORDER_NOT_EXIST', '订单不存在') : ok(books.showOrder(order));
}

const isNotifyUrl = (url: unknown): url is string =>
  typeof url === 'string' && url.length <= 255 && /^https?:\/\/[^?#]+$/.test(url);

/** Returns the first wrong field, or undefined if no field is wrong. */
function wrongIn(content: Record<string, unknown>, method: string): string | undefined {
  const { description, out_trade_no, time_expire, notify_url, amount, payer, scene_info } = content;
  const { total, currency } = (amount ?? {}) as Record<string, unknown>;
  if (typeof description !== 'string' || description === '' || [...description].length > 127)
    return 'description';
  if (typeof out_trade_no !== 'string' || !/^[0-9A-Za-z_\-|*]{6,32}$/.test(out_trade_no))
    return 'out_trade_no';
  if (typeof time_expire !== 'string' || !/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+08:00$/.test(time_expire)) {
    return 'time_expire';
  }
  if (!isNotifyUrl(notify_url)) return 'notify_url';
  if (!Number.isSafeInteger(total) || (total as number) < 1) return 'amount/total';
  if (currency !== 'CNY') return 'amount/currency';
  if (method === 'jsapi' && Object.values((payer ?? {}) as object).filter(Boolean).length !== 1)
    return 'payer/openid';
  const { payer_client_ip, h5_info } = (scene_info ?? {}) as Record<string, unknown>;
  if (method === 'h5' && (typeof payer_client_ip !== 'string' || h5_info === undefined)) return 'scene_info';
  return undefined;
}

function create(
  books: Books,
  merchant: Merchant,
  method: string,
  isPartner: boolean,
  content: Record<string, unknown>,
): Answer {
  const mchid = isPartner ? content.sp_mchid : content.mchid;
  const appid = isPartner ? content.sp_appid : content.appid;
  if (mchid !== merchant.mchid || isPartner !== merchant.subMchids.length > 0) {
    return refusal(400, 'MCH_NOT_EXISTS', '商户号不存在');
  }
  if (isPartner && !merchant.subMchids.includes(String(content.sub_mchid))) {
    return refusal(403, 'NO_AUTH', '特约子商户商户号未授权服务商的产品权限');
  }
  if (typeof appid !== 'string' || !merchant.appids.includes(appid)) {
    return refusal(400, 'APPID_MCHID_NOT_MATCH', 'AppID和mch_id不匹配');
  }
  const field = wrongIn(content, method);
  if (field !== undefined) return wrong(field);
  const outTradeNo = content.out_trade_no as string;
  const asked = JSON.stringify([method, content]);
  const known = books.orders.get(`${merchant.mchid} ${outTradeNo}`);
  if (known !== undefined) {
    if (known.paidAt !== null) return refusal(400, 'ORDERPAID', '该订单已支付');
    if (known.state === 'CLOSED') return refusal(400, 'ORDER_CLOSED', '订单已关闭');
    if (known.asked !== asked) return refusal(403, 'OUT_TRADE_NO_USED', '商户订单号重复');
    return ok(actionOf(books, known));
  }
  const now = books.now();
  const order: Order = {
    ...{ merchant, method, asked, outTradeNo, appid },
    subMchid: isPartner ? String(content.sub_mchid) : null,
    total: (content.amount as { total: number }).total,
    currency: 'CNY',
    notifyUrl: content.notify_url as string,
    createdAt: now,
    payableUntil: Math.min(
      Math.max(Date.parse(content.time_expire as string), now + MINUTE_MS),
      now + 7 * DAY_MS,
    ),
    state: 'NOTPAY',
    transactionId: null,
    paidAt: null,
    payerTotal: null,
  };
  books.orders.set(`${merchant.mchid} ${outTradeNo}`, order);
  return ok(actionOf(books, order));
}

function actionOf(books: Books, { method }: Order): object {
  const id = `wx${books.newId()}`;
  if (method === 'native') return { code_url: `weixin://wxpay/bizpayurl?pr=${id}` };
  if (method === 'h5') {
    return { h5_url: `https://wx.tenpay.com/cgi-bin/mmpayweb-bin/checkmweb?prepay_id=${id}&package=1` };
  }
  return { prepay_id: id };
}

/** According to a report, WeChat Pay answers 204 to a request to close an order, even if it does not know the order. */
function closeOrder(books: Books, order: Order | undefined): Answer {
  if (order?.paidAt) return refusal(400, 'ORDERPAID', '该订单已支付');
  if (order?.state === 'USERPAYING')
    return { status: 202, content: { code: 'USER_PAYING', message: '用户支付中' } };
  if (order?.state === 'CLOSED') return refusal(400, 'ORDER_CLOSED', '订单已关闭');
  if (order !== undefined) {
    if (books.now() - order.createdAt < 5 * MINUTE_MS)
      return refusal(400, 'INVALID_REQUEST', '订单生成后不能马上关单');
    order.state = 'CLOSED';
  }
  return { status: 204, content: null };
}

function askRefund(books: Books, merchant: Merchant, content: Record<string, unknown>): Answer {
  const { out_trade_no, out_refund_no, amount, notify_url = null } = content;
  const { refund, total, currency } = (amount ?? {}) as Record<string, unknown>;
  if (typeof out_refund_no !== 'string' || !/^[0-9A-Za-z_\-|*@]{1,64}$/.test(out_refund_no))
    return wrong('out_refund_no');
  if (!Number.isSafeInteger(refund) || (refund as number) < 1 || currency !== 'CNY')
    return wrong('amount/refund');
  if (notify_url !== null && !isNotifyUrl(notify_url)) return wrong('notify_url');
  const order = books.orders.get(`${merchant.mchid} ${String(out_trade_no)}`);
  if (!order?.paidAt || !isSub(order, content.sub_mchid))
    return refusal(404, 'RESOURCE_NOT_EXISTS', '订单不存在');
  const known = books.refunds.get(`${merchant.mchid} ${out_refund_no}`);
  if (known !== undefined) {
    if (known.amount !== refund || known.order !== order) {
      return refusal(400, 'INVALID_REQUEST', '订单金额或退款金额与之前请求不一致，请核实后再试');
    }
    if (known.status === 'CLOSED' && books.reopensClosedRefunds) known.status = 'PROCESSING';
    return ok(books.showRefund(known));
  }
  if (total !== order.total)
    return refusal(400, 'INVALID_REQUEST', '订单金额或退款金额与之前请求不一致，请核实后再试');
  if (books.refundedOf(order) + (refund as number) > order.total) {
    return refusal(400, 'INVALID_REQUEST', '申请退款总金额大于订单金额');
  }
  if (!books.hasEnough) return refusal(403, 'NOT_ENOUGH', '基本账户余额不足，请充值后重新发起');
  return ok(books.showRefund(books.addRefund(order, out_refund_no, refund as number, notify_url)));
}

function showRefund(books: Books, merchant: Merchant, number: string, query: URLSearchParams): Answer {
  const refund = books.refunds.get(`${merchant.mchid} ${number}`);
  return refund === undefined || !isSub(refund.order, query.get('sub_mchid') ?? undefined)
    ? refusal(404, 'RESOURCE_NOT_EXISTS', '退款单不存在')
    : ok(books.showRefund(refund));
}

const isSub = ({ subMchid }: Order, given: unknown): boolean => subMchid === (given ?? null);
