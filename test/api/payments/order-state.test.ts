import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { ChannelAnswer } from '../../../src/domain/channel.ts';
import { insertPayment } from '../../../src/ledger/new-payment.ts';
import { endPayment, recordAnswer, recordSilence } from '../../../src/ledger/payments.ts';
import { eventually } from '../../support/stack.ts';
import { type Reader, readEvents } from '../event-source.ts';
import { newOrderId, paidAnswer, pay, settle as settlePaid, setUp } from '../support.ts';

// Tests the state of the order that a payer sees. The payer needs it, because a single attempt does not show what was
// paid or what can be paid now.

const { api, key, merchantId } = await setUp();

interface Made {
  readonly id: string;
  readonly orderId: string;
  readonly clientToken: string;
}

/** The channel answers "unpaid", and then the attempt ends as cancelled. */
const closes = async ({ id }: { id: string }) => {
  await recordAnswer(api.db, id, { state: 'unpaid' }, 'query', new Date());
  setImmediate(() => void endPayment(api.db, id, 'cancelled', 'a new attempt', new Date()));
  return true;
};
beforeEach(() => {
  api.workflows.onAskChannel = closes;
});

const readers: Reader[] = [];
afterEach(() => {
  for (const reader of readers.splice(0)) reader.leave();
});

const answers = (id: string, answer: ChannelAnswer) => recordAnswer(api.db, id, answer, 'query', new Date());
const settle = (id: string, changes: object = {}) => settlePaid(api.db, id, changes);
const decline = (id: string) => endPayment(api.db, id, 'failed', 'declined', new Date());
const switchFrom = (made: Made, channel = 'simulator2', as = made.clientToken) =>
  api.call(`/v1/payments/${made.id}/switch`, { key: as, body: { channel } });
const seen = async (made: Made) =>
  (await api.call(`/v1/payments/${made.id}`, { key: made.clientToken })).json;
const latePayment = (rule: string) =>
  api.db.merchant.update({ where: { id: merchantId }, data: { latePayment: rule } });

/** Creates an attempt and then replaces it by a second attempt, which is live. */
async function two(): Promise<{ a: Made; b: Made }> {
  const a = await pay(api, key);
  const { json } = await switchFrom(a);
  expect((await seen(a)).status).toBe('cancelled');
  return { a, b: { ...json, orderId: a.orderId } };
}

/**
 * Creates two live attempts. The first attempt stays live, because the channel does not answer the query that nodrop
 * makes before it creates the second attempt.
 */
async function twoLive(): Promise<{ a: Made; b: Made }> {
  const a = await pay(api, key);
  api.workflows.onAskChannel = async () => false;
  const { json } = await switchFrom(a);
  api.workflows.onAskChannel = closes;
  return { a, b: { ...json, orderId: a.orderId } };
}

const OPEN = { orderState: 'open', nextAction: { type: 'redirect' }, payUrl: expect.any(String) };
const nothingToPay = (orderState: string) => ({ orderState, nextAction: null, payUrl: null, switchTo: [] });

