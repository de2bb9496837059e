import { isUndecided, refusesAttempts } from '../../domain/attempt.ts';
import { isLive, type PayerOrderState } from '../../domain/states.ts';
import type { PaymentOfPayer } from '../../ledger/queries.ts';
import type { Payment } from '../../ledger/rows.ts';

/**
 * The state of the order for the payer of this attempt, from all attempts of the order. One attempt alone does not show
 * whether the payer has paid or may pay now.
 */
export function orderStateOf(payment: PaymentOfPayer, now: Date): PayerOrderState {
  const { order } = payment;
  const { payments } = order;
  if (payments.some(({ orderUpdate }) => orderUpdate === 'applied')) return 'paid';
  if (payments.some(isUndecided)) return 'undecided';
  const isOver = refusesAttempts(order, now) !== null;
  if (isLive(payment.status)) {
    // Another attempt may still be live, if its channel did not answer before this one was created. If the payer pays
    // both attempts, one of them is refunded.
    const isEnding = isOver || payment.cancelRequestedAt !== null || payment.expiresAt <= now;
    // The payer pays an adopted trade where they came from. If this page offered another way to pay, they could pay
    // both trades.
    return isEnding || payment.adopted !== null ? 'undecided' : 'open';
  }
  const others = payments.filter(({ id, status }) => id !== payment.id && isLive(status));
  if (others.some((other) => isOver || !saysUnpaid(other))) return 'undecided';
  return isOver ? 'over' : 'open';
}

/** True if the channel's last answer is `unpaid`. False without an answer, or if a later call failed. */
function saysUnpaid({ channelState, channelErrorSince }: Payment): boolean {
  return channelState === 'unpaid' && channelErrorSince === null;
}
