import { afterAll, beforeAll, expect, test } from 'vitest';
import { refundNumber } from '../../src/domain/ids.ts';
import { REFUND_KEYS_AT_MOST } from '../../src/domain/refund.ts';
import { call } from '../simulator/support.ts';
import { eventually } from '../support/stack.ts';
import { type System, startSystem } from '../support/system.ts';

/** Tests the restore of an older backup. The backup lacks some payments whose workflows are still running. */

let system: System;
beforeAll(async () => {
  system = await startSystem({ withWorker: true, env: { NODROP_QUERY_SCHEDULE: '2s' } });
});
afterAll(async () => {
  await system?.stop();
});

/** Deletes a payment and its order, as if the restored backup were older than both. */
async function lose({ id, orderId }: { id: string; orderId: string }): Promise<void> {
  await system.db.$transaction(async (tx) => {
    // This lock prevents all processes from writing rows of the payment.
    await tx.$queryRaw`SELECT 1 FROM orders WHERE id = ${orderId} FOR UPDATE`;
    // Triggers and foreign keys are turned off, because the restore of a backup ignores them too.
    await tx.$executeRaw`SET LOCAL session_replication_role = replica`;
    await tx.timelineEntry.deleteMany({ where: { paymentId: id } });
    await tx.callback.deleteMany({ where: { paymentId: id } });
    await tx.event.deleteMany({ where: { paymentId: id } });
    await tx.refund.deleteMany({ where: { paymentId: id } });
    await tx.payment.delete({ where: { id } });
    await tx.order.deleteMany({ where: { id: orderId } });
  });
}

const metric = async () => {
  const text = await (await fetch(`http://127.0.0.1:${system.config.admin.port}/metrics`)).text();
  return text.split('\n').filter((line) => line.startsWith('nodrop_rows_lost'));
};

test('recover --lost lists the lost rows, and restores them if --write is given', async () => {
  expect((await system.nodrop('recover', '--write')).output).toContain('--write needs --lost');
  expect((await system.nodrop('recover', '--lost')).output).toContain('0 payments and 0 refunds');

  const [paid, unpaid] = (await Promise.all([system.payable(), system.payable()])).map(({ body }) => body);
  for (const payment of [paid, unpaid]) {
    const row = () => system.db.payment.findUniqueOrThrow({ where: { id: payment.id } });
    await eventually(async () => (await row()).status === 'paying');
    await lose(payment);
  }
  // A callback that arrives while the row of its payment is lost matches no payment, but nodrop keeps it.
  await system.simulator.pay(paid.id);
  const callback = () => system.db.callback.findFirst({ where: { outTradeNo: paid.id } });
  await eventually(async () => (await callback()) !== null);
  expect(await callback()).toMatchObject({ paymentId: null });

  // The query activity detects that the row is lost. The metric counts as many lost payments as the list of lost rows
  // shows.
  await eventually(async () => (await metric())[0] === 'nodrop_rows_lost{workflow="payment"} 2');
  const details = await (await fetch(`http://127.0.0.1:${system.config.admin.port}/details`)).json();
  expect(details).toMatchObject({ lostRows: { payment: 2, refund: 0 } });

  const { merchantId } = await system.db.channelAccount.findFirstOrThrow();
  const listed = await system.nodrop('recover', '--lost');
  expect(listed.status).toBe(0);
  for (const { id, orderId } of [paid, unpaid])
    expect(listed.output).toMatch(new RegExp(`${id} +${orderId} +CNY 19\\.90 +${merchantId} +simulator +20`));
  expect(listed.output).toContain('Nothing was changed');
  expect(await system.db.payment.count()).toBe(0);

  // If a busy database could not write some rows, the command names them, and the next run writes them.
  await eventually(async () => (await system.nodrop('recover', '--lost', '--write')).status === 0);
  await eventually(async () => (await system.orderStatus(paid.orderId)) === 'succeeded');
  const status = async () => (await system.db.payment.findUnique({ where: { id: unpaid.id } }))?.status;
  await eventually(async () => (await status()) === 'cancelled');
  expect((await callback())?.paymentId).toBe(paid.id);
  const trades = await system.simulator.ledger();
  const found = trades.map(({ outTradeNo, state, createdCount }) => [outTradeNo, state, createdCount]);
  expect(found.sort()).toEqual(
    [
      [paid.id, 'SUCCESS', 1],
      [unpaid.id, 'CLOSED', 1],
    ].sort(),
  );

  // The shop's next request brings back the order's content. The order can then be paid.
  const order = { id: unpaid.orderId, amount: 1990, currency: 'CNY', subject: 'Coffee' };
  expect((await system.api('POST', '/v1/orders', { ...order, amount: 1 })).body.code).toBe('order_exists');
  const again = await system.payable({ order });
  expect(again.body.id).not.toBe(unpaid.id);
  const shown = await system.api('GET', `/v1/orders/${unpaid.orderId}`);
  expect(shown.body).toMatchObject({ subject: 'Coffee', recoveredAt: expect.any(String) });

  await eventually(async () => (await metric())[0] === 'nodrop_rows_lost{workflow="payment"} 0');
  expect((await system.nodrop('recover', '--lost', '--write')).output).toContain('0 payments and 0 refunds');
});

