import { randomBytes, randomUUID } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { callbackFor } from '../support/callback.ts';
import { API_BUDGET_MS, unlessOutOfTime } from '../support/progress.ts';
import { eventually } from '../support/stack.ts';
import { type System, startSystem } from '../support/system.ts';

/**
 * Tests that the running system refuses invalid and forged input with a clear error. Such input does not change any
 * money.
 */

let system: System;
beforeAll(async () => {
  // The first scheduled query is sent only after 60 s. So the tests see only the effects of callbacks.
  system = await startSystem({ withWorker: true, env: { NODROP_QUERY_SCHEDULE: '60s' } });
});
afterAll(async () => {
  await system?.stop();
});

const row = (id: string) => system.db.payment.findUniqueOrThrow({ where: { id } });

test('a forged callback is refused and does not pay the order, but causes a query', async () => {
  const { body } = await system.payable();
  const forged = await fetch(
    ...callbackFor(system, body.id, { secret: `whsec_${randomBytes(32).toString('base64')}` }),
  );
  expect(forged.status).toBe(401);
  expect(await forged.json()).toMatchObject({ code: 'callback_unverified', status: 401 });
  await eventually(async () => (await row(body.id)).channelState === 'unpaid');
  expect(await system.orderStatus(body.orderId)).toBe('paying');
});

test('if the payer has paid, a forged callback has only one effect: the payment is queried earlier', async () => {
  await system.simulator.setFaults({ callback: { dropRate: 1 } });
  const { body } = await system.payable();
  await system.simulator.pay(body.id);
  await fetch(
    ...callbackFor(system, body.id, { secret: `whsec_${randomBytes(32).toString('base64')}`, amount: 1 }),
  );
  await eventually(async () => (await system.orderStatus(body.orderId)) === 'succeeded');
  expect(await row(body.id)).toMatchObject({ settledBy: 'query', receivedAmount: 1990n });
  await system.simulator.setFaults({ callback: { dropRate: 0 } });
});

test.each([
  ['truncated', { body: '{"type":"trade.succe' }],
  ['changed after signing', { body: '{"type":"trade.succeeded","data":{}}' }],
  ['signed an hour ago', { timestamp: Math.floor(Date.now() / 1000) - 3600 }],
  ['signed an hour ahead', { timestamp: Math.floor(Date.now() / 1000) + 3600 }],
])('a callback %s is refused and pays nothing', async (_, change) => {
  const { body } = await system.payable();
  const answer = await fetch(...callbackFor(system, body.id, change));
  expect(answer.status).toBe(401);
  expect(await system.db.callback.count({ where: { paymentId: body.id } })).toBe(0);
  expect(await system.orderStatus(body.orderId)).toBe('paying');
});

test('an oversized callback is refused', async () => {
  const { body } = await system.payable();
  const answer = await fetch(...callbackFor(system, body.id, { body: 'x'.repeat(300 * 1024) }));
  expect(answer.status).toBe(413);
});

test('a callback that is sent again is acknowledged, but is stored once and pays once', async () => {
  const { body } = await system.payable();
  const id = `msg_${randomUUID()}`;
  for (let i = 0; i < 3; i++) {
    const answer = await fetch(...callbackFor(system, body.id, { id }));
    expect(answer.status).toBe(200);
  }
  await eventually(async () => (await system.orderStatus(body.orderId)) === 'succeeded');
  expect(await system.db.callback.count({ where: { paymentId: body.id } })).toBe(1);
  expect((await fetch(...callbackFor(system, body.id, { id }))).status).toBe(200);
  expect(await row(body.id)).toMatchObject({ status: 'succeeded', orderUpdate: 'applied' });
});

test("a verified callback whose amount differs from the payment's does not pay the order", async () => {
  const { body } = await system.payable();
  const answer = await fetch(...callbackFor(system, body.id, { amount: 1 }));
  expect(answer.status).toBe(200);
  await eventually(async () => (await row(body.id)).channelState === 'unpaid');
  expect(await system.orderStatus(body.orderId)).toBe('paying');
});

test('a callback to the address of an unknown channel or account is answered 404', async () => {
  for (const path of ['/callbacks/nowhere', '/callbacks/simulator/acc_nobody']) {
    const answer = await fetch(...callbackFor(system, 'pay_x', { path }));
    expect(answer.status).toBe(404);
  }
});

describe('invalid requests', () => {
  const order = { id: 'bad', amount: 1990, currency: 'CNY', subject: 'Coffee' };
  test.each([
    ['an unknown channel', { order, channel: 'nowhere' }, 422, 'unknown_channel'],
    ['an unknown order', { orderId: 'nobody', channel: 'simulator' }, 404, 'order_not_found'],
    [
      'an unknown currency',
      { order: { ...order, currency: 'ABC' }, channel: 'simulator' },
      422,
      'invalid_request',
    ],
    ['a negative amount', { order: { ...order, amount: -1 }, channel: 'simulator' }, 422, 'invalid_request'],
    ['a zero amount', { order: { ...order, amount: 0 }, channel: 'simulator' }, 422, 'invalid_request'],
    [
      'a fractional amount',
      { order: { ...order, amount: 19.9 }, channel: 'simulator' },
      422,
      'invalid_request',
    ],
    ['a huge amount', { order: { ...order, amount: 2 ** 53 }, channel: 'simulator' }, 422, 'invalid_request'],
    [
      'a string amount',
      { order: { ...order, amount: '1990' }, channel: 'simulator' },
      422,
      'invalid_request',
    ],
    ['half a JSON', '{"order":', 400, 'bad_request'],
  ])('are refused: %s', async (_, body, status, code) => {
    const answer = await system.api('POST', '/v1/payments', body);
    expect([answer.status, answer.body.code]).toEqual([status, code]);
    expect(answer.headers.get('content-type')).toContain('application/problem+json');
    expect(await system.db.order.count({ where: { id: 'bad' } })).toBe(0);
  });
});

test('if the channel refuses a trade, the request is answered 422, and the order can still be paid in another way', async () => {
  const first = await system.api('POST', '/v1/orders', {
    id: 'refused',
    amount: 100,
    currency: 'CNY',
    // The simulator does not know this trigger, and refuses the trade.
    subject: '[sim:declind]',
  });
  expect(first.status).toBe(201);
  const refused = await unlessOutOfTime(
    API_BUDGET_MS,
    () => system.pay({ order: undefined, orderId: 'refused' }),
    ({ status }) => status !== 422,
  );
  expect([refused.status, refused.body.code]).toEqual([422, 'channel_rejected']);
  expect((await system.api('PATCH', '/v1/orders/refused', { subject: 'x' })).status).toBe(200);
  await system.payable({ order: undefined, orderId: 'refused' });
});

test('when the payer returns from the wallet, a hint causes a query that detects the money long before the next scheduled query', async () => {
  await system.simulator.setFaults({ callback: { dropRate: 1 } });
  const { body } = await system.payable({ returnUrl: 'https://shop.example/thanks' });
  await system.simulator.pay(body.id);
  const back = await fetch(`${system.apiUrl}/return/${body.id}?token=${body.clientToken}`, {
    redirect: 'manual',
  });
  expect(back.status).toBe(303);
  expect(back.headers.get('location')).toBe(`https://shop.example/thanks?paymentId=${body.id}`);
  await eventually(async () => (await system.orderStatus(body.orderId)) === 'succeeded');
  expect(await row(body.id)).toMatchObject({ settledBy: 'hint' });
});
