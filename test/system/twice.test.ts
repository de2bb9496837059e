import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { newCallbackId } from '../../src/domain/ids.ts';
import { SWEEP_SCHEDULE_ID } from '../../src/domain/names.ts';
import { callbackFor } from '../support/callback.ts';
import { eventually } from '../support/stack.ts';
import { type Answer, type System, startSystem } from '../support/system.ts';

// Tests that the outcome is the same, whichever process handles a request. Two API processes with two workers get the
// same requests concurrently, while one API process and one worker are killed. They also get callbacks that arrive too
// early.

let s: System;
let second: string;
let worker2: Awaited<ReturnType<System['startSecondWorker']>>;
beforeAll(async () => {
  s = await startSystem({ withWorker: true, env: { NODROP_QUERY_SCHEDULE: '2s' } });
  [second, worker2] = await Promise.all([s.startSecondApi(), s.startSecondWorker()]);
  // The first payment of a new process may take up to 8 s on a busy machine.
  for (const base of [s.apiUrl, second])
    await eventually(async () => (await s.api('POST', `${base}/v1/payments`, request())).status === 201);
});
afterAll(async () => {
  await s?.stop();
});
beforeEach(async () => {
  await s.simulator.setFaults({
    callback: { dropRate: 0 },
    create: { latencyMs: 0 },
    query: { latencyMs: 0 },
  });
});

const paymentsOf = (orderId: string) => s.db.payment.count({ where: { orderId } });
const request = () => {
  const order = { id: `order-${randomUUID()}`, amount: 1990, currency: 'CNY', subject: 'Coffee' };
  return { order, channel: 'simulator' };
};
const send = (base: string, body: object, key: string): Promise<Answer | undefined> =>
  s.api('POST', `${base}/v1/payments`, body, { 'idempotency-key': key }).catch(() => undefined);

/** Sends `count` concurrent requests, alternating between the two API processes. */
const onBoth = <T>(times: number, work: (base: string) => Promise<T>): Promise<T[]> =>
  Promise.all(Array.from({ length: times }, (_, i) => work(i % 2 ? s.apiUrl : second)));
const tradesOf = async (paymentIds: readonly string[]) =>
  (await s.simulator.ledger()).filter(({ outTradeNo }) => paymentIds.includes(outTradeNo));
/** How many entries of the payment's timeline contain this text. */
const said = (paymentId: string, detail: string) =>
  s.db.timelineEntry.count({ where: { paymentId, detail: { contains: detail } } });

/**
 * Asserts that the order is paid by its only payment, that the channel has one trade, and that the timeline records the
 * success once.
 */
async function expectPaidOnce(orderId: string) {
  const order = await s.db.order.findFirstOrThrow({ where: { id: orderId }, include: { payments: true } });
  expect(order.payments).toMatchObject([
    { id: order.paidPaymentId, status: 'succeeded', orderUpdate: 'applied', receivedAmount: 1990n },
  ]);
  const { id = '' } = order.payments[0] ?? {};
  expect(await tradesOf([id])).toMatchObject([{ state: 'SUCCESS' }]);
  expect([await said(id, '-> succeeded.'), await said(id, 'is paid.')]).toEqual([1, 1]);
}

/** The request was in flight when its API process died. */
const left = { body: request(), key: randomUUID() };

test('if a process is killed with -9 during a request, the other process answers the same request with "try again later"', async () => {
  const { body, key } = left;
  // The channel delays its answer, so the request is still in flight when the API process dies.
  await s.simulator.setFaults({ create: { latencyMs: 6_000 } });
  const lost = send(s.apiUrl, body, key);
  await eventually(async () => (await paymentsOf(body.order.id)) === 1);
  s.kill('api');
  expect(await lost).toBeUndefined();
  await s.simulator.setFaults({ create: { latencyMs: 0 } });
  expect((await send(second, body, key))?.body.code).toBe('idempotency_key_in_progress');
  await eventually(async () => (await s.api('GET', '/readyz').catch(() => undefined))?.status === 200);
});

