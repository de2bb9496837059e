import { type Attention, isFree } from '../domain/attention.ts';
import { amountText } from '../domain/money.ts';
import type { LedgerTx } from './client.ts';
import { recordLosses } from './disputes.ts';
import { type Locked, raised, update } from './order-lock.ts';
import type { Payment, Refund } from './rows.ts';
import { note } from './timeline.ts';

/** Refunds that failed after they had succeeded. How changes are made: see refunds.ts. */

/** What says less than that money which had gone back is here again. */
const GIVES_WAY: readonly Attention[] = ['order_conflict', 'channel_reversed', 'refund_failing'];

/**
 * The bank has returned the money of a refund: it is here again. An order that it made refunded stays so, as its goods are
 * nobody's to hand out any more, and nothing pays the money again by itself: what made the payer's bank return it is not
 * known here. Does nothing the second time.
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
    ? 'failed after it had succeeded, and the money is here again'
    : 'failed, as the bank returned the money';
  const said = `Refund ${id} of ${amountText(amount, currency)} ${how}: ${reason}`;
  await note(tx, payment.id, 'refund', said, now, { refundId: id, status: 'reversed' });
  // Nobody was told that it had succeeded.
  newEvents.push({ type: hadSucceeded ? 'refund.reversed' : 'refund.failed', refundId: id });
  const shown = await showReversal(tx, lowered, said, now);
  // A dispute that is lost may have taken it.
  return await recordLosses({ ...locked, payment: shown }, now);
}

async function showReversal(tx: LedgerTx, payment: Payment, said: string, now: Date): Promise<Payment> {
  const { attention } = payment;
  if (attention !== null && !isFree(attention) && !GIVES_WAY.includes(attention)) return payment;
  await note(tx, payment.id, 'attention', `refund_reversed: ${said}`, now);
  return await update(tx, payment.id, raised('refund_reversed', said, now));
}
