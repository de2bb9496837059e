import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { SWEEP_SCHEDULE_ID } from '../../src/domain/names.ts';
import { call } from '../simulator/support.ts';
import { eventually } from '../support/stack.ts';
import { type System, startSystem } from '../support/system.ts';

/** Tests refunds in the real system. Each refund is made once, whichever process dies in the meantime. */

let system: System;
beforeAll(async () => {
  system = await startSystem({ withWorker: true, env: { NODROP_QUERY_SCHEDULE: '2s' } });
});
afterAll(async () => {
  await system?.stop();
});
beforeEach(async () => {
  await system.simulator.setFaults({
    callback: { dropRate: 0 },
    query: { errorRate: 0 },
    refund: { errorRate: 0, processingMs: 0 },
  });
});

const tradeOf = async (paymentId: string) =>
  (await system.simulator.ledger()).find(({ outTradeNo }) => outTradeNo === paymentId);
const payment = async (id: string) => (await system.api('GET', `/v1/payments/${id}`)).body;

async function paid() {
  const { body } = await eventually(async () => {
    const answer = await system.pay();
    return answer.status === 201 && answer;
  });
  await system.simulator.pay(body.id);
  await eventually(async () => (await system.orderStatus(body.orderId)) === 'succeeded');
  return body;
}

let keys = 0;
async function askFor(paymentId: string, body: object, key = `key-${++keys}`) {
  const path = `/v1/payments/${paymentId}/refunds`;
  return await system.api('POST', path, body, { 'idempotency-key': key });
}
const untilRefund = (id: string, status: string, patienceMs?: number) =>
  eventually(async () => {
    const answer = await system.api('GET', `/v1/refunds/${id}`).catch(() => undefined);
    return answer?.body.status === status && answer.body;
  }, patienceMs);

test('if a part of the money is refunded and the remaining amount is refunded later, the order becomes refunded', async () => {
  const { id, orderId } = await paid();
  const part = await askFor(id, { amount: 500, note: 'One cup' }, 'part');
  expect(part).toMatchObject({ status: 201, body: { amount: 500, reason: 'requested' } });
  expect(await untilRefund(part.body.id, 'succeeded')).toMatchObject({ note: 'One cup', failure: null });
  expect(await payment(id)).toMatchObject({ refundedAmount: 500, attention: null });
  expect(await system.orderStatus(orderId)).toBe('succeeded');
  const again = await askFor(id, { amount: 500, note: 'One cup' }, 'part');
  expect([again.status, again.body.id]).toEqual([200, part.body.id]);

  const rest = await askFor(id, {});
  await untilRefund(rest.body.id, 'succeeded');
  expect(await tradeOf(id)).toMatchObject({ state: 'REFUND', refunded: 1990 });
  expect(await system.orderStatus(orderId)).toBe('refunded');
  const { body } = await system.api('GET', `/v1/payments/${id}/timeline`);
  expect(body.data.filter(({ kind }: { kind: string }) => kind === 'refund').length).toBeGreaterThanOrEqual(
    4,
  );
  // The channel also sends callbacks about the refunds, but these callbacks change nothing.
  await eventually(async () => (await system.db.callback.count({ where: { paymentId: id } })) >= 3);
  expect((await payment(id)).refundedAmount).toBe(1990);
  const run = system.temporal.workflow.getHandle(`refund/${rest.body.id}`);
  expect(await (await run.describe()).staticSummary()).toBe(
    `refund of CNY 14.90 through simulator, order ${orderId}`,
  );
});

