import { describe, expect, test, vi } from 'vitest';
import { declaration } from '../../../src/channels/stripe/declaration.ts';
import { adapter, double, METHODS, path, pay, requests } from './adapter-support.ts';
import { ACCOUNT, accountOf, CREDENTIALS, created, errorOf, newTrade } from './support.ts';

/**
 * Tests the requests about trades that nodrop sends to Stripe, and how it maps the answers. The double has its own
 * books.
 */

describe.each(METHODS)('trades by %s', (method) => {
  test('a trade is first unpaid, and then paid with its amount, payment id and time', async () => {
    const trade = await created(adapter, newTrade({ method }));
    expect(await adapter.queryTrade(ACCOUNT, trade)).toEqual({ state: 'unpaid' });
    const payment = await pay(trade);
    expect(await adapter.queryTrade(ACCOUNT, trade)).toEqual({
      state: 'paid',
      channelPaymentId: payment,
      amount: 1050,
      currency: 'EUR',
      paidAt: expect.stringMatching(/^\d{4}-\d\d-\d\dT.*Z$/),
      refunds: [],
    });
    expect(await adapter.closeTrade(ACCOUNT, trade)).toEqual({ state: 'already_paid' });
  });

  test('a trade stays open after a decline, because the payer can use another card, and can still be closed', async () => {
    const trade = await created(adapter, newTrade({ method }));
    await pay(trade, 'declined');
    expect(await adapter.queryTrade(ACCOUNT, trade)).toEqual({ state: 'unpaid' });
    expect(await adapter.closeTrade(ACCOUNT, trade)).toEqual({ state: 'closed' });
    expect(await adapter.closeTrade(ACCOUNT, trade)).toEqual({ state: 'closed' });
    expect(await adapter.queryTrade(ACCOUNT, trade)).toEqual({ state: 'closed' });
  });

  test('a trade cannot be closed while its asynchronous payment method is in process', async () => {
    const trade = await created(adapter, newTrade({ method }));
    const payment = await pay(trade, 'processing');
    expect(await adapter.queryTrade(ACCOUNT, trade)).toEqual({ state: 'processing' });
    expect(await adapter.closeTrade(ACCOUNT, trade)).toEqual({ state: 'processing' });
    await double.tell('settle', { payment, paid: true });
    expect(await adapter.queryTrade(ACCOUNT, trade)).toMatchObject({ state: 'paid' });
  });

  test('a repeated create request returns the same trade', async () => {
    const trade = newTrade({ method });
    const first = await adapter.createTrade(ACCOUNT, trade);
    vi.useFakeTimers({ toFake: ['Date'], now: Date.now() + 14 * 60_000 });
    expect(await adapter.createTrade(ACCOUNT, trade)).toEqual(first);
    const [one, two] = await requests();
    expect(two).toEqual(one);
    expect(one).toMatchObject({ key: trade.outTradeNo, version: '2026-10-28.endive' });
  });

  test("a search finds a trade by nodrop's number, and reports it as absent only after reading the whole listing", async () => {
    const trade = newTrade({ method });
    expect(await adapter.findTrade?.(ACCOUNT, trade)).toBe('absent');
    await requests();
    // Without a reference, a query and a close cannot find out whether the trade exists. They send no request, and fail
    // instead of reporting the trade as missing.
    for (const call of [adapter.queryTrade, adapter.closeTrade])
      expect(await errorOf(call(ACCOUNT, trade))).toMatchObject({ kind: 'unreachable' });
    expect(await requests()).toEqual([]);
    await double.tell('faults', [{ kind: 'accepted', of: `POST ${path(method)}`, times: 1 }]);
    const error = await errorOf(adapter.createTrade(ACCOUNT, trade, AbortSignal.timeout(500)));
    expect(error).toMatchObject({ kind: 'unreachable' });
    const others = Array.from({ length: 101 }, () => adapter.createTrade(ACCOUNT, newTrade({ method })));
    await Promise.all(others);
    const found = await adapter.findTrade?.(ACCOUNT, trade);
    expect(found).toEqual({ id: expect.stringMatching(method === 'checkout' ? /^cs_/ : /^pi_/) });
    // If the second page of the list cannot be read, the adapter knows nothing about its content.
    await double.tell('faults', [{ kind: 'nonsense', of: 'starting_after', times: 1 }]);
    const unread = adapter.findTrade?.(ACCOUNT, trade) ?? Promise.resolve();
    expect(await errorOf(unread)).toMatchObject({ kind: 'garbage' });
  });

  test("a search for a trade covers the trade's whole lifetime, even if the clocks differ by 5 min", async () => {
    const trade = newTrade({ method });
    await adapter.findTrade?.(ACCOUNT, trade);
    const [{ path: asked } = { path: '' }] = await requests();
    const { searchParams } = new URL(asked, 'http://stripe');
    const at = (name: string) => Number(searchParams.get(`created[${name}]`)) * 1000;
    expect(Date.parse(trade.createdAt) - at('gte')).toBeCloseTo(300_000, -4);
    expect(at('lte') - Date.parse(trade.expiresAt)).toBeCloseTo(300_000, -4);
  });

  test.each([240, -240])('a search finds a trade even if the clock differs by %i s', async (offsetS) => {
    await double.tell('clock', { offsetS });
    const trade = await created(adapter, newTrade({ method }));
    expect(await adapter.findTrade?.(ACCOUNT, trade)).toEqual(trade.reference);
  });

  test.each([400, -400])(
    'a search does not report a trade as absent if the clock differs by %i s',
    async (offsetS) => {
      await double.tell('clock', { offsetS });
      const call = adapter.findTrade?.(ACCOUNT, newTrade({ method })) ?? Promise.resolve();
      expect(await errorOf(call)).toMatchObject({
        kind: 'misconfigured',
        message: expect.stringContaining('clock'),
      });
    },
  );

  test("a repeated create request returns the trade's next action only while the trade is open", async () => {
    const trade = await created(adapter, newTrade({ method }));
    const again = await adapter.createTrade(ACCOUNT, trade);
    expect(again).toMatchObject({ reference: trade.reference });
    await adapter.closeTrade(ACCOUNT, trade);
    expect(await adapter.createTrade(ACCOUNT, trade)).toBe('not_renewable');
    const posts = (await requests()).filter(({ path: at }) => at === path(method));
    expect(posts).toHaveLength(1);
  });

  test('the error for a trade whose id Stripe does not know is misconfigured, because the key belongs to another account', async () => {
    const trade = {
      ...newTrade({ method }),
      reference: { id: method === 'checkout' ? 'cs_test_x' : 'pi_x' },
    };
    for (const call of [adapter.queryTrade, adapter.closeTrade]) {
      expect(await errorOf(call(ACCOUNT, trade))).toMatchObject({
        kind: 'misconfigured',
        message: expect.stringContaining('another account or mode'),
      });
    }
  });
});

