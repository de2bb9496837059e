import { toRefundSnapshot } from '../../ledger/payment-facts.ts';
import type { Payment, Refund } from '../../ledger/rows.ts';
import type { Logger } from '../../log.ts';
import { TemporalUnavailable } from '../../temporal/payment-workflows.ts';
import type { Api } from '../api-deps.ts';
import { SIGNAL_WITHIN_MS } from '../deadlines.ts';

/**
 * Signals workflows about changes that are already in the ledger. An outage of Temporal is not an error, because the
 * sweep later signals the workflows that could not be reached.
 */
export function createNotifyWorkflows({
  workflows,
  refundWorkflows,
}: Pick<Api, 'workflows' | 'refundWorkflows'>) {
  return {
    /** Signals the payment's workflow that a cancellation is requested. */
    async cancel(payment: Payment): Promise<void> {
      try {
        await workflows.cancel(payment, SIGNAL_WITHIN_MS);
      } catch (error) {
        if (!(error instanceof TemporalUnavailable)) throw error;
      }
    },

    /** Starts the workflow of a refund. The refund's row is already in the ledger. */
    async startRefund(refund: Refund, payment: Payment, log: Logger): Promise<void> {
      try {
        await refundWorkflows.start(toRefundSnapshot(refund, payment), SIGNAL_WITHIN_MS);
      } catch (error) {
        if (!(error instanceof TemporalUnavailable)) throw error;
        log.warn({ err: error, refundId: refund.id }, 'a stored refund waits for the sweep');
      }
    },
  };
}
