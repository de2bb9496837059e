// Tests that the demo's table shows each kind of violation. Otherwise a table without violations would prove nothing.
import { describe, expect, test } from 'vitest';
import { reconcile } from '../../src/demo/accounts.ts';
import { closingTable, isClean, offendersList } from '../../src/demo/report.ts';
import {
  account,
  closed,
  conflict,
  expectOffence,
  givenBack,
  order,
  payment,
  refund,
  report,
  right,
  trade,
  unpaidTrade,
  waiting,
  withOrder,
  withRefunds,
  withTrade,
} from './report-support.ts';

describe('books that agree', () => {
  test('lead to a report without offences and with equal totals, which says how nodrop detected each payment', () => {
    const accounts = account(right);
    expect(accounts.offences).toEqual([]);
    const sums = (CNY: number, JPY: number) => new Map(Object.entries({ CNY, JPY }));
    const back = { count: 1, sums: new Map([['CNY', 1050]]) };
    expect(accounts.wallet).toEqual({ count: 6, sums: sums(5250, 1050) });
    expect(accounts.orders).toEqual({ count: 4, sums: sums(3150, 1050) });
    expect(accounts.refunds).toEqual(
      new Map(Object.entries({ duplicate_payment: back, late_payment: back })),
    );
    expect(accounts.attention).toEqual({ count: 0, sums: new Map() });
    expect(accounts.difference).toEqual(sums(0, 0));
    expect(accounts.scenes).toEqual({
      paidTwice: { count: 1, backWithin: 4 },
      paidLate: { count: 1, backWithin: null },
      cancelled: { count: 1, backWithin: 5.5 },
    });
    expect(accounts.found.slice(0, 2)).toEqual([
      { settledBy: 'callback', callbackLost: false, seconds: 2.5 },
      { settledBy: 'query', callbackLost: true, seconds: 9 },
    ]);
    expect(accounts.found).toHaveLength(accounts.wallet.count);
    expect(accounts.live).toBe(0);
    expect(accounts.unpaid).toEqual(new Map([['closed', 1]]));
    expect(isClean(report(accounts))).toBe(true);
    expect(offendersList(report(accounts))).toBe('');
  });

  test('lead to a table of at most 100 columns', () => {
    const table = closingTable(report(account(right)));
    expect(Math.max(...table.split('\n').map((line) => line.length))).toBeLessThanOrEqual(100);
    expect(table).toMatch(/paid in the wallet +6 +CNY 52\.50 \+ JPY 1,050/);
    expect(table).toMatch(/paid in the orders +4 +CNY 31\.50 \+ JPY 1,050/);
    expect(table).toMatch(/given back: the order was paid twice +1 +CNY 10\.50\n/);
    expect(table).toMatch(/given back: it was paid too late +1 +CNY 10\.50\n/);
    expect(table).toMatch(/not accounted for +CNY 0\.00 \+ JPY 0 +as it must be/);
    expect(table).toMatch(/paid in two wallets +1 orders; the second payment given back within 4\.0 s/);
    expect(table).toMatch(/a query on schedule +1 +1 +9\.0 +9\.0 +9\.0/);
    expect(table).toMatch(/worker \(process 4711\) at 16 s, at work again 4\.2 s later/);
  });
});

describe('a dropped order', () => {
  test('is listed with a link to its workflow if its payment is still live', () => {
    const books = withOrder(
      0,
      order('order-1', [payment('pay_1', waiting)], { status: 'paying', paidPaymentId: null }),
    );
    expectOffence(books, 'dropped', 'pay_1', /dropped[^\n]+ 1 +!!! must be 0/);
    expect(offendersList(report(account(books)))).toContain('/workflows/payment%2Fpay_1');
    expect(account(books).live).toBe(1);
    expect(account(books).difference.get('CNY')).toBe(1050);
  });

  test('is counted if its payment was closed although the payer had paid', () => {
    const books = withOrder(
      0,
      order('order-1', [payment('pay_1', closed)], { status: 'unpaid', paidPaymentId: null }),
    );
    expectOffence(books, 'dropped', 'pay_1', /dropped[^\n]+ 1 +!!! must be 0/);
  });

  test('is counted if its payment succeeded but still waits for a decision', () => {
    const books = withOrder(
      0,
      order('order-1', [payment('pay_1', { orderUpdate: 'review' })], {
        status: 'succeeded',
        paidPaymentId: 'pay_1',
      }),
    );
    expectOffence(books, 'dropped', 'pay_1', /dropped[^\n]+ 1 +!!! must be 0/);
  });

  test('is counted if the API does not list it', () => {
    const books = { ...right, orders: right.orders.slice(1) };
    expectOffence(books, 'dropped', 'pay_1', /dropped[^\n]+ 1 +!!! must be 0/);
  });
});

