import type { BatchOutcome, RedeliveryBatch } from '../domain/delivery.ts';
import { findDelivery, toDeliverySnapshot } from '../ledger/deliveries.ts';
import * as ledger from '../ledger/redelivery.ts';
import type { DeliveryWorkflows } from '../temporal/delivery-workflows.ts';
import type { PaymentWorkflows } from '../temporal/payment-workflows.ts';
import type { ActivityDeps } from './activity-deps.ts';
import { notDueYet } from './failures.ts';

const SIGNAL_DEADLINE_MS = 5_000;
/** How soon it is looked again whether a batch has been told. */
const LOOK_AGAIN_MS = 500;

export interface RedeliveryDeps extends Pick<ActivityDeps, 'db' | 'now'> {
  readonly workflows: Pick<PaymentWorkflows, 'wake'>;
  readonly deliveryWorkflows: Pick<DeliveryWorkflows, 'wake' | 'redeliver'>;
}

/** DeliveryProgress a merchant's order service what waits for it; task queue `nodrop`. See src/ledger/redelivery.ts. */
export function redeliveryActivities({ db, now, workflows, deliveryWorkflows }: RedeliveryDeps) {
  return {
    /** The next deliveries to be told, `size` at most; none when there is nothing to tell now. */
    async takeWaiting(merchantId: string, size: number): Promise<RedeliveryBatch> {
      return await ledger.takeWaiting(db, merchantId, size, await now());
    },

    /** Signals the workflows that deliver them to deliver now. The sweep wakes those that could not be reached. */
    async redeliver({ picked }: RedeliveryBatch): Promise<void> {
      await Promise.allSettled(
        picked.map(async (one) => {
          await ledger.makeDue(db, one);
          const row = await findDelivery(db, one.id);
          // It has been told already.
          if (row.attempts !== one.attempts) return;
          const delivery = toDeliverySnapshot(row);
          if (delivery.toldByPayment) await workflows.wake(row.payment, SIGNAL_DEADLINE_MS);
          else if (delivery.status === 'pending') await deliveryWorkflows.wake(delivery, SIGNAL_DEADLINE_MS);
          else if (row.redeliveryAskedAt !== null)
            await deliveryWorkflows.redeliver(delivery, SIGNAL_DEADLINE_MS);
        }),
      );
    },

    /** What the batch came to, once all of it has been told or has had its time. */
    async awaitTold(batch: RedeliveryBatch): Promise<BatchOutcome> {
      const outcome = await ledger.readOutcome(db, batch, await now());
      if (outcome === null) throw notDueYet(LOOK_AGAIN_MS);
      return outcome;
    },

    /** Nothing more can be told now: decides when the next redelivery is due. */
    async endRedelivery(merchantId: string): Promise<void> {
      await ledger.endRedelivery(db, merchantId, await now());
    },
  };
}

export type RedeliveryActivities = ReturnType<typeof redeliveryActivities>;
