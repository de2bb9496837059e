import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { currencyLimits, fromStripe, toStripe } from '../../../src/channels/stripe/amounts.ts';
import { declaration, modeOf } from '../../../src/channels/stripe/declaration.ts';
import {
  type ChannelAdapter,
  ChannelError,
  type NewRefund,
  type NewTrade,
  type PaidAnswer,
} from '../../../src/domain/channel.ts';
import { exponentOf, isCurrentCurrency } from '../../../src/domain/money.ts';
import type { Outcome } from '../../doubles/stripe/books.ts';
import { type StripeDouble, startStripeDouble } from '../../doubles/stripe/start.ts';
import { ACCOUNT, accountOf, adapterAt, CREDENTIALS, created, errorOf, idOf, newTrade } from './support.ts';

/** The adapter against the double, a process with books of its own: what nodrop asks of Stripe, and what it makes of it. */

let double: StripeDouble;
let adapter: ChannelAdapter;

beforeAll(async () => {
  double = await startStripeDouble();
  adapter = adapterAt(double.url);
});
afterAll(() => double.stop());
beforeEach(async () => {
  await double.tell('faults', []);
  await double.tell('clock', { offsetS: 0 });
  await double.tell('balance', { isPoor: false });
  await double.tell('refundPlan', { status: 'succeeded' });
  await double.tell('requests', {});
});
afterEach(() => {
  vi.useRealTimers();
});

const METHODS = ['checkout', 'payment_intent'] as const;

/** Has the payer pay. @returns the payment intent */
async function pay(trade: NewTrade, outcome: Outcome = 'paid'): Promise<string> {
  const { payment } = (await double.tell('pay', { id: idOf(trade), outcome })) as { payment: string };
  return payment;
}

const refundOf = (changes: Partial<NewRefund> = {}): NewRefund => ({
  outRefundNo: `ref_${Math.random().toString(36).slice(2)}`,
  channelRefundId: null,
  attempt: 1,
  amount: 1050,
  currency: 'EUR',
  total: 1050,
  ...changes,
});

const requests = async () =>
  (await double.tell('requests', {})) as {
    method: string;
    path: string;
    key?: string;
    version?: string;
    body: string;
  }[];

