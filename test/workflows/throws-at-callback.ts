import type { WorkflowInterceptorsFactory } from '@temporalio/workflow';

/**
 * Simulates a bug in workflow code that each callback triggers. It throws a plain error, which fails the workflow task
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