describe('an order that is marked as paid without money is reported', () => {
  const row = /paid without money +1 +!!! must be 0/;

  test('if its payer never paid', () => {
    expectOffence(withOrder(2, order('order-3', [payment('pay_3')])), 'unpaid', 'pay_3', row);
  });

  test('if the payment that paid it belongs to another order', () => {
    const books = withOrder(
      2,
      order('order-3', [payment('pay_3', closed)], { status: 'succeeded', paidPaymentId: 'pay_1' }),
    );
    expectOffence(books, 'unpaid', 'pay_1', row);
  });

  test('if the wallet has no trade for its payment', () => {
    const books = { ...right, orders: [...right.orders, order('order-8', [payment('pay_8')])] };
    expectOffence(books, 'unpaid', 'pay_8', row);
  });

  test('if its payment has succeeded although the payer has not paid', () => {
    const books = withOrder(
      2,
      order('order-3', [payment('pay_3')], { status: 'paying', paidPaymentId: null }),
    );
    expectOffence(books, 'unpaid', 'pay_3', row);
  });
});

describe('money that must be given back is reported', () => {
  const keeps = { refundedAmount: 1049, orderUpdate: 'conflict' } as const;

  test('if one cent of it was not given back', () => {
    const cent = [refund('re_7', 'late_payment', { amount: 1049 })];
    const books = withTrade(
      trade('pay_7', { refunded: 1049 }),
      withRefunds(
        'pay_7',
        cent,
        withOrder(
          5,
          order('order-6', [payment('pay_7', keeps)], { status: 'cancelled', paidPaymentId: null }),
        ),
      ),
    );
    expectOffence(books, 'dropped', 'pay_7', /not accounted for +CNY 0\.01 \+ JPY 0 +!!! must be 0/);
    expect(offendersList(report(account(books)))).toContain('UNACCOUNTED  CNY 0.01');
  });

  test('if its refund is still pending and the payment has no attention', () => {
    const books = withTrade(
      trade('pay_5'),
      withRefunds(
        'pay_5',
        [refund('re_5', 'duplicate_payment', { status: 'processing', settledAt: null })],
        withOrder(
          3,
          order('order-4', [
            payment('pay_4'),
            payment('pay_5', { channel: 'simulator2', ...conflict, refundedAmount: 0 }),
          ]),
        ),
      ),
    );
    expectOffence(books, 'dropped', 'pay_5', /dropped[^\n]+ 1 +!!! must be 0/);
    expect(account(books).difference.get('CNY')).toBe(1050);
  });

  test('as waiting for an operator, together with its sum, if the payment has an attention', () => {
    const attention = { attention: 'refund_failing', attentionDetail: 'The channel says no.' };
    const books = withTrade(
      trade('pay_7'),
      withRefunds(
        'pay_7',
        [refund('re_7', 'late_payment', { status: 'failed' })],
        withOrder(
          5,
          order('order-6', [payment('pay_7', { ...conflict, refundedAmount: 0, ...attention })], {
            status: 'cancelled',
            paidPaymentId: null,
          }),
        ),
      ),
    );
    expectOffence(books, 'attention', 'pay_7', /waiting for an operator +1 +CNY 10\.50/);
    expect(account(books).difference.get('CNY')).toBe(0);
  });

  test('if nodrop records it as refunded but the wallet does not', () => {
    const books = withTrade(trade('pay_5'));
    const accounts = account(books);
    expect(accounts.offences.map(({ kind, paymentId }) => [kind, paymentId])).toEqual([
      ['different', 'pay_5'],
      ['dropped', 'pay_5'],
    ]);
    expect(isClean(report(accounts))).toBe(false);
  });
});

describe('money that was given back without a valid reason is reported', () => {
  const row = /given back without a reason +1 +!!! must be 0/;

  test('if the money has paid its order', () => {
    const books = withTrade(
      trade('pay_1', givenBack),
      withRefunds(
        'pay_1',
        [refund('re_1', 'duplicate_payment')],
        withOrder(0, order('order-1', [payment('pay_1', { refundedAmount: 1050 })])),
      ),
    );
    expectOffence(books, 'unexplained', 'pay_1', row);
    expect(account(books).difference.get('CNY')).toBe(-1050);
    expect(closingTable(report(account(books)))).toMatch(/not accounted for +CNY -10\.50/);
  });

  test('if only the wallet has the refund', () => {
    expectOffence(withTrade(trade('pay_1', { refunded: 1 })), 'unexplained', 'pay_1', row);
  });

  test('if the recorded reason is wrong', () => {
    expectOffence(withRefunds('pay_7', [refund('re_7', 'requested')]), 'unexplained', 'pay_7', row);
    expectOffence(withRefunds('pay_5', [refund('re_5', 'late_payment')]), 'unexplained', 'pay_5', row);
  });

  test('if the payment was never paid', () => {
    expectOffence(withRefunds('pay_3', [refund('re_3', 'late_payment')]), 'unexplained', 'pay_3', row);
  });
});

