import * as wf from '@temporalio/workflow';

/**
 * Each cancellation of an activity reaches the server after this delay, in ms. The delay avoids faults of the
 * time-skipping server that stop the workflow and the server's clock forever. First, if an activity completes just
 * when a worker's answer cancels it, the server no longer knows the activity and refuses the whole answer. Second, if
 * a workflow closes during an attempt, the server never processes the end of the attempt. Third, the server does not
 * time out an activity whose cancellation is requested, so an attempt that was given to a stopping worker never ends.
 * A real server handles the first two cases. The workflow code continues immediately, as usual, but the workflow
 * closes only after its attempts. No time is skipped while an attempt runs, and every attempt is shorter than this
 * delay.
 */
const LATER_MS = 77_300;

export const interceptors: wf.WorkflowInterceptorsFactory = () => {
  const cancellations = new Set<Promise<void>>();
  return {
    inbound: [
      {
        async execute(input, next) {
          const result = await next(input);
          // If a workflow closed while its activities still had attempts, the server's clock would never skip again.
          while (cancellations.size > 0) await Promise.all(cancellations);
          return result;
        },
      },
    ],
    outbound: [
      {
        async scheduleActivity(input, next) {
          const caller = wf.CancellationScope.current();
          return await wf.CancellationScope.nonCancellable(async () => {
            const scope = new wf.CancellationScope({ cancellable: true });
            const work = scope.run(() => next(input));
            const ended = work.then(
              () => undefined,
              () => undefined,
            );
            const cancelLater = async () => {
              await Promise.race([ended, wf.sleep(LATER_MS)]);
              scope.cancel();
              await ended;
            };
            const called = caller.cancelRequested.catch((error: unknown) => {
              const cancelling = wf.CancellationScope.nonCancellable(cancelLater).finally(() =>
                cancellations.delete(cancelling),
              );
              cancellations.add(cancelling);
              throw error;
            });
            return await Promise.race([work, called]);
          });
        },
      },
    ],
  };
};
