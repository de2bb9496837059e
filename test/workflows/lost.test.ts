import { beforeEach, expect, test } from 'vitest';
import type { Prisma } from '../../src/generated/prisma/client.ts';
import type { LedgerClient } from '../../src/ledger/client.ts';
import { recoverPayment } from '../../src/ledger/recover-payment.ts';
import type { Payment } from '../../src/ledger/rows.ts';
import { eventually } from '../support/stack.ts';
import { type Harness, useHarness } from './harness.ts';

/**
 * Tests running workflows whose rows were lost in a failover or by the restore of a backup. Such a workflow raises an
 * attention, and looks for its row at growing intervals. It continues when the row is back.
 */

/** The trades for which the channel has received a create request. */
const creates: string[] = [];
/** The virtual times at which the workers read a row, by the id of the row. */
const reads: { id: string; at: number }[] = [];

const h = useHarness({
  beforeLedger: counting,
  between: (adapter) => ({
    ...adapter,
    async createTrade(account, trade, signal) {
      creates.push(trade.outTradeNo);
      return await adapter.createTrade(account, trade, signal);
    },
  }),
});
beforeEach(async () => {
  await h.simulator.setFaults({ query: { errorRate: 0 }, refund: { errorRate: 0 } });
});

/** The ids of rows that the workers cannot read. */
const unreadable = new Set<string>();

/** The ledger client. It records each read of a payment or refund. */
function counting(db: LedgerClient): LedgerClient {
  const model = (table: 'payment' | 'refund') =>
    new Proxy(db[table], {
      get(target, name) {
        const value = Reflect.get(target, name);
        if (typeof value !== 'function' || !String(name).startsWith('findUnique')) return value;
        return async (query: { where: { id: string } }) => {
          const { id } = query.where;
          // The time is taken before the read, because virtual time does not pass while an activity runs.
          reads.push({ id, at: await h.now() });
          if (unreadable.has(id)) throw new Error('the database is away');
          return await value.call(target, query);
        };
      },
    });
  const models = { payment: model('payment'), refund: model('refund') };
  return new Proxy(db, {
    get: (target, name) =>
      name === 'payment' || name === 'refund' ? models[name] : Reflect.get(target, name),
  });
}

const readsOf = (id: string) => reads.filter((read) => read.id === id).map(({ at }) => at);

/**
 * Deletes the rows, as if their commit were lost.
 * @returns a function that restores them.
 */
async function lose(payment: Payment): Promise<() => Promise<void>> {
  const { id, merchantId, orderId } = payment;
  const key = { merchantId_id: { merchantId, id: orderId } };
  const [order, row] = [await h.db.order.findUniqueOrThrow({ where: key }), await h.row(id)];
  await h.db.$transaction(async (tx) => {
    await tx.timelineEntry.deleteMany({ where: { paymentId: id } });
    await tx.payment.delete({ where: { id } });
    await tx.order.delete({ where: key });
  });
  return async () => {
    await h.db.order.create({ data: order as Prisma.OrderUncheckedCreateInput });
    await h.db.payment.create({ data: row as Prisma.PaymentUncheckedCreateInput });
  };
}

/** Restores a payment as `recover --lost --write` does. */
async function recover(payment: Payment): Promise<void> {
  const { id: paymentId, createdAt, expiresAt, amount } = payment;
  const times = { createdAt: createdAt.getTime(), expiresAt: expiresAt.getTime() };
  const terms = { ...payment, paymentId, amount: Number(amount), ...times };
  await recoverPayment(h.db, terms, payment.clientTokenHash, new Date(await h.now()));
  await h.workflows.wake(payment, 10_000);
}

/** A payment with a next action. Its row was deleted, and its workflow has detected the loss. */
async function newLost(options: Parameters<Harness['newPayment']>[0] = {}): Promise<Payment> {
  const payment = await h.newPayment(options);
  const run = await h.start(payment);
  await lose(payment);
  await h.workflows.wake(payment, 10_000);
  await eventually(async () => (await attentionShown(run.workflowId)) === '"row_lost"');
  return payment;
}

/** The newest value of the workflow's search attribute for attentions. */
async function attentionShown(workflowId: string): Promise<unknown> {
  const { events } = await h.env.client.workflow.getHandle(workflowId).fetchHistory();
  const shown = (events ?? []).flatMap((event) => {
    const fields = event.upsertWorkflowSearchAttributesEventAttributes?.searchAttributes?.indexedFields;
    const data = fields?.PaymentAttention?.data;
    return data == null ? [] : [Buffer.from(data).toString()];
  });
  return shown.at(-1);
}

