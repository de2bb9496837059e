import * as wf from '@temporalio/workflow';
import type { RedeliveryActivities } from '../activities/redelivery.ts';
import { REDELIVERED_AT_ONCE, REDELIVERY_EVERY_MS } from '../domain/delivery.ts';
import { AWAIT_BATCH, LEDGER, REDELIVER } from './activity-options.ts';
import type { RedeliveryInput } from './messages.ts';

const { takeWaiting, endRedelivery } = wf.proxyActivities<RedeliveryActivities>(LEDGER);
const { redeliver } = wf.proxyActivities<RedeliveryActivities>(REDELIVER);
const { awaitTold } = wf.proxyActivities<RedeliveryActivities>(AWAIT_BATCH);

/** Then it fails again. One event alone may be what it cannot take. */
const BATCHES_WITHOUT_ANSWER = 2;

/**
 * Tells what waits for the order service of a merchant, in batches of 1, 2, 4 ...: each when the one before has been
 * told, and twice as large when all of it was answered. What is left when the order service fails again is told at its
 * own time, or by the next redelivery.
 */
export async function redelivery({ merchantId, size: first = 1 }: RedeliveryInput): Promise<void> {
  let unanswered = 0;
  for (let size = first; unanswered < BATCHES_WITHOUT_ANSWER; ) {
    if (wf.workflowInfo().continueAsNewSuggested)
      await wf.continueAsNew<typeof redelivery>({ merchantId, size });
    const batch = await takeWaiting(merchantId, size);
    if (batch.picked.length === 0) break;
    await redeliver(batch);
    const outcome = await awaitTold(batch);
    unanswered = outcome.answered === 0 && outcome.unanswered > 0 ? unanswered + 1 : 0;
    size = outcome.unanswered > 0 ? 1 : Math.min(2 * size, REDELIVERED_AT_ONCE);
    // One that asks for hours must not keep back what others would be answered.
    const pause = Math.min(outcome.pauseMs, REDELIVERY_EVERY_MS);
    if (pause > 0 && unanswered < BATCHES_WITHOUT_ANSWER)
      await wf.sleep(pause, { summary: 'the order service asked to be left alone for so long' });
  }
  await endRedelivery(merchantId);
}
