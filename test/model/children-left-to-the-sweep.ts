import type { WorkflowInterceptorsFactory } from '@temporalio/workflow';

/**
 * The clock of the time-skipping server stops forever when a child workflow outlives its parent, as refunds do. So this
 * interceptor starts no child, and the sweep starts the refund, as it does when Temporal cannot start a child.
 */
export const interceptors: WorkflowInterceptorsFactory = () => ({
  outbound: [
    {
      async startChildWorkflowExecution() {
        throw new Error('left to the sweep');
      },
    },
  ],
});
