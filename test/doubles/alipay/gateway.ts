import { type BookedTrade, type Books, beijing, epoch, Refused } from './books.ts';
import { toYuan } from './money.ts';
import type { Keys, Oracle } from './oracle.ts';

/** The gateway of the Alipay double. python-alipay-sdk verifies every request and signs every answer. */

export type Content = Record<string, unknown>;

export interface Request {
  readonly params: Readonly<Record<string, string>>;
  readonly method: string;
  readonly appId: string;
}

/** The largest accepted difference between a request's time and the double's clock. */
const CLOCKS_APART_MS = 15 * 60_000;

export class Gateway {
  readonly #books: Books;
  readonly #oracle: Oracle;
  readonly #keys: Keys;
  /** The applications for which certificate mode is set at the platform. */
  readonly withCertificates = new Set<string>();
  /** The gateway calls this function for each refund that moved money. */
  onRefund: (trade: BookedTrade, no: string) => void = () => {};
  codeUrl = '';

  constructor(books: Books, oracle: Oracle, keys: Keys) {
    this.#books = books;
    this.#oracle = oracle;
    this.#keys = keys;
  }

  /**
   * Verifies a request and its sender. Returns the content of the request.
   * @throws Refused
   */
  async admit(query: URLSearchParams, body: URLSearchParams, isLink = false): Promise<Request> {
    const params: Record<string, string> = {};
    for (const [name, value] of [...query, ...body]) {
      if (Object.hasOwn(params, name)) throw new Refused('isv.invalid-parameter', '40002');
      params[name] = value;
    }
    const { sign = '', app_id: appId = '', method = '' } = params;
    const refuse = (subCode: string) => {
      throw new Refused(subCode, '40002');
    };
    if (!isLink && query.get('charset') === null) refuse('isv.invalid-signature');
    if (params.charset !== 'utf-8') refuse('isv.invalid-charset');
    if (params.sign_type !== 'RSA2') refuse('isv.invalid-signature-type');
    if (params.version !== '1.0') refuse('isv.invalid-version');
    const { sign: _sign, ...signed } = params;
    const verdict = await this.#oracle.verify(appId, signed, sign);
    if (verdict === 'unknown') refuse('isv.invalid-app-id');
    if (verdict === 'bad') refuse('isv.invalid-signature');
    const numbers = this.#keys.apps[appId]?.numbers;
    if (this.withCertificates.has(appId)) {
      if (params.app_cert_sn !== numbers?.app) refuse('isv.invalid-app-cert-sn');
      if (params.alipay_root_cert_sn !== numbers?.root) refuse('isv.invalid-alipay-root-cert-sn');
    }
    const apart = Math.abs(epoch(params.timestamp ?? '') - this.#books.signedAt());
    // The timestamp of a link may be old, because a payer may open a link at any time.
    if (Number.isNaN(apart) || (!isLink && apart > CLOCKS_APART_MS)) refuse('isv.invalid-timestamp');
    return { params, method, appId };
  }

  /** @throws Refused */
  perform({ params, method, appId }: Request): Content {
    const content = JSON.parse(params.biz_content ?? '{}') as Content;
    const find = () => this.#books.find(appId, content.out_trade_no);
    switch (method) {
      case 'alipay.trade.precreate': {
        const terms = this.#books.terms(appId, params.notify_url, content);
        const known = this.#books.trades.get(`${appId} ${terms.outTradeNo}`);
        if (known !== undefined && find().status !== 'WAIT_BUYER_PAY') {
          throw new Refused(known.paidAt === null ? 'ACQ.TRADE_HAS_CLOSE' : 'ACQ.TRADE_HAS_SUCCESS');
        }
        if (terms.ends <= this.#books.now()) throw new Refused('ACQ.INVALID_PARAMETER');
        const token = Buffer.from(`${appId} ${terms.outTradeNo}`).toString('base64url');
        this.#books.codes.set(token, terms);
        return { out_trade_no: terms.outTradeNo, qr_code: `${this.codeUrl}/qr/${token}` };
      }
      case 'alipay.trade.query':
        return this.#books.show(find());
      case 'alipay.trade.close': {
        const trade = find();
        this.#books.close(trade);
        return { out_trade_no: trade.outTradeNo, trade_no: trade.tradeNo };
      }
      case 'alipay.trade.refund': {
        const trade = find();
        const no = content.out_request_no;
        const moved = this.#books.refund(trade, no, content.refund_amount);
        if (moved) this.onRefund(trade, String(no));
        return {
          ...{ out_trade_no: trade.outTradeNo, trade_no: trade.tradeNo, fund_change: moved ? 'Y' : 'N' },
          refund_fee: toYuan(this.#books.refunded(trade)),
        };
      }
      case 'alipay.trade.fastpay.refund.query': {
        const trade = find();
        const no = String(content.out_request_no);
        const refund = trade.refunds.get(no);
        const both = { out_trade_no: trade.outTradeNo, trade_no: trade.tradeNo };
        if (refund === undefined) return {};
        return {
          ...both,
          ...{ out_request_no: no, refund_amount: toYuan(refund.amount), refund_status: 'REFUND_SUCCESS' },
          ...{ total_amount: toYuan(trade.total), gmt_refund_pay: beijing(refund.at) },
        };
      }
      default:
        throw new Refused('isv.invalid-method', '40002');
    }
  }

  /** A signed answer. Slashes are escaped as in Alipay's answers. The signature covers the text between the braces. */
  async write(method: string, appId: string, content: Content): Promise<string> {
    const inner = JSON.stringify({ code: '10000', msg: 'Success', ...content }).replaceAll('/', '\\/');
    const sign = await this.#oracle.signText(inner);
    const number = this.withCertificates.has(appId)
      ? `"alipay_cert_sn":"${this.#keys.apps[appId]?.numbers.alipay}",`
      : '';
    return `{"${method.replaceAll('.', '_')}_response":${inner},${number}"sign":"${sign}"}`;
  }

  /** A refusal. If the gateway does not know the application, the refusal is not signed. */
  async refuse(method: string, appId: string, { code, subCode }: Refused): Promise<string> {
    const content = { code, msg: 'Refused', sub_code: subCode, sub_msg: `Refused: ${subCode}` };
    if (code === '40002' && subCode === 'isv.invalid-app-id')
      return JSON.stringify({ error_response: content });
    return await this.write(method, appId, content);
  }
}
