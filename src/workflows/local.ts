import * as wf from '@temporalio/workflow';
import { LEDGER_READ } from './activity-options.ts';

/**
 * Local activities, for reading the ledger: one event instead of three, and no workflow task of their own. A retry waits
 * in a timer and never inside the workflow task: that would hold one of the worker's few task slots, and some fifty
 * rows that cannot be read would stop every payment.
 */
export function localActivities<Activities>(): wf.ActivityInterfaceFor<Activities> {
  return wf.proxyLocalActivities<Activities>(LEDGER_READ);
}