describe('an order whose result is unknown', () => {
  test.each<[string, ChannelAnswer]>([
    ['money is recorded', paidAnswer()],
    ['money of another amount is recorded', paidAnswer({ amount: 7 })],
    ['the payer has acted', { state: 'processing' }],
  ])('when %s, the live attempt cannot be paid, and no other attempt is started', async (_name, answer) => {
    const a = await pay(api, key);
    expect(await seen(a)).toMatchObject(OPEN);
    await answers(a.id, answer);
    expect(await seen(a)).toMatchObject({ status: 'paying', ...nothingToPay('undecided') });
    const shown = (await api.call(`/v1/payments/${a.id}`, { key })).json;
    expect([shown.nextAction, shown.payUrl]).toEqual([null, null]);
    expect(shown).not.toHaveProperty('orderState');
    // A switch to the attempt's own channel returns the same attempt, without a next action.
    const same = await switchFrom(a, 'simulator');
    expect([same.status, same.json.id, same.json.nextAction]).toEqual([200, a.id, null]);
    // A switch to another channel is refused, even if the channel of the attempt does not answer.
    api.workflows.onAskChannel = async () => false;
    const other = await api.call(`/v1/payments/${a.id}/switch`, {
      key: a.clientToken,
      body: { channel: 'simulator2' },
      signal: AbortSignal.timeout(20_000),
    });
    expect([other.status, other.json.code]).toEqual([409, 'attempt_unresolved']);
    expect(await api.db.payment.count({ where: { orderId: a.orderId } })).toBe(1);
  });

  test('while the channel decides about one of two live attempts, the other attempt shows nothing to pay and a switch is refused', async () => {
    const { a, b } = await twoLive();
    expect(await seen(a)).toMatchObject(OPEN);
    expect(await seen(b)).toMatchObject(OPEN);
    await answers(a.id, { state: 'processing' });
    expect(await seen(b)).toMatchObject({ status: 'paying', ...nothingToPay('undecided') });
    const again = await switchFrom(b);
    expect([again.status, again.json.code]).toEqual([409, 'attempt_unresolved']);
    await answers(a.id, { state: 'unpaid' });
    expect(await seen(b)).toMatchObject(OPEN);
  });

  test('while the channel decides about an attempt, another attempt cannot be inserted, even if the request has queried the first attempt', async () => {
    const a = await pay(api, key);
    await answers(a.id, { state: 'processing' });
    const given = {
      channel: 'simulator2',
      method: 'wallet',
      payer: undefined,
      returnUrl: undefined,
      metadata: {},
      expiresInMs: 60_000,
      askedAttempts: new Set([a.id]),
    };
    const another = insertPayment(api.db, merchantId, { id: a.orderId }, given, () => 'hash', new Date());
    await expect(another).rejects.toMatchObject({ code: 'attempt_unresolved' });
  });

  test('if one attempt is declined, the order stays undecided until the channel answers about the other attempt', async () => {
    const { a, b } = await twoLive();
    await decline(b.id);
    expect(await seen(b)).toMatchObject({ status: 'failed', ...nothingToPay('undecided') });
    await answers(a.id, { state: 'unpaid' });
    expect(await seen(b)).toMatchObject({ status: 'failed', orderState: 'open' });
    expect((await seen(b)).switchTo).toHaveLength(2);
    await recordSilence(api.db, a.id, 'no answer', 60_000, new Date());
    expect(await seen(b)).toMatchObject(nothingToPay('undecided'));
  });

  test('if an earlier attempt was paid late or with another amount, the live attempt cannot be paid', async () => {
    await latePayment('review');
    try {
      for (const changes of [{ amount: 7 }, { paidAt: new Date(Date.now() + 7_200_000).toISOString() }]) {
        const { a, b } = await two();
        await settle(a.id, changes);
        expect((await seen(a)).orderUpdate).toBe('review');
        expect(await seen(b)).toMatchObject({ status: 'paying', ...nothingToPay('undecided') });
        const third = await switchFrom(b, 'simulator');
        expect([third.status, third.json.code]).toEqual([409, 'attempt_unresolved']);
      }
    } finally {
      await latePayment('apply');
    }
  });

  test('an order is undecided while the cancellation of its live attempt is requested', async () => {
    const a = await pay(api, key);
    await api.db.payment.update({ where: { id: a.id }, data: { cancelRequestedAt: new Date() } });
    expect(await seen(a)).toMatchObject({ status: 'paying', ...nothingToPay('undecided') });
    await endPayment(api.db, a.id, 'cancelled', 'closed', new Date());
    expect(await seen(a)).toMatchObject({ status: 'cancelled', orderState: 'open', nextAction: null });
  });
});

