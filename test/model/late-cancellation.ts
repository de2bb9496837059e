import * as wf from '@temporalio/workflow';

/**
 * The time-skipping server takes no answer of a worker that calls an activity off in the moment in which the activity
 * completes: it has forgotten the activity by then, refuses the whole answer, and the workflow and the server's time
 * stand still for ever. A real server knows that this happens.
 *
 * So here the workflow goes on at once, as always, and only the server hears of it a little later: its time stands
 * still while an attempt is under way, so that by then the activity has completed or waits for its next attempt. And the
 * workflow does not close before the attempt is over: its end would never be heard of either.
 */
const LATER_MS = 1_500;

export const interceptors: wf.WorkflowInterceptorsFactory = () => {
  const calledOff = new Set<Promise<void>>();
  return {
    inbound: [
      {
        async execute(input, next) {
          const result = await next(input);
          // A closed workflow's attempts would keep the server's time from passing for ever.
          while (calledOff.size > 0) await Promise.all(calledOff);
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
            const options = { ...input.options, cancellationType: 'WAIT_CANCELLATION_COMPLETED' } as const;
            const work = scope.run(() => next({ ...input, options }));
            const over = work.then(
              () => undefined,
              () => undefined,
            );
            const tell = async () => {
              await Promise.race([over, wf.sleep(LATER_MS)]);
              scope.cancel();
              await over;
            };
            const called = caller.cancelRequested.catch((error: unknown) => {
              const telling = wf.CancellationScope.nonCancellable(tell).finally(() =>
                calledOff.delete(telling),
              );
              calledOff.add(telling);
              throw error;
            });
            return await Promise.race([work, called]);
          });
        },
      },
    ],
  };
};
