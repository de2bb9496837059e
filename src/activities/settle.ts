import type { PaymentSnapshot } from '../domain/payment.ts';
import { settlePayment } from '../ledger/payments.ts';
import type { OwnedPayment } from '../ledger/transaction-limits.ts';
import { startDeliveries } from '../temporal/start-deliveries.ts';

/**
 * Settles the money on record and starts the deliveries of the new events. The payment's workflow calls this function.
 * If the workflow does not call it, the sweep calls it. Settling twice has no further effect.
 * @param mayWait true if the transaction may wait for the limits of its order and merchant, see `withinLimits`.
 * @returns the payment, the ids of the order's other live payments, which must be cancelled, and the id of the due
 *   refund.
 */
export async function settle(
  deps: Parameters<typeof startDeliveries>[0],
  payment: OwnedPayment,
  now: Date,
  mayWait = true,
): Promise<{ snapshot: PaymentSnapshot; cancelled: string[]; refund: string | null }> {
  const { mayTell, ...settled } = await settlePayment(deps.db, payment, now, mayWait);
  if (mayTell) await startDeliveries(deps, payment.paymentId);
  return settled;
}