describe('an order whose result is known', () => {
  test('if one attempt pays the order, every attempt of the order shows that the order is paid', async () => {
    const { a, b } = await twoLive();
    await settle(a.id);
    expect(await seen(a)).toMatchObject({ orderUpdate: 'applied', ...nothingToPay('paid') });
    expect(await seen(b)).toMatchObject({ status: 'paying', ...nothingToPay('paid') });
    await endPayment(api.db, b.id, 'cancelled', 'the order is paid', new Date());
    expect(await seen(b)).toMatchObject({ status: 'cancelled', ...nothingToPay('paid') });
  });

  test('an attempt that failed earlier shows that another attempt paid the order, even after the order is refunded', async () => {
    const a = await pay(api, key);
    await decline(a.id);
    const b = { ...(await switchFrom(a)).json, orderId: a.orderId };
    await settle(b.id);
    expect(await seen(a)).toMatchObject({ status: 'failed', ...nothingToPay('paid') });
    await api.db.order.updateMany({ where: { id: a.orderId }, data: { status: 'refunded' } });
    expect(await seen(a)).toMatchObject(nothingToPay('paid'));
  });

  test('an order is not shown as paid until its event is delivered', async () => {
    const { a, b } = await two();
    await api.db.merchant.update({
      where: { id: merchantId },
      data: { orderServiceUrl: 'https://shop.example/nodrop' },
    });
    try {
      await settle(b.id);
      expect((await seen(b)).orderUpdate).toBe('pending');
      expect(await seen(a)).toMatchObject({ status: 'cancelled', ...nothingToPay('undecided') });
    } finally {
      await api.db.merchant.update({ where: { id: merchantId }, data: { orderServiceUrl: null } });
    }
  });

  test('if nothing was paid, the order state is "open" while the order can be paid, and "over" afterwards', async () => {
    const id = newOrderId();
    const a = await pay(api, key, { order: { id, amount: 1050, currency: 'CNY', expiresInSeconds: 600 } });
    await decline(a.id);
    expect(await seen(a)).toMatchObject({ orderState: 'open', nextAction: null });
    await api.db.order.updateMany({ where: { id }, data: { expiresAt: new Date() } });
    expect(await seen(a)).toMatchObject(nothingToPay('over'));
  });

  test('an expired order with a live attempt is undecided, because the payer may already have paid', async () => {
    const { a, b } = await twoLive();
    await decline(b.id);
    await answers(a.id, { state: 'unpaid' });
    await api.db.order.updateMany({ where: { id: a.orderId }, data: { expiresAt: new Date() } });
    expect(await seen(b)).toMatchObject(nothingToPay('undecided'));
    await endPayment(api.db, a.id, 'closed', 'expired', new Date());
    expect(await seen(b)).toMatchObject(nothingToPay('over'));
  });
});

describe("a stream of one attempt reports changes of the order's other attempts immediately", () => {
  async function watch(made: Made) {
    const reader = await readEvents(`${api.url}/v1/payments/${made.id}/events`, made.clientToken);
    readers.push(reader);
    await eventually(() => reader.events.length === 1);
    return reader;
  }
  const newest = (reader: Reader) => reader.events.at(-1)?.data;

  test('the stream reports that the order is undecided, then that the order is open again, and finally that the order is paid', async () => {
    const { a, b } = await twoLive();
    const reader = await watch(b);
    expect(newest(reader)).toMatchObject(OPEN);
    await answers(a.id, { state: 'processing' });
    await eventually(() => newest(reader).orderState === 'undecided');
    await answers(a.id, { state: 'unpaid' });
    await eventually(() => newest(reader).orderState === 'open');
    await settle(a.id);
    await eventually(() => newest(reader).orderState === 'paid');
    expect(newest(reader)).toMatchObject({ status: 'paying', ...nothingToPay('paid') });
  });

  test("the stream stays open when its own attempt ends without money, and ends when the order's result is known", async () => {
    const { a, b } = await twoLive();
    await decline(b.id);
    const reader = await watch(b);
    expect(newest(reader)).toMatchObject({ status: 'failed', orderState: 'undecided' });
    const waiting = api.call(`/v1/payments/${b.id}?wait=20`, { key: b.clientToken });
    await settle(a.id);
    await reader.ended;
    expect(newest(reader)).toMatchObject({ status: 'failed', orderState: 'paid' });
    expect((await waiting).json).toEqual(newest(reader));
  });

  test("the stream ends when the order's last live attempt ends, and the stream of a later attempt reports a requested cancellation of the order", async () => {
    const { a, b } = await twoLive();
    await decline(b.id);
    const reader = await watch(b);
    await endPayment(api.db, a.id, 'closed', 'closed', new Date());
    await reader.ended;
    expect(newest(reader)).toMatchObject({ status: 'failed', orderState: 'open' });
    const c = { ...(await switchFrom(b, 'simulator')).json, orderId: a.orderId };
    const live = await watch(c);
    await api.db.order.updateMany({ where: { id: a.orderId }, data: { cancelRequestedAt: new Date() } });
    await eventually(() => newest(live).orderState === 'undecided');
  });
});
