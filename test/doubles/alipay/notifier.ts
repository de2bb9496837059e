import { type BookedTrade, type Books, beijing } from './books.ts';
import { toYuan } from './money.ts';
import type { Oracle } from './oracle.ts';

/** Sends notifications. python-alipay-sdk signs them. Each notification is repeated until it is acknowledged. */

export type Fate = 'delivered' | 'lost' | 'held' | 'doubled';

const AT_MOST = 3;

export class Notifier {
  readonly #books: Books;
  readonly #oracle: Oracle;
  readonly sellers: Readonly<Record<string, string>>;
  fate: Fate = 'delivered';
  readonly held: { url: string; body: string }[] = [];
  /** The merchant's answers to the notifications, oldest first. */
  readonly answers: { status: number; body: string }[] = [];

  constructor(books: Books, oracle: Oracle, sellers: Readonly<Record<string, string>>) {
    this.#books = books;
    this.#oracle = oracle;
    this.sellers = sellers;
  }

  /** Returns the signed body of a notification with these parameters. */
  async write(params: Readonly<Record<string, string>>): Promise<string> {
    const sign = await this.#oracle.signParams(params);
    return new URLSearchParams({ ...params, sign_type: 'RSA2', sign }).toString();
  }

  params(trade: BookedTrade, refundNo?: string): Record<string, string> {
    const now = beijing(this.#books.now());
    const back = this.#books.refunded(trade);
    return {
      ...{ app_id: trade.appId, auth_app_id: trade.appId, charset: 'utf-8', version: '1.0' },
      ...{ notify_id: `2026${this.#books.next()}222`, notify_type: 'trade_status_sync', notify_time: now },
      ...{ out_trade_no: trade.outTradeNo, trade_no: trade.tradeNo, trade_status: trade.status },
      ...{ seller_id: this.sellers[trade.appId] ?? '', buyer_id: '2088000000000001', subject: trade.subject },
      ...{ total_amount: toYuan(trade.total), buyer_pay_amount: toYuan(trade.total), gmt_create: now },
      ...(trade.paidAt === null ? {} : { gmt_payment: beijing(trade.paidAt) }),
      fund_bill_list: `[{"amount":"${toYuan(trade.total)}","fundChannel":"ALIPAYACCOUNT"}]`,
      ...(refundNo === undefined
        ? {}
        : { out_biz_no: refundNo, gmt_refund: `${now}.320`, refund_fee: toYuan(back) }),
    };
  }

  /** Creates a notification. `fate` decides whether it is sent in the background, held or lost. */
  async tell(trade: BookedTrade, refundNo?: string): Promise<void> {
    const notification = { url: trade.notifyUrl, body: await this.write(this.params(trade, refundNo)) };
    if (this.fate === 'held') this.held.push(notification);
    if (this.fate === 'held' || this.fate === 'lost') return;
    void this.#deliver(notification, this.fate === 'doubled' ? 2 : 1);
  }

  async #deliver(notification: { url: string; body: string }, times: number): Promise<void> {
    for (let nth = 0; nth < times; nth += 1) await this.send(notification);
  }

  async send({ url, body }: { url: string; body: string }): Promise<void> {
    for (let times = 0; times < AT_MOST; times += 1) {
      const response = await fetch(url, {
        method: 'POST',
        headers: { 'content-type': 'application/x-www-form-urlencoded; charset=utf-8' },
        body,
      }).catch(() => undefined);
      const answer = response === undefined ? undefined : await response.text();
      if (response !== undefined) this.answers.push({ status: response.status, body: answer ?? '' });
      if (answer === 'success') return;
    }
  }
}