/** The minutes that passed between these times. */
const gaps = (times: readonly number[]) =>
  times.slice(1).map((at, i) => Math.round((at - (times[i] ?? 0)) / 60_000));

test('a workflow whose row is lost shows the attention row_lost and looks for the row at growing intervals', async () => {
  const payment = await h.newPayment();
  const run = await h.start(payment);
  const bringBack = await lose(payment);
  await h.workflows.hint(payment, false, 10_000);
  await eventually(async () => (await attentionShown(run.workflowId)) === '"row_lost"');

  const before = readsOf(payment.id).length;
  await h.pass(5 * 3_600);
  // The wait doubles from 1 min up to 1 h, so the checks are at 1, 3, 7, 15, 31, 63, 123, 183 and 243 minutes.
  const looks = readsOf(payment.id).slice(before - 1);
  expect(gaps(looks)).toEqual([1, 2, 4, 8, 16, 32, 60, 60, 60]);

  // An operator's request for a query is answered even without the row.
  expect(await h.workflows.askChannel(payment, 10_000)).toBe(false);
  expect(await h.workflows.awaitNextAction(payment, 10_000)).toBe(true);

  await h.simulator.pay(payment.id);
  await bringBack();
  await h.workflows.wake(payment, 10_000);
  await run.result();
  expect(await h.row(payment.id)).toMatchObject({ status: 'succeeded', orderUpdate: 'applied' });
  expect(await attentionShown(run.workflowId)).not.toBe('"row_lost"');
});

test('if a row cannot be read, the workflow retries at growing intervals of up to a minute and does not show row_lost', async () => {
  const payment = await h.newPayment();
  const run = await h.start(payment);
  unreadable.add(payment.id);
  const before = readsOf(payment.id).length;
  await h.workflows.wake(payment, 10_000);
  await eventually(() => readsOf(payment.id).length > before);
  await h.pass(200);
  const looks = readsOf(payment.id).slice(before);
  // Before its checks, the workflow waits 0, 2, 4, 8, 16 and 32 s. After that, it waits one minute before each check.
  const seconds = looks.slice(1).map((at, i) => Math.round((at - (looks[i] ?? 0)) / 1000));
  expect(seconds).toEqual([2, 4, 8, 16, 32, 60, 60]);
  expect(await attentionShown(run.workflowId)).not.toBe('"row_lost"');
  expect(await h.workflows.askChannel(payment, 10_000)).toBe(false);

  await h.simulator.pay(payment.id);
  unreadable.delete(payment.id);
  await h.workflows.wake(payment, 10_000);
  await h.callback(payment);
  await run.result();
  expect(await h.row(payment.id)).toMatchObject({ status: 'succeeded', orderUpdate: 'applied' });
});

test('a refund workflow whose row is lost looks for the row at growing intervals, and continues when the refund is requested again', async () => {
  const payment = await h.newPaid();
  await h.simulator.setFaults({ refund: { errorRate: 1 } });
  const refund = await h.refund(payment, 500, 'lost');
  await eventually(async () => (await h.refundRow(refund.id)).unknownSince !== null);
  await h.db.refund.delete({ where: { id: refund.id } });
  await eventually(async () => (await attentionShown(`refund/${refund.id}`)) === '"row_lost"');
  const before = readsOf(refund.id).length;
  // The workflow's next check is almost an hour away.
  await h.pass(125 * 60);
  expect(gaps(readsOf(refund.id).slice(before - 1))).toEqual([1, 2, 4, 8, 16, 32, 60]);

  await h.simulator.setFaults({ refund: { errorRate: 0 } });
  // The repeated request wakes the workflow, so it does not wait for virtual time to pass.
  expect((await h.refund(payment, 500, 'lost')).id).toBe(refund.id);
  await h.untilRefund(refund.id, 'succeeded');
  const run = h.env.client.workflow.getHandle(`refund/${refund.id}`);
  await run.result();
  expect(await attentionShown(run.workflowId)).not.toBe('"row_lost"');
});