test('an order that keeps the money of two payments is reported', () => {
  const books = withTrade(
    trade('pay_5'),
    withRefunds(
      'pay_5',
      [],
      withOrder(3, order('order-4', [payment('pay_4'), payment('pay_5', { channel: 'simulator2' })])),
    ),
  );
  expectOffence(books, 'twice', 'pay_5', /orders paid by two payments +1 +!!! must be 0/);
  expect(account(books).difference.get('CNY')).toBe(1050);
});

describe('a difference in an amount is reported', () => {
  const row = /that differ +1 +!!! must be 0/;

  test.each([
    ['received', { receivedAmount: 1051 }, {}],
    ['received currency', { receivedCurrency: 'JPY' }, {}],
    ['asked', {}, { amount: 1049 }],
    ['asked currency', {}, { currency: 'USD' }],
  ])('if this amount or currency is wrong: %s', (_, wrongPayment, wrongOrder) => {
    const books = withOrder(0, order('order-1', [payment('pay_1', wrongPayment)], wrongOrder));
    expectOffence(books, 'different', 'pay_1', row);
  });
});

describe('a run fails because its result proves nothing', () => {
  test('if the wallet’s ledger lacks a payment that the wallet confirmed to a payer', () => {
    const accounts = reconcile({ trades: [], orders: [], refunds: new Map() }, new Set(['pay_1']));
    expect(accounts.offences.map(({ kind }) => kind)).toEqual(['unproven']);
  });

  test('if no payer paid', () => {
    const books = {
      trades: [unpaidTrade('pay_3')],
      orders: right.orders.slice(2, 3),
      refunds: new Map(),
    };
    const accounts = reconcile(books, new Set());
    expect(accounts.offences).toEqual([]);
    expect(isClean(report(accounts))).toBe(false);
  });
});

test.each([
  ['paid in two wallets', ['order-4'], ['pay_4', 'pay_5']],
  ['paid after the payment was closed', ['order-5'], ['pay_6']],
  ['paid after the order was cancelled', ['order-6'], ['pay_7']],
])('a run fails if it has no payer with the scene "%s"', (label, orderIds, ids) => {
  const accounts = account({
    trades: right.trades.filter(({ outTradeNo }) => !ids.includes(outTradeNo)),
    orders: right.orders.filter(({ id }) => !orderIds.includes(id)),
    refunds: new Map([...right.refunds].filter(([id]) => !ids.includes(id))),
  });
  expect(accounts.offences).toEqual([]);
  expect(isClean(report(accounts))).toBe(false);
  expect(closingTable(report(accounts))).toMatch(new RegExp(`${label} +!!! DID NOT HAPPEN`));
  expect(offendersList(report(accounts))).toContain('NOT SEEN');
});

describe('the run fails, and its report names', () => {
  test('an order with two payments on one channel', () => {
    const books = withOrder(0, order('order-1', [payment('pay_1'), payment('pay_9', closed)]));
    expect(account(books).offences.map(({ kind }) => kind)).toEqual(['doubled']);
    expect(closingTable(report(account(books)))).toMatch(/pressed pay twice.+!!! 1 DOUBLED/);
  });

  test('two payments that were created by one double press of the pay button', () => {
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

describe('a payment', () => {
  test('may stay live after its expiry while WeChat Pay does not close it yet, and is counted as too young to be closed', () => {
    const young = { ...waiting, channel: 'wechatpay', expiresAt: '2026-11-21T10:01:00.000Z' } as const;
    const books = withOrder(
      2,
      order('order-3', [payment('pay_3', young)], { status: 'paying', paidPaymentId: null }),
    );
    const at = (time: string) => reconcile(books, new Set(), Date.parse(time));
    expect(at('2026-11-21T10:00:59.000Z').live).toBe(1);
    const past = at('2026-11-21T10:01:00.000Z');
    expect([past.live, [...past.unpaid]]).toEqual([0, [['too young to be closed', 1]]]);
    // At any other channel, a payment of this age must have ended.
    const other = withOrder(
      2,
      order('order-3', [payment('pay_3', { ...young, channel: 'alipay' })], {
        status: 'paying',
        paidPaymentId: null,
      }),
    );
    expect(reconcile(other, new Set(), Date.parse('2026-11-21T10:01:00.000Z')).live).toBe(1);
  });

  test('is counted as paid late if the shop cancelled it before the payer paid, and its order has no other payment', () => {
    const late = { cancelRequestedAt: '2026-11-21T09:59:00.000Z' };
    const books = withOrder(0, order('order-1', [payment('pay_1', late)]));
    expect(account(books).scenes.paidLate.count).toBe(account(right).scenes.paidLate.count + 1);
    // The first payment was cancelled in favour of the order's second attempt. So its late success does not
    // count as paid late.
    const switched = withOrder(
      3,
      order('order-4', [payment('pay_4', late), payment('pay_5', { channel: 'simulator2', ...conflict })]),
    );
    expect(account(switched).scenes.paidLate.count).toBe(account(right).scenes.paidLate.count);
  });
});
