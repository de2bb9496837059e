import { type Client, WorkflowNotFoundError } from '@temporalio/client';
import { confirmedWithin } from './payment-workflows.ts';

/**
 * `running`: it waits, so its last workflow task was completed. `busy`: it has a workflow task, which nobody knows the end
 * of. `stuck`: its workflow task fails again and again. `gone`: it does not run.
 */
export type WorkflowState = 'running' | 'busy' | 'stuck' | 'gone';

/**
 * A workflow task whose attempt is above this is no hiccup: a mistake in the code, or a worker of another release. Each
 * signal makes the server count anew, so a low attempt says nothing.
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
