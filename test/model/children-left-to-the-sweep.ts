import type { WorkflowInterceptorsFactory } from '@temporalio/workflow';

/**
 * The time-skipping server's time stands still for ever when a child outlives its parent, as refunds do. Here none
 * starts, and the refund that is owed waits for the sweep: the way it goes when Temporal cannot start one.
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
