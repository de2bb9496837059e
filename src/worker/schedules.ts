import { randomUUID } from 'node:crypto';
import { type Client, isGrpcServiceError } from '@temporalio/client';
import { defaultPayloadConverter } from '@temporalio/common';
import { msToTs } from '@temporalio/common/lib/time.js';
import { SWEEP_SCHEDULE_ID, SWEEP_TASK_QUEUE } from '../domain/names.ts';
import { SWEEP_WORKFLOW } from '../workflows/messages.ts';

/**
 * The version of the Schedule's definition. Increase the version with every change of the definition. The version is
 * stored in the memo of the workflows that the Schedule starts, because a Schedule's own memo cannot be changed. A
 * Schedule without a version was created before version 1.
 */
const SWEEP_VERSION = 1;
const VERSION_KEY = 'nodropScheduleVersion';

/**
 * The timeout of one sweep. Without it, a sweep that is stuck (for example during a deploy) would block the next
 * sweeps.
 */
const SWEEP_AT_MOST = '2 minutes';

/**
 * The sweep's Schedule in the form of the server's API. nodrop does not use the SDK's own update, because the SDK does
 * not use the conflict token. That token makes an update safe against a concurrent update.
 */
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
  // A missed sweep is not started later, because the next sweep finds the same rows. With `overlapPolicy: 1` (skip),
  // the server does not start a sweep while another one runs.
  policies: { overlapPolicy: 1, catchupWindow: msToTs('1 minute') },
};

const [ALREADY_EXISTS, NOT_FOUND] = [6, 5];

/**
 * Creates the sweep's Schedule if it is missing, or updates it to the current version. A paused Schedule stays paused
 * and keeps its note. A Schedule of a newer version does not change, because an older worker must not replace it during
 * a rolling deploy.
 * @returns what the function did. If another process changes the Schedule at the same moment, the server ignores this
 *   update. The next call then repeats it.
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
      // Another worker has created the Schedule in the meantime.
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
