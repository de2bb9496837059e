import type { WorkflowInterceptorsFactory } from '@temporalio/workflow';

/** Workflow code with a mistake that only a callback meets: a plain error fails the workflow task, again and again. */
export const interceptors: WorkflowInterceptorsFactory = () => ({
  inbound: [
    {
      async handleSignal(input, next) {
        if (input.signalName === 'callback') throw new TypeError('a mistake of a release');
        return await next(input);
      },
    },
  ],
});
