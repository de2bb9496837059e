import type { WorkflowInterceptorsFactory } from '@temporalio/workflow';

/**
 * Simulates a bug in workflow code. The code throws a plain error at each callback, so the workflow task fails
 * repeatedly.
 */
export const interceptors: WorkflowInterceptorsFactory = () => ({
  inbound: [
    {
      async handleSignal(input, next) {
        if (input.signalName === 'callback') throw new TypeError('a bug of a release');
        return await next(input);
      },
    },
  ],
});
