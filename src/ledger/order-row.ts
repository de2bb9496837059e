import type { PaidAnswer } from '../domain/channel.ts';
import { decideSuccess, type SuccessDecision } from '../domain/decision.ts';
import { isLive, isOnlyWatched, type OrderStatus } from '../domain/states.ts';
import type { LedgerTx } from './client.ts';
import { UNSETTLED_MONEY } from './payment-facts.ts';
import { takeOrderLock } from './raw-rows.ts';
import type { Merchant, Order, Payment } from './rows.ts';
import { note } from './timeline.ts';

/**
 * The embedded order service. It stores each order as a row of nodrop's database. The lock on this row serializes
 * everything that can pay the order.
 */

/** Locks the order until the end of the transaction. Every decision about an order starts with this lock. */
export async function lockOrder(tx: LedgerTx, merchantId: string, orderId: string): Promise<Order | null> {
  await takeOrderLock(tx, merchantId, orderId);
  return await tx.order.findUnique({ where: { merchantId_id: { merchantId, id: orderId } } });
}

/**
 * Decides how the payment's money changes the locked order.
 * @returns the decision, and the changes of the order. The order is paid if the decision is `applied`.
 */
export function payOrder(
  order: Order,
  payment: Payment,
  { latePayment }: Pick<Merchant, 'latePayment'>,
  answer: PaidAnswer,
): { decision: SuccessDecision; changes: Partial<Order> | undefined } {
  const decision = decideSuccess({
    orderStatus: order.status,
    paymentStatus: payment.status,
    amount: Number(order.amount),
    currency: order.currency,
    asked: { amount: Number(payment.amount), currency: payment.currency },
    expiresAt: payment.expiresAt.getTime(),
    latePayment,
    recovered: order.recoveredAt !== null,
    isOnlyWatched: isOnlyWatched(payment),
    answer,
  });
  if (decision.orderUpdate !== 'applied') return { decision, changes: undefined };
  const paidAt = new Date(answer.paidAt);
  return { decision, changes: { status: 'succeeded', paidPaymentId: payment.id, paidAt } };
}

/**
 * Selects the live payments among a paid order's other payments. They must end, so the caller signals their workflows.
 */
export const othersToCancel = (others: readonly Payment[]): Payment[] =>
  others.filter(({ status }) => isLive(status));

/** Requests cancellation of these attempts. @param toCancel see `othersToCancel`, read under the order's lock. */
export async function cancelOthers(
  tx: LedgerTx,
  toCancel: readonly Payment[],
  paidBy: string,
  now: Date,
): Promise<void> {
  for (const { id, cancelRequestedAt } of toCancel) {
    if (cancelRequestedAt !== null) continue;
    await tx.payment.update({ where: { id }, data: { cancelRequestedAt: now } });
    await note(tx, id, 'order', `Cancellation requested: the order was paid by ${paidBy}.`, now);
  }
}

/**
 * Sets the status of an unpaid order after its last payment has ended. The status does not change while a payment has
 * unsettled money or waits for a decision. The status is `cancelled` if the order's cancellation was requested,
 * `closed` if the order has expired, and otherwise `unpaid`.
 */
export async function releaseOrder(tx: LedgerTx, order: Order, now: Date): Promise<OrderStatus> {
  const { merchantId, id, status } = order;
  if (status !== 'unpaid' && status !== 'paying') return status;
  const unresolved = await tx.payment.count({
    where: {
      merchantId,
      orderId: id,
      OR: [
        { status: { in: ['created', 'paying'] } },
        { orderUpdate: { in: ['pending', 'review'] } },
        // An ended payment can still have unsettled money. When that money is settled, this function is called again.
        UNSETTLED_MONEY,
      ],
    },
  });
  if (unresolved > 0) return status;
  const expired = order.expiresAt !== null && order.expiresAt <= now;
  const released = order.cancelRequestedAt !== null ? 'cancelled' : expired ? 'closed' : 'unpaid';
  if (released !== status) {
    await tx.order.update({ where: { merchantId_id: { merchantId, id } }, data: { status: released } });
  }
  return released;
}
