import { afterAll, beforeAll, expect, test } from 'vitest';
import { call } from '../simulator/support.ts';
import { eventually } from '../support/stack.ts';
import { type System, startSystem } from '../support/system.ts';

/**
 * Tests the loss of the whole Temporal database. Everything is restored from the ledger, and nothing happens twice.
 */

let system: System;
beforeAll(async () => {
  system = await startSystem({ withWorker: true, env: { NODROP_QUERY_SCHEDULE: '2s' } });
});
afterAll(async () => {
  await system?.stop();
});

test('after a total loss of the Temporal database, recover restores the workflows', async () => {
  await system.simulator.setFaults({ callback: { dropRate: 1 } });
  const [unpaid, paid, ended, done, calledBack] = await Promise.all([
    system.payable(),
    system.payable(),
    system.payable(),
    system.payable(),
    system.payable(),
  ]);
  // On a slow machine, the first payments may take a long time.
  await eventually(async () => (await system.db.payment.count({ where: { status: 'paying' } })) === 5);
  await system.simulator.pay(done.body.id);
  await system.api('POST', `/v1/payments/${ended.body.id}/cancel`);
  await eventually(async () => (await system.orderStatus(done.body.orderId)) === 'succeeded');
  // A refund for which the channel gives no answer.
  await system.simulator.setFaults({ refund: { errorRate: 1 } });
  const key = { 'idempotency-key': 'part' };
  const asked = await system.api('POST', `/v1/payments/${done.body.id}/refunds`, { amount: 500 }, key);
  const refund = () => system.db.refund.findUniqueOrThrow({ where: { id: asked.body.id } });
  await eventually(async () => (await refund()).unknownSince !== null);

  await system.stopTemporal();
  const refused = await system.nodrop('recover');
  expect([refused.status, refused.output]).toEqual([1, expect.stringContaining('cannot be reached')]);
  system.loseTemporal();
  await system.simulator.pay(paid.body.id);
  // This callback is acknowledged while Temporal is down.
  await system.simulator.setFaults({ callback: { dropRate: 0 }, refund: { errorRate: 0 } });
  await system.simulator.pay(calledBack.body.id);
  const callback = () => system.db.callback.findFirst({ where: { paymentId: calledBack.body.id } });
  await eventually(async () => (await callback()) !== null);
  expect(await callback()).toMatchObject({ deliveredAt: null });
  await system.startTemporal();

  // A restarted worker restores the search attributes and the Schedules. The command `recover` restores the
  // workflows.
  for (let i = 0; i < 2; i++) {
    const recovered = await eventually(async () => {
      const { status, output } = await system.nodrop('recover');
      return status === 0 && output;
    });
    expect(recovered).toContain('Recovered: ');
    expect((await callback())?.deliveredAt).toBeInstanceOf(Date);
  }
  await eventually(async () => (await refund()).status === 'succeeded');
  await eventually(async () => (await system.orderStatus(calledBack.body.orderId)) === 'succeeded');
  await eventually(async () => (await system.orderStatus(paid.body.orderId)) === 'succeeded');
  for (const id of [unpaid.body.id, ended.body.id]) {
    const run = await system.temporal.workflow.getHandle(`payment/${id}`).describe();
    expect(run.status.name).toBe('RUNNING');
  }
  await system.simulator.pay(unpaid.body.id);
  await eventually(async () => (await system.orderStatus(unpaid.body.orderId)) === 'succeeded');

  const trades = await system.simulator.ledger();
  expect(trades.map(({ createdCount }) => createdCount)).toEqual([1, 1, 1, 1, 1]);
  const refunded = ({ outTradeNo }: { outTradeNo: string }) => outTradeNo === done.body.id;
  expect(trades.filter(refunded)).toMatchObject([{ refunded: 500 }]);
  const others = trades.filter((trade) => !refunded(trade)).map(({ state }) => state);
  expect(others.sort()).toEqual(['CLOSED', 'SUCCESS', 'SUCCESS', 'SUCCESS']);
  const told = await system.db.timelineEntry.findMany({ where: { kind: 'order' } });
  expect(told).toHaveLength(4);
  const events = await system.db.event.findMany({ select: { type: true } });
  expect(events.map(({ type }) => type).sort()).toEqual([
    'payment.cancelled',
    ...Array(4).fill('payment.succeeded'),
    'refund.succeeded',
  ]);
});

test('if a callback was forwarded only to a Temporal database that is now lost, the callback is forwarded again', async () => {
  const { body } = await system.payable();
  await system.simulator.pay(body.id);
  await eventually(async () => (await system.orderStatus(body.orderId)) === 'succeeded');
  // From this point on, no worker processes signals.
  system.kill('worker', 'SIGSTOP');
  try {
    const secret = system.config.simulator.secrets.simulator ?? '';
    const content = JSON.stringify({ outRefundNo: 'by_somebody_else', amount: 300 });
    const path = `/v1/trades/${body.id}/refunds`;
    expect((await call(system.simulator.url, 'POST', path, content, { secret })).status).toBe(201);
    const told = { paymentId: body.id, answer: { path: ['refundedAmount'], equals: 300 } };
    await eventually(async () => (await system.db.callback.findFirst({ where: told }))?.deliveredAt != null);
    await system.stopTemporal();
    system.loseTemporal();
  } finally {
    system.kill('worker', 'SIGCONT');
  }
  await system.startTemporal();
  const payment = () => system.db.payment.findUniqueOrThrow({ where: { id: body.id } });
  expect((await payment()).refundedAmount).toBe(0n);
  await eventually(async () => (await system.nodrop('recover')).status === 0);
  await eventually(async () => (await payment()).refundedAmount === 300n);
  expect(await system.db.refund.findMany({ where: { paymentId: body.id } })).toMatchObject([
    { reason: 'external', status: 'succeeded', amount: 300n },
  ]);
});

test('recover names a payment whose workflow cannot be started, and continues with the other payments', async () => {
  const { body } = await system.payable();
  const run = system.temporal.workflow.getHandle(`payment/${body.id}`);
  // The first payment has an unknown currency, so its workflow cannot be started.
  await system.db.$executeRaw`
    INSERT INTO payments (id, merchant_id, order_id, channel, channel_account_id, method, amount, currency,
      client_token_hash, status, expires_at)
    SELECT 'pay_0', merchant_id, order_id, channel, channel_account_id, 'other', amount, 'QQQ', 'x', 'paying', expires_at
    FROM payments WHERE id = ${body.id}`;
  await run.terminate();
  const { status, output } = await system.nodrop('recover');
  expect(output).toContain('pay_0: ');
  expect(output).toContain('QQQ is not an ISO 4217 currency');
  expect(status).toBe(1);
  expect((await run.describe()).status.name).toBe('RUNNING');
  expect(output).toContain('Recovered: ');
});
