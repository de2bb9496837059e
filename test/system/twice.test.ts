import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { newCallbackId } from '../../src/domain/ids.ts';
import { SWEEP_SCHEDULE_ID } from '../../src/domain/names.ts';
import { eventually } from '../support/stack.ts';
import { type Answer, type System, startSystem } from '../support/system.ts';

// The same request at once on two API processes, one of them killed in the middle; and what came too early.

let s: System;
let second: string;
beforeAll(async () => {
  s = await startSystem({ withWorker: true });
  second = await s.startSecondApi();
});
afterAll(async () => {
  await s?.stop();
});

const paymentsOf = (orderId: string) => s.db.payment.count({ where: { orderId } });
const request = () => {
  const order = { id: `order-${randomUUID()}`, amount: 1990, currency: 'CNY', subject: 'Coffee' };
  return { order, channel: 'simulator' };
};
const send = (base: string, body: object, key: string): Promise<Answer | undefined> =>
  s.api('POST', `${base}/v1/payments`, body, { 'idempotency-key': key }).catch(() => undefined);

test('two processes, one payment: all say the same or ask to come back', async () => {
  const [body, key] = [request(), randomUUID()];
  const answers = await Promise.all(
    Array.from({ length: 20 }, (_, i) => send(i % 2 ? s.apiUrl : second, body, key)),
  );
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
});

test('kill -9 in the middle: the same request on the other process ends it, with one payment', async () => {
  const [body, key] = [request(), randomUUID()];
  // Held by the channel, so that the request is under way when its process dies.
  await s.simulator.setFaults({ create: { latencyMs: 3_000 } });
  const lost = send(s.apiUrl, body, key);
  await eventually(async () => (await paymentsOf(body.order.id)) === 1);
  s.kill('api');
  expect(await lost).toBeUndefined();
  await s.simulator.setFaults({ create: { latencyMs: 0 } });
  expect((await send(second, body, key))?.body.code).toBe('idempotency_key_in_progress');
  // The lease of the dead process ends within a minute.
  const answer = await eventually(async () => {
    const given = await send(second, body, key);
    return given?.status !== 409 && given;
  }, 90_000);
  expect([answer.status, answer.body.orderId]).toEqual([200, body.order.id]);
  expect(await paymentsOf(body.order.id)).toBe(1);
  expect((await send(second, body, key))?.headers.get('idempotency-replayed')).toBe('true');
});

test('a callback that was stored before its payment pays the order at the next sweep', async () => {
  const { body } = await s.pay();
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
