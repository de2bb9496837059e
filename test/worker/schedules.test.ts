import type { Client, Connection } from '@temporalio/client';
import { ApplicationFailure } from '@temporalio/common';
import type { TestWorkflowEnvironment } from '@temporalio/testing';
import { Worker } from '@temporalio/worker';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import type { SweepActivities } from '../../src/activities/sweep.ts';
import { MAIN_TASK_QUEUE, SWEEP_SCHEDULE_ID, SWEEP_TASK_QUEUE } from '../../src/domain/names.ts';
import type { Logger } from '../../src/log.ts';
import { readSweepStatus } from '../../src/temporal/sweep-status.ts';
import { workflowBundle } from '../../src/worker/bundle.ts';
import { ensureSchedules } from '../../src/worker/schedules.ts';
import { checkSetUp } from '../../src/worker/set-up.ts';
import { SWEEP_WORKFLOW } from '../../src/workflows/messages.ts';
import { eventually, realEnvironment } from '../support/stack.ts';

// Tests how a worker creates or updates the sweep's Schedule. Uses the real server.

let env: TestWorkflowEnvironment;
let client: Client;
beforeAll(async () => {
  env = await realEnvironment();
  client = env.client;
});
afterAll(async () => {
  await env?.teardown();
});
const sweep = () => client.schedule.getHandle(SWEEP_SCHEDULE_ID);
beforeEach(async () => {
  await sweep()
    .delete()
    .catch(() => undefined);
});

/** A Schedule as an older release created it, when Schedules had no versions. */
const createOld = async (memo: Record<string, unknown> = {}) =>
  await client.schedule.create({
    scheduleId: SWEEP_SCHEDULE_ID,
    spec: { intervals: [{ every: '3 minutes' }] },
    action: {
      type: 'startWorkflow',
      workflowType: SWEEP_WORKFLOW,
      taskQueue: MAIN_TASK_QUEUE,
      args: [],
      memo,
    },
    policies: { overlap: 'ALLOW_ALL', catchupWindow: '1 hour' },
  });

const current = {
  spec: { intervals: [{ every: 60_000 }] },
  action: {
    workflowType: SWEEP_WORKFLOW,
    taskQueue: SWEEP_TASK_QUEUE,
    workflowExecutionTimeout: 120_000,
  },
  policies: { overlap: 'SKIP', catchupWindow: 60_000 },
};

test('a worker creates a missing Schedule', async () => {
  expect(await ensureSchedules(client)).toBe('created');
  expect(await sweep().describe()).toMatchObject({ ...current, state: { paused: false } });
  expect(await ensureSchedules(client)).toBe('unchanged');
});

test('workers that start at the same time create one Schedule', async () => {
  const made = await Promise.all(Array.from({ length: 5 }, () => ensureSchedules(client)));
  expect(made.filter((what) => what === 'created')).toHaveLength(1);
});

test('a Schedule of an older release is updated', async () => {
  await createOld();
  expect(await ensureSchedules(client)).toBe('updated');
  expect(await sweep().describe()).toMatchObject({ ...current, state: { paused: false } });
  expect(await ensureSchedules(client)).toBe('unchanged');
});

test('a paused Schedule is updated, and stays paused with the same note', async () => {
  const old = await createOld();
  await old.pause('until the database is moved');
  expect(await ensureSchedules(client)).toBe('updated');
  expect(await sweep().describe()).toMatchObject({
    ...current,
    state: { paused: true, note: 'until the database is moved' },
  });
});

test('a Schedule of a newer release is not changed', async () => {
  await ensureSchedules(client);
  const { action } = await sweep().describe();
  const [[key = '', version] = []] = Object.entries(action.memo ?? {});
  await sweep().delete();
  await createOld({ [key]: Number(version) + 1 });
  expect(await ensureSchedules(client)).toBe('unchanged');
  expect(await sweep().describe()).toMatchObject({
    spec: { intervals: [{ every: 180_000 }] },
    action: { taskQueue: MAIN_TASK_QUEUE },
    policies: { overlap: 'ALLOW_ALL' },
  });
});

test('a Schedule that is paused during an update stays paused', async () => {
  await createOld();
  const { workflowService } = client;
  const racing = {
    options: client.options,
    workflowService: {
      describeSchedule: async (request: Parameters<typeof workflowService.describeSchedule>[0]) => {
        const before = await workflowService.describeSchedule(request);
        await sweep().pause('just now');
        return before;
      },
      createSchedule: workflowService.createSchedule.bind(workflowService),
      updateSchedule: workflowService.updateSchedule.bind(workflowService),
    },
  } as unknown as Client;
  await ensureSchedules(racing);
  expect(await sweep().describe()).toMatchObject({ state: { paused: true, note: 'just now' } });
  expect(await ensureSchedules(client)).toBe('updated');
  expect(await sweep().describe()).toMatchObject({ ...current, state: { paused: true, note: 'just now' } });
});

