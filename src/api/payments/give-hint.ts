import { returnHint, takeHint } from '../../ledger/hints.ts';
import type { Payment } from '../../ledger/rows.ts';
import type { Api } from '../api-deps.ts';
import { SIGNAL_WITHIN_MS } from '../deadlines.ts';

/**
 * @returns a function that handles a hint. After a hint, nodrop sends the next query of the payment immediately. If
 * several hints come in a short time, some of them have no effect. If the function throws TemporalUnavailable, the
 * caller may retry.
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
      // This hint did not reach the workflow, so it must not suppress the next hint.
      await returnHint(db, payment.id, at);
      throw error;
    }
  };
}
