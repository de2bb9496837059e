import { beforeEach, expect, test } from 'vitest';
import type { ChannelAdapter } from '../../src/domain/channel.ts';
import { paymentWorkflowId, refundWorkflowId } from '../../src/domain/names.ts';
import { toRefundSnapshot } from '../../src/ledger/payment-facts.ts';
import type { Payment } from '../../src/ledger/rows.ts';
import { eventually } from '../support/stack.ts';
import { LATE_CANCELLATION, useHarness } from './harness.ts';

/**
 * Tests that the waits of a workflow never delay the settlement of its payment. Each wait has a time limit, or ends
 * when a message of higher priority arrives.
 */

/** The time at which the channel's next actions expire, in epoch ms. Null if they do not expire. */
let actionsExpireAt: number | null = null;
/** A hook that runs before the channel answers a query. */
let beforeQuery: (() => Promise<void>) | undefined;

const between = (adapter: ChannelAdapter): ChannelAdapter => ({
  ...adapter,
  async createTrade(account, trade, signal) {
    const created = await adapter.createTrade(account, trade, signal);
    if (actionsExpireAt === null || created === 'not_renewable') return created;
    return { action: { ...created.action, expiresAt: new Date(actionsExpireAt).toISOString() } };
  },
  async queryTrade(account, trade, signal) {
    await beforeQuery?.();
    return await adapter.queryTrade(account, trade, signal);
  },
});

// Each test has its own harness. After an activity of an earlier test was cancelled, the time-skipping server would
// skip years.
const h = useHarness({ between, perTest: true, workflowInterceptors: LATE_CANCELLATION });
beforeEach(() => {
  actionsExpireAt = null;
  beforeQuery = undefined;
});

/**
 * The names of the activities that the payment's workflow has scheduled. The first `after` of them are left
 * out.
 */
async function scheduled(payment: Payment, after = 0): Promise<string[]> {
  const { events } = await h.env.client.workflow.getHandle(paymentWorkflowId(payment.id)).fetchHistory();
  const names = (events ?? []).flatMap(
    ({ activityTaskScheduledEventAttributes: of }) => of?.activityType?.name ?? [],
  );
  return names.slice(after);
}

/** A payment whose next action has expired. No worker serves the task queues of its channel. */
async function unserved() {
  actionsExpireAt = (await h.now()) + 2_000;
  const payment = await h.newPayment();
  await h.start(payment);
  await h.pass(5);
  actionsExpireAt = null;
  await h.stopChannelWorkers();
  const before = (await scheduled(payment)).length;
  return { payment, since: () => scheduled(payment, before) };
}

/**
 * Sends `count` requests for a new next action. Then waits until the workflow has started to renew the next
 * action.
 */
async function renewals(count: number, { payment, since }: Awaited<ReturnType<typeof unserved>>) {
  const waiting = Array.from({ length: count }, () => h.workflows.awaitNextAction(payment, 120_000));
  if (count > 0) await eventually(async () => (await since()).includes('createAtChannel'));
  return { waiting };
}

/**
 * Makes an update of a payment fail if this SQL condition is true for the updated row. To let the updates succeed
 * again, drop the function `name`.
 */
async function refuse(name: string, condition: string) {
  await h.db.$executeRawUnsafe(
    `CREATE FUNCTION ${name}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION '${name}'; END $$`,
  );
  await h.db.$executeRawUnsafe(
    `CREATE TRIGGER ${name} BEFORE UPDATE ON payments FOR EACH ROW WHEN (${condition}) EXECUTE FUNCTION ${name}()`,
  );
}

const settled = async (payment: Payment) => {
  await eventually(async () => (await h.row(payment.id)).orderUpdate === 'applied');
};

test.each([0, 1, 2])(
  'a callback settles the payment even while %i requests to renew the next action wait for a worker of the channel',
  async (count) => {
    const one = await unserved();
    const { waiting } = await renewals(count, one);
    await h.simulator.pay(one.payment.id);
    await h.callback(one.payment);
    await settled(one.payment);
    await Promise.all(waiting);
  },
);

test('several requests to renew a next action share one attempt, and end when that attempt times out', async () => {
  const one = await unserved();
  const { waiting } = await renewals(3, one);
  await h.pass(20);
  await Promise.all(waiting);
  expect((await one.since()).filter((name) => name === 'createAtChannel')).toHaveLength(1);
  await h.callback(one.payment);
  await settled(one.payment);
});

test("an operator's query interrupts the renewal of a next action, and then the renewal continues", async () => {
  const one = await unserved();
  const { waiting } = await renewals(2, one);
  const asked = h.workflows.askChannel(one.payment, 120_000);
  await eventually(async () => (await one.since()).includes('askChannel'));
  await h.startChannelWorkers();
  expect(await asked).toBe(true);
  await Promise.all(waiting);
  expect((await h.row(one.payment.id)).nextAction).not.toHaveProperty('expiresAt');
  await h.callback(one.payment);
  await settled(one.payment);
});

