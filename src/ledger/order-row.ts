import type { PaidAnswer } from '../domain/channel.ts';
import { decideSuccess, type SuccessDecision } from '../domain/decision.ts';
import type { OrderStatus } from '../domain/states.ts';
import type { LedgerTx } from './client.ts';
import type { Order, Payment } from './rows.ts';
import { UNSETTLED_MONEY } from './snapshot.ts';
import { note } from './timeline.ts';

/** The embedded order service: the order is a row of ours, and its row lock orders everything that pays it. */

/** Locks the order for the rest of the transaction; every decision about an order starts here. */
export async function lockOrder(tx: LedgerTx, merchantId: string, orderId: string): Promise<Order | null> {
  await tx.$queryRaw`SELECT 1 FROM orders WHERE merchant_id = ${merchantId} AND id = ${orderId} FOR UPDATE`;
  return await tx.order.findUnique({ where: { merchantId_id: { merchantId, id: orderId } } });
}

/**
 * Decides what the payment's money does to the locked order, and pays the order if it is `applied`.
 * Other live attempts of the order are told to cancel, durably, in the same transaction.
 * @returns the decision, whether the merchant's own order service must be told of it before the order counts as paid,
 *   and the payments whose workflows want to hear of their cancellation.
 */
export async function payOrder(
  tx: LedgerTx,
  order: Order,
  payment: Payment,
  answer: PaidAnswer,
  now: Date,
): Promise<{ decision: SuccessDecision; mustBeTold: boolean; cancelled: string[] }> {
  const merchant = await tx.merchant.findUniqueOrThrow({ where: { id: order.merchantId } });
  const decision = decideSuccess({
    orderStatus: order.status,
    paymentStatus: payment.status,
    amount: Number(order.amount),
    currency: order.currency,
    asked: { amount: Number(payment.amount), currency: payment.currency },
    expiresAt: payment.expiresAt.getTime(),
    latePayment: merchant.latePayment,
    recovered: order.recoveredAt !== null,
    answer,
  });
  const mustBeTold = merchant.orderServiceUrl !== null;
  if (decision.orderUpdate !== 'applied') return { decision, mustBeTold, cancelled: [] };

  await tx.order.update({
    where: { merchantId_id: { merchantId: order.merchantId, id: order.id } },
    data: { status: 'succeeded', paidPaymentId: payment.id, paidAt: new Date(answer.paidAt) },
  });
  const cancelled = await cancelOthers(tx, order, payment.id, now);
  return { decision, mustBeTold, cancelled: cancelled.map(({ id }) => id) };
}

/** Asks every other live attempt of a paid order to cancel. @returns these attempts, which want to hear of it. */
export async function cancelOthers(
  tx: LedgerTx,
  { merchantId, id: orderId }: Order,
  paidBy: string,
  now: Date,
): Promise<Payment[]> {
  const others = await tx.payment.findMany({
    where: { merchantId, orderId, id: { not: paidBy }, status: { in: ['created', 'paying'] } },
  });
  for (const { id, cancelRequestedAt } of others) {
    if (cancelRequestedAt !== null) continue;
    await tx.payment.update({ where: { id }, data: { cancelRequestedAt: now } });
    await note(tx, id, 'order', `Cancel asked for: the order is paid by ${paidBy}.`, now);
  }
  return others;
}

/**
 * What becomes of an order that is not paid, once none of its payments is live, has brought money that is not settled,
 * or waits for a decision: `cancelled` when its owner asked for it, `closed` when it has expired, else `unpaid` again.
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
        // Of one that had ended: whoever settles it decides over the order, and comes back here.
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
