import type { BatchOutcome, RedeliveryBatch } from '../domain/delivery.ts';
import { findDelivery, toDeliverySnapshot } from '../ledger/deliveries.ts';
import * as ledger from '../ledger/redelivery.ts';
import type { DeliveryWorkflows } from '../temporal/delivery-workflows.ts';
import type { PaymentWorkflows } from '../temporal/payment-workflows.ts';
import type { ActivityDeps } from './activity-deps.ts';
import { notDueYet } from './failures.ts';

const SIGNAL_DEADLINE_MS = 5_000;
/** The interval between two checks whether a batch is complete. */
const LOOK_AGAIN_MS = 500;

export interface RedeliveryDeps extends Pick<ActivityDeps, 'db' | 'now'> {
  readonly workflows: Pick<PaymentWorkflows, 'wake'>;
  readonly deliveryWorkflows: Pick<DeliveryWorkflows, 'wake' | 'redeliver'>;
}

/**
 * The activities that redeliver a merchant's waiting events. Their task queue is `nodrop`. See
 * src/ledger/redelivery.ts.
 */
export function redeliveryActivities({ db, now, workflows, deliveryWorkflows }: RedeliveryDeps) {
  return {
    /** Picks the next deliveries, at most `size`. Returns no deliveries if nothing can be delivered now. */
    async takeWaiting(merchantId: string, size: number): Promise<RedeliveryBatch> {
      return await ledger.takeWaiting(db, merchantId, size, await now());
    },

    /**
     * Signals the workflows of the picked deliveries to deliver now. If a signal fails, the sweep wakes that workflow
     * later.
     */
    async redeliver({ picked }: RedeliveryBatch): Promise<void> {
      await Promise.allSettled(
        picked.map(async (one) => {
          await ledger.makeDue(db, one);
          const row = await findDelivery(db, one.id);
          // The attempt count has changed since the delivery was picked, so the event has been sent already.
          if (row.attempts !== one.attempts) return;
          const delivery = toDeliverySnapshot(row);
          if (delivery.toldByPayment) await workflows.wake(row.payment, SIGNAL_DEADLINE_MS);
          else if (delivery.status === 'pending') await deliveryWorkflows.wake(delivery, SIGNAL_DEADLINE_MS);
          else if (row.redeliveryAskedAt !== null)
            await deliveryWorkflows.redeliver(delivery, SIGNAL_DEADLINE_MS);
        }),
      );
    },

    /**
     * Waits until every delivery of the batch was attempted or the batch's time limit has passed. Returns the batch's
     * outcome.
     */
    async awaitTold(batch: RedeliveryBatch): Promise<BatchOutcome> {
      const outcome = await ledger.readOutcome(db, batch, await now());
      if (outcome === null) throw notDueYet(LOOK_AGAIN_MS);
      return outcome;
    },

    /** Ends the redelivery, and decides when the next redelivery is due. */
    async endRedelivery(merchantId: string): Promise<void> {
      await ledger.endRedelivery(db, merchantId, await now());
    },
  };
}

export type RedeliveryActivities = ReturnType<typeof redeliveryActivities>;
