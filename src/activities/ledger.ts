import type { Attention } from '../domain/attention.ts';
import type { DeliverySnapshot } from '../domain/delivery.ts';
import type { PaymentSnapshot } from '../domain/payment.ts';
import { loadDelivery } from '../ledger/deliveries.ts';
import * as ledger from '../ledger/payments.ts';
import type { ActivityDeps } from './deps.ts';
import { settle } from './settle.ts';

/** The activities that only touch the ledger; task queue `nodrop`. */
export function ledgerActivities({ db, now, deliveryWorkflows }: ActivityDeps) {
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
     * @returns also the order's other live payments, which are to cancel, and the refund that is owed, which is to start.
     */
    async updateOrder(
      paymentId: string,
    ): Promise<{ snapshot: PaymentSnapshot; cancelled: string[]; refund: string | null }> {
      return await settle({ db, deliveryWorkflows }, paymentId, await now());
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
