import { isDisputed } from '../domain/dispute.ts';
import { isAutomaticRefundId, requestedRefundId } from '../domain/ids.ts';
import { REASONS_OF_OTHERS } from '../domain/states.ts';
import type { Prisma } from '../generated/prisma/client.ts';
import type { LedgerTx } from './client.ts';
import type { Locked } from './order-lock.ts';
import { reviewAttention } from './refund-trouble.ts';
import { oweRefund, reasonOwed, requestRest } from './refunds.ts';
import type { Payment, Refund } from './rows.ts';

/** What is owed in the place of a refused refund. How changes are made: see refunds.ts. */

/** An automatic refund, one that was requested without an amount, or the rest of one. */
export async function isOfAllThatIsLeft(tx: LedgerTx, refund: Refund): Promise<boolean> {
  const { id, merchantId, paymentId, idempotencyKey } = refund;
  if (isAutomaticRefundId(id, paymentId)) return true;
  if (idempotencyKey === null) return (await tx.refund.count({ where: { replacedBy: id } })) > 0;
  return id === requestedRefundId({ merchantId, paymentId, idempotencyKey, amount: 'all' });
}

/**
 * Owes another refund in the place of a refused one, which names it (`replacedBy`).
 * - An automatic one, refused as part of the money had gone back: the rest, also of a recovered order,
 *   as this refund was decided over and the rest is less. After any other refusal it waits for a person, who has it
 *   asked again.
 * - One that somebody asked for while the money is owed back: all that is left is owed by itself from now on. Not
 *   of a recovered order: nobody decided over more there, and reviewAttention shows it.
 * - Any other request for all that is left, refused as part of the money had gone back: the rest. Not while the payment
 *   is disputed: the channel decides over that money.
 * @param isExplained the trade showed after the refusal that more had gone back than the ledger knew
 * @returns null when nothing is owed in its place
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
 * The trade has just shown that more went back than the ledger knew. While another refund of ours was open it may have
 * hidden that, as the trade's sum could hold it: then the last refusal is explained only now, and what is owed by it is
 * written. Not when another refund was asked for, or owed, since: whoever did that knew of the refusal.
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
