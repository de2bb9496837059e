import type { WorkflowHandle } from '@temporalio/client';
import { beforeEach, expect, test } from 'vitest';
import { NET_MS } from '../support/progress.ts';
import { eventually } from '../support/stack.ts';
import { expectAsked, useHarness } from './harness.ts';

/**
 * Tests live payments (promise P1). Money that a callback or a scheduled query reports pays the order, whatever fails
 * in between. Workflow, activities, ledger, adapter and simulator are real, and the time is virtual.
 */

const h = useHarness();
beforeEach(async () => {
  await h.simulator.setFaults({
    create: { errorRate: 0, timeoutAfterAcceptRate: 0 },
    query: { errorRate: 0, garbageRate: 0, lagMs: 0 },
    close: { errorRate: 0 },
    down: false,
  });
});

/** The summaries that the Web UI shows for the activities with this name. */
async function summariesOf(run: WorkflowHandle, activity: string): Promise<string[]> {
  const { events } = await run.fetchHistory();
  return (events ?? []).flatMap(({ activityTaskScheduledEventAttributes: scheduled, userMetadata }) =>
    scheduled?.activityType?.name === activity
      ? [Buffer.from(userMetadata?.summary?.data ?? []).toString()]
      : [],
  );
}

test('a callback pays the order immediately, without a query', async () => {
  const payment = await h.newPayment();
  const run = await h.start(payment);
  await h.callback(payment);
  await run.result();
  expect(await h.row(payment.id)).toMatchObject({
    status: 'succeeded',
    orderUpdate: 'applied',
    settledBy: 'callback',
  });
  expect(await h.orderStatus(payment)).toBe('succeeded');
  expectAsked(h, payment, []);
});

test('if the callback is lost, the first query after 10 s finds the payment', async () => {
  const payment = await h.newPayment();
  const run = await h.start(payment);
  expect((await h.row(payment.id)).status).toBe('paying');
  expect(await h.orderStatus(payment)).toBe('paying');
  await h.simulator.pay(payment.id);
  await run.result();
  expectAsked(h, payment, [10]);
  expect(await h.row(payment.id)).toMatchObject({
    status: 'succeeded',
    orderUpdate: 'applied',
    settledBy: 'query',
    receivedAmount: 1990n,
    receivedCurrency: 'CNY',
  });
  expect(await h.orderStatus(payment)).toBe('succeeded');
});

test('if the callback is lost, a later scheduled query finds the payment', async () => {
  const payment = await h.newPayment();
  const run = await h.start(payment);
  await h.pass(75);
  await h.simulator.pay(payment.id);
  await run.result();
  expectAsked(h, payment, [10, 20, 30, 50, 70, 90]);
  expect(await h.orderStatus(payment)).toBe('succeeded');
});

test('a callback that arrives twice updates the order once', async () => {
  const payment = await h.newPayment();
  const run = await h.start(payment);
  await Promise.all([h.callback(payment, {}, 'same'), h.callback(payment, {}, 'same'), h.callback(payment)]);
  await run.result();
  const updates = (await h.timeline(payment.id)).filter((entry) => entry.startsWith('order:'));
  expect(updates).toEqual([`order: Order ${payment.orderId} is paid.`]);
});

test('if queries fail or their answers are unreadable, the payment does not fail and the queries continue', async () => {
  const payment = await h.newPayment();
  const run = await h.start(payment);
  await h.simulator.setFaults({ query: { garbageRate: 1 } });
  await h.pass(25);
  await h.simulator.setFaults({ query: { garbageRate: 0, errorRate: 1 } });
  await h.pass(30);
  expect(await h.row(payment.id)).toMatchObject({ status: 'paying', attention: null });
  await h.simulator.setFaults({ down: true });
  await h.pass(400);
  expect(await h.row(payment.id)).toMatchObject({ status: 'paying', attention: 'channel_unreachable' });
  await h.simulator.pay(payment.id);
  await h.simulator.setFaults({ down: false, query: { errorRate: 0 } });
  await run.result();
  expect(await h.row(payment.id)).toMatchObject({
    status: 'succeeded',
    orderUpdate: 'applied',
    attention: null,
  });
});

