import { activityInfo } from '@temporalio/activity';
import type { Attention } from '../domain/attention.ts';
import type { DeliverySnapshot } from '../domain/delivery.ts';
import type { PaymentSnapshot } from '../domain/payment.ts';
import { loadDelivery } from '../ledger/deliveries.ts';
import * as ledger from '../ledger/payments.ts';
import type { OwnedPayment } from '../ledger/transaction-limits.ts';
import type { ActivityDeps } from './activity-deps.ts';
import { settle } from './settle.ts';

/** The activities that only touch the ledger. Their task queue is `nodrop`. */
export function ledgerActivities({
  db,
  now,
  deliveryWorkflows,
}: Pick<ActivityDeps, 'db' | 'now' | 'deliveryWorkflows'>) {
  return {
    /**
     * Reads the payment. A workflow run starts with this read, because the run's input may be out of date. Null if the
     * row is lost; throws if the database cannot be read.
     */
    async loadPayment(paymentId: string): Promise<PaymentSnapshot | null> {
      return await ledger.findPayment(db, paymentId, await now());
    },

    /** Reads the delivery. Null if the row is gone; throws if the database cannot be read. */
    async loadDelivery(deliveryId: string): Promise<DeliverySnapshot | null> {
      return await loadDelivery(db, deliveryId);
    },

    /**
     * Records the money received and decides about the order, in one transaction.
     * @returns the payment, the ids of the order's other live payments, which must be cancelled, and the id of the due
     *   refund, which must be started.
     * @throws TooBusy
     */
    async updateOrder(
      payment: OwnedPayment,
    ): Promise<{ snapshot: PaymentSnapshot; cancelled: string[]; refund: string | null }> {
      // A local activity holds a workflow task slot, of which a worker has few. Therefore a local activity must not
      // wait for the order's lock or the merchant's limit. Only the regular activity waits for them.
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
