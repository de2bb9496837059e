import * as wf from '@temporalio/workflow';

/**
 * Local activities, for reading the ledger: one event instead of three, and no workflow task of their own. A retry waits
 * in a timer and never inside the workflow task: that would hold one of the worker's few task slots, and some fifty
 * rows that cannot be read would stop every payment. So the first wait is longer than the threshold too.
 */
export function localActivities<Activities>(): wf.ActivityInterfaceFor<Activities> {
  return wf.proxyLocalActivities<Activities>({
    startToCloseTimeout: '10 s',
    localRetryThreshold: '1 s',
    retry: { initialInterval: '2 s', backoffCoefficient: 2, maximumInterval: '1 m' },
  });
}