test('a hint starts a phase of frequent queries, after which the original schedule continues', async () => {
  const payment = await h.newPayment();
  const run = await h.start(payment);
  await h.pass(12);
  await h.workflows.hint(payment, true, NET_MS);
  await h.pass(170);
  await h.simulator.pay(payment.id);
  await run.result();
  const tight = [12, 14, 16, 18, 20, 22, 24, 26, 28, 30, 32, 37, 42, 47, 52, 57, 62, 67, 72];
  expectAsked(h, payment, [10, ...tight, 90, 120, 150, 180, 210]);
});

test('if a query soon after a hint finds the money, the payment is recorded as detected by the hint', async () => {
  const payment = await h.newPayment();
  const run = await h.start(payment);
  await h.simulator.pay(payment.id);
  await h.workflows.hint(payment, true, NET_MS);
  await run.result();
  expect(await h.row(payment.id)).toMatchObject({ status: 'succeeded', settledBy: 'hint' });
});

test('if the channel declines a trade, the payment fails and the order can be paid again', async () => {
  const payment = await h.newPayment();
  await h.start(payment);
  await h.simulator.pay(payment.id, 'declined');
  await h.pass(15);
  expect(await h.row(payment.id)).toMatchObject({ status: 'failed', orderUpdate: null });
  expect(await h.orderStatus(payment)).toBe('unpaid');
  const again = await h.newPayment({ orderId: payment.orderId });
  expect(again.id).not.toBe(payment.id);
});

test('a callback with a wrong amount only causes a query, and the order is paid with the right amount that the query reports', async () => {
  const payment = await h.newPayment();
  const run = await h.start(payment);
  await h.simulator.pay(payment.id);
  await h.callback(payment, { amount: 1991 });
  await run.result();
  expectAsked(h, payment, [0]);
  expect(await h.row(payment.id)).toMatchObject({
    status: 'succeeded',
    settledBy: 'query',
    receivedAmount: 1990n,
    attention: null,
  });
});

test("if the channel's answer to a query has a wrong amount, the order is not paid and an attention is raised", async () => {
  const payment = await h.newPayment();
  // From this point on, the amount of the payment differs from the amount of its trade at the channel.
  const ask = (amount: number) =>
    h.db.$transaction([
      // A trigger protects the terms of a payment. This statement bypasses it.
      h.db.$executeRaw`SET LOCAL session_replication_role = replica`,
      h.db.$executeRaw`UPDATE payments SET amount = ${amount} WHERE id = ${payment.id}`,
    ]);
  await ask(1991);
  const run = await h.start(payment);
  await ask(1990);
  await h.simulator.pay(payment.id);
  await run.result();
  expect(await h.row(payment.id)).toMatchObject({
    status: 'succeeded',
    orderUpdate: 'review',
    receivedAmount: 1991n,
    attention: 'amount_mismatch',
  });
  expect(await h.orderStatus(payment)).toBe('paying');
});

test('if a request to create the trade fails, it is retried until it succeeds, and then the payer can pay', async () => {
  const payment = await h.newPayment();
  await h.simulator.setFaults({ create: { errorRate: 1 } });
  await h.workflows.wake(payment, NET_MS);
  await h.pass(20);
  expect(await h.row(payment.id)).toMatchObject({ status: 'created' });
  await h.simulator.setFaults({ create: { errorRate: 0 } });
  const run = await h.start(payment);
  await h.simulator.pay(payment.id);
  await run.result();
  expect(await h.row(payment.id)).toMatchObject({ status: 'succeeded', orderUpdate: 'applied' });
});

test('if the answer to a request to create the trade is lost, the request is repeated and only one trade exists', async () => {
  const payment = await h.newPayment();
  await h.simulator.setFaults({ create: { timeoutAfterAcceptRate: 1 } });
  await h.workflows.wake(payment, NET_MS);
  await eventually(async () =>
    (await h.simulator.ledger()).some(({ outTradeNo }) => outTradeNo === payment.id),
  );
  await h.simulator.setFaults({ create: { timeoutAfterAcceptRate: 0 } });
  const run = await h.start(payment);
  await h.simulator.pay(payment.id);
  await run.result();
  const trades = (await h.simulator.ledger()).filter(({ outTradeNo }) => outTradeNo === payment.id);
  expect(trades).toMatchObject([{ createdCount: 2, state: 'SUCCESS' }]);
  expect(await h.row(payment.id)).toMatchObject({ status: 'succeeded', orderUpdate: 'applied' });
});