describe.each(METHODS)('a payer who pays outside the page, with the method %s', (method) => {
  test.each([
    'boleto_display_details',
    'display_bank_transfer_instructions',
    'konbini_display_details',
    'multibanco_display_details',
    'oxxo_display_details',
    'verify_with_microdeposits',
  ] as const)(
    'after the next action %s a trade is in process until the payer pays, and cannot be closed before',
    async (nextAction) => {
      const trade = await created(adapter, newTrade({ method }));
      const payment = await pay(trade, nextAction);
      expect(await adapter.queryTrade(ACCOUNT, trade)).toEqual({ state: 'processing' });
      expect(await adapter.closeTrade(ACCOUNT, trade)).toEqual({ state: 'processing' });
      await double.tell('settle', { payment, paid: true });
      expect(await adapter.queryTrade(ACCOUNT, trade)).toMatchObject({ state: 'paid' });
    },
  );

  test('a paid trade is reported with the amount that Stripe received', async () => {
    const trade = await created(adapter, newTrade({ method }));
    const payment = await pay(trade, 'display_bank_transfer_instructions');
    await double.tell('settle', { payment, paid: true, received: 1000 });
    expect(await adapter.queryTrade(ACCOUNT, trade)).toMatchObject({ state: 'paid', amount: 1000 });
  });
});

describe('Checkout Sessions', () => {
  test('a Checkout Session is reported as failed if its asynchronous payment method has failed', async () => {
    const trade = await created(adapter);
    const payment = await pay(trade, 'processing');
    await double.tell('settle', { payment, paid: false });
    expect(await adapter.queryTrade(ACCOUNT, trade)).toEqual({ state: 'failed', reason: 'declined' });
    expect(await adapter.closeTrade(ACCOUNT, trade)).toEqual({ state: 'closed' });
  });

  test('a Checkout Session is closed if it has expired at Stripe', async () => {
    const trade = await created(adapter);
    await double.tell('clock', { offsetS: 51 * 60 });
    expect(await adapter.queryTrade(ACCOUNT, trade)).toEqual({ state: 'closed' });
    expect(await adapter.createTrade(ACCOUNT, trade)).toBe('not_renewable');
  });

  test.each([
    ['one minute', 60_000, 0],
    ['one minute, first requested at its end', 60_000, 60],
    ['the longest time', declaration.methods[0].expiry.atMostMs as number, 0],
    [
      'the longest time, with a clock that is 4 min behind',
      declaration.methods[0].expiry.atMostMs as number,
      -240,
    ],
  ])(
    'Stripe accepts the expiry of a Checkout Session for a payment that can be paid for %s',
    async (_, lifeMs, offsetS) => {
      await double.tell('clock', { offsetS });
      const expiresAt = new Date(Date.now() + lifeMs).toISOString();
      await expect(created(adapter, newTrade({ expiresAt }))).resolves.toBeDefined();
    },
  );
});

describe('payment intents', () => {
  test('a payment intent can still be paid while the card is being authenticated', async () => {
    const trade = await created(adapter, newTrade({ method: 'payment_intent' }));
    await pay(trade, 'use_stripe_sdk');
    expect(await adapter.queryTrade(ACCOUNT, trade)).toEqual({ state: 'unpaid' });
    expect(await adapter.closeTrade(ACCOUNT, trade)).toEqual({ state: 'closed' });
  });

  test('a payment intent passes the client secret and the publishable key to the page', async () => {
    const made = await adapter.createTrade(ACCOUNT, newTrade({ method: 'payment_intent' }));
    expect(made).toMatchObject({
      action: {
        type: 'sdk',
        params: { client_secret: expect.stringContaining('_secret_'), publishable_key: 'pk_test_double' },
      },
    });
  });

  test('a payment intent is not created without a publishable key', async () => {
    const { publishable_key: _, ...without } = CREDENTIALS;
    const call = adapter.createTrade(accountOf(without), newTrade({ method: 'payment_intent' }));
    expect(await errorOf(call)).toMatchObject({ kind: 'misconfigured' });
    expect(await requests()).toEqual([]);
  });
});
