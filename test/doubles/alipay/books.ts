import { fen, toYuan } from './money.ts';

/** The books of the Alipay double: the actual state of every trade. The double's answers may report another state. */

/** A refusal by Alipay, with the code and the sub-code of its answer. */
export class Refused extends Error {
  readonly code: string;
  readonly subCode: string;

  constructor(subCode: string, code = '40004') {
    super(subCode);
    this.code = code;
    this.subCode = subCode;
  }
}

export interface Terms {
  readonly appId: string;
  readonly outTradeNo: string;
  readonly total: number;
  readonly subject: string;
  readonly notifyUrl: string;
  /** The time from which the trade can no longer be paid, in epoch ms. */
  readonly ends: number;
}

export interface BookedTrade extends Terms {
  readonly tradeNo: string;
  readonly createdAt: number;
  status: 'WAIT_BUYER_PAY' | 'TRADE_SUCCESS' | 'TRADE_FINISHED' | 'TRADE_CLOSED';
  paidAt: number | null;
  readonly refunds: Map<string, { readonly amount: number; readonly at: number }>;
}

const NUMBER = /^[0-9A-Za-z_]{1,64}$/;
const YUAN = /^\d{1,9}\.\d{2}$/;
const BEIJING = /^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d$/;
const BEIJING_AHEAD_MS = 8 * 3_600_000;

export const beijing = (at: number): string =>
  new Date(at + BEIJING_AHEAD_MS).toISOString().slice(0, 19).replace('T', ' ');
export const epoch = (text: string): number =>
  BEIJING.test(text) ? Date.parse(`${text.replace(' ', 'T')}Z`) - BEIJING_AHEAD_MS : Number.NaN;

export class Books {
  readonly trades = new Map<string, BookedTrade>();
  readonly codes = new Map<string, Terms>();
  balanceIsLow = false;
  /** How far the double's clock is ahead of the real time. */
  offsetMs = 0;
  /**
   * The times of trades and refunds are this many ms ahead of the double's clock. Signatures use the double's clock.
   */
  bookOffsetMs = 0;
  #nth = 0;

  /** The time that the double uses for signatures. */
  signedAt = (): number => Date.now() + this.offsetMs;
  now = (): number => this.signedAt() + this.bookOffsetMs;

