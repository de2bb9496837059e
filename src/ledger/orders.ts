import { Refusal } from '../domain/refusal.ts';
import type { LedgerClient, LedgerTx } from './client.ts';
import { visibleTransaction } from './notify.ts';
import { lockOrder, releaseOrder } from './order-row.ts';
import type { Order, Payment } from './rows.ts';
import { note } from './timeline.ts';

/** This file ends orders that were not paid. */

const FAILED_REST_MS = 5 * 60_000;
const HELD_REST_MS = 3_600_000;

/**
 * Records the request to cancel an order. The order then accepts no new attempt, and cancellation of its live payments
 * is requested. The order is cancelled once none of its payments is live. If money arrives before that, the money still
 * pays the order, because the channel's answer decides.
 * @returns the order, and the live payments whose workflows the caller signals.
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
      await note(tx, id, 'manual', 'Cancellation requested together with the order.', now);
    }
    return { status: await releaseOrder(tx, { ...order, cancelRequestedAt }, now), live };
  });
}

/** The key of an order that has to end. */
export type EndingOrder = Pick<Order, 'merchantId' | 'id'>;

/** Lists orders without a live payment that have expired or whose cancellation was requested. */
export async function findEndingOrders(db: LedgerClient, batch: number, now: Date): Promise<EndingOrder[]> {
  // Each condition has its own statement, which uses a partial index. A single WHERE with OR would read every unpaid
  // order.
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
 * Closes or cancels an order that has to end, unless a payment of the order still prevents this.
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
  // The order's next check is postponed first. If ending the order throws, the next batch then begins with other
  // orders.
  await lookAgain(db, FAILED_REST_MS);
  return await visibleTransaction(db, merchantId, id, async (tx) => {
    const order = await lockOrder(tx, merchantId, id);
    if (order === null) return false;
    if ((await releaseOrder(tx, order, now)) !== order.status) return true;
    // An order that still cannot end is postponed for longer. Otherwise orders whose money waits for a decision would
    // fill every batch.
    await lookAgain(tx, HELD_REST_MS);
    return false;
  });
}

/** True if the order has a final status. Used by requests that wait for the end of an order. */
export function isSettled({ status }: Pick<Order, 'status'>): boolean {
  return status === 'succeeded' || status === 'refunded' || status === 'cancelled' || status === 'closed';
}