test('if two attempts of one order are paid, one attempt pays the order and the other attempt is refunded automatically', async () => {
  const first = (await system.payable()).body;
  // The channel does not answer queries of the first attempt, so nodrop accepts the second attempt.
  await system.simulator.setFaults({ query: { errorRate: 1 } });
  const second = (await system.payable({ order: undefined, orderId: first.orderId, channel: 'simulator2' }))
    .body;
  // The first attempt may have used most of the request's deadline. So the second attempt may become payable only after
  // the answer.
  await eventually(async () => (await payment(second.id)).status === 'paying');
  await system.simulator.pay(first.id);
  await system.simulator.pay(second.id);
  await system.simulator.setFaults({ query: { errorRate: 0 } });
  const settled = await eventually(async () => {
    const both = [await payment(first.id), await payment(second.id)];
    return both.every(({ status }) => status === 'succeeded') && both;
  });
  expect(settled.map(({ orderUpdate }) => orderUpdate).sort()).toEqual(['applied', 'conflict']);
  const loser = settled.find(({ orderUpdate }) => orderUpdate === 'conflict').id;
  const winner = settled.find(({ orderUpdate }) => orderUpdate === 'applied').id;
  await eventually(async () => (await payment(loser)).refundedAmount === 1990);
  expect(await payment(loser)).toMatchObject({ status: 'succeeded', attention: null });
  expect((await system.api('GET', `/v1/payments/${loser}/refunds`)).body.data).toMatchObject([
    { reason: 'duplicate_payment', status: 'succeeded', amount: 1990 },
  ]);
  expect([(await tradeOf(winner))?.refunded, (await tradeOf(loser))?.refunded]).toEqual([0, 1990]);
  expect((await system.api('GET', `/v1/orders/${first.orderId}`)).body).toMatchObject({
    status: 'succeeded',
    paidPaymentId: winner,
  });
  // The payer of the second attempt can see the refund.
  const token = [first, second].find(({ id }) => id === loser).clientToken;
  const seen = await system.api('GET', `/v1/payments/${loser}`, undefined, {
    authorization: `Bearer ${token}`,
  });
  expect(seen.body).toMatchObject({
    ...{ orderUpdate: 'conflict', refundedAmount: 1990 },
    ...{ refundReason: 'duplicate_payment', refundStatus: 'succeeded' },
  });
});

test('if a worker is killed with -9 while the channel processes a refund, the callback settles the refund', async () => {
  const { id } = await paid();
  await system.simulator.setFaults({ refund: { processingMs: 6_000 } });
  const asked = await askFor(id, { amount: 700 });
  await untilRefund(asked.body.id, 'processing');
  system.kill('worker');
  await untilRefund(asked.body.id, 'succeeded');
  expect((await payment(id)).refundedAmount).toBe(700);
  expect((await tradeOf(id))?.refunded).toBe(700);
});

test('if a worker is killed with -9 during a refund request, the refund is made once', async () => {
  const { id } = await paid();
  await system.simulator.setFaults({ refund: { errorRate: 1 } });
  const asked = await askFor(id, { amount: 900 });
  await eventually(async () => {
    const row = await system.db.refund.findUniqueOrThrow({ where: { id: asked.body.id } });
    return row.unknownSince !== null;
  });
  system.kill('worker');
  await system.simulator.setFaults({ refund: { errorRate: 0 } });
  await untilRefund(asked.body.id, 'succeeded');
  expect((await tradeOf(id))?.refunded).toBe(900);
});

test('a refund that the merchant makes at the channel without nodrop is recorded when its callback arrives', async () => {
  const { id, orderId } = await paid();
  const secret = system.config.simulator.secrets.simulator ?? '';
  const body = JSON.stringify({ outRefundNo: `console_${id.slice(-10)}`, amount: 1990 });
  const path = `/v1/trades/${id}/refunds`;
  expect((await call(system.simulator.url, 'POST', path, body, { secret })).status).toBe(201);
  await eventually(async () => (await payment(id)).refundedAmount === 1990);
  expect(await payment(id)).toMatchObject({ attention: 'channel_reversed' });
  expect((await system.api('GET', `/v1/payments/${id}/refunds`)).body.data).toMatchObject([
    { reason: 'external', status: 'succeeded', amount: 1990 },
  ]);
  expect(await system.orderStatus(orderId)).toBe('refunded');
});

test('a refund that is requested while Temporal is down is recorded, and the sweep starts it', async () => {
  const { id } = await paid();
  await system.stopTemporal();
  const asked = await askFor(id, {});
  expect([asked.status, asked.body.status]).toEqual([201, 'created']);
  // The API is killed, so that its own call to Temporal cannot succeed later.
  system.kill('api');
  await system.startTemporal();
  // Makes the refund old enough that the sweep picks it up.
  await system.db
    .$executeRaw`UPDATE refunds SET created_at = created_at - interval '1 minute' WHERE id = ${asked.body.id}`;
  await system.temporal.schedule.getHandle(SWEEP_SCHEDULE_ID).trigger();
  await untilRefund(asked.body.id, 'succeeded');
  expect((await tradeOf(id))?.refunded).toBe(1990);
});