test('if two processes get the same request, they create one payment, and their answers are equal or ask for a retry', async () => {
  const [body, key] = [request(), randomUUID()];
  const answers = await onBoth(20, (base) => send(base, body, key));
  const made = answers.filter((answer) => answer?.status === 201);
  expect(made.length).toBeGreaterThan(0);
  expect(new Set(made.map((answer) => answer?.body.id)).size).toBe(1);
  for (const answer of answers) {
    if (answer?.status === 201) continue;
    expect([answer?.status, answer?.body.code]).toEqual([409, 'idempotency_key_in_progress']);
  }
  const again = await send(second, body, key);
  expect([again?.status, again?.headers.get('idempotency-replayed')]).toEqual([201, 'true']);
  expect(again?.body.clientToken).toBe(made[0]?.body.clientToken);
  expect(await paymentsOf(body.order.id)).toBe(1);
  expect(await tradesOf([again?.body.id])).toHaveLength(1);
});

describe('the same requests at two API processes at the same time', () => {
  const made = async () => (await s.payable({ order: request().order })).body;

  test('repeated creates without an idempotency key make one payment with one trade, and callbacks, hints and queries lead to one outcome of the order', async () => {
    await s.simulator.setFaults({ callback: { dropRate: 1 } });
    for (let round = 0; round < 3; round++) {
      const body = request();
      const created = await onBoth(8, (base) => s.api('POST', `${base}/v1/payments`, body));
      expect(created.filter(({ status }) => status === 201)).toHaveLength(1);
      expect([...new Set(created.map(({ body }) => `${body.id} ${body.clientToken}`))]).toHaveLength(1);
      const { id } = created[0]?.body ?? {};
      await s.simulator.pay(id);
      const [url, callback] = callbackFor(s, id);
      const { pathname } = new URL(url);
      const [acknowledged, hinted, queried] = await Promise.all([
        onBoth(6, (base) => fetch(`${base}${pathname}`, callback)),
        onBoth(4, (base) => s.api('POST', `${base}/v1/payments/${id}/hint`)),
        onBoth(4, (base) => s.api('POST', `${base}/v1/payments/${id}/query`)),
      ]);
      expect(new Set(acknowledged.map(({ status }) => status))).toEqual(new Set([200]));
      expect(new Set(hinted.map(({ status }) => status))).toEqual(new Set([202]));
      expect(new Set(queried.map(({ status }) => status))).toEqual(new Set([200]));
      await eventually(async () => (await s.orderStatus(body.order.id)) === 'succeeded');
      await expectPaidOnce(body.order.id);
      expect(await s.db.callback.count({ where: { paymentId: id } })).toBe(1);
    }
  });

  test('refund requests with one idempotency key make one refund, and each of them is answered with this refund', async () => {
    const { id, orderId } = await made();
    await s.simulator.pay(id);
    await eventually(async () => (await s.orderStatus(orderId)) === 'succeeded');
    const key = { 'idempotency-key': randomUUID() };
    const answers = await onBoth(12, (base) =>
      s.api('POST', `${base}/v1/payments/${id}/refunds`, { amount: 700 }, key),
    );
    expect(answers.map(({ status }) => status).sort()).toEqual([...Array(11).fill(200), 201]);
    expect([...new Set(answers.map(({ body }) => body.id))]).toHaveLength(1);
    await eventually(
      async () => (await s.api('GET', `/v1/refunds/${answers[0]?.body.id}`)).body.status === 'succeeded',
    );
    expect(await s.db.refund.count({ where: { paymentId: id } })).toBe(1);
    expect(await tradesOf([id])).toMatchObject([{ refunded: 700 }]);
    expect((await s.api('GET', `/v1/payments/${id}`)).body.refundedAmount).toBe(700);
  });

  test('several requests to cancel a payment close it once, and all of them get the same answer', async () => {
    const { id, orderId } = await made();
    const answers = await onBoth(8, (base) => s.api('POST', `${base}/v1/payments/${id}/cancel`));
    expect(answers.map(({ status, body }) => [status, body.id, body.status])).toEqual(
      Array(8).fill([200, id, 'cancelled']),
    );
    expect(new Set(answers.map(({ body }) => body.cancelRequestedAt)).size).toBe(1);
    expect(await tradesOf([id])).toMatchObject([{ state: 'CLOSED' }]);
    expect([await said(id, 'Cancellation requested'), await said(id, '-> cancelled')]).toEqual([1, 1]);
    expect(await s.orderStatus(orderId)).toBe('unpaid');
  });

  test('several requests to cancel an order end the order and its payment once, and all of them get the same answer', async () => {
    const { id, orderId } = await made();
    const answers = await onBoth(8, (base) => s.api('POST', `${base}/v1/orders/${orderId}/cancel`));
    expect(answers.map(({ status, body }) => [status, body.status, body.payments[0].status])).toEqual(
      Array(8).fill([200, 'cancelled', 'cancelled']),
    );
    expect(await tradesOf([id])).toMatchObject([{ state: 'CLOSED' }]);
    expect(await said(id, '-> cancelled')).toBe(1);
  });
});

