import { type Client, ScheduleNotFoundError } from '@temporalio/client';
import { SWEEP_SCHEDULE_ID } from '../domain/names.ts';
import { SWEEP_WORKFLOW, type SweepResult } from '../workflows/messages.ts';
import { confirmedWithin } from './payment-workflows.ts';

export const SWEEP_STATES = ['active', 'paused', 'missing', 'overdue', 'failing'] as const;
export type SweepState = (typeof SWEEP_STATES)[number];

/** Whether the sweep runs. */
export interface SweepStatus {
  /**
   * The state of the sweep.
   * - `overdue`: the Schedule is active, but no sweep has completed for 5 min.
   * - `failing`: a step of the last completed sweep failed. The result of the workflow contains the reason.
   */
  readonly state: SweepState;
  /** The note of the Schedule. An operator who pauses the Schedule can write the reason there. */
  readonly note: string | null;
  /** When the last sweep completed. Null if Temporal has no record of a completed sweep. */
  readonly lastCompletedAt: Date | null;
}

/**
 * The sweep is overdue if no sweep has completed for this time. A sweep starts every minute and takes at most two
 * minutes, so after this time several sweeps have failed to complete.
 */
const OVERDUE_AFTER_MS = 5 * 60_000;

/** @throws TemporalUnavailable */
export async function readSweepStatus(client: Client, deadlineMs: number, now: Date): Promise<SweepStatus> {
  return await confirmedWithin(client, deadlineMs, async () => {
    const [schedule, last] = await Promise.all([describe(client), lastCompletion(client)]);
    const lastCompletedAt = last?.at ?? null;
    if (schedule === null) return { state: 'missing', note: null, lastCompletedAt };
    const { paused, note = '' } = schedule.state;
    const since = Math.max(lastCompletedAt?.getTime() ?? 0, schedule.info.createdAt.getTime());
    const isOverdue = now.getTime() - since > OVERDUE_AFTER_MS;
    const state = paused ? 'paused' : isOverdue ? 'overdue' : last?.hasFailed ? 'failing' : 'active';
    return { state, note: note === '' ? null : note, lastCompletedAt };
  });
}

async function describe(client: Client) {
  try {
    return await client.schedule.getHandle(SWEEP_SCHEDULE_ID).describe();
  } catch (error) {
    if (error instanceof ScheduleNotFoundError) return null;
    throw error;
  }
}

/** Returns the last completed sweep. The Temporal server lists the most recently closed workflow first. */
async function lastCompletion(client: Client): Promise<{ at: Date; hasFailed: boolean } | null> {
  const query = `WorkflowType = '${SWEEP_WORKFLOW}' AND ExecutionStatus = 'Completed'`;
  for await (const { closeTime, workflowId, runId } of client.workflow.list({ query, pageSize: 1 })) {
    if (closeTime === undefined) return null;
    const result: SweepResult = await client.workflow.getHandle(workflowId, runId).result();
    // If a step of the sweep failed, the result of that step is a string with the reason.
    return { at: closeTime, hasFailed: Object.values(result).some((outcome) => typeof outcome === 'string') };
  }
  return null;
}