test('if a message interrupts an immediate query before the query begins, the query is sent after the message is handled', async () => {
  const { payment } = await unserved();
  const summaries = async () => {
    const { events } = await h.env.client.workflow.getHandle(paymentWorkflowId(payment.id)).fetchHistory();
    return (events ?? []).flatMap(({ activityTaskScheduledEventAttributes: of, userMetadata }) =>
      of?.activityType?.name === 'queryChannel'
        ? [Buffer.from(userMetadata?.summary?.data ?? []).toString()]
        : [],
    );
  };
  const before = (await summaries()).length;
  await h.simulator.pay(payment.id);
  await h.callback(payment, { amount: 1 });
  await eventually(async () => (await summaries()).length === before + 1);
  await h.workflows.wake(payment, 10_000);
  const asked = await eventually(async () => {
    const all = (await summaries()).slice(before);
    return all.length >= 2 ? all : undefined;
  });
  const atOnce = expect.stringContaining('query at once');
  expect(asked.slice(0, 2)).toEqual([atOnce, atOnce]);
  await h.startChannelWorkers();
  await settled(payment);
});

test('a requested cancellation ends the renewal of a next action', async () => {
  const one = await unserved();
  const { waiting } = await renewals(1, one);
  await h.env.client.workflow.getHandle(paymentWorkflowId(one.payment.id)).cancel();
  await eventually(async () => (await one.since()).includes('askBeforeEnd'));
  await Promise.all(waiting);
  await h.callback(one.payment);
  await settled(one.payment);
});

test('if a callback settles the payment while an operator waits for a query, the operator still gets an answer', async () => {
  const payment = await h.newPayment();
  await h.start(payment);
  let asking = false;
  const settling = new Promise<void>((resolve) => {
    beforeQuery = async () => {
      beforeQuery = undefined;
      asking = true;
      await eventually(async () => (await h.row(payment.id)).status === 'succeeded').finally(resolve);
    };
  });
  const asked = h.workflows.askChannel(payment, 120_000);
  await eventually(() => asking);
  await h.simulator.pay(payment.id);
  await h.callback(payment);
  await settling;
  // The first query does not end before the payment is settled.
  expect(await asked).toBe(true);
  await settled(payment);
});

test('a callback settles the payment even if a requested cancellation cannot be written to the ledger', async () => {
  const payment = await h.newPayment();
  const run = await h.start(payment);
  await refuse('refuse_cancel', 'NEW.cancel_requested_at IS NOT NULL AND OLD.cancel_requested_at IS NULL');
  await run.cancel();
  await eventually(async () => (await scheduled(payment)).includes('requestCancel'));
  await h.callback(payment);
  await settled(payment);
});

test('if the answer to a close reports that the trade is paid, a callback settles the payment without waiting for the next query', async () => {
  const payment = await h.newPayment({ expiresInMs: 60_000 });
  await h.start(payment);
  await h.pass(55);
  await h.simulator.setFaults({ query: { lagMs: 3_600_000 } });
  await h.simulator.pay(payment.id);
  await h.pass(1_800);
  await h.callback(payment);
  await settled(payment);
  expect(await h.row(payment.id)).toMatchObject({ settledBy: 'callback' });
});

test('money is settled even if the attention about the failing order update cannot be raised', async () => {
  const payment = await h.newPayment();
  await h.start(payment);
  await refuse('refuse_paid', "NEW.status = 'succeeded'");
  await refuse('refuse_attention', "NEW.attention = 'order_update_failing'");
  await h.callback(payment);
  // In this time, enough attempts fail that nodrop must raise the attention.
  await h.pass(1_200);
  expect(await scheduled(payment)).toContain('raiseAttention');
  await h.db.$executeRawUnsafe('DROP FUNCTION refuse_paid() CASCADE');
  await h.pass(300);
  await settled(payment);
});

test('if a callback about a refund cannot be recorded, the refund still continues', async () => {
  const payment = await h.newPaid();
  h.onRefund = async (ask) => {
    await ask();
    return { state: 'processing' };
  };
  const refund = await h.refund(payment);
  await h.untilRefund(refund.id, 'processing');
  h.onRefund = undefined;
  const callback = await h.db.callback.create({
    data: {
      ...{ id: 'cb_unreadable', channelAccountId: payment.channelAccountId, notificationId: 'unreadable' },
      ...{ outTradeNo: payment.id, paymentId: payment.id, body: new Uint8Array() },
      answer: { state: 'unpaid', refund: { outRefundNo: refund.id, amount: 'unreadable' } },
    },
  });
  await h.refundWorkflows.deliverCallback(toRefundSnapshot(refund, payment), callback.id, 10_000);
  await h.env.client.workflow.getHandle(refundWorkflowId(refund.id)).result();
  expect(await h.refundRow(refund.id)).toMatchObject({ status: 'succeeded' });
});
