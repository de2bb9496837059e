import * as wf from '@temporalio/workflow';

/**
 * The time-skipping server takes no answer of a worker that calls an activity off in the moment in which the activity
 * completes: it has forgotten the activity by then, refuses the whole answer, and the workflow and the server's time
 * stand still for ever. So they do when a workflow closes during an attempt, whose end is then never heard of. A real
 * server knows that both happen.
 *
 * So here the workflow goes on at once, as always, and only the server is told later, and of the workflow's end after that:
 * no time is skipped while an attempt is under way, and none takes so long. Nor does an attempt that was handed to a worker
 * as it stopped: the server times out no activity whose cancellation is requested.
 */
const LATER_MS = 77_300;

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
            const work = scope.run(() => next(input));
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
