import * as wf from '@temporalio/workflow';

/**
 * The time-skipping server has a fault. If a worker's answer cancels an activity in the moment in which the activity
 * completes, the server refuses the whole answer, because it no longer knows the activity. The workflow and the
 * server's clock then stop forever. The same happens when a workflow closes during an attempt, whose end is never
 * processed. A real server handles both cases.
 *
 * So here the workflow continues immediately, as usual, but the server gets the cancellation later, and the workflow's
 * end after that. No time is skipped while an attempt is under way, and no attempt takes that long. An attempt that was
 * handed to a stopping worker does not end either: the server does not time out an activity whose cancellation is
 * requested.
 */
const LATER_MS = 77_300;

export const interceptors: wf.WorkflowInterceptorsFactory = () => {
  const cancellations = new Set<Promise<void>>();
  return {
    inbound: [
      {
        async execute(input, next) {
          const result = await next(input);
          // Attempts of a closed workflow would keep the server's clock from skipping forever.
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
