import { describe, expect, test } from 'vitest';
import { currencyExponents, exponentOf } from '../../../src/domain/money.ts';
import { setUp } from '../support.ts';

// Tests the amounts on the cashier page, and which screen it shows for each state.

const { api } = await setUp();

const open = (path: string, headers = {}) => api.call(`/checkout/${path}`, { headers });
const modules = (name: string) => new URL(`../../../src/api/checkout/${name}`, import.meta.url).href;

describe('amounts', () => {
  test('each amount is shown with the decimal places of its currency in ISO 4217', async () => {
    const { text } = await open('assets/currencies.js');
    const { EXPONENTS } = await import(`data:text/javascript,${encodeURIComponent(text)}`);
    expect(EXPONENTS).toEqual(currencyExponents());
    expect([EXPONENTS.CNY, EXPONENTS.JPY, EXPONENTS.KWD, EXPONENTS.IQD]).toEqual([2, 0, 3, 3]);
    for (const currency of Object.keys(EXPONENTS)) expect(EXPONENTS[currency]).toBe(exponentOf(currency));
  });
});

describe('the screen', () => {
  const PAYMENT = {
    status: 'paying',
    orderUpdate: null,
    orderState: 'open',
    amount: 1050,
    receivedAmount: 1050,
    refundedAmount: 0,
    refundReason: null,
    refundStatus: null,
    createdAt: '2026-01-01T00:29:55.000Z',
    expiresAt: '2026-01-01T00:30:00.000Z',
    nextAction: { type: 'redirect', url: 'https://wallet.example/' },
  };
  const BEFORE = Date.parse('2026-01-01T00:29:59.999Z');
  const screenOf = async (changes: object, now = BEFORE, mayHavePaid = false) =>
    (await import(modules('screen.js'))).screenOf({ ...PAYMENT, ...changes }, { now, mayHavePaid });

  test('while a payment has no result, the screen is never "unpaid"', async () => {
    for (const status of ['created', 'paying', 'a new one'])
      for (const nextAction of [null, PAYMENT.nextAction])
        for (const now of [BEFORE, BEFORE + 1, BEFORE + 1e9])
          expect(['asking', 'preparing', 'slow', 'pay', 'lapsed']).toContain(
            await screenOf({ status, nextAction }, now),
          );
  });

  test('an attempt without money is shown as "unpaid" only if no other attempt of its order may have been paid', async () => {
    const seen: Record<string, string[]> = {};
    for (const orderState of ['open', 'undecided', 'paid', 'over', 'a new one', undefined]) {
      const screens = new Set<string>();
      for (const status of ['created', 'paying', 'failed', 'cancelled', 'closed', 'a new one'])
        for (const nextAction of [null, PAYMENT.nextAction])
          for (const now of [BEFORE, BEFORE + 1])
            for (const mayHavePaid of [false, true])
              screens.add(await screenOf({ status, nextAction, orderState }, now, mayHavePaid));
      seen[String(orderState)] = [...screens].sort();
    }
    expect(seen).toEqual({
      open: ['asking', 'expired', 'lapsed', 'pay', 'preparing', 'unpaid'],
      over: ['asking', 'expired', 'unpaid'],
      undecided: ['asking'],
      paid: ['settled'],
      'a new one': ['asking'],
      undefined: ['asking'],
    });
  });

  test.each([
    ['paid', { orderUpdate: 'applied' }],
    ['paid', { orderUpdate: 'applied', refundedAmount: 50 }],
    ['returned', { orderUpdate: 'applied', refundedAmount: 1050 }],
    // The refunded amount is compared with the received amount, not with the requested amount.
    ['paid', { orderUpdate: 'applied', receivedAmount: 1100, refundedAmount: 1050 }],
    ['returned', { orderUpdate: 'applied', receivedAmount: 900, refundedAmount: 900 }],
    ['telling', { orderUpdate: 'pending' }],
    ['returning', { orderUpdate: 'conflict', refundReason: 'duplicate_payment', refundStatus: 'created' }],
    ['returning', { orderUpdate: 'conflict', refundReason: 'late_payment', refundStatus: 'failed' }],
    // The payer paid more than the amount of the payment.
    [
      'returning',
      {
        orderUpdate: 'conflict',
        refundReason: 'requested',
        refundStatus: 'processing',
        refundedAmount: 1050,
      },
    ],
    ['returned', { orderUpdate: 'conflict', refundReason: 'requested', refundStatus: 'succeeded' }],
    // Refunded outside nodrop.
    ['returning', { orderUpdate: 'conflict', refundedAmount: 500 }],
    ['returned', { orderUpdate: 'conflict', receivedAmount: 500, refundedAmount: 500 }],
  ])(
    'a payment that has received money is shown as "%s" if it has the fields %j',
    async (screen, changes) => {
      for (const orderState of ['open', 'undecided', 'paid', 'over'])
        expect(await screenOf({ status: 'succeeded', orderState, ...changes })).toBe(screen);
    },
  );

  test('offers no payment to a payer who may already have paid or after the expiry', async () => {
    for (const status of ['created', 'paying']) {
      expect(await screenOf({ status }, BEFORE, true)).toBe('asking');
      expect(await screenOf({ status }, BEFORE + 1)).toBe('asking');
    }
    expect(await screenOf({})).toBe('pay');
  });

  test('while a channel does not answer, the screen says "one moment" for 8 s and then offers other channels', async () => {
    const made = { status: 'created', nextAction: null, createdAt: '2026-01-01T00:20:00.000Z' };
    const at = Date.parse(made.createdAt);
    expect(await screenOf(made, at + 7_999)).toBe('preparing');
    expect(await screenOf(made, at + 8_000)).toBe('slow');
    expect(await screenOf(made, at + 8_000, true)).toBe('asking');
    expect(await screenOf({ ...made, orderState: 'undecided' }, at + 8_000)).toBe('asking');
  });

  test('offers no second payment once money has arrived', async () => {
    for (const orderUpdate of ['applied', 'pending', 'conflict', 'review', null, 'a new one'])
      for (const mayHavePaid of [false, true])
        expect(['paid', 'telling', 'review', 'returning']).toContain(
          await screenOf({ status: 'succeeded', orderUpdate }, BEFORE, mayHavePaid),
        );
  });

  test.each(['sdk', 'a new one'])(
    'if a next action of type "%s" has an https link, the screen offers the link, and otherwise tells the payer to continue elsewhere',
    async (type) => {
      expect(await screenOf({ nextAction: { type, params: {} } })).toBe('elsewhere');
      expect(await screenOf({ nextAction: { type, url: 'javascript:alert(1)' } })).toBe('elsewhere');
      expect(await screenOf({ nextAction: { type, url: 'https://wallet.example/' } })).toBe('pay');
      expect(await screenOf({ nextAction: { type, params: {} } }, BEFORE, true)).toBe('asking');
      expect(await screenOf({ nextAction: { type, params: {} } }, BEFORE + 1)).toBe('asking');
      expect(await screenOf({ nextAction: { type, params: {} }, orderState: 'undecided' })).toBe('asking');
    },
  );

  test.each(['javascript:alert(1)', 'data:text/html,x', 'file:///etc/passwd', ' javascript:x', ''])(
    'the screen does not link to %s',
    async (url) => {
      expect(await screenOf({ nextAction: { type: 'redirect', url } })).toBe('asking');
    },
  );
});
