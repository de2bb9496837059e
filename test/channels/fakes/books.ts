import { randomUUID } from 'node:crypto';
import type { Trade } from '../../../src/domain/channel.ts';
import type { ContractChannel } from '../contract/types.ts';

/**
 * The common part of the fake channels. It keeps the books of trades and refunds, and lets a payer and a dashboard
 * change them.
 */

export interface BookRefund {
  readonly id: string;
  /** The merchant's number of the refund. Null for a refund that was made at the channel itself. */
  readonly no: string | null;
  /** The amount in the channel's own smallest units. */
  readonly amount: number;
  state: 'processing' | 'succeeded' | 'failed' | 'reversed' | 'needs_person' | 'ask_again';
  readonly at: string;
}

export interface BookDispute {
  readonly id: string;
  state: 'open' | 'won' | 'lost';
}

export interface BookTrade {
  readonly id: string;
  readonly account: string;
  /** The trade number, which the merchant chose. */
  readonly no: string;
  /**
   * The amount in the channel's own smallest units. A whole unit consists of 10 to the power of `places` smallest
   * units.
   */
  readonly amount: number;
  readonly currency: string;
  readonly places: number;
  readonly notifyUrl: string;
  readonly at: string;
  state: 'unpaid' | 'processing' | 'paid' | 'closed' | 'declined';
  paidAt: string | null;
  readonly disputes: BookDispute[];
  readonly refunds: BookRefund[];
}

/** An event that the channel reports with a callback. */
export interface BookEvent {
  readonly about: 'trade' | 'refund' | 'dispute';
  readonly trade: BookTrade;
  readonly refund?: BookRefund;
  readonly dispute?: BookDispute;
}

const GIVES_BACK = ['processing', 'succeeded'];
export const givesBack = ({ state }: BookRefund): boolean => GIVES_BACK.includes(state);
export const sumOf = (refunds: readonly BookRefund[]): number =>
  refunds.reduce((sum, { amount }) => sum + amount, 0);
export const isRefunded = (trade: BookTrade): boolean =>
  sumOf(trade.refunds.filter(({ state }) => state === 'succeeded')) === trade.amount;

export class Books {
  readonly trades: BookTrade[] = [];
  /** The books call this function for every event that the channel reports to the merchant. */
  listener: (event: BookEvent) => Promise<void> = async () => {};
  /** True if refunds stay in process until `finishRefunds`. */
  refundsTakeTime = false;
  refundsBecome: 'good' | 'needs_person' | 'ask_again' | 'failed' = 'good';
  #ahead = 0;

  now(): number {
    return Date.now() + this.#ahead;
  }

  time(): string {
    return new Date(this.now()).toISOString();
  }

  advance(ms: number): void {
    this.#ahead += ms;
  }

  create(
    terms: Pick<BookTrade, 'account' | 'no' | 'amount' | 'currency' | 'places' | 'notifyUrl'>,
  ): BookTrade {
    const rest = { state: 'unpaid' as const, paidAt: null, disputes: [], refunds: [] };
    const trade: BookTrade = { ...terms, id: `t_${randomUUID()}`, at: this.time(), ...rest };
    this.trades.push(trade);
    return trade;
  }

  byNo(account: string, no: string): BookTrade | undefined {
    return this.trades.find((trade) => trade.account === account && trade.no === no);
  }

  byId(account: string, id: string): BookTrade | undefined {
    return this.trades.find((trade) => trade.account === account && trade.id === id);
  }

  /**
   * Applies what the payer does to the trade.
   * @returns false if the trade can no longer be paid
   */
  async act(trade: BookTrade, state: 'paid' | 'declined' | 'processing'): Promise<boolean> {
    if (trade.state === 'paid') return true;
    if (trade.state === 'closed' || trade.state === 'declined') return false;
    trade.state = state;
    if (state === 'paid') trade.paidAt = this.time();
    await this.listener({ about: 'trade', trade });
    return true;
  }

  /** @returns null if the amount is more than the amount that is left to refund */
  async refund(trade: BookTrade, no: string | null, amount: number): Promise<BookRefund | null> {
    if (trade.paidAt === null || amount > trade.amount - sumOf(trade.refunds.filter(givesBack))) return null;
    const state = this.refundsBecome === 'good' ? 'processing' : this.refundsBecome;
    const refund: BookRefund = { id: `r_${randomUUID()}`, no, amount, state, at: this.time() };
    trade.refunds.push(refund);
    if (!this.refundsTakeTime) await this.finish(trade, refund);
    return refund;
  }

  async finish(trade: BookTrade, refund: BookRefund): Promise<void> {
    if (refund.state !== 'processing') return;
    refund.state = 'succeeded';
    await this.listener({ about: 'refund', trade, refund });
  }
}

/** Converts the channel's smallest units to a decimal number of whole units. */
export function wholeUnits(amount: number, places: number): string {
  const digits = String(amount).padStart(places + 1, '0');
  return places === 0 ? digits : `${digits.slice(0, -places)}.${digits.slice(-places)}`;
}

/** The actions of a payer and a merchant that every fake supports. A fake can add its own actions. */
export function channelOf(
  books: Books,
): ContractChannel & Required<Pick<ContractChannel, 'advance' | 'close'>> {
  const find = ({ outTradeNo }: Trade): BookTrade => {
    const trade = books.trades.find(({ no }) => no === outTradeNo);
    if (trade === undefined) throw new Error(`the fake has no trade ${outTradeNo}`);
    return trade;
  };
  return {
    async books({ outTradeNo }) {
      const all = books.trades.filter(({ no }) => no === outTradeNo);
      const [first] = all;
      return {
        trades: all.length,
        asked: first === undefined ? '' : wholeUnits(first.amount, first.places),
        currency: first?.currency ?? '',
        refunded: wholeUnits(sumOf(first?.refunds.filter(givesBack) ?? []), first?.places ?? 0),
      };
    },
    pay: async (trade) => await books.act(find(trade), 'paid'),
    async decline(trade) {
      await books.act(find(trade), 'declined');
    },
    async startProcessing(trade) {
      await books.act(find(trade), 'processing');
    },
    async close(trade) {
      find(trade).state = 'closed';
    },
    async refund(trade, amount) {
      const { places, currency } = find(trade);
      await books.refund(find(trade), null, unitsAt(places, amount, currency));
    },
    advance: (ms) => books.advance(ms),
  };
}

/**
 * Converts minor units of ISO 4217 to the channel's own units. For a few currencies the channel's units have other
 * decimal places.
 */
export function unitsAt(places: number, amount: number, currency: string): number {
  return Math.round(amount * 10 ** (places - isoPlaces(currency)));
}

const isoPlaces = (currency: string): number => ({ JPY: 0, ISK: 0, KWD: 3 })[currency] ?? 2;