test('recover --lost names the rows that it cannot restore, and ends a lost refund, which can then be requested again', async () => {
  const { body } = await system.payable();
  await system.simulator.pay(body.id);
  await eventually(async () => (await system.orderStatus(body.orderId)) === 'succeeded');
  await system.simulator.setFaults({ refund: { errorRate: 1 } });
  const path = `/v1/payments/${body.id}/refunds`;
  const asked = await system.api('POST', path, { amount: 500 }, { 'idempotency-key': 'part' });
  const refunds = () => system.db.refund.findMany({ where: { paymentId: body.id } });
  await eventually(async () => (await refunds())[0]?.unknownSince != null);
  await system.db.refund.deleteMany({ where: { paymentId: body.id } });

  const other = (await system.payable()).body;
  await lose(other);
  // In the meantime the shop has created the order again.
  const order = { id: other.orderId, amount: 1990, currency: 'CNY', subject: 'Coffee' };
  expect((await system.payable({ order })).body.id).not.toBe(other.id);
  await eventually(async () => {
    const { output } = await system.nodrop('recover', '--lost');
    return output.includes(other.id) && output.includes(asked.body.id);
  });

  const said = await eventually(async () => {
    const { status, output } = await system.nodrop('recover', '--lost', '--write');
    expect(status).toBe(1);
    return output.includes('recover this payment after that one has ended') && output;
  });
  expect(said).toContain(`${other.id}: payment `);
  const run = system.temporal.workflow.getHandle(`refund/${asked.body.id}`);
  await eventually(async () => {
    await system.nodrop('recover', '--lost', '--write');
    return (await run.describe()).status.name === 'TERMINATED';
  });
  await system.simulator.setFaults({ refund: { errorRate: 0 } });
  await system.api('POST', path, { amount: 500 }, { 'idempotency-key': 'part' });
  await eventually(async () => (await refunds())[0]?.status === 'succeeded');
  expect(await refunds()).toMatchObject([{ amount: 500n, reason: 'requested' }]);
});

/**
 * Requests a refund, deletes its row, and then makes the refund at the channel under the number of attempt `attempt`.
 * The channel completes the refund after `processingMs` milliseconds.
 * @returns its id
 */