test('if a callback is stored before its payment, the payment pays the order at the next sweep', async () => {
  const { body } = await s.payable();
  const { channelAccountId } = await s.db.payment.findUniqueOrThrow({ where: { id: body.id } });
  const answer = {
    ...{ state: 'paid', channelPaymentId: 'trx-early', amount: 1990, currency: 'CNY' },
    paidAt: new Date().toISOString(),
  };
  await s.db.callback.create({
    data: {
      ...{ id: newCallbackId(), channelAccountId, notificationId: randomUUID(), outTradeNo: body.id },
      ...{ answer, body: new Uint8Array(), receivedAt: new Date(Date.now() - 60_000) },
    },
  });
  await s.temporal.schedule.getHandle(SWEEP_SCHEDULE_ID).trigger();
  await eventually(async () => (await s.orderStatus(body.orderId)) === 'succeeded');
  expect(await s.db.payment.findUniqueOrThrow({ where: { id: body.id } })).toMatchObject({
    settledBy: 'callback',
  });
});

test('if one of two workers is killed with -9 while payers pay, the other worker settles the payments', async () => {
  // Callbacks are lost, and the channel's answers still say unpaid. So the workers continue to work on the
  // payments.
  await s.simulator.setFaults({
    callback: { dropRate: 1 },
    query: { latencyMs: 1_500, lagMs: 3_600_000 },
  });
  const payments = await Promise.all(
    Array.from({ length: 8 }, async () => (await s.payable({ order: request().order })).body),
  );
  await Promise.all(payments.map(({ id }) => s.simulator.pay(id)));
  const survivor = s.pidOf('worker');
  const run = (id: string) => s.temporal.workflow.getHandle(`payment/${id}`);
  const interrupted = await eventually(async () => {
    const runs = await Promise.all(payments.map(({ id }) => run(id).describe()));
    return payments.find((_, i) =>
      runs[i]?.raw.pendingActivities?.some(
        ({ state, lastWorkerIdentity }) => state === 2 && lastWorkerIdentity?.startsWith(`${worker2.pid}@`),
      ),
    );
  });
  worker2.kill('SIGKILL');
  await s.simulator.setFaults({ query: { lagMs: 0 } });
  for (const { orderId } of payments) {
    await eventually(async () => (await s.orderStatus(orderId)) === 'succeeded');
    await expectPaidOnce(orderId);
  }
  expect(s.pidOf('worker')).toBe(survivor);
  await run(interrupted.id).result();
  const { events } = await run(interrupted.id).fetchHistory();
  const last = events?.findLast(
    ({ workflowTaskCompletedEventAttributes }) => workflowTaskCompletedEventAttributes,
  );
  expect(last?.workflowTaskCompletedEventAttributes?.identity).toMatch(new RegExp(`^${survivor}@`));
});

test('if a process dies, its lease ends within a minute, and the same request to the other process then returns the only payment', async () => {
  const { body, key } = left;
  const answer = await eventually(async () => {
    const given = await send(second, body, key);
    return given?.status !== 409 && given;
  });
  expect([answer.status, answer.body.orderId]).toEqual([200, body.order.id]);
  expect(await paymentsOf(body.order.id)).toBe(1);
  expect((await send(second, body, key))?.headers.get('idempotency-replayed')).toBe('true');
});
