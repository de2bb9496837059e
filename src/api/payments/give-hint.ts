import { returnHint, takeHint } from '../../ledger/hints.ts';
import type { Payment } from '../../ledger/rows.ts';
import type { Api } from '../api-deps.ts';
import { SIGNAL_WITHIN_MS } from '../deadlines.ts';

/**
 * @returns a function that handles a hint: it makes a query of the payment due immediately. If several hints come in a
 * short time, some have no effect. The function throws TemporalUnavailable, and the caller may retry.
 */
export function createGiveHint({ db, workflows, now }: Pick<Api, 'db' | 'workflows' | 'now'>) {
  return async (payment: Payment, source: string): Promise<void> => {
    if (payment.status === 'succeeded') return;
    const at = now();
    const effect = await takeHint(db, payment.id, source, at);
    if (effect === 'nothing') return;
    try {
      await workflows.hint(payment, effect === 'tight', SIGNAL_WITHIN_MS);
    } catch (error) {
      // This hint did not reach the workflow, so the next hint must not be suppressed because of it.
      await returnHint(db, payment.id, at);
      throw error;
    }
  };
}
