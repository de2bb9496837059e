import { Refusal } from '../domain/refusal.ts';
import type { LedgerClient, LedgerTx } from './client.ts';
import { visibleTransaction } from './notify.ts';
import { lockOrder, releaseOrder } from './order-row.ts';
import type { Order, Payment } from './rows.ts';
import { note } from './timeline.ts';

/** How orders end without being paid. */

const FAILED_REST_MS = 5 * 60_000;
const HELD_REST_MS = 3_600_000;

/**
 * Writes the wish to cancel an order: it takes no new attempt, its live payments are to cancel, and it is cancelled
 * once none is live. Money that still comes in for it before that pays it: the channel's word wins.
 * @returns the order, and the live payments whose workflows are to be signalled.
 * @throws Refusal `order_not_found`, `order_already_paid`.
 */
export async function cancelOrder(
  db: LedgerClient,
  merchantId: string,
  orderId: string,
  now: Date,
): Promise<{ status: string; live: Payment[] }> {
  return await visibleTransaction(db, merchantId, orderId, async (tx) => {
    const order = await lockOrder(tx, merchantId, orderId);
    if (order === null) throw new Refusal('order_not_found', `There is no order ${orderId}.`);
    if (order.status === 'succeeded' || order.status === 'refunded') {
      throw new Refusal('order_already_paid', `Order ${orderId} was paid by payment ${order.paidPaymentId}.`);
    }
    if (order.status === 'cancelled' || order.status === 'closed') return { status: order.status, live: [] };
    const cancelRequestedAt = order.cancelRequestedAt ?? now;
    await tx.order.update({
      where: { merchantId_id: { merchantId, id: orderId } },
      data: { cancelRequestedAt },
    });
    const live = await tx.payment.findMany({
      where: { merchantId, orderId, status: { in: ['created', 'paying'] } },
    });
    for (const { id, cancelRequestedAt: before } of live) {
      if (before !== null) continue;
      await tx.payment.update({ where: { id }, data: { cancelRequestedAt: now } });
      await note(tx, id, 'manual', 'Cancel asked for with its order.', now);
    }
    return { status: await releaseOrder(tx, { ...order, cancelRequestedAt }, now), live };
  });
}

/** An order that comes to its end, by the key it has. */
export type EndingOrder = Pick<Order, 'merchantId' | 'id'>;

/** Orders whose time is up, or whose owner wants them cancelled, and that have no live payment. */
export async function findEndingOrders(db: LedgerClient, batch: number, now: Date): Promise<EndingOrder[]> {
  // Each condition has a partial index of its own; one WHERE with OR would read every order that is not paid.
  return await db.$queryRaw<EndingOrder[]>`
    SELECT merchant_id AS "merchantId", id FROM orders
    WHERE (merchant_id, id) IN (
      SELECT merchant_id, id FROM orders WHERE status IN ('unpaid', 'paying') AND expires_at <= ${now}
      UNION SELECT merchant_id, id FROM orders
        WHERE status IN ('unpaid', 'paying') AND cancel_requested_at IS NOT NULL
    ) AND (next_sweep_at IS NULL OR next_sweep_at <= ${now})
      AND NOT EXISTS (
        SELECT FROM payments
        WHERE payments.merchant_id = orders.merchant_id AND order_id = orders.id
          AND payments.status IN ('created', 'paying')
      )
    ORDER BY next_sweep_at NULLS FIRST, created_at LIMIT ${batch}`;
}

/**
 * Closes or cancels one of them, unless it may not end yet.
 * @returns true when it has ended.
 */
export async function releaseEndingOrder(
  db: LedgerClient,
  { merchantId, id }: EndingOrder,
  now: Date,
): Promise<boolean> {
  const lookAgain = async (tx: LedgerClient | LedgerTx, ms: number) =>
    await tx.order.update({
      where: { merchantId_id: { merchantId, id } },
      data: { nextSweepAt: new Date(now.getTime() + ms) },
    });
  // Before the work: one that fails comes after all others the next time.
  await lookAgain(db, FAILED_REST_MS);
  return await visibleTransaction(db, merchantId, id, async (tx) => {
    const order = await lockOrder(tx, merchantId, id);
    if (order === null) return false;
    if ((await releaseOrder(tx, order, now)) !== order.status) return true;
    // One that money waits in for a decision does not fill every batch.
    await lookAgain(tx, HELD_REST_MS);
    return false;
  });
}

/** Whether an order has come to its end, for somebody who waits. */
export function isSettled({ status }: Pick<Order, 'status'>): boolean {
  return status === 'succeeded' || status === 'refunded' || status === 'cancelled' || status === 'closed';
}
