import { WorkflowNotFoundError } from '@temporalio/client';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { redeliveryWorkflowId, SWEEP_TASK_QUEUE } from '../../src/domain/names.ts';
import { recordAttempt } from '../../src/ledger/deliveries.ts';
import { setMerchant } from '../../src/ledger/merchants.ts';
import { requestRedeliveries } from '../../src/ledger/redelivery.ts';
import type { Payment } from '../../src/ledger/rows.ts';
import { SWEEP_WORKFLOW } from '../../src/workflows/messages.ts';
import { type OrderService, startOrderService } from '../support/order-service.ts';
import { NET_MS } from '../support/progress.ts';
import { eventually } from '../support/stack.ts';
import { SECRET, useHarness } from './harness.ts';

/**
 * Tests that nodrop redelivers waiting events as soon as an order service answers again after an outage.
 */

const DAY = 86_400_000;

let shop: OrderService;
let isOpen: boolean;
/** The time of the last redelivery in the previous tests. */
let earlier: string | null;
const h = useHarness();
beforeAll(async () => {
  shop = await startOrderService(() => h.now());
});
afterAll(async () => {
  await shop?.close();
});
beforeEach(async () => {
  shop.reset();
  isOpen = false;
  shop.react = () => (isOpen ? undefined : { status: 503 });
  const settings = { orderServiceUrl: shop.url, orderStatusUrl: null };
  const given = await setMerchant(h.db, 'shop', settings, SECRET, new Date(await h.now()));
  if (given?.secret != null) shop.secret = given.secret;
  await h.db.delivery.updateMany({
    where: { status: 'pending' },
    data: { status: 'delivered', settledAt: new Date() },
  });
  // Changes the rows so that the last redelivery seems to be long ago.
  await h.db.merchant.updateMany({
    data: {
      orderServiceFailingSince: null,
      orderServiceAnswersSince: null,
      redeliveryDueAt: null,
      redeliveryStartedAt: null,
    },
  });
  earlier = await lastRun();
});

async function receive(): Promise<Payment> {
  const payment = await h.newPayment();
  await h.start(payment);
  await h.simulator.pay(payment.id);
  await h.callback(payment);
  await h.until(payment.id, 'succeeded');
  return payment;
}

/** Creates payments whose next delivery attempt is a day away, because they have waited for a long time. */
async function longWaiting(count: number): Promise<Payment[]> {
  const payments: Payment[] = [];
  for (let i = 0; i < count; i++) payments.push(await receive());
  const of = { paymentId: { in: payments.map(({ id }) => id) } };
  const nextAttemptAt = new Date((await h.now()) + DAY);
  // All deliveries become due at the same time. A delivery does not change while an attempt at it is running.
  await eventually(async () => {
    const told = { ...of, attempts: { gt: 0 }, leasedUntil: null };
    const { count: changed } = await h.db.delivery.updateMany({
      where: told,
      data: { attempts: 20, nextAttemptAt },
    });
    return changed === count;
  });
  return payments;
}

const waiting = () => h.db.delivery.count({ where: { status: 'pending' } });
const timesTold = (payments: readonly Payment[]) => payments.map(({ id }) => shop.about(id).length);

/** The time of the last redelivery; null before the first redelivery. */
async function lastRun(): Promise<string | null> {
  const handle = h.env.client.workflow.getHandle(redeliveryWorkflowId(h.merchant.id));
  return await handle.describe().then(
    ({ runId }) => runId,
    (error: unknown) => {
      if (error instanceof WorkflowNotFoundError) return null;
      throw error;
    },
  );
}

/** The sizes of the batches of the last redelivery in this test. Null if there was no redelivery. */
async function batches(): Promise<number[] | null> {
  const runId = await lastRun();
  if (runId === null || runId === earlier) return null;
  const handle = h.env.client.workflow.getHandle(redeliveryWorkflowId(h.merchant.id), runId);
  await handle.result();
  const { events = [] } = await handle.fetchHistory();
  return (events ?? []).flatMap(({ activityTaskScheduledEventAttributes: scheduled }) => {
    if (scheduled?.activityType?.name !== 'redeliver') return [];
    const [batch] = (scheduled.input?.payloads ?? []).map(({ data }) =>
      JSON.parse(Buffer.from(data ?? []).toString()),
    );
    return [batch.picked.length as number];
  });
}

const sweep = async () =>
  await h.env.client.workflow.execute(SWEEP_WORKFLOW, {
    taskQueue: SWEEP_TASK_QUEUE,
    workflowId: `sweep-${Math.random()}`,
  });

