import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { SWEEP_SCHEDULE_ID } from '../../src/domain/names.ts';
import { storeCallback } from '../../src/ledger/callbacks.ts';
import { callbackFor, ofTrade } from '../support/callback.ts';
import { eventually } from '../support/stack.ts';
import { type System, startSystem } from '../support/system.ts';

/**
 * Tests what API callers see while a part of the system is down, and that nothing is lost. All tests use one
 * system, so they must run in this order.
 */

let system: System;
beforeAll(async () => {
  system = await startSystem({ withWorker: false, env: { NODROP_QUERY_SCHEDULE: '2s' } });
});
afterAll(async () => {
  await system?.stop();
});

const ledgerOf = async (paymentId: string) =>
  (await system.simulator.ledger()).find(({ outTradeNo }) => outTradeNo === paymentId);

test('payments that are created while no worker runs are answered 202, and continue when a worker starts', async () => {
  const first = await system.pay();
  expect(first.status).toBe(202);
  expect(first.body).toMatchObject({ status: 'created', nextAction: null, payUrl: null });
  // A callback for the payment is stored and acknowledged even without a worker.
  const early = await system.pay({ order: { id: 'early', amount: 500, currency: 'CNY', subject: 'Tea' } });
  const answer = await fetch(...callbackFor(system, early.body.id, { amount: 500 }));
  expect(answer.status).toBe(200);

  await system.startWorker();
  await eventually(async () => (await system.orderStatus('early')) === 'succeeded');
  const again = await eventually(async () => {
    const repeated = await system.pay({ order: undefined, orderId: first.body.orderId });
    return repeated.status === 200 && repeated.body.payUrl !== null && repeated;
  });
  expect(again.body).toMatchObject({
    id: first.body.id,
    status: 'paying',
    clientToken: first.body.clientToken,
  });
  await system.simulator.pay(first.body.id);
  await eventually(async () => (await system.orderStatus(first.body.orderId)) === 'succeeded');
});

test('two identical requests that reach two API processes concurrently create one payment with one trade', async () => {
  const second = await system.startSecondApi();
  const body = {
    order: { id: 'double-click', amount: 1990, currency: 'CNY', subject: 'Coffee' },
    channel: 'simulator',
  };
  const answers = await Promise.all(
    [system.apiUrl, second, system.apiUrl, second].map((url) =>
      system.api('POST', `${url}/v1/payments`, body),
    ),
  );
  expect(answers.map(({ status }) => status).sort()).toEqual([200, 200, 200, 201]);
  expect(new Set(answers.map(({ body: { id } }) => id)).size).toBe(1);
  expect(new Set(answers.map(({ body: { payUrl, clientToken } }) => `${payUrl} ${clientToken}`)).size).toBe(
    1,
  );
  expect((await ledgerOf(answers[0]?.body.id))?.createdCount).toBe(1);
  expect((await system.api('GET', '/v1/orders/double-click')).body.payments).toHaveLength(1);
});

test('a payment that is created while the channel is down is answered 202 with the status created, and continues later', async () => {
  await system.simulator.setFaults({ down: true });
  const created = await system.pay();
  expect(created.status).toBe(202);
  const asked = await system.api('POST', `/v1/payments/${created.body.id}/query`);
  expect([asked.status, asked.body.code]).toEqual([504, 'channel_unreachable']);
  await system.simulator.setFaults({ down: false });
  await eventually(
    async () => (await system.api('GET', `/v1/payments/${created.body.id}`)).body.status === 'paying',
  );
  await system.simulator.pay(created.body.id);
  await eventually(async () => (await system.orderStatus(created.body.orderId)) === 'succeeded');
});

test('while Temporal is down for a minute, requests are refused quickly and clearly, and callbacks are kept, so that every payment recovers', async () => {
  const paying = await system.payable();
  await system.simulator.setFaults({ callback: { dropRate: 1 } });
  await system.stopTemporal();
  const since = Date.now();

  const refused = await system.pay({
    order: { id: 'while-down', amount: 700, currency: 'CNY', subject: 'Tea' },
  });
  expect([refused.status, refused.body.code]).toEqual([503, 'temporal_unavailable']);
  expect(refused.headers.get('retry-after')).not.toBeNull();
  expect((await system.api('GET', '/v1/orders/while-down')).body).toMatchObject({
    status: 'unpaid',
    payments: [{ status: 'created', payUrl: null }],
  });
  expect((await system.api('GET', '/readyz')).status).toBe(503);

  await system.simulator.pay(paying.body.id);
  const acknowledged = await fetch(...callbackFor(system, paying.body.id, { amount: 1990 }));
  expect(acknowledged.status).toBe(200);
  expect(await system.orderStatus(paying.body.orderId)).toBe('paying');

  await sleep(Math.max(0, 60_000 - (Date.now() - since)));
  await system.startTemporal();
  await eventually(async () => (await system.orderStatus(paying.body.orderId)) === 'succeeded');
  // The client did not repeat the request of the order `while-down`. So the sweep starts the workflow of its payment.
  const repaired = await eventually(async () => {
    const { body } = await system.api('GET', '/v1/orders/while-down');
    return body.status === 'paying' && body;
  });
  await system.simulator.pay(repaired.payments[0].id);
  await eventually(async () => (await system.orderStatus('while-down')) === 'succeeded');
});

test('if a callback was acknowledged but the workflow was not signalled, the sweep forwards the callback', async () => {
  const { body } = await system.payable({
    order: { id: 'swept', amount: 800, currency: 'CNY', subject: 'Tea' },
  });
  // This is the state if the API stores the callback, and dies before it forwards the callback.
  const { channelAccountId } = await system.db.payment.findUniqueOrThrow({ where: { id: body.id } });
  const answer = {
    state: 'paid',
    channelPaymentId: 'trx',
    amount: 800,
    currency: 'CNY',
    paidAt: new Date().toISOString(),
  } as const;
  const callback = ofTrade({ notificationId: 'n-swept', outTradeNo: body.id, answer });
  const aMinuteAgo = new Date(Date.now() - 60_000);
  const { id } = await storeCallback(system.db, channelAccountId, callback, Buffer.from('{}'), aMinuteAgo);
  // The earlier tests waited for the scheduled sweep, which runs every minute. This test triggers a sweep to save time.
  await system.temporal.schedule.getHandle(SWEEP_SCHEDULE_ID).trigger();
  await eventually(async () => (await system.orderStatus('swept')) === 'succeeded');
  expect((await system.api('GET', `/v1/payments/${body.id}`)).body.settledBy).toBe('callback');
  await eventually(
    async () => (await system.db.callback.findUniqueOrThrow({ where: { id } })).deliveredAt !== null,
  );
});
