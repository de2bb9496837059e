import { randomUUID } from 'node:crypto';
import { SimulatorError } from './errors.ts';
import type { Notifier } from './notifier.ts';
import type { Act, PayResult, Refund, Store, Trade } from './store.ts';
import { ACT_AFTER_MS, IN_PROCESS_MS, REFUND_MS, readTriggers, type Trigger } from './triggers.ts';
import { amountOf, type TradeView, tradeView } from './view.ts';

/** The content of a merchant's request to create a trade. */
export type TradeTerms = Pick<
  Trade,
  'outTradeNo' | 'amount' | 'currency' | 'subject' | 'notifyUrl' | 'returnUrl' | 'expiresAt'
>;

const STATE_AFTER = { success: 'SUCCESS', declined: 'PAYERROR', processing: 'PROCESSING' } as const;

/**
 * The rules of the wallet. Every method changes the ledger in one synchronous step. Callers answer only after
 * `Store.durable()`.
 */
export class Trades {
  readonly #store: Store;
  readonly #notifier: Notifier;
  readonly #timers = new Set<NodeJS.Timeout>();

  constructor(store: Store, notifier: Notifier) {
    this.#store = store;
    this.#notifier = notifier;
  }

  /** Continues the unfinished work of an earlier process: refunds in process, and automatic actions of trades. */
  start(): void {
    for (const refund of this.#store.refunds.values()) this.#settleWhenDue(refund);
    for (const trade of this.#store.trades.values()) this.#actWhenDue(trade);
  }

  stop(): void {
    for (const timer of this.#timers) clearTimeout(timer);
  }

  /**
   * Creates a trade. If a trade with the same number and terms exists, returns that trade.
   * @throws SimulatorError 409 `OUT_TRADE_NO_USED`, 400 `PARAM_ERROR` for an unknown trigger
   */
  create(account: string, terms: TradeTerms): { readonly trade: Trade; readonly isNew: boolean } {
    const existing = this.#store.trades.get(terms.outTradeNo);
    if (existing === undefined) {
      const triggers = readTriggers(terms.subject, terms.amount);
      const trade: Trade = {
        ...terms,
        account,
        state: 'NOTPAY',
        transactionId: null,
        actedAt: null,
        paidAt: null,
        refunded: 0,
        refunding: 0,
        createdCount: 1,
        queryCount: 0,
        callbackAttempts: 0,
        ...(triggers.length === 0 ? {} : { triggers, acts: actsOf(triggers) }),
      };
      this.#store.write({ trade });
      this.#actWhenDue(trade);
      return { trade, isNew: true };
    }
    const names = Object.keys(terms) as (keyof TradeTerms)[];
    if (existing.account !== account || names.some((name) => existing[name] !== terms[name])) {
      throw new SimulatorError(409, 'OUT_TRADE_NO_USED', 'The number names a trade with other content.');
    }
    const trade = { ...existing, createdCount: existing.createdCount + 1 };
    this.#store.write({ trade });
    return { trade, isNew: false };
  }

  /** @throws SimulatorError 404 `TRADE_NOT_FOUND`, also for a trade of another account. */
  find(outTradeNo: string, account?: string): Trade {
    const trade = this.#store.trades.get(outTradeNo);
    if (trade === undefined || (account !== undefined && trade.account !== account)) {
      throw new SimulatorError(404, 'TRADE_NOT_FOUND', 'No trade has this number.');
    }
    return trade;
  }

  /** Returns the trade as a query shows it. The fault `query.lagMs` hides the payer's action for this many ms. */
  query(account: string, outTradeNo: string): TradeView {
    const trade = this.find(outTradeNo, account);
    this.#store.write({ queried: outTradeNo });
    const lagging =
      trade.actedAt !== null && Date.now() < Date.parse(trade.actedAt) + this.#store.faults.query.lagMs;
    return tradeView(
      lagging ? { ...trade, state: 'NOTPAY', paidAt: null, transactionId: null, refunded: 0 } : trade,
    );
  }

  /**
   * Closes an unpaid trade. A trade that is already closed or declined stays as it is.
   * @param ineffective true if the payer can still pay the closed trade.
   * @throws SimulatorError 409 `ORDERPAID`, `PROCESSING`
   */
  close(account: string, outTradeNo: string, ineffective = false): Trade {
    const trade = this.find(outTradeNo, account);
    switch (trade.state) {
      case 'SUCCESS':
      case 'REFUND':
        throw new SimulatorError(409, 'ORDERPAID', 'The trade is paid.');
      case 'PROCESSING':
        throw new SimulatorError(409, 'PROCESSING', 'The payment is being decided.');
      case 'NOTPAY': {
        const closed: Trade = {
          ...trade,
          state: 'CLOSED',
          ...(ineffective ? { payableWhenClosed: true } : {}),
          ...(trade.triggers?.includes('paid-after-close')
            ? { payableWhenClosed: true, acts: [actIn(ACT_AFTER_MS, 'success')] }
            : {}),
        };
        this.#store.write({ trade: closed });
        this.#actWhenDue(closed);
        return closed;
      }
      default:
        return trade;
    }
  }

  /**
   * Carries out the payer's action. A repeated action has no effect. If a payment is in process, or its close had no
   * effect, it can still be decided after the expiry.
   * @throws SimulatorError 409 if the trade is closed, expired, or already decided differently.
   */
  pay(outTradeNo: string, result: PayResult): Trade {
    const trade = this.find(outTradeNo);
    const state = STATE_AFTER[result];
    if (trade.state === state || (trade.state === 'REFUND' && state === 'SUCCESS')) return trade;
    if (trade.state === 'CLOSED' && !trade.payableWhenClosed)
      throw new SimulatorError(409, 'TRADE_CLOSED', 'The trade is closed.');
    if (trade.state === 'PAYERROR') throw new SimulatorError(409, 'PAYERROR', 'The payment was declined.');
    if (trade.state === 'SUCCESS' || trade.state === 'REFUND') {
      throw new SimulatorError(409, 'ORDERPAID', 'The trade is paid.');
    }
    // An expired trade is not closed automatically, but it can no longer be paid. WeChat Pay does the same.
    if (trade.state === 'NOTPAY' && isExpired(trade)) {
      throw new SimulatorError(409, 'TRADE_EXPIRED', 'The time to pay is over.');
    }
    const now = new Date().toISOString();
    const changed: Trade = {
      ...trade,
      state,
      actedAt: now,
      ...(state === 'SUCCESS' ? { paidAt: now, transactionId: `sim_${randomUUID()}` } : {}),
      ...(state === 'SUCCESS' && trade.triggers?.includes('wrong-amount')
        ? { charged: trade.amount - 1 }
        : {}),
    };
    this.#store.write({ trade: changed });
    if (state === 'SUCCESS') this.#notifier.notify(changed, 'trade.succeeded');
    if (state === 'PAYERROR') this.#notifier.notify(changed, 'trade.failed');
    return changed;
  }

  /**
   * Refunds `amount` minor units. If a refund with the same number and content exists, returns that refund.
   * @param isBalanceTooLow true if the merchant's balance is currently too low for a new refund.
   * @throws SimulatorError 409 `OUT_REFUND_NO_USED`, `TRADE_NOT_PAID`, `REFUND_EXCEEDS_PAYMENT`, `REFUND_NOT_ALLOWED`
   *   or `BALANCE_TOO_LOW`.
   */
  refund(
    account: string,
    outTradeNo: string,
    terms: Pick<Refund, 'outRefundNo' | 'amount'>,
    isBalanceTooLow = false,
  ): { readonly refund: Refund; readonly isNew: boolean } {
    const trade = this.find(outTradeNo, account);
    const existing = this.#store.refunds.get(terms.outRefundNo);
    if (existing !== undefined) {
      if (existing.outTradeNo === outTradeNo && existing.amount === terms.amount) {
        return { refund: existing, isNew: false };
      }
      throw new SimulatorError(409, 'OUT_REFUND_NO_USED', 'The number names a refund with other content.');
    }
    if (trade.paidAt === null) throw new SimulatorError(409, 'TRADE_NOT_PAID', 'The trade is not paid.');
    if (terms.amount > amountOf(trade) - trade.refunded - trade.refunding) {
      throw new SimulatorError(409, 'REFUND_EXCEEDS_PAYMENT', 'More than is left of the payment.');
    }
    const { triggers = [] } = trade;
    if (triggers.includes('refund-refused')) {
      throw new SimulatorError(409, 'REFUND_NOT_ALLOWED', 'This payment cannot be refunded.');
    }
    if (isBalanceTooLow) {
      throw new SimulatorError(409, 'BALANCE_TOO_LOW', 'The balance is too low for this refund.');
    }
    const isSilent = triggers.includes('refund-silent');
    const processingMs = Math.max(
      this.#store.faults.refund.processingMs,
      isSilent || triggers.includes('refund-in-process') ? REFUND_MS : 0,
    );
    const refund: Refund = {
      ...terms,
      account,
      outTradeNo,
      refundId: `simr_${randomUUID()}`,
      state: 'PROCESSING',
      settlesAt: new Date(Date.now() + processingMs).toISOString(),
      ...(isSilent ? { silent: true } : {}),
    };
    this.#store.write({ refund });
    this.#store.write({ trade: { ...trade, refunding: trade.refunding + refund.amount } });
    if (processingMs === 0) this.#settle(refund);
    else this.#settleWhenDue(refund);
    return { refund: this.findRefund(account, terms.outRefundNo), isNew: true };
  }

  /** @throws SimulatorError 404 `REFUND_NOT_FOUND` */
  findRefund(account: string, outRefundNo: string): Refund {
    const refund = this.#store.refunds.get(outRefundNo);
    if (refund?.account === account) return refund;
    throw new SimulatorError(404, 'REFUND_NOT_FOUND', 'No refund has this number.');
  }

  /** The payments and refunds of an account on a UTC day (`YYYY-MM-DD`), oldest first. */
  statement(account: string, day: string) {
    const rows = [];
    for (const trade of this.#store.trades.values()) {
      if (trade.account !== account || !trade.paidAt?.startsWith(day)) continue;
      const { outTradeNo, currency, transactionId, paidAt } = trade;
      const amount = amountOf(trade);
      rows.push({ type: 'payment' as const, outTradeNo, transactionId, amount, currency, at: paidAt });
    }
    for (const refund of this.#store.refunds.values()) {
      if (refund.account !== account || refund.state !== 'SUCCESS') continue;
      if (!refund.settlesAt.startsWith(day)) continue;
      const { outTradeNo, outRefundNo, refundId, amount, settlesAt } = refund;
      const { currency } = this.find(outTradeNo);
      const names = { outTradeNo, outRefundNo, refundId };
      rows.push({ type: 'refund' as const, ...names, amount, currency, at: settlesAt });
    }
    return rows.sort((a, b) => a.at.localeCompare(b.at));
  }

  /** Waits until the trade's next automatic action is due, carries it out, and continues with the next action. */
  #actWhenDue({ outTradeNo, acts }: Trade): void {
    const [next] = acts ?? [];
    if (next === undefined) return;
    this.#at(next.at, () => {
      // The trade was closed or the ledger was emptied in the meantime, so this action is no longer due.
      if (this.#store.trades.get(outTradeNo)?.acts?.[0] !== next) return;
      try {
        this.pay(outTradeNo, next.result);
      } catch (error) {
        // The action was refused, because a person acted first or the trade has expired. There is nothing left to do.
        if (!(error instanceof SimulatorError)) throw error;
      }
      // The action is recorded after it was carried out. If the process is killed in between, the next process repeats
      // the action, and the repetition has no effect.
      const { acts: done = [], ...trade } = this.find(outTradeNo);
      const rest: Trade = done.length > 1 ? { ...trade, acts: done.slice(1) } : trade;
      this.#store.write({ trade: rest });
      this.#actWhenDue(rest);
    });
  }

  #settleWhenDue(refund: Refund): void {
    if (refund.state === 'PROCESSING') this.#at(refund.settlesAt, () => this.#settle(refund));
  }

