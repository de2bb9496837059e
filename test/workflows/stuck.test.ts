import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type SweepActivities, sweepActivities } from '../../src/activities/sweep.ts';
import { paymentWorkflowId } from '../../src/domain/names.ts';
import { setMerchant } from '../../src/ledger/merchants.ts';
import type { Payment } from '../../src/ledger/rows.ts';
import { type OrderService, startOrderService } from '../support/order-service.ts';
import { eventually, realEnvironment } from '../support/stack.ts';
import { SECRET, useHarness } from './harness.ts';

/**
 * Tests stuck workflows, which are workflows whose workflow task fails repeatedly. If the payment of a stuck workflow
 * has recorded money, the sweep settles the payment, with all consequences. Uses the real server, because that server
 * counts the attempts of a task.
 */

const MISTAKE = [fileURLToPath(new URL('./throws-at-callback.ts', import.meta.url))];

let steps: SweepActivities;
let shop: OrderService | undefined;
const h = useHarness({
  environment: () => realEnvironment(),
  workflowInterceptors: MISTAKE,
  onLog: () => undefined,
});
beforeAll(() => {
  steps = sweepActivities({
    db: h.db,
    client: h.env.client,
    workflows: h.workflows,
    refundWorkflows: h.refundWorkflows,
    deliveryWorkflows: h.deliveryWorkflows,
    now: async () => new Date(await h.now()),
  });
});
afterAll(async () => {
  await shop?.close();
});

/** Two payments of one order, created as two attempts. */
async function newAttempts(orderId: string): Promise<[Payment, Payment]> {
  const first = await h.newPayment({ orderId });
  const second = await h.newPayment({ orderId, channel: 'simulator2' });
  for (const payment of [first, second]) {
    await h.start(payment);
    await h.until(payment.id, 'paying');
  }
  return [first, second];
}

/**
 * Both payers have paid. The workflows fail when they process the callbacks. The test makes the rows more than a minute
 * old.
 */
async function makeStuck(...payments: Payment[]): Promise<void> {
  for (const payment of payments) {
    await h.simulator.pay(payment.id);
    await h.callback(payment);
  }
  for (const { id } of payments) {
    const run = h.env.client.workflow.getHandle(paymentWorkflowId(id));
    await eventually(async () => ((await run.describe()).raw.pendingWorkflowTask?.attempt ?? 0) > 5, 240_000);
    await h.db.$executeRaw`
      UPDATE payments SET channel_answered_at = channel_answered_at - interval '2 minutes' WHERE id = ${id}`;
  }
}

const ended = ({ id }: Payment) => h.env.client.workflow.getHandle(paymentWorkflowId(id)).result();
const attentions = async ({ id }: Payment) =>
  (await h.timeline(id)).filter((line) => line.startsWith('attention: '));

test("the sweep settles a payment whose workflow is stuck, cancels the order's other attempts, and raises workflow_stuck until the workflow recovers", async () => {
  const [paid, other] = await newAttempts('one');
  await makeStuck(paid);
  expect(await steps.sweepPayments()).toBe(1);
  expect(await h.row(paid.id)).toMatchObject({
    ...{ status: 'succeeded', settledBy: 'callback', orderUpdate: 'applied' },
    attention: 'workflow_stuck',
    attentionDetail: expect.stringContaining(`payment/${paid.id}`),
  });
  expect(await h.orderStatus(paid)).toBe('succeeded');
  // The other attempt gets its signal immediately. The signal does not have to wait for a later sweep.
  await h.until(other.id, 'cancelled');
  expect(await steps.sweepStuck()).toBe(0);
  expect(await attentions(paid)).toHaveLength(1);

  await h.release([]);
  await ended(paid);
  expect(await steps.sweepStuck()).toBe(1);
  expect(await h.row(paid.id)).toMatchObject({ status: 'succeeded', attention: null });
  expect((await attentions(paid)).at(-1)).toBe('attention: workflow_stuck was cleared.');
  await h.release(MISTAKE);
});

test('if the workflows of two paid payments of one order are stuck, the sweep settles both payments and starts the refund of one payment', async () => {
  const both = await newAttempts('both');
  await makeStuck(...both);
  expect(await steps.sweepPayments()).toBe(2);
  const rows = await Promise.all(both.map(({ id }) => h.row(id)));
  expect(rows.map(({ orderUpdate }) => orderUpdate).sort()).toEqual(['applied', 'conflict']);
  const owed = await h.db.refund.findFirstOrThrow({
    where: { paymentId: { in: both.map(({ id }) => id) } },
  });
  await h.untilRefund(owed.id, 'succeeded');
});

test('if the workflow of a payment is stuck, a separate delivery workflow delivers the event', async () => {
  shop = await startOrderService();
  const settings = { orderServiceUrl: shop.url, orderStatusUrl: shop.statusUrl };
  shop.secret = (await setMerchant(h.db, 'shop', settings, SECRET, new Date()))?.secret ?? '';
  const payment = await h.newPayment({ orderId: 'told' });
  await h.start(payment);
  await makeStuck(payment);
  expect(await steps.sweepPayments()).toBe(1);
  await eventually(async () => (await h.row(payment.id)).orderUpdate === 'applied');
  expect(shop.order('told')).toMatchObject({ paidPaymentId: payment.id, timesPaid: 1 });
  // The payment's workflow is still stuck.
  expect(await steps.sweepStuck()).toBe(0);
  expect(await h.row(payment.id)).toMatchObject({ attention: 'workflow_stuck' });

  await h.release([]);
  await ended(payment);
  expect(await steps.sweepStuck()).toBeGreaterThan(0);
  expect(await h.row(payment.id)).toMatchObject({ orderUpdate: 'applied', attention: null });
  expect(shop.about(payment.id)).toHaveLength(1);
});
