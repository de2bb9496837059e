import { type Client, ScheduleNotFoundError } from '@temporalio/client';
import { SWEEP_SCHEDULE_ID } from '../domain/names.ts';
import { SWEEP_WORKFLOW, type SweepResult } from '../workflows/messages.ts';
import { confirmedWithin } from './payment-workflows.ts';

export const SWEEP_STATES = ['active', 'paused', 'missing', 'overdue', 'failing'] as const;
export type SweepState = (typeof SWEEP_STATES)[number];

/** Whether the safety net runs. */
export interface SweepStatus {
  /**
   * `overdue`: its Schedule is active, and no sweep has completed for `OVERDUE_AFTER_MS`. `failing`: the last one that
   * completed could not heal everything; its result says why.
   */
  readonly state: SweepState;
  /** What the Schedule's note says; whoever pauses it leaves one. */
  readonly note: string | null;
  /** Null: none that Temporal still knows. */
  readonly lastCompletedAt: Date | null;
}

/** Several sweeps have been missed then: one runs every minute, for two minutes at most. */
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

/** The server lists what closed last first. */
async function lastCompletion(client: Client): Promise<{ at: Date; hasFailed: boolean } | null> {
  const query = `WorkflowType = '${SWEEP_WORKFLOW}' AND ExecutionStatus = 'Completed'`;
  for await (const { closeTime, workflowId, runId } of client.workflow.list({ query, pageSize: 1 })) {
    if (closeTime === undefined) return null;
    const result: SweepResult = await client.workflow.getHandle(workflowId, runId).result();
    // Of a step that failed it says why.
    return { at: closeTime, hasFailed: Object.values(result).some((outcome) => typeof outcome === 'string') };
  }
  return null;
}
