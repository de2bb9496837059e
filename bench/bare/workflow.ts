import * as wf from '@temporalio/workflow';
import type { BareActivities } from './activities.ts';
import { createdUpdate, paidSignal } from './messages.ts';

const activities = wf.proxyActivities<BareActivities>({ startToCloseTimeout: '10 s' });

/**
 * A workflow with the same structure as a payment, but without a ledger and a channel. It runs a create activity, waits
 * for a signal or the expiry timer, and after the signal runs an activity for the order.
 */
export async function bare(id: string, expiresInMs: number): Promise<void> {
  let isCreated = false;
  let isPaid = false;
  wf.setHandler(createdUpdate, () => wf.condition(() => isCreated));
  wf.setHandler(paidSignal, () => {
    isPaid = true;
  });
  await activities.create(id);
  isCreated = true;
  if (await wf.condition(() => isPaid, expiresInMs)) await activities.updateOrder(id);
}
