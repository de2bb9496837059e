import { expect } from 'vitest';
import { type Accounts, reconcile } from '../../src/demo/accounts.ts';
import type { Books, Order, Payment, Refund, Trade } from '../../src/demo/books.ts';
import { closingTable, isClean, offendersList, type Report } from '../../src/demo/report.ts';

/** Books without any violation, for the tests of the demo's table, and functions that replace one entry. */

export const PAID_AT = '2026-11-21T10:00:00.000Z';

export const trade = (outTradeNo: string, more: Partial<Trade> = {}): Trade => ({
  outTradeNo,
  amount: 1050,
  currency: 'CNY',
  state: 'SUCCESS',
  paidAt: PAID_AT,
  refunded: 0,
  callbackAttempts: 2,
  ...more,
});

export const unpaidTrade = (outTradeNo: string) => trade(outTradeNo, { state: 'CLOSED', paidAt: null });

export const payment = (id: string, more: Partial<Payment> = {}): Payment => ({
  id,
  channel: 'simulator',
  status: 'succeeded',
  orderUpdate: 'applied',
  settledBy: 'callback',
  settledAt: '2026-11-21T10:00:02.500Z',
  receivedAmount: 1050,
  receivedCurrency: 'CNY',
  refundedAmount: 0,
  attention: null,
  attentionDetail: null,
  expiresAt: '2026-11-21T10:30:00.000Z',
  cancelRequestedAt: null,
  temporalUrl: `http://127.0.0.1:8233/namespaces/default/workflows/payment%2F${id}`,
  ...more,
});

export const order = (id: string, payments: readonly Payment[], more: Partial<Order> = {}): Order => ({
  id,
  amount: 1050,
  currency: 'CNY',
  status: 'succeeded',
  paidPaymentId: payments[0]?.id ?? null,
  payments,
  ...more,
});

export const waiting = { status: 'paying', orderUpdate: null, settledBy: null, settledAt: null } as const;
export const closed = { ...waiting, status: 'closed', receivedAmount: null, receivedCurrency: null } as const;

export const refund = (id: string, reason: string, more: Partial<Refund> = {}): Refund => ({
  id,
  amount: 1050,
  currency: 'CNY',
  status: 'succeeded',
  reason,
  settledAt: '2026-11-21T10:00:04.000Z',
  ...more,
});

/** The order could not accept this payment. The payment was refunded in full. */
export const conflict = { orderUpdate: 'conflict', refundedAmount: 1050 } as const;
export const givenBack = { state: 'REFUND', refunded: 1050 } as const;

/**
 * Books with two regular payments (one of them with a lost callback), an unpaid payment, an order that was paid on two
 * channels, a payment that was paid after its end, and a payment that was paid after its order was cancelled.
 */
export const right: Books = {
  trades: [
    trade('pay_1'),
    trade('pay_2', { callbackAttempts: 0 }),
    unpaidTrade('pay_3'),
    trade('pay_4'),
    trade('pay_5', givenBack),
    trade('pay_6', { currency: 'JPY' }),
    trade('pay_7', givenBack),
  ],
  orders: [
    order('order-1', [payment('pay_1')]),
    order('order-2', [payment('pay_2', { settledBy: 'query', settledAt: '2026-11-21T10:00:09.000Z' })]),
    order('order-3', [payment('pay_3', closed)], { status: 'unpaid', paidPaymentId: null }),
    order('order-4', [payment('pay_4'), payment('pay_5', { channel: 'simulator2', ...conflict })]),
    order('order-5', [payment('pay_6', { receivedCurrency: 'JPY', expiresAt: PAID_AT })], {
      currency: 'JPY',
    }),
    order('order-6', [payment('pay_7', conflict)], { status: 'cancelled', paidPaymentId: null }),
  ],
  refunds: new Map([
    ['pay_5', [refund('re_5', 'duplicate_payment')]],
    ['pay_7', [refund('re_7', 'late_payment', { settledAt: '2026-11-21T10:00:05.500Z' })]],
  ]),
};

export const account = (books: Books): Accounts =>
  reconcile(
    books,
    new Set(books.trades.filter(({ paidAt }) => paidAt !== null).map((paid) => paid.outTradeNo)),
  );

export const report = (accounts: Accounts, more: Partial<Report> = {}): Report => ({
  accounts,
  missing: 'never sent',
  scenes: new Set(['paidTwice', 'paidLate', 'cancelled']),
  shop: { bought: 3, doublePresses: [['pay_1', 'pay_1']], tooLate: 0, hints: 1, failures: [] },
  forged: { refused: 3, accepted: [] },
  killed: [{ name: 'worker', pid: 4711, afterMs: 16_000, backAfterMs: 4_200 }],
  seconds: 91.4,
  ...more,
});

/** Copies the books and replaces one order, one trade or one list of refunds. */
export const withOrder = (index: number, wrong: Order, books = right): Books => ({
  ...books,
  orders: books.orders.map((one, at) => (at === index ? wrong : one)),
});
export const withTrade = (wrong: Trade, books = right): Books => ({
  ...books,
  trades: books.trades.map((one) => (one.outTradeNo === wrong.outTradeNo ? wrong : one)),
});
export const withRefunds = (paymentId: string, refunds: readonly Refund[], books = right): Books => ({
  ...books,
  refunds: new Map([...books.refunds, [paymentId, refunds]]),
});

/** Expects that the books have exactly one violation, that the table and the list show it, and that the run fails. */
export function expectOffence(books: Books, kind: string, paymentId: string, row: RegExp): void {
  const accounts = account(books);
  expect(accounts.offences.map((offence) => [offence.kind, offence.paymentId])).toEqual([[kind, paymentId]]);
  expect(isClean(report(accounts))).toBe(false);
  expect(closingTable(report(accounts))).toMatch(row);
  expect(offendersList(report(accounts))).toContain(paymentId);
}
