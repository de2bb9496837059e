import type { PaymentSnapshot } from '../domain/payment.ts';
import type { Attention } from '../domain/states.ts';
import * as ledger from '../ledger/payments.ts';
import type { ActivityDeps } from './deps.ts';

/** The activities that only touch the ledger; task queue `nodrop`. */
export function ledgerActivities({ db, now }: ActivityDeps) {
  return {
    /** The row as it is: every run's first activity, as its input may be stale. */
    async loadPayment(paymentId: string): Promise<PaymentSnapshot> {
      return await ledger.loadPayment(db, paymentId, await now());
    },

    /**
     * Records the money received and decides the order, in one transaction.
     * @returns also the order's other live payments, which are to cancel, and the refund that is owed, which is to start.
     */
    async updateOrder(
      paymentId: string,
    ): Promise<{ snapshot: PaymentSnapshot; cancelled: string[]; refund: string | null }> {
      return await ledger.settlePayment(db, paymentId, await now());
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
