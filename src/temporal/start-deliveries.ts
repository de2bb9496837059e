import type { LedgerClient } from '../ledger/client.ts';
import { findPendingDeliveries } from '../ledger/deliveries.ts';
import { isRedeliveryDue } from '../ledger/redelivery.ts';
import type { DeliveryWorkflows } from './delivery-workflows.ts';

/** Half of what the order update's first attempt has as a whole (ORDER_UPDATE_AT_ONCE): its answer must still get through. */
const START_DEADLINE_MS = 1_000;

/**
 * Has the order service told at once of what was just recorded of the payment and its order. Never fails: what is not started here
 * is the sweep's.
 */
export async function startDeliveries(
  { db, deliveryWorkflows }: { db: LedgerClient; deliveryWorkflows: Pick<DeliveryWorkflows, 'start'> },
  paymentId: string,
): Promise<void> {
  try {
    const found = await findPendingDeliveries(db, paymentId);
    await Promise.all(found.map((delivery) => deliveryWorkflows.start(delivery, START_DEADLINE_MS)));
  } catch {
    // It is in the ledger.
  }
}

/** The same for what waits for the merchant's order service, when it has just answered again. */
export async function startDueRedelivery(
  {
    db,
    deliveryWorkflows,
  }: { db: LedgerClient; deliveryWorkflows: Pick<DeliveryWorkflows, 'redeliverWaiting'> },
  merchantId: string,
  now: Date,
): Promise<void> {
  try {
    if (await isRedeliveryDue(db, merchantId, now))
      await deliveryWorkflows.redeliverWaiting(merchantId, START_DEADLINE_MS);
  } catch {
    // It is in the ledger.
  }
}
