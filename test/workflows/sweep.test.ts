import type { TestWorkflowEnvironment } from '@temporalio/testing';
import { Worker } from '@temporalio/worker';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { SWEEP_TASK_QUEUE } from '../../src/domain/names.ts';
import { workflowBundle } from '../../src/worker/bundle.ts';
import { SWEEP_WORKFLOW } from '../../src/workflows/messages.ts';
import { timeSkippingEnvironment } from '../support/stack.ts';

// Tests the order in which the sweep runs its steps. Tests in test/activities cover the steps themselves.

let env: TestWorkflowEnvironment;
beforeAll(async () => {
  env = await timeSkippingEnvironment();
});
afterAll(async () => {
  await env?.teardown();
});

test("slow steps of the sweep do not delay steps that run in parallel, and a failed step is only reported in the sweep's result", async () => {
  const ran: string[] = [];
  let othersDone = () => {};
  const others = new Promise<void>((resolve) => {
    othersDone = resolve;
  });
  const quick = (name: string) => async () => {
    ran.push(name);
    if (ran.length === 4) othersDone();
    return ran.length;
  };
  const slow = async () => {
    await others;
    return 0;
  };
  const worker = await Worker.create({
    connection: env.nativeConnection,
    taskQueue: SWEEP_TASK_QUEUE,
    workflowBundle: await workflowBundle(),
    activities: {
      sweepUnmatched: slow,
      sweepCallbacks: slow,
      sweepPayments: slow,
      sweepStuck: slow,
      sweepAbnormalEnds: quick('sweepAbnormalEnds'),
      sweepRefunds: quick('sweepRefunds'),
      sweepOrders: quick('sweepOrders'),
      async sweepDeliveries() {
        throw new Error('1 repaired, 1 failed');
      },
      sweepOld: quick('sweepOld'),
    },
  });
  const options = { taskQueue: SWEEP_TASK_QUEUE, workflowId: 'sweep' };
  const result = await worker.runUntil(async () => {
    const run = await env.client.workflow.start(SWEEP_WORKFLOW, options);
    return await run.result();
  });
  expect(ran.sort()).toEqual(['sweepAbnormalEnds', 'sweepOld', 'sweepOrders', 'sweepRefunds']);
  expect(result).toMatchObject({
    sweepPayments: 0,
    sweepCallbacks: 0,
    sweepDeliveries: '1 repaired, 1 failed',
  });
  expect(Object.keys(result)).toHaveLength(9);
});
