import type { WorkflowInterceptorsFactory } from '@temporalio/workflow';

/**
 * If a child workflow outlives its parent, as refunds do, the clock of the time-skipping server stops forever.
 * So this interceptor starts no child workflow. The sweep then starts the refund, as it does when Temporal
 * cannot start a child workflow.
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
