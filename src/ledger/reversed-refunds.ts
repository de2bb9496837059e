import { type Attention, isFree } from '../domain/attention.ts';
import { amountText } from '../domain/money.ts';
import type { LedgerTx } from './client.ts';
import { recordLosses } from './disputes.ts';
import { type Locked, raised, update } from './order-lock.ts';
import type { Payment, Refund } from './rows.ts';
import { note } from './timeline.ts';

/** Records refunds that failed after they had succeeded. refunds.ts describes how changes are made. */

/** Attentions that are less important than `refund_reversed`. */
const GIVES_WAY: readonly Attention[] = ['order_conflict', 'channel_reversed', 'refund_failing'];

/**
 * Records that a refund's money came back to the merchant from the payer's bank. An order with the status `refunded`
 * keeps that status, because the merchant must no longer deliver its goods. The money is not refunded automatically a
 * second time, because it is unknown why the bank returned it. A repeated call has no effect.
 */
export async function recordReversal(
  locked: Locked,
  refund: Refund,
  reason: string,
  now: Date,
): Promise<Payment> {
  const { tx, payment, newEvents } = locked;
  if (refund.status === 'reversed' || refund.status === 'failed') return payment;
  const { id, amount, currency } = refund;
  await tx.refund.update({
    where: { id },
    data: { status: 'reversed', failure: reason, unknownSince: null, settledAt: refund.settledAt ?? now },
  });
  const lowered =
    refund.status === 'succeeded'
      ? await update(tx, payment.id, { refundedAmount: { decrement: amount } })
      : payment;
  const hadSucceeded = refund.status === 'succeeded';
  const how = hadSucceeded
    ? 'failed after it had succeeded, and the money is back at the merchant'
    : 'failed because the bank returned the money';
  const said = `Refund ${id} of ${amountText(amount, currency)} ${how}: ${reason}`;
  await note(tx, payment.id, 'refund', said, now, { refundId: id, status: 'reversed' });
  // If no event has reported that the refund succeeded, the merchant gets `refund.failed`.
  newEvents.push({ type: hadSucceeded ? 'refund.reversed' : 'refund.failed', refundId: id });
  const shown = await showReversal(tx, lowered, said, now);
  // Refunds may have left too little money to record a lost dispute in full. The reversed amount can now be recorded as
  // taken by that dispute.
  return await recordLosses({ ...locked, payment: shown }, now);
}

async function showReversal(tx: LedgerTx, payment: Payment, said: string, now: Date): Promise<Payment> {
  const { attention } = payment;
  if (attention !== null && !isFree(attention) && !GIVES_WAY.includes(attention)) return payment;
  await note(tx, payment.id, 'attention', `refund_reversed: ${said}`, now);
  return await update(tx, payment.id, raised('refund_reversed', said, now));
}
