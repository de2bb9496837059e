import { isDisputed } from '../domain/dispute.ts';
import { isAutomaticRefundId, requestedRefundId } from '../domain/ids.ts';
import { REASONS_OF_OTHERS } from '../domain/states.ts';
import type { Prisma } from '../generated/prisma/client.ts';
import type { LedgerTx } from './client.ts';
import type { Locked } from './order-lock.ts';
import { reviewAttention } from './refund-trouble.ts';
import { oweRefund, reasonOwed, requestRest } from './refunds.ts';
import type { Payment, Refund } from './rows.ts';

/** Creates the refund that replaces a refused refund. refunds.ts describes how changes are made. */

/**
 * True if the refund was created to refund all remaining money. These are automatic refunds, refunds requested without
 * an amount, and refunds that replace one of these.
 */
export async function isOfAllThatIsLeft(tx: LedgerTx, refund: Refund): Promise<boolean> {
  const { id, merchantId, paymentId, idempotencyKey } = refund;
  if (isAutomaticRefundId(id, paymentId)) return true;
  if (idempotencyKey === null) return (await tx.refund.count({ where: { replacedBy: id } })) > 0;
  return id === requestedRefundId({ merchantId, paymentId, idempotencyKey, amount: 'all' });
}

/**
 * Creates the refund that replaces a refused refund, and stores the new refund's id in the refused one (`replacedBy`).
 * - An automatic refund that was refused because part of the money had been given back is replaced by a refund of the
 *   remaining amount. This is also done for a recovered order, because the decision to refund the larger amount also
 *   covers the remaining amount. If an automatic refund was refused for another reason, an operator must decide.
 * - If the payment's money must be given back, a requested refund is replaced by an automatic refund of all remaining
 *   money. This is not done for a recovered order, because no operator has decided to refund more than the request. In
 *   that case reviewAttention raises an attention.
 * - Any other requested refund of all remaining money is replaced by a refund of the amount that still remains, if it
 *   was refused because part of the money had been given back. This is not done while the payment is disputed, because
 *   the channel decides about that money.
 * @param isExplained true if a query after the refusal showed that more money had been given back than the ledger had
 *   recorded
 * @returns null if no refund is due in place of the refused one
 */
export async function oweInItsPlace(
  locked: Locked,
  refused: Refund,
  isExplained: boolean,
  now: Date,
): Promise<Refund | null> {
  const { tx } = locked;
  const rest = await insertInItsPlace(locked, refused, isExplained, now);
  if (rest !== null) await tx.refund.update({ where: { id: refused.id }, data: { replacedBy: rest.id } });
  return rest;
}

async function insertInItsPlace(
  { tx, order, payment }: Locked,
  refused: Refund,
  isExplained: boolean,
  now: Date,
): Promise<Refund | null> {
  if (isAutomaticRefundId(refused.id, payment.id))
    return isExplained ? await oweRefund(tx, payment, refused.reason, now) : null;
  if (payment.orderUpdate === 'conflict' && order.recoveredAt === null)
    return await oweRefund(tx, payment, await reasonOwed(tx, payment.id), now);
  if (!isExplained || isDisputed(payment) || !(await isOfAllThatIsLeft(tx, refused))) return null;
  return await requestRest(tx, payment, refused, now);
}

/**
 * Requests a replacement for the last refused refund, unless that was done before. Called when the trade shows that more
 * money was given back than the ledger had recorded. The channel then refused the refund because less money was left than
 * the ledger assumed. This can be noticed late, because the trade's sum may contain another refund that is still open.
 * No replacement is created if another refund was requested or became due after the refusal. The caller of that
 * refund already knew of the refusal.
 * @param except the refund that is being recorded
 */
export async function oweExplainedLate(locked: Locked, now: Date, except?: string): Promise<Payment> {
  const { tx, payment } = locked;
  const ours = {
    paymentId: payment.id,
    reason: { notIn: [...REASONS_OF_OTHERS] },
  } satisfies Prisma.RefundWhereInput;
  const refused = await tx.refund.findFirst({
    where: {
      ...ours,
      status: 'failed',
      replacedBy: null,
      settledAt: { not: null },
      id: { not: except ?? '' },
    },
    orderBy: [{ settledAt: 'desc' }, { id: 'desc' }],
  });
  if (refused === null || refused.settledAt === null) return payment;
  const { id, createdAt, settledAt } = refused;
  if ((await tx.refund.count({ where: { ...ours, createdAt: { gt: settledAt } } })) > 0) return payment;
  const wasOpen = { OR: [{ settledAt: null }, { settledAt: { gte: createdAt } }] };
  if ((await tx.refund.count({ where: { ...ours, ...wasOpen, id: { not: id } } })) === 0) return payment;
  const rest = await oweInItsPlace(locked, refused, true, now);
  return rest === null ? payment : await reviewAttention(tx, payment, now);
}
