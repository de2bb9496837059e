import { isUndecided, refusesAttempts } from '../../domain/attempt.ts';
import { isLive, type PayerOrderState } from '../../domain/states.ts';
import type { PaymentOfPayer } from '../../ledger/queries.ts';
import type { Payment } from '../../ledger/rows.ts';

/**
 * Returns the order state that the payer of this attempt sees. The state depends on all attempts of the order, because
 * one attempt alone does not show whether the payer has paid or may pay now.
 */
export function orderStateOf(payment: PaymentOfPayer, now: Date): PayerOrderState {
  const { order } = payment;
  const { payments } = order;
  if (payments.some(({ orderUpdate }) => orderUpdate === 'applied')) return 'paid';
  if (payments.some(isUndecided)) return 'undecided';
  const isOver = refusesAttempts(order, now) !== null;
  if (isLive(payment.status)) {
    // Another attempt of the order may still be live, because its channel did not answer before this attempt was
    // created. If the payer pays both attempts, nodrop refunds one.
    const isEnding = isOver || payment.cancelRequestedAt !== null || payment.expiresAt <= now;
    // The payer pays an adopted trade outside this page. If this page offered another way to pay, the payer could pay
    // twice.
    return isEnding || payment.adopted !== null ? 'undecided' : 'open';
  }
  const others = payments.filter(({ id, status }) => id !== payment.id && isLive(status));
  if (others.some((other) => isOver || !saysUnpaid(other))) return 'undecided';
  return isOver ? 'over' : 'open';
}

/**
 * True if the channel's last answer is `unpaid`. False if the channel has not answered yet, or if a later call failed.
 */
function saysUnpaid({ channelState, channelErrorSince }: Payment): boolean {
  return channelState === 'unpaid' && channelErrorSince === null;
}