  #at(time: string, work: () => void): void {
    const timer = setTimeout(
      () => {
        this.#timers.delete(timer);
        work();
      },
      Math.max(0, Date.parse(time) - Date.now()),
    );
    this.#timers.add(timer);
  }

  /** Completes the refund, unless the ledger was emptied in the meantime. */
  #settle(refund: Refund): void {
    const trade = this.#store.trades.get(refund.outTradeNo);
    if (trade === undefined || this.#store.refunds.get(refund.outRefundNo) !== refund) return;
    const refunded = trade.refunded + refund.amount;
    const changed: Trade = {
      ...trade,
      refunded,
      refunding: trade.refunding - refund.amount,
      state: refunded === amountOf(trade) ? 'REFUND' : trade.state,
    };
    this.#store.write({ refund: { ...refund, state: 'SUCCESS' } });
    this.#store.write({ trade: changed });
    this.#notifier.notify(changed, 'refund.succeeded', {
      outRefundNo: refund.outRefundNo,
      refundAmount: refund.amount,
      refundId: refund.refundId,
    });
  }
}

/** True once the wallet no longer accepts a payment for the trade. */
export function isExpired(trade: Trade): boolean {
  return Date.now() >= Date.parse(trade.expiresAt);
}

const actIn = (ms: number, result: PayResult): Act => ({
  at: new Date(Date.now() + ms).toISOString(),
  result,
});

/** Returns the automatic actions of a new trade. */
function actsOf(triggers: readonly Trigger[]): readonly Act[] {
  if (triggers.includes('paid')) return [actIn(ACT_AFTER_MS, 'success')];
  if (triggers.includes('declined')) return [actIn(ACT_AFTER_MS, 'declined')];
  if (triggers.includes('in-process'))
    return [actIn(ACT_AFTER_MS, 'processing'), actIn(ACT_AFTER_MS + IN_PROCESS_MS, 'success')];
  return [];
}