describe.each(METHODS)('the way of a trade by %s', (method) => {
  it('is unpaid, then paid with the amount, the payment and the time', async () => {
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

  it('stays open for another card after a decline, and closes without money', async () => {
    const trade = await created(adapter, newTrade({ method }));
    await pay(trade, 'declined');
    expect(await adapter.queryTrade(ACCOUNT, trade)).toEqual({ state: 'unpaid' });
    expect(await adapter.closeTrade(ACCOUNT, trade)).toEqual({ state: 'closed' });
    expect(await adapter.closeTrade(ACCOUNT, trade)).toEqual({ state: 'closed' });
    expect(await adapter.queryTrade(ACCOUNT, trade)).toEqual({ state: 'closed' });
  });

  it('is in process while an asynchronous method is, and cannot be closed meanwhile', async () => {
    const trade = await created(adapter, newTrade({ method }));
    const payment = await pay(trade, 'processing');
    expect(await adapter.queryTrade(ACCOUNT, trade)).toEqual({ state: 'processing' });
    expect(await adapter.closeTrade(ACCOUNT, trade)).toEqual({ state: 'processing' });
    await double.tell('settle', { payment, paid: true });
    expect(await adapter.queryTrade(ACCOUNT, trade)).toMatchObject({ state: 'paid' });
  });

  it('is created once, and the same request again gives the same trade', async () => {
    const trade = newTrade({ method });
    const first = await adapter.createTrade(ACCOUNT, trade);
    vi.useFakeTimers({ toFake: ['Date'], now: Date.now() + 14 * 60_000 });
    expect(await adapter.createTrade(ACCOUNT, trade)).toEqual(first);
    const [one, two] = await requests();
    expect(two).toEqual(one);
    expect(one).toMatchObject({ key: trade.outTradeNo, version: '2026-10-28.endive' });
  });

  it('is found by our number in the whole listing, and absent only from a whole one', async () => {
    const trade = newTrade({ method });
    expect(await adapter.findTrade?.(ACCOUNT, trade)).toBe('absent');
    await requests();
    // Whether it is there is not known: neither an unknown trade, nor looked for here.
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
    // The second page does not come: nothing is said of what may be on it.
    await double.tell('faults', [{ kind: 'nonsense', of: 'starting_after', times: 1 }]);
    const unread = adapter.findTrade?.(ACCOUNT, trade) ?? Promise.resolve();
    expect(await errorOf(unread)).toMatchObject({ kind: 'garbage' });
  });

  it('is looked for in the time in which it can have been created, by clocks 5 min apart', async () => {
    const trade = newTrade({ method });
    await adapter.findTrade?.(ACCOUNT, trade);
    const [{ path: asked } = { path: '' }] = await requests();
    const { searchParams } = new URL(asked, 'http://stripe');
    const at = (name: string) => Number(searchParams.get(`created[${name}]`)) * 1000;
    expect(Date.parse(trade.createdAt) - at('gte')).toBeCloseTo(300_000, -4);
    expect(at('lte') - Date.parse(trade.expiresAt)).toBeCloseTo(300_000, -4);
  });

  it.each([240, -240])('is found by a clock that is %i s off', async (offsetS) => {
    await double.tell('clock', { offsetS });
    const trade = await created(adapter, newTrade({ method }));
    expect(await adapter.findTrade?.(ACCOUNT, trade)).toEqual(trade.reference);
  });

  it.each([400, -400])('is not said to be absent by a clock that is %i s off', async (offsetS) => {
    await double.tell('clock', { offsetS });
    const call = adapter.findTrade?.(ACCOUNT, newTrade({ method })) ?? Promise.resolve();
    expect(await errorOf(call)).toMatchObject({
      kind: 'misconfigured',
      message: expect.stringContaining('clock'),
    });
  });

  it('gives its next action again while it is open, and none after', async () => {
    const trade = await created(adapter, newTrade({ method }));
    const again = await adapter.createTrade(ACCOUNT, trade);
    expect(again).toMatchObject({ reference: trade.reference });
    await adapter.closeTrade(ACCOUNT, trade);
    expect(await adapter.createTrade(ACCOUNT, trade)).toBe('not_renewable');
    const posts = (await requests()).filter(({ path: at }) => at === path(method));
    expect(posts).toHaveLength(1);
  });

  it('says our keys are of another account when Stripe does not know its own id', async () => {
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

describe.each(METHODS)('a payer who pays elsewhere and later, by %s', (method) => {
  it.each([
    'boleto_display_details',
    'display_bank_transfer_instructions',
    'konbini_display_details',
    'multibanco_display_details',
    'oxxo_display_details',
    'verify_with_microdeposits',
  ] as const)('is in process after %s, and is not closed meanwhile', async (nextAction) => {
    const trade = await created(adapter, newTrade({ method }));
    const payment = await pay(trade, nextAction);
    expect(await adapter.queryTrade(ACCOUNT, trade)).toEqual({ state: 'processing' });
    expect(await adapter.closeTrade(ACCOUNT, trade)).toEqual({ state: 'processing' });
    await double.tell('settle', { payment, paid: true });
    expect(await adapter.queryTrade(ACCOUNT, trade)).toMatchObject({ state: 'paid' });
  });

  it('has paid what was received, and not the total', async () => {
    const trade = await created(adapter, newTrade({ method }));
    const payment = await pay(trade, 'display_bank_transfer_instructions');
    await double.tell('settle', { payment, paid: true, received: 1000 });
    expect(await adapter.queryTrade(ACCOUNT, trade)).toMatchObject({ state: 'paid', amount: 1000 });
  });
});

const path = (method: (typeof METHODS)[number]) =>
  method === 'checkout' ? '/v1/checkout/sessions' : '/v1/payment_intents';

describe('a Checkout Session', () => {
  it('is failed for good when its asynchronous method was', async () => {
    const trade = await created(adapter);
    const payment = await pay(trade, 'processing');
    await double.tell('settle', { payment, paid: false });
    expect(await adapter.queryTrade(ACCOUNT, trade)).toEqual({ state: 'failed', reason: 'declined' });
    expect(await adapter.closeTrade(ACCOUNT, trade)).toEqual({ state: 'closed' });
  });

  it('is closed when it has expired by itself', async () => {
    const trade = await created(adapter);
    await double.tell('clock', { offsetS: 51 * 60 });
    expect(await adapter.queryTrade(ACCOUNT, trade)).toEqual({ state: 'closed' });
    expect(await adapter.createTrade(ACCOUNT, trade)).toBe('not_renewable');
  });

  it.each([
    ['a minute', 60_000, 0],
    ['a minute, first asked for at its end', 60_000, 60],
    ['the longest', declaration.methods[0].expiry.atMostMs as number, 0],
    ['the longest, by a clock that is 4 min behind', declaration.methods[0].expiry.atMostMs as number, -240],
  ])('is taken by Stripe for a payment of %s', async (_, lifeMs, offsetS) => {
    await double.tell('clock', { offsetS });
    const expiresAt = new Date(Date.now() + lifeMs).toISOString();
    await expect(created(adapter, newTrade({ expiresAt }))).resolves.toBeDefined();
  });
});

describe('a payment intent', () => {
  it('can still be paid while its card is authenticated', async () => {
    const trade = await created(adapter, newTrade({ method: 'payment_intent' }));
    await pay(trade, 'use_stripe_sdk');
    expect(await adapter.queryTrade(ACCOUNT, trade)).toEqual({ state: 'unpaid' });
    expect(await adapter.closeTrade(ACCOUNT, trade)).toEqual({ state: 'closed' });
  });

  it('gives the client secret and the publishable key to the page', async () => {
    const made = await adapter.createTrade(ACCOUNT, newTrade({ method: 'payment_intent' }));
    expect(made).toMatchObject({
      action: {
        type: 'sdk',
        params: { client_secret: expect.stringContaining('_secret_'), publishable_key: 'pk_test_double' },
      },
    });
  });

  it('is not created without a publishable key', async () => {
    const { publishable_key: _, ...without } = CREDENTIALS;
    const call = adapter.createTrade(accountOf(without), newTrade({ method: 'payment_intent' }));
    expect(await errorOf(call)).toMatchObject({ kind: 'misconfigured' });
    expect(await requests()).toEqual([]);
  });
});

describe.each(METHODS)('money that goes back by %s', (method) => {
  const paidTrade = async () => {
    const trade = await created(adapter, newTrade({ method }));
    return { trade, payment: await pay(trade) };
  };

  it('goes back in parts and in full, and is listed by id and number', async () => {
    const { trade } = await paidTrade();
    const [one, two] = [refundOf({ amount: 50 }), refundOf({ amount: 1000 })];
    const first = await adapter.refundTrade(ACCOUNT, trade, one);
    expect(first).toMatchObject({ state: 'succeeded', amount: 50 });
    expect(await adapter.queryTrade(ACCOUNT, trade)).toMatchObject({
      state: 'paid',
      refunds: [{ outRefundNo: one.outRefundNo, amount: 50, state: 'succeeded' }],
    });
    await adapter.refundTrade(ACCOUNT, trade, two);
    expect(await adapter.queryTrade(ACCOUNT, trade)).toMatchObject({ state: 'refunded' });
    expect(await adapter.queryRefund(ACCOUNT, trade, one)).toEqual(first);
    const { channelRefundId } = first as { channelRefundId: string };
    expect(await adapter.queryRefund(ACCOUNT, trade, { ...one, channelRefundId })).toEqual(first);
    expect(await adapter.queryRefund(ACCOUNT, trade, refundOf())).toEqual({ state: 'unknown_refund' });
  });

  it('goes back once under one number, also by another amount, and is listed after the key is pruned', async () => {
    const { trade } = await paidTrade();
    const refund = refundOf();
    const first = await adapter.refundTrade(ACCOUNT, trade, refund);
    expect(await adapter.refundTrade(ACCOUNT, trade, refund)).toEqual(first);
    expect(await adapter.refundTrade(ACCOUNT, trade, { ...refund, amount: 1000 })).toEqual(first);
    await double.tell('pruneKeys', {});
    await requests();
    expect(await errorOf(adapter.refundTrade(ACCOUNT, trade, refund))).toMatchObject({ kind: 'rejected' });
    expect((await requests()).filter(({ path: at }) => at.startsWith('/v1/refunds'))).toHaveLength(1);
    expect(await adapter.queryRefund(ACCOUNT, trade, refund)).toEqual(first);
  });

  it('takes no request more than it has to once the payment at Stripe is known', async () => {
    const { trade, payment } = await paidTrade();
    const known = { ...trade, channelPaymentId: payment };
    const refund = refundOf();
    await requests();
    const { channelRefundId } = (await adapter.refundTrade(ACCOUNT, known, refund)) as {
      channelRefundId: string;
    };
    await adapter.queryRefund(ACCOUNT, known, refund);
    await adapter.queryRefund(ACCOUNT, known, { ...refund, channelRefundId });
    expect((await requests()).map((sent) => sent.path.split('?')[0])).toEqual([
      ...['/v1/refunds', '/v1/refunds', `/v1/refunds/${channelRefundId}`],
    ]);
    await adapter.queryTrade(ACCOUNT, known);
    // 25 a second: https://docs.stripe.com/rate-limits.
    expect((await requests()).length * adapter.declaration.rateLimit.perSecond).toBeLessThanOrEqual(25);
  });

  it('is asked about by its id as long as it is of the payment, at whichever number', async () => {
    const { trade } = await paidTrade();
    const answer = await adapter.refundTrade(ACCOUNT, trade, refundOf({ amount: 50 }));
    const { channelRefundId } = answer as { channelRefundId: string };
    const atAnother = { outRefundNo: 'ref_2', channelRefundId };
    expect(await adapter.queryRefund(ACCOUNT, trade, atAnother)).toEqual(answer);
    const other = await paidTrade();
    expect(await errorOf(adapter.queryRefund(ACCOUNT, other.trade, atAnother))).toMatchObject({
      kind: 'garbage',
    });
  });

  it('is refused for now while the balance is too low, under one key for as long as Stripe keeps it', async () => {
    const { trade } = await paidTrade();
    const refund = refundOf();
    await double.tell('balance', { isPoor: true });
    const refused = () => errorOf(adapter.refundTrade(ACCOUNT, trade, refund));
    expect(await refused()).toMatchObject({ kind: 'not_now', isReplayed: false });
    await double.tell('balance', { isPoor: false });
    expect(await refused()).toMatchObject({ kind: 'not_now', isReplayed: true });
    await double.tell('pruneKeys', {});
    expect(await adapter.refundTrade(ACCOUNT, trade, refund)).toMatchObject({ state: 'succeeded' });
  });

  it('and is no whole unit is rounded, and the payment stays readable', async () => {
    const trade = await created(adapter, newTrade({ method, currency: 'ISK', amount: 1000 }));
    const payment = await pay(trade);
    await double.tell('dashboardRefund', { payment, amount: 150 });
    await double.tell('dispute', { payment, status: 'lost', dueBy: 1_800_000_000, amount: 40 });
    expect(await adapter.queryTrade(ACCOUNT, trade)).toMatchObject({
      ...{ state: 'paid', amount: 1000, currency: 'ISK' },
      refunds: [{ amount: 2, state: 'succeeded' }],
      disputes: [{ amount: 1, currency: 'ISK', state: 'lost' }],
    });
  });

  it('is refused for good when it is more than what is left', async () => {
    const { trade } = await paidTrade();
    await adapter.refundTrade(ACCOUNT, trade, refundOf({ amount: 1000 }));
    const error = await errorOf(adapter.refundTrade(ACCOUNT, trade, refundOf({ amount: 51 })));
    expect(error).toMatchObject({ kind: 'rejected' });
  });

  it('was taken although its answer never came', async () => {
    const { trade } = await paidTrade();
    const refund = refundOf();
    await double.tell('faults', [{ kind: 'accepted', of: 'POST /v1/refunds', times: 1 }]);
    const call = adapter.refundTrade(ACCOUNT, trade, refund, AbortSignal.timeout(500));
    expect(await errorOf(call)).toMatchObject({ kind: 'unreachable' });
    expect(await adapter.queryRefund(ACCOUNT, trade, refund)).toMatchObject({ state: 'succeeded' });
    expect(await adapter.refundTrade(ACCOUNT, trade, refund)).toMatchObject({ state: 'succeeded' });
  });

  it('has an id while it is in process, and may fail before it has succeeded', async () => {
    await double.tell('refundPlan', { status: 'pending', pendingReason: 'processing' });
    const { trade } = await paidTrade();
    const refund = refundOf();
    const answer = await adapter.refundTrade(ACCOUNT, trade, refund);
    expect(answer).toEqual({ state: 'processing', channelRefundId: expect.stringMatching(/^re_/) });
    const { channelRefundId: id } = answer as { channelRefundId: string };
    await double.tell('changeRefund', { id, status: 'failed', failureReason: 'insufficient_funds' });
    expect(await adapter.queryRefund(ACCOUNT, trade, refund)).toMatchObject({
      state: 'failed',
      reason: 'insufficient_funds',
    });
    expect(await adapter.queryTrade(ACCOUNT, trade)).toMatchObject({
      state: 'paid',
      refunds: [{ id, state: 'failed' }],
    });
  });

  it('is reversed when the bank returns it', async () => {
    const { trade } = await paidTrade();
    const refund = refundOf();
    const { channelRefundId: id } = (await adapter.refundTrade(ACCOUNT, trade, refund)) as {
      channelRefundId: string;
    };
    await double.tell('changeRefund', { id, status: 'failed', failureReason: 'expired_or_canceled_card' });
    expect(await adapter.queryRefund(ACCOUNT, trade, refund)).toMatchObject({
      state: 'reversed',
      reason: 'expired_or_canceled_card',
    });
    expect(await adapter.queryTrade(ACCOUNT, trade)).toMatchObject({
      state: 'paid',
      refunds: [{ id, state: 'reversed' }],
    });
  });

  it.each([[{ status: 'requires_action' }], [{ status: 'pending', pendingReason: 'insufficient_funds' }]])(
    'needs a person when it is %o',
    async (plan) => {
      await double.tell('refundPlan', plan);
      const { trade } = await paidTrade();
      expect(await adapter.refundTrade(ACCOUNT, trade, refundOf())).toMatchObject({ state: 'needs_person' });
    },
  );

  it('lists what was refunded at the dashboard, and every dispute, open and decided', async () => {
    const { trade, payment } = await paidTrade();
    await double.tell('dashboardRefund', { payment, amount: 200 });
    const { id } = (await double.tell('dispute', {
      payment,
      status: 'needs_response',
      dueBy: 1_800_000_000,
    })) as { id: string };
    const answer = await adapter.queryTrade(ACCOUNT, trade);
    expect(answer).toMatchObject({
      refunds: [{ amount: 200, state: 'succeeded' }],
      disputes: [
        {
          id,
          amount: 1050,
          currency: 'EUR',
          state: 'open',
          reason: 'fraudulent',
          respondBy: '2027-01-15T08:00:00.000Z',
        },
      ],
    });
    expect((answer as PaidAnswer).refunds?.[0]).not.toHaveProperty('outRefundNo');
    await double.tell('changeDispute', { id, status: 'lost' });
    const decided = await adapter.queryTrade(ACCOUNT, trade);
    expect(decided).toMatchObject({ disputes: [{ id, state: 'lost' }] });
    expect((decided as PaidAnswer).disputes?.[0]).not.toHaveProperty('respondBy');
    expect((decided as PaidAnswer).disputes?.[0]).not.toHaveProperty('isInquiry');
    await double.tell('dispute', {
      payment,
      status: 'warning_needs_response',
      dueBy: 1_800_000_000,
      amount: 50,
    });
    const { disputes = [] } = (await adapter.queryTrade(ACCOUNT, trade)) as PaidAnswer;
    expect(disputes).toHaveLength(2);
    expect(disputes).toEqual(
      expect.arrayContaining([
        expect.objectContaining({ id, state: 'lost' }),
        expect.objectContaining({ amount: 50, state: 'open', isInquiry: true }),
      ]),
    );
  });
});

describe('a busy account', () => {
  /** Lists `total` sessions that are none of ours, each as long as metadata lets it be. */
  async function listing(total: number) {
    let pages = 0;
    const metadata = Object.fromEntries(Array.from({ length: 50 }, (_, i) => [`k${i}`, 'x'.repeat(500)]));
    const server = createServer((request, response) => {
      pages += 1;
      const { searchParams } = new URL(request.url ?? '', 'http://stripe');
      const from = Number(searchParams.get('starting_after')?.split('_').at(-1) ?? 0);
      const limit = Math.min(Number(searchParams.get('limit')), total - from);
      const data = Array.from({ length: limit }, (_, i) => ({
        ...{
          id: `cs_test_${from + i + 1}`,
          object: 'checkout.session',
          status: 'open',
          payment_status: 'unpaid',
        },
        ...{ expires_at: 1_800_000_000, metadata },
      }));
      response.setHeader('content-type', 'application/json');
      response.end(JSON.stringify({ object: 'list', has_more: from + limit < total, data }, null, 2));
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const { port } = server.address() as AddressInfo;
    const find = () => adapterAt(`http://127.0.0.1:${port}`).findTrade?.(ACCOUNT, newTrade());
    return { find, pages: () => pages, stop: () => server.close() };
  }

  it('has pages of long objects, which are read', async () => {
    const { find, pages, stop } = await listing(1_000);
    expect(await find()).toBe('absent');
    expect(pages()).toBe(10);
    stop();
  });

  it('has more than can be read in the time there is: then nothing is known', async () => {
    const { find, pages, stop } = await listing(1_001);
    expect(await errorOf(find() ?? Promise.resolve())).toMatchObject({ kind: 'unreachable' });
    expect(pages()).toBe(10);
    stop();
  });
});

describe('bad days', () => {
  it.each([
    ['500', 'unreachable'],
    ['409', 'unreachable'],
    ['429', 'rate_limited'],
    ['403', 'misconfigured'],
    ['nonsense', 'garbage'],
    ['html', 'garbage'],
    ['number', 'garbage'],
    ['redirect', 'garbage'],
  ] as const)('%s is %s, whatever was asked, and asked once', async (kind, expected) => {
    const trade = await created(adapter);
    const paid = await created(adapter);
    await pay(paid);
    await double.tell('faults', [{ kind, of: '', times: 99 }]);
    await requests();
    const calls: (() => Promise<unknown>)[] = [
      () => adapter.createTrade(ACCOUNT, newTrade()),
      () => adapter.createTrade(ACCOUNT, newTrade({ method: 'payment_intent' })),
      () => adapter.queryTrade(ACCOUNT, trade),
      () => adapter.refundTrade(ACCOUNT, paid, refundOf()),
      () => adapter.queryRefund(ACCOUNT, paid, { ...refundOf(), channelRefundId: 're_1' }),
      () => adapter.checkAccount(ACCOUNT),
    ];
    for (const call of calls) expect(await errorOf(call())).toMatchObject({ kind: expected });
    expect(await requests()).toHaveLength(calls.length);
    expect(await errorOf(adapter.closeTrade(ACCOUNT, trade))).toMatchObject({ kind: expected });
  });

  it('says how long Stripe wants to be left alone', async () => {
    await double.tell('faults', [{ kind: '429', of: '', times: 1 }]);
    expect(await errorOf(adapter.createTrade(ACCOUNT, newTrade()))).toMatchObject({ retryAfterMs: 2_000 });
  });

  it('tells a stored 500 that is repeated from a new one', async () => {
    const trade = newTrade();
    await double.tell('faults', [{ kind: '500_stored', of: 'POST /v1/checkout/sessions', times: 1 }]);
    const first = await errorOf(adapter.createTrade(ACCOUNT, trade));
    expect(first).toMatchObject({ kind: 'unreachable', isReplayed: false });
    const second = await errorOf(adapter.createTrade(ACCOUNT, trade));
    expect(second).toMatchObject({ kind: 'unreachable', isReplayed: true, message: first.message });
    await double.tell('pruneKeys', {});
    await expect(created(adapter, trade)).resolves.toBeDefined();
  });

  it('tries nothing again by itself when the connection is cut', async () => {
    const dead = adapterAt('http://127.0.0.1:9');
    expect(await errorOf(dead.createTrade(ACCOUNT, newTrade()))).toMatchObject({ kind: 'unreachable' });
  });

  it('refuses an amount that Stripe refuses, for good', async () => {
    expect(await errorOf(adapter.createTrade(ACCOUNT, newTrade({ amount: 49 })))).toMatchObject({
      kind: 'rejected',
      message: expect.stringContaining('amount_too_small'),
    });
  });
});

describe('an account', () => {
  it('is fine when Stripe lists what the adapter needs', async () => {
    await expect(adapter.checkAccount(ACCOUNT)).resolves.toBeUndefined();
  });

  it('is told in a sentence what is wrong, without the key', async () => {
    const wrong = accountOf({ ...CREDENTIALS, secret_key: 'sk_test_canary' });
    const error = await errorOf(adapter.checkAccount(wrong));
    expect(error).toBeInstanceOf(ChannelError);
    expect(error.kind).toBe('misconfigured');
    expect(error.message).toMatch(/^Stripe does not list Checkout Sessions: /);
    expect(JSON.stringify([error.message, error.cause])).not.toContain('canary');
    await double.tell('faults', [{ kind: '403', of: 'GET /v1/disputes', times: 1 }]);
    expect((await errorOf(adapter.checkAccount(ACCOUNT))).message).toMatch(/does not list disputes/);
    const mixed = accountOf({ ...CREDENTIALS, publishable_key: 'pk_live_1' });
    expect((await errorOf(adapter.checkAccount(mixed))).message).toMatch(/two of the same mode/);
  });

  it.each([
    [400, 'is 7 min ahead of the channel'],
    [-400, 'is 7 min behind the channel'],
  ])('is told of a clock that is %i s off', async (seconds, words) => {
    vi.useFakeTimers({ toFake: ['Date'], now: Date.now() + seconds * 1000 });
    expect((await errorOf(adapter.checkAccount(ACCOUNT))).message).toContain(words);
  });

  it.each([
    ['sk_test_1', 'test'],
    ['rk_test_1', 'test'],
    ['sk_live_1', 'live'],
    ['rk_live_1', 'live'],
  ])('%s is of %s mode', (secret_key, mode) => {
    expect(modeOf({ secret_key })).toBe(mode);
  });
});

describe('amounts', () => {
  it.each([
    ['EUR', 1050, 1050],
    ['JPY', 1050, 1050],
    ['KWD', 1050, 1050],
    ['ISK', 5, 500],
    ['UGX', 5, 500],
    ['MGA', 500, 5],
    ['HUF', 17500, 17500],
  ])('of %s are counted as Stripe counts them', (currency, ours, theirs) => {
    expect(toStripe(ours, currency)).toBe(theirs);
    expect(fromStripe(theirs, currency.toLowerCase())).toEqual({ amount: ours, currency });
  });

  it('that are none in our units are not believed', () => {
    for (const [amount, code] of [
      [150, 'isk'],
      [0, 'eur'],
      [10, 'xxx'],
      [10, 'nope'],
    ] as const) {
      expect(() => fromStripe(amount, code)).toThrow(ChannelError);
    }
  });

  it.each([
    ['MGA', 50],
    ['MGA', 149],
  ])('of %s that Stripe has no number for are not asked: %i', (currency, amount) => {
    expect(() => toStripe(amount, currency)).toThrow(expect.objectContaining({ kind: 'rejected' }));
  });

  it('are declared for current currencies, and go there and back for every one', () => {
    expect(Object.keys(currencyLimits).filter((code) => !isCurrentCurrency(code))).toEqual([]);
    for (const [code, { multipleOf = 1 }] of Object.entries(currencyLimits)) {
      const amount = 7 * multipleOf;
      expect(Number.isInteger(toStripe(amount, code)), code).toBe(true);
      expect(fromStripe(toStripe(amount, code), code).amount, code).toBe(amount);
    }
    expect(currencyLimits.USD).toEqual({ atLeast: 50, atMost: 99_999_999 });
    expect(currencyLimits.KWD).toMatchObject({ multipleOf: 10 });
    expect(currencyLimits.MGA).toMatchObject({ multipleOf: 100 });
    expect(exponentOf('MGA')).toBe(2);
  });
});
