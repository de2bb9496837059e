import * as wf from '@temporalio/workflow';

/**
 * Works around two faults of the time-skipping server that stop the workflow and the server's clock forever.
 * First, a worker's answer may cancel an activity just when the activity completes. The server then no longer
 * knows the activity and refuses the whole answer. Second, a workflow may close during an attempt, and the end
 * of the attempt is then never processed. A real server handles both cases. With this interceptor, the workflow
 * continues immediately, as usual. The server gets the cancellation later, and after that it gets the end of
 * the workflow. No time is skipped while an attempt runs, and no attempt takes as long as this delay. An
 * attempt that was given to a stopping worker does not end either, because the server does not time out an
 * activity whose cancellation is requested.
 */
const LATER_MS = 77_300;

export const interceptors: wf.WorkflowInterceptorsFactory = () => {
  const cancellations = new Set<Promise<void>>();
  return {
    inbound: [
      {
        async execute(input, next) {
          const result = await next(input);
          // If a closed workflow still had attempts, the server's clock would never skip again.
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
