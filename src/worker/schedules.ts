import { type Client, ScheduleAlreadyRunning } from '@temporalio/client';
import { MAIN_TASK_QUEUE, SWEEP_SCHEDULE_ID } from '../domain/names.ts';
import { SWEEP_WORKFLOW } from '../workflows/messages.ts';

/** A sweep that got stuck, say on a deploy, must not keep the next ones from running. */
const SWEEP_AT_MOST = '2 minutes';

/** Creates the safety nets' Schedules if they are missing, so that a new Temporal database heals itself. */
export async function ensureSchedules(client: Client): Promise<void> {
  try {
    await client.schedule.create({
      scheduleId: SWEEP_SCHEDULE_ID,
      spec: { intervals: [{ every: '1 minute' }] },
      action: {
        type: 'startWorkflow',
        workflowType: SWEEP_WORKFLOW,
        taskQueue: MAIN_TASK_QUEUE,
        args: [],
        workflowExecutionTimeout: SWEEP_AT_MOST,
      },
      // A sweep that was missed is not made up for: the next one finds the same rows.
      policies: { overlap: 'SKIP', catchupWindow: '1 minute' },
    });
  } catch (error) {
    if (!(error instanceof ScheduleAlreadyRunning)) throw error;
  }
}