  next(): string {
    this.#nth += 1;
    return String(this.#nth).padStart(8, '0');
  }

  /** Reads the terms of a trade from a request. @throws Refused for terms that Alipay does not accept */
  terms(appId: string, notifyUrl: string | undefined, content: Record<string, unknown>): Terms {
    const { out_trade_no: no, total_amount: total, subject, time_expire: expire } = content;
    const ends = typeof expire === 'string' ? epoch(expire) : Number.NaN;
    const isGood =
      typeof no === 'string' &&
      NUMBER.test(no) &&
      typeof total === 'string' &&
      YUAN.test(total) &&
      fen(total) >= 1 &&
      fen(total) <= 10_000_000_000 &&
      typeof subject === 'string' &&
      subject.trim() !== '' &&
      subject.length <= 256 &&
      !/[/=&]/.test(subject) &&
      !Number.isNaN(ends) &&
      ends <= this.now() + 15 * 86_400_000 &&
      notifyUrl !== undefined &&
      notifyUrl.length <= 256;
    if (!isGood) throw new Refused('ACQ.INVALID_PARAMETER');
    return { appId, outTradeNo: no, total: fen(total), subject, notifyUrl, ends };
  }

  find(appId: string, outTradeNo: unknown): BookedTrade {
    const trade = this.trades.get(`${appId} ${outTradeNo}`);
    if (trade === undefined) throw new Refused('ACQ.TRADE_NOT_EXIST');
    if (trade.status === 'WAIT_BUYER_PAY' && this.now() >= trade.ends) trade.status = 'TRADE_CLOSED';
    return trade;
  }

  /**
   * Creates the trade, as the payer does by opening a page or scanning a code.
   * @throws Refused
   */
  open(terms: Terms): BookedTrade {
    const key = `${terms.appId} ${terms.outTradeNo}`;
    if (!this.trades.has(key)) {
      if (this.now() >= terms.ends) throw new Refused('ACQ.TRADE_HAS_CLOSE');
      const createdAt = this.now();
      const tradeNo = `${beijing(createdAt).slice(0, 10).replaceAll('-', '')}22001${this.next()}`;
      this.trades.set(key, {
        ...terms,
        ...{ tradeNo, createdAt, status: 'WAIT_BUYER_PAY', paidAt: null, refunds: new Map() },
      });
    }
    const trade = this.find(terms.appId, terms.outTradeNo);
    if (trade.total !== terms.total) throw new Refused('ACQ.CONTEXT_INCONSISTENT');
    return trade;
  }

  /**
   * Pays the trade.
   * @throws Refused if the trade can no longer be paid
   */
  pay(trade: BookedTrade): void {
    this.find(trade.appId, trade.outTradeNo);
    if (trade.status === 'TRADE_CLOSED') throw new Refused('ACQ.TRADE_HAS_CLOSE');
    if (trade.status !== 'WAIT_BUYER_PAY') throw new Refused('ACQ.TRADE_HAS_SUCCESS');
    trade.status = 'TRADE_SUCCESS';
    trade.paidAt = this.now();
  }

  /** @throws Refused */
  close(trade: BookedTrade): void {
    if (trade.status !== 'WAIT_BUYER_PAY') throw new Refused('ACQ.TRADE_STATUS_ERROR');
    trade.status = 'TRADE_CLOSED';
  }

  refunded({ refunds }: BookedTrade): number {
    return [...refunds.values()].reduce((sum, { amount }) => sum + amount, 0);
  }

  /**
   * @returns true if this request moved money; false if it repeats an earlier refund
   * @throws Refused
   */
  refund(trade: BookedTrade, no: unknown, yuan: unknown): boolean {
    if (typeof no !== 'string' || !NUMBER.test(no) || typeof yuan !== 'string' || !YUAN.test(yuan)) {
      throw new Refused('ACQ.INVALID_PARAMETER');
    }
    const amount = fen(yuan);
    const known = trade.refunds.get(no);
    if (known !== undefined) {
      if (known.amount !== amount) throw new Refused('ACQ.DISCORDANT_REPEAT_REQUEST');
      return false;
    }
    if (trade.status === 'TRADE_FINISHED') throw new Refused('ACQ.TRADE_HAS_FINISHED');
    if (trade.status !== 'TRADE_SUCCESS') throw new Refused('ACQ.TRADE_STATUS_ERROR');
    const left = trade.total - this.refunded(trade);
    if (amount > left) throw new Refused('ACQ.REFUND_AMT_NOT_EQUAL_TOTAL');
    if (this.balanceIsLow) throw new Refused('ACQ.SELLER_BALANCE_NOT_ENOUGH');
    trade.refunds.set(no, { amount, at: this.now() });
    if (amount === left) trade.status = 'TRADE_CLOSED';
    return true;
  }

  /**
   * Every trade with its amounts, as the books record them. The double may report other amounts. Amounts are in fen,
   * times in ISO 8601.
   */
  ledger() {
    return [...this.trades.values()].map((trade) => ({
      outTradeNo: trade.outTradeNo,
      amount: trade.total,
      currency: 'CNY',
      state: trade.status,
      paidAt: trade.paidAt === null ? null : new Date(trade.paidAt).toISOString(),
      refunded: this.refunded(trade),
    }));
  }

  /** The trade in the form in which a query reports it. */
  show(trade: BookedTrade): Record<string, string> {
    const paid = trade.paidAt !== null;
    return {
      buyer_logon_id: 'pay***@double.example',
      buyer_pay_amount: paid ? toYuan(trade.total) : '0.00',
      buyer_user_id: '2088000000000001',
      invoice_amount: '0.00',
      out_trade_no: trade.outTradeNo,
      point_amount: '0.00',
      receipt_amount: paid ? toYuan(trade.total) : '0.00',
      ...(trade.paidAt === null ? {} : { send_pay_date: beijing(trade.paidAt) }),
      total_amount: toYuan(trade.total),
      trade_no: trade.tradeNo,
      trade_status: trade.status,
    };
  }
}
