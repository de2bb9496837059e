import { type Client, WorkflowNotFoundError } from '@temporalio/client';
import { confirmedWithin } from './payment-workflows.ts';

/**
 * The state of a workflow.
 * - `running`: the workflow waits, and its last workflow task was completed.
 * - `busy`: the workflow has a pending workflow task, which may succeed or fail.
 * - `stuck`: the workflow task fails repeatedly.
 * - `gone`: the workflow does not run.
 */
export type WorkflowState = 'running' | 'busy' | 'stuck' | 'gone';

/**
 * If a workflow task still fails after this number of attempts, the cause is a bug or a worker of another release. Each
 * signal resets the number of attempts, so a workflow with a low number may have the same problem.
 */
const STUCK_ABOVE_ATTEMPT = 5;

/** @throws TemporalUnavailable */
export async function readWorkflowState(
  client: Client,
  workflowId: string,
  deadlineMs: number,
): Promise<WorkflowState> {
  return await confirmedWithin(client, deadlineMs, async () => {
    try {
      const { status, raw } = await client.workflow.getHandle(workflowId).describe();
      if (status.name !== 'RUNNING') return 'gone';
      const task = raw.pendingWorkflowTask;
      if (task == null) return 'running';
      return (task.attempt ?? 0) > STUCK_ABOVE_ATTEMPT ? 'stuck' : 'busy';
    } catch (error) {
      if (error instanceof WorkflowNotFoundError) return 'gone';
      throw error;
    }
  });
}