test('if two recovered payments of one order are paid, the second payment gets an attention and no automatic refund', async () => {
  const first = await newLost({ orderId: 'both', channel: 'simulator' });
  const second = await newLost({ orderId: 'both', channel: 'simulator2' });
  for (const payment of [first, second]) await h.simulator.pay(payment.id);
  for (const payment of [first, second]) {
    await recover(payment);
    await h.until(payment.id, 'succeeded');
  }
  expect(await h.row(first.id)).toMatchObject({ orderUpdate: 'applied' });
  expect(await h.row(second.id)).toMatchObject({ orderUpdate: 'review', attention: 'order_conflict' });
  await h.pass(3_600);
  expect(await h.db.refund.count({ where: { paymentId: { in: [first.id, second.id] } } })).toBe(0);
});

// After a message cancels an activity, the time-skipping server no longer skips time. The following tests do not need
// skipped time.

test('the input of a workflow contains what is needed to restore a lost row', async () => {
  const payment = await h.newPayment();
  const run = await h.start(payment);
  const { events } = await run.fetchHistory();
  const input = events?.[0]?.workflowExecutionStartedEventAttributes?.input?.payloads?.[0]?.data;
  expect(JSON.parse(Buffer.from(input ?? []).toString())).toEqual({
    ...{ paymentId: payment.id, merchantId: payment.merchantId, orderId: payment.orderId },
    ...{ channel: 'simulator', channelAccountId: payment.channelAccountId, method: 'wallet' },
    ...{ amount: 1990, currency: 'CNY' },
    ...{ createdAt: payment.createdAt.getTime(), expiresAt: payment.expiresAt.getTime() },
    queryScheduleMs: expect.any(Array),
    isNew: true,
  });
});

test('if the payer has paid a recovered payment, the money pays the order', async () => {
  const payment = await newLost();
  await h.simulator.pay(payment.id);
  await recover(payment);
  await h.env.client.workflow.getHandle(`payment/${payment.id}`).result();
  expect(await h.row(payment.id)).toMatchObject({ status: 'succeeded', orderUpdate: 'applied' });
  expect(await h.orderStatus(payment)).toBe('succeeded');
});

test('a recovered payment without money is closed at the channel and cancelled, and its trade is not created again', async () => {
  const payment = await newLost();
  const created = creates.filter((id) => id === payment.id).length;
  await recover(payment);
  // The payment gets no next action, even if a caller requests one.
  expect(await h.workflows.awaitNextAction(payment, 10_000)).toBe(true);
  await h.until(payment.id, 'cancelled');
  expect(await h.orderStatus(payment)).toBe('unpaid');
  const trades = await h.simulator.ledger();
  expect(trades.find(({ outTradeNo }) => outTradeNo === payment.id)).toMatchObject({ state: 'CLOSED' });
  expect(creates.filter((id) => id === payment.id)).toHaveLength(created);
});

test('a request for the next action of a recovered payment creates no trade, even while the channel is silent', async () => {
  const payment = await newLost();
  const created = creates.filter((id) => id === payment.id).length;
  await h.simulator.setFaults({ query: { errorRate: 1 } });
  await recover(payment);
  await eventually(async () => (await h.row(payment.id)).channelErrorSince !== null);
  await h.workflows.awaitNextAction(payment, 10_000);
  expect(creates.filter((id) => id === payment.id)).toHaveLength(created);
  expect(await h.row(payment.id)).toMatchObject({ status: 'paying', nextAction: null });
  await h.simulator.setFaults({ query: { errorRate: 0 } });
  await h.until(payment.id, 'cancelled');
});

test('if a callback arrives while the row cannot be read, the channel is queried as soon as the row can be read', async () => {
  const payment = await h.newPayment();
  const run = await h.start(payment);
  const before = readsOf(payment.id).length;
  unreadable.add(payment.id);
  await h.simulator.pay(payment.id);
  await h.callback(payment, { amount: 1 });
  await eventually(() => readsOf(payment.id).length > before + 1);
  unreadable.delete(payment.id);
  await h.workflows.wake(payment, 10_000);
  await run.result();
  expect(await h.row(payment.id)).toMatchObject({ status: 'succeeded', settledBy: 'query' });
  const { events } = await run.fetchHistory();
  const queries = (events ?? []).filter(
    (event) => event.activityTaskScheduledEventAttributes?.activityType?.name === 'queryChannel',
  );
  const summary = Buffer.from(queries[0]?.userMetadata?.summary?.data ?? []).toString();
  expect(summary).toContain('query at once');
});