test('after an outage, the first answer starts the redelivery of all waiting events in batches of 1, 2 and 4', async () => {
  const payments = await longWaiting(9);
  const before = timesTold(payments);
  isOpen = true;
  const next = await receive();
  await eventually(async () => (await waiting()) === 0);
  expect(timesTold(payments)).toEqual(before.map((times) => times + 1));
  expect(timesTold([next])).toEqual([1]);
  for (const payment of payments) {
    await eventually(async () => (await h.row(payment.id)).orderUpdate === 'applied');
    expect(shop.order(payment.orderId)).toMatchObject({ paidPaymentId: payment.id, timesPaid: 1 });
  }
  expect(await batches()).toEqual([1, 2, 4, 2]);
});

test('a refused event does not stop the redelivery of the other events, and does not mark the order service as failing', async () => {
  const payments = await longWaiting(5);
  const refused = payments.slice(0, 2).map(({ id }) => id);
  shop.react = ({ paymentId }) => (refused.includes(paymentId) ? { status: 422 } : undefined);
  await receive();
  expect(await eventually(async () => (await batches()) ?? false)).toEqual([1, 2, 2]);
  await eventually(async () => (await waiting()) === 2);
  const merchant = await h.db.merchant.findUniqueOrThrow({ where: { id: h.merchant.id } });
  expect(merchant).toMatchObject({ orderServiceFailingSince: null, redeliveryDueAt: null });
});

test('if the order service fails again, the redelivery stops after two calls and the other events keep their schedule', async () => {
  const payments = await longWaiting(4);
  const before = timesTold(payments);
  // The order service answers once and then fails again.
  let answers = 1;
  shop.react = () => {
    answers -= 1;
    return answers >= 0 ? undefined : { status: 503 };
  };
  await receive();
  expect(await eventually(async () => (await batches()) ?? false)).toEqual([1, 1]);
  expect(timesTold(payments).reduce((sum, times) => sum + times)).toBe(
    before.reduce((sum, times) => sum + times) + 2,
  );
  shop.react = undefined;
  earlier = await lastRun();
  await sweep();
  expect(await batches()).toBeNull();
  // Makes the redelivery due, as if an hour had passed.
  await h.db.merchant.updateMany({ data: { redeliveryDueAt: new Date(await h.now()) } });
  await sweep();
  await eventually(async () => (await waiting()) === 0);
  expect(await batches()).toEqual([1, 2, 1]);
});

test('if a worker dies after it recorded the first answer, the sweep starts the redelivery of the other events', async () => {
  const payments = await longWaiting(3);
  const [first] = payments;
  const delivery = await h.db.delivery.findFirstOrThrow({ where: { paymentId: first?.id ?? '' } });
  isOpen = true;
  const at = new Date(await h.now());
  const answer = { outcome: 'agreed', statusCode: 204, detail: 'It answered 204.', durationMs: 1 } as const;
  await recordAttempt(h.db, delivery.id, { ...answer, at }, 0, at);
  expect(await waiting()).toBe(2);
  await sweep();
  await eventually(async () => (await waiting()) === 0);
  expect(await batches()).toEqual([1, 1]);
});

test('when the merchant requests a redelivery, settled events of payments and refunds are sent once more', async () => {
  isOpen = true;
  const payment = await receive();
  await eventually(async () => (await h.row(payment.id)).orderUpdate === 'applied');
  const refund = await h.refund(payment, 500);
  await h.untilRefund(refund.id, 'succeeded');
  const ofPayment = { paymentId: payment.id, status: 'delivered' };
  await eventually(async () => (await h.db.delivery.count({ where: ofPayment })) === 2);
  const { createdAt } = await h.db.delivery.findFirstOrThrow({
    where: ofPayment,
    orderBy: { createdAt: 'asc' },
  });
  const ask = async () =>
    await requestRedeliveries(h.db, h.merchant.id, 'delivered', createdAt, 'a test', new Date(await h.now()));
  expect(await ask()).toMatchObject({ count: 2 });
  expect(await ask()).toMatchObject({ count: 2 });
  await h.deliveryWorkflows.redeliverWaiting(h.merchant.id, NET_MS);
  await eventually(() => shop.about(payment.id).length === 4);
  expect(await batches()).toEqual([1, 1]);
  expect(new Set(shop.about(payment.id).map(({ id, body }) => `${id} ${body}`)).size).toBe(2);
  expect(shop.order(payment.orderId)).toMatchObject({ timesPaid: 1 });
});
