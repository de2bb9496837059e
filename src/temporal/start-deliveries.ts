import type { LedgerClient } from '../ledger/client.ts';
import { findPendingDeliveries } from '../ledger/deliveries.ts';
import { isRedeliveryDue } from '../ledger/redelivery.ts';
import type { DeliveryWorkflows } from './delivery-workflows.ts';

/**
 * The deadline for the start of deliveries. The first attempt of the order update has a timeout (ORDER_UPDATE_AT_ONCE).
 * This deadline is half of that timeout, so that the attempt can still return in time.
 */
const START_DEADLINE_MS = 1_000;

/**
 * Starts the deliveries of the events that were just recorded for the payment and its order. Never throws, because the
 * sweep starts all deliveries that this function failed to start.
 */
export async function startDeliveries(
  { db, deliveryWorkflows }: { db: LedgerClient; deliveryWorkflows: Pick<DeliveryWorkflows, 'start'> },
  paymentId: string,
): Promise<void> {
  try {
    const found = await findPendingDeliveries(db, paymentId);
    await Promise.all(found.map((delivery) => deliveryWorkflows.start(delivery, START_DEADLINE_MS)));
  } catch {
    // The ledger contains the deliveries that could not be started, so the sweep starts them later.
  }
}

/**
 * Starts the redelivery of waiting events if a redelivery is due. Called after the merchant's order service has
 * answered. Never throws.
 */
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
    // The ledger still shows that a redelivery is due, so the sweep starts it later.
  }
}
