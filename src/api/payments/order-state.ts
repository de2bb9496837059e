import { isUndecided, refusesAttempts } from '../../domain/attempt.ts';
import { isLive, type PayerOrderState } from '../../domain/states.ts';
import type { PaymentOfPayer } from '../../ledger/queries.ts';
import type { Payment } from '../../ledger/rows.ts';

/**
 * The order as the payer of this attempt may know it, by all of its attempts: what happened to one of them says nothing
 * of what its payer has paid, or may pay now.
 */
export function orderStateOf(payment: PaymentOfPayer, now: Date): PayerOrderState {
  const { order } = payment;
  const { payments } = order;
  if (payments.some(({ orderUpdate }) => orderUpdate === 'applied')) return 'paid';
  if (payments.some(isUndecided)) return 'undecided';
  const isOver = refusesAttempts(order, now) !== null;
  if (isLive(payment.status)) {
    // Another one may be live that did not answer before this one was made; whoever pays both gets one back.
    const isEnding = isOver || payment.cancelRequestedAt !== null || payment.expiresAt <= now;
    // The payer pays it where they came from: whoever is offered another way here could pay both.
    return isEnding || payment.adopted !== null ? 'undecided' : 'open';
  }
  const others = payments.filter(({ id, status }) => id !== payment.id && isLive(status));
  if (others.some((other) => isOver || !saysUnpaid(other))) return 'undecided';
  return isOver ? 'over' : 'open';
}

/** True when the channel's last word is that nobody has paid; no word, or an error since, says nothing. */
function saysUnpaid({ channelState, channelErrorSince }: Payment): boolean {
  return channelState === 'unpaid' && channelErrorSince === null;
}
