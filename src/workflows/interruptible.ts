import * as wf from '@temporalio/workflow';

/**
 * Runs `work`. If `isInterrupted` returns true or `timeout.ms` pass before `work` is done, the function cancels `work`.
 * @returns false when the work was cancelled. The caller must then read the row again, because an activity may have
 *   written to the ledger before it was cancelled.
 */
export async function untilDoneOrMessage(
  work: () => Promise<void>,
  isInterrupted: () => boolean,
  timeout?: { readonly ms: number; readonly summary: string },
): Promise<boolean> {
  const scope = new wf.CancellationScope({ cancellable: true });
  let done = false;
  let failure: unknown;
  const working = scope
    .run(work)
    .catch((error) => {
      if (!wf.isCancellation(error)) failure = error;
    })
    .finally(() => {
      done = true;
    });
  const interrupted = () => done || isInterrupted();
  if (timeout === undefined) await wf.condition(interrupted);
  else await wf.condition(interrupted, Math.max(0, timeout.ms), { summary: timeout.summary });
  const finished = done;
  if (!finished) {
    scope.cancel();
    await working;
  }
  if (failure !== undefined) throw failure;
  return finished;
}
