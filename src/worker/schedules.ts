import { randomUUID } from 'node:crypto';
import { type Client, isGrpcServiceError } from '@temporalio/client';
import { defaultPayloadConverter } from '@temporalio/common';
import { msToTs } from '@temporalio/common/lib/time.js';
import { SWEEP_SCHEDULE_ID, SWEEP_TASK_QUEUE } from '../domain/names.ts';
import { SWEEP_WORKFLOW } from '../workflows/messages.ts';

/**
 * Counts up with every change of the definition below. It stands in the memo of the workflows that the Schedule starts,
 * as a Schedule's own memo cannot be changed; a Schedule without one is older than all.
 */
const SWEEP_VERSION = 1;
const VERSION_KEY = 'nodropScheduleVersion';

/** A sweep that got stuck, say on a deploy, must not keep the next ones from running. */
const SWEEP_AT_MOST = '2 minutes';

/** As the server takes it: the SDK's own update neither shows nor sends the token that makes an update safe. */
const SWEEP_SCHEDULE = {
  spec: { interval: [{ interval: msToTs('1 minute') }] },
  action: {
    startWorkflow: {
      workflowId: `${SWEEP_SCHEDULE_ID}-workflow`,
      workflowType: { name: SWEEP_WORKFLOW },
      taskQueue: { name: SWEEP_TASK_QUEUE },
      workflowExecutionTimeout: msToTs(SWEEP_AT_MOST),
      memo: { fields: { [VERSION_KEY]: defaultPayloadConverter.toPayload(SWEEP_VERSION) } },
    },
  },
  // A missed sweep is not run later: the next one finds the same rows. 1: a running one is not joined by another.
  policies: { overlapPolicy: 1, catchupWindow: msToTs('1 minute') },
};

const [ALREADY_EXISTS, NOT_FOUND] = [6, 5];

/**
 * Creates the safety nets' Schedules if they are missing, so that a new Temporal database heals itself, and brings
 * existing ones up to date. One that is paused stays paused, with its note. One of a newer version is left alone: in a
 * rolling deploy an older worker must not undo it.
 * @returns what it did. The server drops an update when somebody changed the Schedule at the same moment; the next call
 * makes up for it.
 */
export async function ensureSchedules(client: Client): Promise<'created' | 'updated' | 'unchanged'> {
  const { workflowService } = client;
  const { namespace, identity } = client.options;
  const request = { namespace, identity, scheduleId: SWEEP_SCHEDULE_ID, requestId: randomUUID() };
  const existing = await workflowService.describeSchedule(request).catch((error: unknown) => {
    if (isGrpcServiceError(error) && error.code === NOT_FOUND) return null;
    throw error;
  });
  if (existing === null) {
    try {
      await workflowService.createSchedule({ ...request, schedule: SWEEP_SCHEDULE });
      return 'created';
    } catch (error) {
      // Another worker was faster.
      if (isGrpcServiceError(error) && error.code === ALREADY_EXISTS) return 'unchanged';
      throw error;
    }
  }
  const stamp = existing.schedule?.action?.startWorkflow?.memo?.fields?.[VERSION_KEY];
  const version = stamp == null ? 0 : defaultPayloadConverter.fromPayload<number>(stamp);
  if (version >= SWEEP_VERSION) return 'unchanged';
  await workflowService.updateSchedule({
    ...request,
    schedule: { ...SWEEP_SCHEDULE, state: existing.schedule?.state ?? null },
    conflictToken: existing.conflictToken,
  });
  return 'updated';
}
