import { activityInfo } from '@temporalio/activity';
import type { Attention } from '../domain/attention.ts';
import type { DeliverySnapshot } from '../domain/delivery.ts';
import type { PaymentSnapshot } from '../domain/payment.ts';
import { loadDelivery } from '../ledger/deliveries.ts';
import * as ledger from '../ledger/payments.ts';
import type { OwnedPayment } from '../ledger/transaction-limits.ts';
import type { ActivityDeps } from './activity-deps.ts';
import { settle } from './settle.ts';

/** The activities that only touch the ledger; task queue `nodrop`. */
export function ledgerActivities({
  db,
  now,
  deliveryWorkflows,
}: Pick<ActivityDeps, 'db' | 'now' | 'deliveryWorkflows'>) {
  return {
    /**
     * The row as it is: every run's first activity, as its input may be stale. Null when the row is gone; a database
     * that cannot be read throws.
     */
    async loadPayment(paymentId: string): Promise<PaymentSnapshot | null> {
      return await ledger.findPayment(db, paymentId, await now());
    },

    /** The same for a delivery. */
    async loadDelivery(deliveryId: string): Promise<DeliverySnapshot | null> {
      return await loadDelivery(db, deliveryId);
    },

    /**
     * Records the money received and decides the order, in one transaction.
     * As a local activity it does not wait for its turn: the regular one goes on.
     * @returns also the order's other live payments, which are to cancel, and the refund that is owed, which is to start.
     * @throws TooBusy
     */
    async updateOrder(
      payment: OwnedPayment,
    ): Promise<{ snapshot: PaymentSnapshot; cancelled: string[]; refund: string | null }> {
      // Inside a workflow task, of which a worker has few at a time: one merchant that waits must not take them all.
      const mayWait = !activityInfo().isLocal;
      return await settle({ db, deliveryWorkflows }, payment, await now(), mayWait);
    },

    async requestCancel(paymentId: string, by: string): Promise<PaymentSnapshot> {
      return await ledger.requestCancel(db, paymentId, by, await now());
    },

    async raiseAttention(paymentId: string, attention: Attention, detail: string): Promise<PaymentSnapshot> {
      return await ledger.raiseAttention(db, paymentId, attention, detail, await now());
    },
  };
}

export type LedgerActivities = ReturnType<typeof ledgerActivities>;
