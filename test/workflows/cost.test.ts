import type { WorkflowHandle } from '@temporalio/client';
import { expect, test } from 'vitest';
import { isDisturbed } from '../../bench/costs.ts';
import { unlessOutOfTime } from '../support/progress.ts';
import { eventually } from '../support/stack.ts';
import { useHarness } from './harness.ts';

/**
 * Tests what a payment costs the Temporal server. Each history event is a row, and each workflow task is a
 * round trip.
 */

// Queries are not scheduled, because on a slow machine the first query could be sent before the callback
// arrives.
const h = useHarness({ querySchedule: '1h' });

async function eventsOf(run: WorkflowHandle) {
  const { events } = await run.fetchHistory();
  return events ?? [];
}

/** Counts the history events by type. */
function countsOf(events: Awaited<ReturnType<typeof eventsOf>>): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const event of events) {
    const attributes = Object.keys(event).find((key) => key.endsWith('EventAttributes')) ?? 'unknown';
    const type = attributes.replace(/EventAttributes$/, '');
    counts[type] = (counts[type] ?? 0) + 1;
  }
  return counts;
}

const sum = (counts: Record<string, number>) => Object.values(counts).reduce((all, count) => all + count, 0);

/** Runs a new payment that is settled by its callback. The callback arrives only when the workflow is idle. */
async function settledByCallback(): Promise<WorkflowHandle> {
  const payment = await h.newPayment();
  const run = await h.start(payment);
  await eventually(async () =>
    (await eventsOf(run)).some(({ timerStartedEventAttributes: timer }) => timer != null),
  );
  await h.simulator.pay(payment.id);
  await h.callback(payment);
  await run.result();
  expect(await h.row(payment.id)).toMatchObject({ status: 'succeeded', settledBy: 'callback' });
  return run;
}

test('a payment that is settled by its callback takes 20 history events and 3 workflow tasks', async () => {
  // On a slow machine, a workflow task can time out. The first attempt of the order update can also time out.
  const events = await unlessOutOfTime(
    2_000,
    async () => await eventsOf(await settledByCallback()),
    (events) => events.some(isDisturbed),
  );
  const counts = countsOf(events);
  expect(counts).toEqual({
    workflowExecutionStarted: 1,
    workflowTaskScheduled: 3,
    workflowTaskStarted: 3,
    workflowTaskCompleted: 3,
    // The create request runs as a regular activity, so the channel's rate limit applies to it.
    activityTaskScheduled: 1,
    activityTaskStarted: 1,
    activityTaskCompleted: 1,
    // These two events set the search attributes for `paying` and `succeeded`. The start event already contains
    // `created`.
    upsertWorkflowSearchAttributes: 2,
    // The timer that runs until the first query.
    timerStarted: 1,
    timerCanceled: 1,
    workflowExecutionSignaled: 1,
    // The order update ran as a local activity.
    markerRecorded: 1,
    workflowExecutionCompleted: 1,
  });
  expect(sum(counts)).toBe(20);
});

test('the start event shows the first status of the payment, and each step has a summary in the Web UI', async () => {
  const events = await eventsOf(await settledByCallback());
  const { indexedFields } = events[0]?.workflowExecutionStartedEventAttributes?.searchAttributes ?? {};
  expect(Buffer.from(indexedFields?.PaymentStatus?.data ?? []).toString()).toBe('"created"');
  const summaries = events
    .filter((event) => event.activityTaskScheduledEventAttributes ?? event.markerRecordedEventAttributes)
    .map(({ userMetadata }) => JSON.parse(Buffer.from(userMetadata?.summary?.data ?? []).toString()));
  // On a slow machine, the order update may appear a second time, as a regular activity.
  expect(summaries[0]).toBe('create the trade at the channel');
  expect(new Set(summaries.slice(1))).toEqual(new Set(['update the order: the channel says paid']));
  const shown = events.flatMap((event) => {
    const upserted = event.upsertWorkflowSearchAttributesEventAttributes?.searchAttributes?.indexedFields;
    return upserted?.PaymentStatus?.data == null ? [] : [Buffer.from(upserted.PaymentStatus.data).toString()];
  });
  expect(shown).toEqual(['"paying"', '"succeeded"']);
});
