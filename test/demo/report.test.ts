// The demo's table is evidence only if a bug would show in it: each kind of offence is put into the books here.
import { describe, expect, test } from 'vitest';
import { type Accounts, reconcile } from '../../src/demo/accounts.ts';
import type { Books, Order, Payment, Trade } from '../../src/demo/books.ts';
import { planPayers } from '../../src/demo/payers.ts';
import { closingTable, isClean, offendersList, type Report } from '../../src/demo/report.ts';

const PAID_AT = '2026-11-21T10:00:00.000Z';

const trade = (outTradeNo: string, more: Partial<Trade> = {}): Trade => ({
  outTradeNo,
  amount: 1050,
  currency: 'CNY',
  state: 'SUCCESS',
  paidAt: PAID_AT,
  callbackAttempts: 2,
  ...more,
});

const unpaidTrade = (outTradeNo: string) => trade(outTradeNo, { state: 'CLOSED', paidAt: null });

const payment = (id: string, more: Partial<Payment> = {}): Payment => ({
  id,
  status: 'succeeded',
  orderUpdate: 'applied',
  settledBy: 'callback',
  settledAt: '2026-11-21T10:00:02.500Z',
  receivedAmount: 1050,
  receivedCurrency: 'CNY',
  temporalUrl: `http://127.0.0.1:8233/namespaces/default/workflows/payment%2F${id}`,
  ...more,
});

const order = (id: string, payments: readonly Payment[], more: Partial<Order> = {}): Order => ({
  id,
  amount: 1050,
  currency: 'CNY',
  status: 'succeeded',
  paidPaymentId: payments[0]?.id ?? null,
  payments,
  ...more,
});

const waiting = { status: 'paying', orderUpdate: null, settledBy: null, settledAt: null } as const;
const closed = { ...waiting, status: 'closed', receivedAmount: null, receivedCurrency: null } as const;

/** Two payments that went right, one of them after its callback was lost, and one that nobody paid. */
const right: Books = {
  trades: [trade('pay_1'), trade('pay_2', { callbackAttempts: 0 }), unpaidTrade('pay_3')],
  orders: [
    order('order-1', [payment('pay_1')]),
    order('order-2', [payment('pay_2', { settledBy: 'query', settledAt: '2026-11-21T10:00:09.000Z' })]),
    order('order-3', [payment('pay_3', closed)], { status: 'unpaid', paidPaymentId: null }),
  ],
};

const account = (books: Books): Accounts =>
  reconcile(
    books,
    new Set(books.trades.filter(({ paidAt }) => paidAt !== null).map((paid) => paid.outTradeNo)),
  );

const report = (accounts: Accounts, more: Partial<Report> = {}): Report => ({
  accounts,
  shop: { bought: 3, doublePresses: [['pay_1', 'pay_1']], tooLate: 0, hints: 1, failures: [] },
  forged: { refused: 3, accepted: [] },
  killed: [{ name: 'worker', pid: 4711, afterMs: 16_000, backAfterMs: 4_200 }],
  seconds: 91.4,
  ...more,
});

/** The books with one order replaced. */
const withOrder = (index: number, wrong: Order): Books => ({
  ...right,
  orders: right.orders.map((one, at) => (at === index ? wrong : one)),
});

/** What every offence must do: be counted, be listed with its ids and link, and end the demo with 1. */
function expectOffence(books: Books, kind: string, paymentId: string, row: RegExp): void {
  const accounts = account(books);
  expect(accounts.offences.map((offence) => [offence.kind, offence.paymentId])).toEqual([[kind, paymentId]]);
  expect(isClean(report(accounts))).toBe(false);
  expect(closingTable(report(accounts))).toMatch(row);
  expect(offendersList(report(accounts))).toContain(paymentId);
}

describe('books that agree', () => {
  test('give no offence, equal totals, and how each payment was found out', () => {
    const accounts = account(right);
    expect(accounts.offences).toEqual([]);
    expect(accounts.wallet).toEqual({ count: 2, sums: new Map([['CNY', 2100]]) });
    expect(accounts.orders).toEqual(accounts.wallet);
    expect(accounts.found).toEqual([
      { settledBy: 'callback', callbackLost: false, seconds: 2.5 },
      { settledBy: 'query', callbackLost: true, seconds: 9 },
    ]);
    expect(accounts.live).toBe(0);
    expect(accounts.unpaid).toEqual(new Map([['closed', 1]]));
    expect(isClean(report(accounts))).toBe(true);
    expect(offendersList(report(accounts))).toBe('');
  });

  test('make a table of at most 100 columns', () => {
    const table = closingTable(report(account(right)));
    expect(Math.max(...table.split('\n').map((line) => line.length))).toBeLessThanOrEqual(100);
    expect(table).toMatch(/paid in the wallet +2 +CNY 21\.00/);
    expect(table).toMatch(/a query on schedule +1 +1 +9\.0 +9\.0 +9\.0/);
    expect(table).toMatch(/worker \(process 4711\) at 16 s, at work again 4\.2 s later/);
  });
});

