import { returnHint, takeHint } from '../../ledger/hints.ts';
import type { Payment } from '../../ledger/rows.ts';
import type { Api } from '../api-deps.ts';
import { SIGNAL_WITHIN_MS } from '../deadlines.ts';

/** @returns what makes a query due at once, debounced; it throws TemporalUnavailable, and may then be repeated. */
export function createGiveHint({ db, workflows, now }: Pick<Api, 'db' | 'workflows' | 'now'>) {
  return async (payment: Payment, source: string): Promise<void> => {
    if (payment.status === 'succeeded') return;
    const at = now();
    const effect = await takeHint(db, payment.id, source, at);
    if (effect === 'nothing') return;
    try {
      await workflows.hint(payment, effect === 'tight', SIGNAL_WITHIN_MS);
    } catch (error) {
      // Nobody has heard it, so it must not silence the next one.
      await returnHint(db, payment.id, at);
      throw error;
    }
  };
}
