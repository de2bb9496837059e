import * as wf from '@temporalio/workflow';
import type { BareActivities } from './activities.ts';
import { createdUpdate, paidSignal } from './messages.ts';

const activities = wf.proxyActivities<BareActivities>({ startToCloseTimeout: '10 s' });

/**
 * The shape of a payment without anything that makes it one: creates, waits for the signal until a timer fires, and then
 * updates the order.
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
