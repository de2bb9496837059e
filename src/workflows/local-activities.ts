import * as wf from '@temporalio/workflow';
import { LEDGER_READ, type ORDER_UPDATE_AT_ONCE } from './activity-options.ts';

/**
 * Proxies for local activities. A local activity takes one history event instead of three, and needs no additional
 * workflow task. It has only one attempt, because the wait for a retry would hold a workflow task slot, or would be a
 * timer that no message can interrupt. After a failed read, `whileRowMissing` reads again. After a failed order update,
 * a regular activity continues.
 */
export function localActivities<Activities>(
  options: (typeof LEDGER_READ | typeof ORDER_UPDATE_AT_ONCE) & { readonly summary?: string } = LEDGER_READ,
): wf.ActivityInterfaceFor<Activities> {
  return wf.proxyLocalActivities<Activities>(options);
}

/**
 * True if the error comes from a local activity that failed. The SDK does not wrap such an error in an
 * ActivityFailure. False for a cancellation.
 */
export function isLocalFailure(error: unknown): boolean {
  return error instanceof wf.TemporalFailure && !wf.isCancellation(error);
}