async function newMade(paymentId: string, processingMs: number, attempt = 1): Promise<string> {
  await system.simulator.setFaults({ refund: { errorRate: 1, processingMs }, callback: { dropRate: 1 } });
  const key = { 'idempotency-key': `made-${paymentId}` };
  const asked = await system.api('POST', `/v1/payments/${paymentId}/refunds`, { amount: 500 }, key);
  const refund = () => system.db.refund.findFirst({ where: { paymentId } });
  await eventually(async () => (await refund())?.unknownSince != null);
  await system.db.refund.deleteMany({ where: { paymentId } });
  const listed = async () => (await system.nodrop('recover', '--lost')).output;
  await eventually(async () => (await listed()).includes(asked.body.id));
  // The earlier refund request takes effect at the channel.
  await system.simulator.setFaults({ refund: { errorRate: 0 } });
  const secret = system.config.simulator.secrets.simulator ?? '';
  const content = JSON.stringify({ outRefundNo: refundNumber(asked.body.id, attempt), amount: 500 });
  const path = `/v1/trades/${paymentId}/refunds`;
  expect((await call(system.simulator.url, 'POST', path, content, { secret })).status).toBe(201);
  return asked.body.id;
}

async function newPaid(): Promise<string> {
  const { body } = await system.payable();
  await system.simulator.pay(body.id);
  await eventually(async () => (await system.orderStatus(body.orderId)) === 'succeeded');
  return body.id;
}

test('a lost refund that the channel has made is recorded as an external refund', async () => {
  const paymentId = await newPaid();
  await newMade(paymentId, 0);
  const refund = () => system.db.refund.findFirst({ where: { paymentId } });
  await eventually(async () => {
    await system.nodrop('recover', '--lost', '--write');
    return (await refund()) !== null;
  });
  expect(await system.db.refund.findMany({ where: { paymentId } })).toMatchObject([
    { amount: 500n, reason: 'external', status: 'succeeded' },
  ]);
});

test("if a refund and its payment are lost and the payment's workflow has ended, the payment is restored and the refund is recorded", async () => {
  const { body } = await system.payable();
  await system.simulator.pay(body.id);
  await eventually(async () => (await system.orderStatus(body.orderId)) === 'succeeded');
  await newMade(body.id, 0);
  await lose(body);
  await eventually(async () => {
    await system.nodrop('recover', '--lost', '--write');
    return (await system.db.refund.findFirst({ where: { paymentId: body.id } })) !== null;
  });
  expect(await system.db.refund.findMany({ where: { paymentId: body.id } })).toMatchObject([
    { amount: 500n, reason: 'external', status: 'succeeded' },
  ]);
  expect(await system.orderStatus(body.orderId)).toBe('succeeded');
});

test('a lost refund is not ended while the channel is processing it or does not answer about it', async () => {
  const paymentId = await newPaid();
  const id = await newMade(paymentId, 3_600_000);
  const run = system.temporal.workflow.getHandle(`refund/${id}`);
  const said = await system.nodrop('recover', '--lost', '--write');
  expect(said.status).toBe(1);
  expect(said.output).toContain(`${id}: simulator still processes the refund`);
  await system.simulator.setFaults({ down: true });
  const silent = await system.nodrop('recover', '--lost', '--write');
  expect(silent.status).toBe(1);
  expect(silent.output).toContain(`${id}: simulator did not answer a query about the refund`);
  expect((await run.describe()).status.name).toBe('RUNNING');
  expect(await system.db.refund.count({ where: { paymentId } })).toBe(0);
  // A request with another key would make a second refund. A repeated request with the same key returns the
  // same refund.
  await system.simulator.setFaults({ down: false });
  const key = { 'idempotency-key': `made-${paymentId}` };
  const again = await system.api('POST', `/v1/payments/${paymentId}/refunds`, { amount: 500 }, key);
  expect(again.body.id).toBe(id);
  await eventually(
    async () => (await system.db.refund.findUnique({ where: { id } }))?.status === 'processing',
  );
});

test('a lost refund is not ended while the channel is processing it under its last idempotency key', async () => {
  const paymentId = await newPaid();
  const id = await newMade(paymentId, 3_600_000, REFUND_KEYS_AT_MOST);
  const { status, output } = await system.nodrop('recover', '--lost', '--write');
  expect(status).toBe(1);
  expect(output).toContain(`${id}: simulator still processes the refund`);
  const run = system.temporal.workflow.getHandle(`refund/${id}`);
  expect((await run.describe()).status.name).toBe('RUNNING');
});