test('an order update that fails for an hour raises an attention, and is retried until it succeeds', async () => {
  const payment = await h.newPayment();
  const run = await h.start(payment);
  await h.db.$executeRawUnsafe(`
    CREATE FUNCTION refuse_paid() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN IF NEW.id = '${payment.orderId}' AND NEW.status = 'succeeded' THEN RAISE EXCEPTION 'the order service is down'; END IF; RETURN NEW; END $$`);
  await h.db.$executeRawUnsafe(
    'CREATE TRIGGER refuse_paid BEFORE UPDATE ON orders FOR EACH ROW EXECUTE FUNCTION refuse_paid()',
  );
  await h.callback(payment);
  await h.pass(3600);
  expect(await h.row(payment.id)).toMatchObject({ status: 'paying', attention: 'order_update_failing' });
  await h.db.$executeRawUnsafe('DROP TRIGGER refuse_paid ON orders');
  await run.result();
  expect(await h.row(payment.id)).toMatchObject({
    status: 'succeeded',
    orderUpdate: 'applied',
    attention: null,
  });
  expect(await h.orderStatus(payment)).toBe('succeeded');
});

test('a callback starts the payment’s workflow if the workflow does not exist yet', async () => {
  const payment = await h.newPayment();
  await h.callback(payment);
  await h.env.client.workflow.getHandle(`payment/${payment.id}`).result();
  expect(await h.row(payment.id)).toMatchObject({ status: 'succeeded', settledBy: 'callback' });
});

test("an operator's query that arrives during the last workflow task is answered before the workflow ends", async () => {
  const payment = await h.newPayment();
  await h.start(payment);
  const asked = Promise.all([1, 2, 3].map(() => h.workflows.askChannel(payment, NET_MS)));
  await h.callback(payment);
  expect(await asked).toEqual([true, true, true]);
  await h.until(payment.id, 'succeeded');
  const updates = (await h.timeline(payment.id)).filter((entry) => entry.startsWith('order:'));
  expect(updates).toHaveLength(1);
});

test.each(['hint', 'callback'])(
  'a signal "%s" from the Web UI without an argument is accepted',
  async (signal) => {
    const payment = await h.newPayment();
    const run = await h.start(payment);
    await h.simulator.pay(payment.id);
    await run.signal(signal);
    await run.result();
    expect(h.askedAt(payment)).toHaveLength(1);
    expect(await h.row(payment.id)).toMatchObject({ status: 'succeeded', orderUpdate: 'applied' });
  },
);

test('if a callback is signalled but is not in the ledger, the signal only causes a query', async () => {
  const payment = await h.newPayment();
  const run = await h.start(payment);
  await run.signal('callback', { callbackId: 'cb_x', state: 'paid', amount: 1990, currency: 'CNY' });
  // The channel is queried immediately, before the next scheduled query.
  await eventually(async () =>
    (await summariesOf(run, 'queryChannel')).some((summary) => summary.includes('query at once')),
  );
  await eventually(() => h.askedAt(payment).length > 0);
  expect(await h.row(payment.id)).toMatchObject({ status: 'paying', orderUpdate: null });
  await h.callback(payment);
  await run.result();
  expect(await h.row(payment.id)).toMatchObject({ status: 'succeeded', settledBy: 'callback' });
});

test('if the lock of the order blocks an order update, the update continues as a regular activity that the Web UI shows', async () => {
  const payment = await h.newPayment();
  const run = await h.start(payment);
  await h.db.$transaction(
    async (tx) => {
      await tx.$queryRaw`SELECT 1 FROM orders WHERE id = ${payment.orderId} FOR UPDATE`;
      // The signal is sent directly, because storing a callback through nodrop would need the same lock.
      await run.signal('callback', { callbackId: 'cb_x', state: 'paid', amount: 1990, currency: 'CNY' });
      const seen = await eventually(async () => {
        const summaries = await summariesOf(run, 'updateOrder');
        return summaries.length > 0 && summaries;
      });
      expect(seen).toEqual(['"update the order: the channel says paid"']);
    },
    { timeout: NET_MS },
  );
  await h.callback(payment);
  await run.result();
  expect(await h.row(payment.id)).toMatchObject({ status: 'succeeded', orderUpdate: 'applied' });
});
