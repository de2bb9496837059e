import * as wf from '@temporalio/workflow';
import { LEDGER_READ } from './activity-options.ts';

/**
 * Local activities, for reading the ledger: one event instead of three, and no workflow task of their own. One attempt
 * each: a retry would be waited for inside the workflow task, where it holds one of the worker's few task slots, or in
 * a timer that no message ends. `whileRowMissing` reads again.
 */
export function localActivities<Activities>(): wf.ActivityInterfaceFor<Activities> {
  return wf.proxyLocalActivities<Activities>(LEDGER_READ);
}
