import { settlePayment } from '../ledger/payments.ts';
import { startDeliveries } from '../temporal/start-deliveries.ts';

/**
 * Settles the money on record and has the order service told. The payment's workflow does it, and the sweep when the
 * workflow does not: doing it twice changes nothing.
 * @returns also who else is to be told: the order's other live payments, and the refund that is owed.
 */
export async function settle(
  deps: Parameters<typeof startDeliveries>[0],
  paymentId: string,
  now: Date,
): ReturnType<typeof settlePayment> {
  const settled = await settlePayment(deps.db, paymentId, now);
  await startDeliveries(deps, paymentId);
  return settled;
}
