import { Client, type WorkflowHandle } from '@temporalio/client';
import {
  defineSearchAttributeKey,
  type SearchAttributePair,
  TypedSearchAttributes,
} from '@temporalio/common';
import { expect, test } from 'vitest';
import { ROW_LOST } from '../../src/domain/attention.ts';
import { paymentWorkflowId } from '../../src/domain/names.ts';
import type { Prisma } from '../../src/generated/prisma/client.ts';
import { recordAnswer, requestCancel } from '../../src/ledger/payments.ts';
import type { Payment } from '../../src/ledger/rows.ts';
import { PaymentWorkflows } from '../../src/temporal/payment-workflows.ts';
import { searchAttributes } from '../../src/workflows/messages.ts';
import { NET_MS } from '../support/progress.ts';
import { eventually, realEnvironment } from '../support/stack.ts';
import { useHarness } from './harness.ts';

/**
 * Tests the first run of a new payment, which creates the trade without reading the row first. A payment that has ended
 * or must end gets no next action, even if its row has changed or the run is started again. Uses the real server,
 * because the time-skipping server cannot reset workflows.
 */

/** The trades for which the channel has received a create request. */
const creates: string[] = [];
const h = useHarness({
  environment: () => realEnvironment(),
  between: (adapter) => ({
    ...adapter,
    async createTrade(account, trade, signal) {
      creates.push(trade.outTradeNo);
      return await adapter.createTrade(account, trade, signal);
    },
  }),
});

const timesCreated = ({ id }: Payment) => creates.filter((created) => created === id).length;

/** The names of the workflow's activities in their order. A local activity appears as `local`. */
async function workOf(run: WorkflowHandle): Promise<string[]> {
  const { events } = await run.fetchHistory();
  return (events ?? []).flatMap((event) => {
    if (event.markerRecordedEventAttributes != null) return ['local'];
    return event.activityTaskScheduledEventAttributes?.activityType?.name ?? [];
  });
}

/** True if the workflow waits for its first query. */
const waits = async (run: WorkflowHandle) => {
  const { events } = await run.fetchHistory();
  return (events ?? []).some((event) => event.timerStartedEventAttributes != null);
};

/** Resets the payment's workflow to the workflow task with the number `task`, as an operator does. */
async function reset({ id }: Payment, task: number): Promise<WorkflowHandle> {
  const workflowId = paymentWorkflowId(id);
  const { events } = await h.env.client.workflow.getHandle(workflowId).fetchHistory();
  const completed = (events ?? []).filter((event) => event.workflowTaskCompletedEventAttributes != null);
  const { runId } = await h.env.client.workflow.getHandle(workflowId).describe();
  const answer = await h.env.client.workflowService.resetWorkflowExecution({
    namespace: 'default',
    workflowExecution: { workflowId, runId },
    reason: 'a test',
    requestId: `${id}-${task}`,
    workflowTaskFinishEventId: completed[task - 1]?.eventId ?? null,
  });
  return h.env.client.workflow.getHandle(workflowId, answer.runId ?? undefined);
}

test('the workflow of a payment that was just created begins by creating the trade', async () => {
  const payment = await h.newPayment();
  const run = await h.start(payment);
  expect(await workOf(run)).toEqual(['createAtChannel']);
});

test('a workflow that another process starts later begins by reading the payment’s row', async () => {
  const payment = await h.newPayment();
  await h.workflows.wake(payment, NET_MS);
  await h.until(payment.id, 'paying');
  const run = h.env.client.workflow.getHandle(paymentWorkflowId(payment.id));
  expect((await workOf(run)).slice(0, 2)).toEqual(['local', 'local']);
});

test('a workflow whose start was delayed begins by reading the payment’s row', async () => {
  const payment = await h.newPayment();
  const run = await h.start({ ...payment, createdAt: new Date(Date.now() - 60_000) });
  expect(await workOf(run)).toEqual(['local', 'createAtChannel']);
});

test('if a cancellation is recorded in the ledger but not signalled, the payment ends without creating a trade', async () => {
  const payment = await h.newPayment();
  await requestCancel(h.db, payment.id, 'a test', new Date(await h.now()));
  await h.workflows.start(payment, true, NET_MS);
  await h.until(payment.id, 'cancelled');
  expect(timesCreated(payment)).toBe(0);
});

