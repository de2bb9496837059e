import * as wf from '@temporalio/workflow';
import type { RedeliveryActivities } from '../activities/redelivery.ts';
import { REDELIVERED_AT_ONCE, REDELIVERY_EVERY_MS } from '../domain/delivery.ts';
import { AWAIT_BATCH, LEDGER, REDELIVER } from './activity-options.ts';
import type { RedeliveryInput } from './messages.ts';

const { takeWaiting, endRedelivery } = wf.proxyActivities<RedeliveryActivities>(LEDGER);
const { redeliver } = wf.proxyActivities<RedeliveryActivities>(REDELIVER);
const { awaitTold } = wf.proxyActivities<RedeliveryActivities>(AWAIT_BATCH);

/**
 * After this many batches in a row without any answer, the redelivery ends, because the order service is failing again.
 */
const BATCHES_WITHOUT_ANSWER = 2;

/**
 * Redelivers the waiting events of a merchant's order service in batches of 1, 2, 4 and more. A batch starts when
 * every delivery of the previous batch was attempted. If the order service answered every delivery of the previous
 * batch, the next batch is twice as large. If the order service fails again, the remaining events follow on their own
 * schedule, or with the next redelivery.
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
    // The order service may ask for a pause of hours (Retry-After) because of one event. The pause is bounded, so that
    // it does not delay other events for hours.
    const pause = Math.min(outcome.pauseMs, REDELIVERY_EVERY_MS);
    if (pause > 0 && unanswered < BATCHES_WITHOUT_ANSWER)
      await wf.sleep(pause, { summary: 'pause, as the Retry-After of the order service asks' });
  }
  await endRedelivery(merchantId);
}
