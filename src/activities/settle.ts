import type { PaymentSnapshot } from '../domain/payment.ts';
import { settlePayment } from '../ledger/payments.ts';
import type { OwnedPayment } from '../ledger/transaction-limits.ts';
import { startDeliveries } from '../temporal/start-deliveries.ts';

/**
 * Settles the money on record and has the order service told. The payment's workflow does it, and the sweep when the
 * workflow does not: doing it twice changes nothing.
 * @param mayWait for its turn, see `withinLimits`.
 * @returns also who else is to be told: the order's other live payments, and the refund that is owed.
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