test.each([
  ['paid', { state: 'paid', channelPaymentId: 'trx', amount: 1990, currency: 'CNY' }, 'succeeded'],
  ['in process', { state: 'processing' }, 'created'],
] as const)(
  'if the ledger already has the answer that the payment is %s, no trade is created',
  async (_, answer, status) => {
    const payment = await h.newPayment();
    const at = new Date(await h.now());
    const said = answer.state === 'paid' ? { ...answer, paidAt: at.toISOString() } : answer;
    await recordAnswer(h.db, payment.id, said, 'query', at);
    await h.workflows.start(payment, true, NET_MS);
    const run = h.env.client.workflow.getHandle(paymentWorkflowId(payment.id));
    await (status === 'created' ? eventually(() => waits(run)) : h.until(payment.id, status));
    expect(timesCreated(payment)).toBe(0);
  },
);

test('a workflow whose row is missing shows row_lost, and continues when the row exists again', async () => {
  const payment = await h.newPayment();
  const { id } = payment;
  await h.db.timelineEntry.deleteMany({ where: { paymentId: id } });
  await h.db.payment.delete({ where: { id } });
  await h.workflows.start(payment, true, NET_MS);
  const run = h.env.client.workflow.getHandle(paymentWorkflowId(id));
  await eventually(async () => {
    const { typedSearchAttributes } = await run.describe();
    return typedSearchAttributes.getAll().some(({ value }) => value === 'row_lost');
  });
  await h.db.payment.create({ data: payment as Prisma.PaymentUncheckedCreateInput });
  await h.workflows.wake(payment, NET_MS);
  await h.until(id, 'paying');
});

test('after a lost row is restored, the next run clears the search attribute `row_lost` once', async () => {
  const payment = await h.newPayment();
  const client = new Client({
    connection: h.env.connection,
    interceptors: {
      workflow: [
        {
          async signalWithStart(input, next) {
            const shown = new TypedSearchAttributes(
              input.options.typedSearchAttributes as SearchAttributePair[],
            );
            const lost = {
              key: defineSearchAttributeKey(searchAttributes.attention, 'KEYWORD'),
              value: ROW_LOST,
            };
            const typedSearchAttributes = shown.updateCopy([lost]);
            return await next({ ...input, options: { ...input.options, typedSearchAttributes } });
          },
        },
      ],
    },
  });
  await new PaymentWorkflows(client, { queryScheduleMs: () => [3_600_000] }).wake(payment, NET_MS);
  await h.until(payment.id, 'paying');
  const run = h.env.client.workflow.getHandle(paymentWorkflowId(payment.id));
  await eventually(() => waits(run));
  const { events } = await run.fetchHistory();
  const upserts = (events ?? []).flatMap(({ upsertWorkflowSearchAttributesEventAttributes: upserted }) =>
    upserted == null ? [] : [Object.keys(upserted.searchAttributes?.indexedFields ?? {})],
  );
  expect(upserts).toEqual([['PaymentAttention'], ['PaymentStatus']]);
});

test.each([1, 2, 3])(
  'if the workflow is reset to task %i after the settlement, no step takes effect twice',
  async (task) => {
    const payment = await h.newPayment();
    const run = await h.start(payment);
    await eventually(() => waits(run));
    await h.simulator.pay(payment.id);
    await h.callback(payment);
    await run.result();
    const again = await reset(payment, task);
    await again.result();
    expect(timesCreated(payment)).toBe(1);
    expect(await h.row(payment.id)).toMatchObject({ status: 'succeeded', orderUpdate: 'applied' });
    const paid = (await h.timeline(payment.id)).filter((entry) => entry.startsWith('order:'));
    expect(paid).toHaveLength(1);
  },
);

test('if the workflow is reset while the payer can pay, no second trade is created', async () => {
  const payment = await h.newPayment();
  const run = await h.start(payment);
  await eventually(() => waits(run));
  const again = await reset(payment, 1);
  await eventually(() => waits(again));
  expect(timesCreated(payment)).toBe(1);
  await h.callback(payment);
  await again.result();
  expect(await h.row(payment.id)).toMatchObject({ status: 'succeeded', settledBy: 'callback' });
});
