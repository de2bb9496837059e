import { readdirSync, readFileSync } from 'node:fs';
import pg from 'pg';
import { afterAll, expect, test } from 'vitest';
import { paymentWorkflowId, SWEEP_TASK_QUEUE } from '../../src/domain/names.ts';
import type { LedgerClient } from '../../src/ledger/client.ts';
import { ensureMerchant } from '../../src/ledger/merchants.ts';
import type { Payment } from '../../src/ledger/rows.ts';
import { SWEEP_WORKFLOW } from '../../src/workflows/messages.ts';
import { NET_MS } from '../support/progress.ts';
import { eventually, realEnvironment } from '../support/stack.ts';
import { useHarness } from './harness.ts';

/** Tests that unreadable or locked rows do not occupy task slots of the worker. So other payments make progress. */

/** This number is larger than the number of workflow task slots that a worker has (40). */
const MANY = 60;

/** For each unreadable payment, how many times the workers tried to read it. */
const tried = new Map<string, number>();
const h = useHarness({ environment: () => realEnvironment(), beforeLedger: withUnreadable });
afterAll(async () => {
  tried.clear();
});

/** The ledger client. Each read of a payment in `tried` fails. */
function withUnreadable(db: LedgerClient): LedgerClient {
  const reading = (name: 'findUnique' | 'findUniqueOrThrow') => async (args: { where: { id: string } }) => {
    const { id } = args.where;
    const before = tried.get(id);
    if (before === undefined) return await db.payment[name](args);
    tried.set(id, before + 1);
    throw new Error('this row cannot be read');
  };
  const payment = new Proxy(db.payment, {
    get: (target, name) =>
      name === 'findUnique' || name === 'findUniqueOrThrow' ? reading(name) : Reflect.get(target, name),
  });
  return new Proxy(db, {
    get: (target, name) => (name === 'payment' ? payment : Reflect.get(target, name)),
  });
}

test('while the rows of many payments cannot be read, a new payment is created and settled and the sweep runs', async () => {
  const unreadable = [];
  for (let i = 0; i < MANY; i++) unreadable.push(await h.newPayment());
  for (const { id } of unreadable) tried.set(id, 0);
  await Promise.all(unreadable.map((payment) => h.workflows.wake(payment, 20_000)));
  await eventually(() => [...tried.values()].filter((count) => count > 0).length >= MANY / 2);

  const healthy = await h.newPayment();
  await h.start(healthy);
  await h.simulator.pay(healthy.id);
  await h.callback(healthy);
  await h.until(healthy.id, 'succeeded');
  expect(await h.orderStatus(healthy)).toBe('succeeded');

  const sweep = { taskQueue: SWEEP_TASK_QUEUE, workflowId: 'sweep' };
  const swept = await h.env.client.workflow.execute(SWEEP_WORKFLOW, sweep);
  expect(swept).toMatchObject({ sweepOrders: 0 });

  // In the meantime nodrop retries all payments that cannot be read. They continue when they can be read.
  await eventually(() => [...tried.values()].every((count) => count >= 2));
  for (const { id } of unreadable) {
    const { events } = await h.env.client.workflow.getHandle(`payment/${id}`).fetchHistory();
    expect(events?.filter((event) => event.activityTaskScheduledEventAttributes != null)).toEqual([]);
  }
  tried.clear();
  for (const { id } of unreadable) await h.until(id, 'paying');
});

test('while the orders of one merchant are locked, a payment of another merchant is settled', async () => {
  const locked: Payment[] = [];
  for (let i = 0; i < MANY; i++) locked.push(await h.newPayment());
  await Promise.all(locked.map((payment) => h.start(payment)));
  const merchantId = (await ensureMerchant(h.db, 'other', ['simulator'])).merchant.id;
  const other = await h.newPayment({ merchantId });
  await h.start(other);
  const at = new Date(await h.now());
  const answer = { state: 'paid', amount: 1990, currency: 'CNY', paidAt: at.toISOString() } as const;

  const holder = new pg.Client({ connectionString: h.databaseUrl });
  await holder.connect();
  try {
    await holder.query('begin');
    await holder.query('select 1 from orders where merchant_id = $1 for update', [h.merchant.id]);
    // The test takes the order's lock, and then records the money with a direct update that does not need this lock. If
    // the money were recorded before that, a workflow could settle the payment.
    for (const { id } of locked) {
      const channelAnswer = { ...answer, channelPaymentId: id, by: 'query' };
      await h.db.payment.update({ where: { id }, data: { channelAnswer, channelState: 'paid' } });
    }
    await Promise.all(locked.map((payment) => h.workflows.wake(payment, NET_MS)));
    await h.simulator.pay(other.id);
    await h.callback(other);
    await h.until(other.id, 'succeeded');
    // For each locked payment, the first attempt of the order update has ended, and the update now runs as a regular
    // activity.
    await eventually(async () => (await Promise.all(locked.map(isUpdating))).every(Boolean));
    await holder.query('rollback');
  } finally {
    await holder.end();
  }
  for (const { id } of locked) await h.until(id, 'succeeded');
});

/** True if the payment's order update runs as a regular activity. */
async function isUpdating({ id }: Payment): Promise<boolean> {
  const { events } = await h.env.client.workflow.getHandle(paymentWorkflowId(id)).fetchHistory();
  return (events ?? []).some(
    (event) => event.activityTaskScheduledEventAttributes?.activityType?.name === 'updateOrder',
  );
}

/** Finds the workflow source files that match this expression. */
function filesWith(pattern: RegExp): string[] {
  const folder = new URL('../../src/workflows/', import.meta.url);
  return readdirSync(folder).filter((name) => pattern.test(readFileSync(new URL(name, folder), 'utf8')));
}

test('only local-activities.ts starts local activities, so that no local activity holds a task slot while the activity waits', () => {
  expect(filesWith(/proxyLocalActivities/)).toEqual(['local-activities.ts']);
});

test('every timeout and retry policy of an activity is a named preset in activity-options.ts', () => {
  expect(filesWith(/\w+(Timeout|Interval|Coefficient|Attempts|Threshold): *['\d]/)).toEqual([
    'activity-options.ts',
  ]);
});
