import * as wf from '@temporalio/workflow';
import { LEDGER_READ, type ORDER_UPDATE_AT_ONCE } from './activity-options.ts';

/**
 * Local activities: one event instead of three, and no workflow task of their own. One attempt each: a retry would be
 * waited for inside the workflow task, where it holds one of the worker's few task slots, or in a timer that no message
 * ends. `whileRowMissing` reads again, and an order update goes on as a regular activity.
 */
export function localActivities<Activities>(
  options: (typeof LEDGER_READ | typeof ORDER_UPDATE_AT_ONCE) & { readonly summary?: string } = LEDGER_READ,
): wf.ActivityInterfaceFor<Activities> {
  return wf.proxyLocalActivities<Activities>(options);
}

/** True for the failure of a local activity, which comes as it is, and in no ActivityFailure; not for its cancellation. */
export function isLocalFailure(error: unknown): boolean {
  return error instanceof wf.TemporalFailure && !wf.isCancellation(error);
}
