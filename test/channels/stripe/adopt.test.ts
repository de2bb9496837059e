import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import type { ChannelAdapter, NewTrade } from '../../../src/domain/channel.ts';
import { type StripeDouble, startStripeDouble } from '../../doubles/stripe/start.ts';
import { ACCOUNT, adapterAt, CREDENTIALS, created, errorOf, idOf, newTrade, signed } from './support.ts';

/** Tests trades that a merchant's own code has created at the double, without a number that nodrop chose. */

let double: StripeDouble;
let adapter: ChannelAdapter;
beforeAll(async () => {
  double = await startStripeDouble();
  adapter = adapterAt(double.url);
});
afterAll(() => double.stop());
beforeEach(async () => {
  await double.tell('faults', []);
  await double.tell('refundPlan', { status: 'succeeded' });
});

/** Calls Stripe as the merchant's own code does. */
async function post(path: string, params: Record<string, string>) {
  const response = await fetch(`${double.url}${path}`, {
    method: 'POST',
    headers: { authorization: `Bearer ${CREDENTIALS.secret_key}` },
    body: new URLSearchParams(params),
  });
  if (!response.ok) throw new Error(await response.text());
  return (await response.json()) as { id: string };
}

const newSession = () =>
  post('/v1/checkout/sessions', {
    mode: 'payment',
    'line_items[0][quantity]': '1',
    'line_items[0][price_data][currency]': 'eur',
    'line_items[0][price_data][unit_amount]': '1050',
    'line_items[0][price_data][product_data][name]': 'Two tickets',
    success_url: 'https://shop.example/done',
  });
const newIntent = () => post('/v1/payment_intents', { amount: '1050', currency: 'eur' });

const read = async (reference: string) => {
  if (adapter.readTrade === undefined) throw new Error('the adapter of Stripe has no readTrade');
  return await adapter.readTrade(ACCOUNT, reference);
};
const pay = async (id: string) =>
  ((await double.tell('pay', { id, outcome: 'paid' })) as { payment: string }).payment;

/** The trade as the row of its payment describes it. */
const adopted = (id: string, method: string, changes: Partial<NewTrade> = {}): NewTrade => ({
  ...newTrade({ outTradeNo: id, method, reference: { id }, ...changes }),
  isAdopted: true,
});

describe.each([
  ['checkout', newSession],
  ['payment_intent', newIntent],
] as const)('an adopted trade by %s', (method, make) => {
  test('an adopted trade can be read with its terms, paid, and refunded', async () => {
    const { id } = await make();
    const terms = { amount: 1050, currency: 'EUR' };
    expect(await read(id)).toEqual({ reference: id, method, terms, answer: { state: 'unpaid' } });
    const trade = adopted(id, method);
    expect(await adapter.queryTrade(ACCOUNT, trade)).toEqual({ state: 'unpaid' });
    const payment = await pay(id);
    const paid = { state: 'paid', channelPaymentId: payment, ...terms };
    expect(await adapter.queryTrade(ACCOUNT, trade)).toMatchObject(paid);
    expect(await read(id)).toMatchObject({ reference: id, terms, answer: paid });
    const refund = { outRefundNo: `re_${id.slice(-8)}`, channelRefundId: null, attempt: 1, total: 1050 };
    expect(
      await adapter.refundTrade(ACCOUNT, trade, { ...refund, amount: 1050, currency: 'EUR' }),
    ).toMatchObject({
      state: 'succeeded',
    });
    expect(await adapter.queryRefund(ACCOUNT, trade, refund)).toMatchObject({ state: 'succeeded' });
    expect((await read(id)).answer).toMatchObject({ state: 'refunded' });
  });

  test('an adopted trade that the adapter has closed is reported as closed', async () => {
    const { id } = await make();
    expect(await adapter.closeTrade(ACCOUNT, adopted(id, method))).toEqual({ state: 'closed' });
    expect((await read(id)).answer).toEqual({ state: 'closed' });
  });

  test("a trade that nodrop has created is recognised as nodrop's own", async () => {
    expect(await read(idOf(await created(adapter, newTrade({ method }))))).toMatchObject({ isOurs: true });
  });
});

test('adoption by the payment intent of a Checkout Session finds the session', async () => {
  const { id } = await newSession();
  const payment = await pay(id);
  expect(await read(payment)).toMatchObject({ reference: id, method: 'checkout' });
});

test('a trade that Stripe does not know is reported as unknown, and an unreachable Stripe is reported as an error', async () => {
  for (const reference of ['cs_test_none', 'pi_none'])
    expect(await read(reference)).toEqual({ reference, answer: { state: 'unknown_trade' } });
  const error = await errorOf(
    adapterAt('http://127.0.0.1:1').readTrade?.(ACCOUNT, 'pi_none') as Promise<unknown>,
  );
  expect(error.kind).toBe('unreachable');
});

describe('an event that contains no number of nodrop', () => {
  const event = (type: string, object: object) =>
    JSON.stringify({
      ...{ id: 'evt_1', object: 'event', type, created: 1_700_000_000, livemode: false },
      data: { object },
    });
  test.each([
    ['checkout.session.completed', { id: 'cs_1' }, { reference: 'cs_1' }],
    ['payment_intent.succeeded', { id: 'pi_1' }, { reference: 'pi_1', channelPaymentId: 'pi_1' }],
    ['charge.refunded', { id: 'ch_1', payment_intent: 'pi_1' }, { channelPaymentId: 'pi_1' }],
  ])('the event %s is ignored, and the result names the trade of the event', async (type, object, about) => {
    const verified = await adapter.verifyCallback(ACCOUNT, signed(event(type, object)));
    expect(verified).toMatchObject({ kind: 'ignored', about });
  });
});