describe('the report of whether the sweep runs', () => {
  const MINUTE = 60_000;
  const status = (inMs = 0) => readSweepStatus(client, 20_000, new Date(Date.now() + inMs));
  /** Collects what a worker logs when it checks the Schedule. */
  const logged = async (inMs = 0) => {
    const lines: string[] = [];
    const log = { info: (_: unknown, text?: string) => lines.push(`info: ${text}`) };
    const warn = (_: unknown, text?: string) => lines.push(`warn: ${text}`);
    await checkSetUp(
      client,
      env.connection as Connection,
      { ...log, warn } as unknown as Logger,
      new Date(Date.now() + inMs),
    );
    return lines;
  };

  const none = async () => 0;
  const steps: SweepActivities = {
    ...{ sweepUnmatched: none, sweepCallbacks: none, sweepPayments: none, sweepStuck: none },
    ...{ sweepAbnormalEnds: none, sweepRefunds: none, sweepOrders: none, sweepDeliveries: none },
    sweepOld: none,
  };

  test('if the Schedule is missing, a worker creates it and logs this once', async () => {
    expect(await status()).toEqual({ state: 'missing', note: null, lastCompletedAt: null });
    expect(await logged()).toEqual(["info: The sweep's Schedule was created."]);
    expect(await logged()).toEqual([]);
    expect(await status()).toMatchObject({ state: 'active', note: null });
  });

  test('if the Schedule is paused, a worker warns at each check', async () => {
    await ensureSchedules(client);
    await sweep().pause('until tomorrow');
    expect(await status()).toMatchObject({ state: 'paused', note: 'until tomorrow' });
    const line =
      'warn: The sweep is paused: nothing is repaired automatically until its Schedule is resumed.';
    expect([await logged(), await logged()]).toEqual([[line], [line]]);
  });

  test('if the Schedule is active but no sweep has completed, the sweep is overdue until a sweep completes', async () => {
    await ensureSchedules(client);
    expect(await status(4 * MINUTE)).toMatchObject({ state: 'active', lastCompletedAt: null });
    expect(await status(6 * MINUTE)).toMatchObject({ state: 'overdue', lastCompletedAt: null });
    expect(await logged(6 * MINUTE)).toEqual([
      'warn: No sweep has completed for 5 min, although its Schedule is active.',
    ]);
    const worker = await Worker.create({
      connection: env.nativeConnection,
      taskQueue: SWEEP_TASK_QUEUE,
      workflowBundle: await workflowBundle(),
      activities: steps,
    });
    const completed = await worker.runUntil(async () => {
      await client.workflow.execute(SWEEP_WORKFLOW, { taskQueue: SWEEP_TASK_QUEUE, workflowId: 'once' });
      return await eventually(async () => (await status()).lastCompletedAt ?? undefined);
    });
    expect(await status(completed.getTime() + 4 * MINUTE - Date.now())).toMatchObject({ state: 'active' });
    expect(await status(completed.getTime() + 6 * MINUTE - Date.now())).toMatchObject({ state: 'overdue' });
  });

  test('if a step fails in a completed sweep, the sweep is failing until a sweep completes without a failure', async () => {
    await ensureSchedules(client);
    let broken = true;
    const step = async () => {
      if (broken) throw ApplicationFailure.nonRetryable('0 repaired, 1 failed');
      return 0;
    };
    const worker = await Worker.create({
      connection: env.nativeConnection,
      taskQueue: SWEEP_TASK_QUEUE,
      workflowBundle: await workflowBundle(),
      activities: { ...steps, sweepOrders: step },
    });
    await worker.runUntil(async () => {
      const complete = async (workflowId: string) => {
        const before = (await status()).lastCompletedAt?.getTime() ?? 0;
        await client.workflow.execute(SWEEP_WORKFLOW, { taskQueue: SWEEP_TASK_QUEUE, workflowId });
        await eventually(async () => ((await status()).lastCompletedAt?.getTime() ?? 0) > before);
      };
      await complete('failing');
      expect(await status()).toMatchObject({ state: 'failing' });
      expect(await logged()).toEqual([
        'warn: A step of the last sweep failed; the result of the sweep workflow says why.',
      ]);
      broken = false;
      await complete('well');
      // A scheduled sweep may still be running, so the test waits until the state is `active`.
      await eventually(async () => (await status()).state === 'active');
    });
  });
});