describe('a dropped order', () => {
  test('that still waits is shown with its workflow', () => {
    const books = withOrder(
      0,
      order('order-1', [payment('pay_1', waiting)], { status: 'paying', paidPaymentId: null }),
    );
    expectOffence(books, 'dropped', 'pay_1', /dropped[^\n]+ 1 +!!! must be 0/);
    expect(offendersList(report(account(books)))).toContain('/workflows/payment%2Fpay_1');
    expect(account(books).live).toBe(1);
  });

  test('that was closed though it was paid', () => {
    const books = withOrder(
      0,
      order('order-1', [payment('pay_1', closed)], { status: 'unpaid', paidPaymentId: null }),
    );
    expectOffence(books, 'dropped', 'pay_1', /dropped[^\n]+ 1 +!!! must be 0/);
  });

  test('whose money is known and has decided nothing yet', () => {
    const books = withOrder(
      0,
      order('order-1', [payment('pay_1', { orderUpdate: 'review' })], {
        status: 'succeeded',
        paidPaymentId: 'pay_1',
      }),
    );
    expectOffence(books, 'dropped', 'pay_1', /dropped[^\n]+ 1 +!!! must be 0/);
  });

  test('that the API does not list at all', () => {
    const books = { ...right, orders: right.orders.slice(1) };
    expectOffence(books, 'dropped', 'pay_1', /dropped[^\n]+ 1 +!!! must be 0/);
  });
});

describe('an order paid without money', () => {
  const row = /paid without money +1 +!!! must be 0/;

  test('whose payer never paid', () => {
    expectOffence(withOrder(2, order('order-3', [payment('pay_3')])), 'unpaid', 'pay_3', row);
  });

  test("paid by another order's payment", () => {
    const books = withOrder(
      2,
      order('order-3', [payment('pay_3', closed)], { status: 'succeeded', paidPaymentId: 'pay_1' }),
    );
    expectOffence(books, 'unpaid', 'pay_1', row);
  });

  test('of which the wallet knows nothing', () => {
    const books = { ...right, orders: [...right.orders, order('order-4', [payment('pay_4')])] };
    expectOffence(books, 'unpaid', 'pay_4', row);
  });

  test('whose payment alone is succeeded', () => {
    const books = withOrder(
      2,
      order('order-3', [payment('pay_3')], { status: 'paying', paidPaymentId: null }),
    );
    expectOffence(books, 'unpaid', 'pay_3', row);
  });
});

describe('an amount that differs', () => {
  const row = /that differ +1 +!!! must be 0/;

  test.each([
    ['received', { receivedAmount: 1051 }, {}],
    ['received currency', { receivedCurrency: 'JPY' }, {}],
    ['asked', {}, { amount: 1049 }],
    ['asked currency', {}, { currency: 'USD' }],
  ])('%s', (_, wrongPayment, wrongOrder) => {
    const books = withOrder(0, order('order-1', [payment('pay_1', wrongPayment)], wrongOrder));
    expectOffence(books, 'different', 'pay_1', row);
  });
});

describe('a run that proves nothing', () => {
  test('because the ledger lost what the wallet told a payer', () => {
    const accounts = reconcile({ trades: [], orders: [] }, new Set(['pay_1']));
    expect(accounts.offences.map(({ kind }) => kind)).toEqual(['unproven']);
  });

  test('because nobody paid', () => {
    const accounts = reconcile({ trades: [unpaidTrade('pay_3')], orders: right.orders.slice(2) }, new Set());
    expect(accounts.offences).toEqual([]);
    expect(isClean(report(accounts))).toBe(false);
  });
});

describe('what the shop and the forger saw', () => {
  test('an order with two payments', () => {
    const books = withOrder(0, order('order-1', [payment('pay_1'), payment('pay_9', closed)]));
    expect(account(books).offences.map(({ kind }) => kind)).toEqual(['doubled']);
    expect(closingTable(report(account(books)))).toMatch(/pressed pay twice.+!!! 1 DOUBLED/);
  });

  test('a double press that was answered with two payments', () => {
    const { shop } = report(account(right));
    const wrong = report(account(right), { shop: { ...shop, doublePresses: [['pay_1', 'pay_2']] } });
    expect(isClean(wrong)).toBe(false);
    expect(offendersList(wrong)).toContain('pay_1 and pay_2');
  });

  test('a forged callback that was acknowledged', () => {
    const wrong = report(account(right), { forged: { refused: 2, accepted: ['pay_3'] } });
    expect(isClean(wrong)).toBe(false);
    expect(closingTable(wrong)).toContain('!!! 1 ACCEPTED');
    expect(offendersList(wrong)).toContain('pay_3');
  });
});

describe('the payers', () => {
  test('are the same for the same seed, and others for another', () => {
    expect(planPayers(7, 50)).toEqual(planPayers(7, 50));
    expect(planPayers(8, 50)).not.toEqual(planPayers(7, 50));
  });

  test('come in time, with orders of their own and amounts that the API takes', () => {
    const payers = planPayers(7, 500);
    expect(new Set(payers.map(({ orderId }) => orderId)).size).toBe(500);
    for (const { amount, arrivesAfterMs, expiresInSeconds } of payers) {
      expect(Number.isInteger(amount) && amount > 0).toBe(true);
      expect(arrivesAfterMs).toBeLessThan(60_000);
      expect(expiresInSeconds).toBeGreaterThanOrEqual(60);
    }
  });
});
