import type { Callback, Payment, Refund } from '../generated/prisma/client.ts';
import type { LedgerClient } from './client.ts';
import type { DeliveryRow } from './deliveries.ts';
import { isWatchedLate } from './sweep.ts';

/** What must run in Temporal, read from the ledger alone. Pages by id, so that new rows in between do no harm. */

const PAGE = 500;

/** Live payments, those whose order service has not agreed, and those that ended unpaid and are still watched. */
export async function paymentsToRecover(
  db: LedgerClient,
  lateWatchMs: number,
  now: Date,
  after: string,
): Promise<Payment[]> {
  const ids = await db.$queryRaw<{ id: string }[]>`
    SELECT id FROM payments
    WHERE id > ${after}
      AND (
        status IN ('created', 'paying') OR order_update = 'pending'
        OR (status IN ('failed', 'cancelled', 'closed') AND ${isWatchedLate(lateWatchMs, now)})
      )
    ORDER BY id LIMIT ${PAGE}`;
  return await db.payment.findMany({
    where: { id: { in: ids.map(({ id }) => id) } },
    orderBy: { id: 'asc' },
  });
}

/** Events that the order service has not answered. */
export async function deliveriesToRecover(db: LedgerClient, after: string): Promise<DeliveryRow[]> {
  return await db.delivery.findMany({
    where: { id: { gt: after }, status: 'pending' },
    include: { event: true, payment: true },
    orderBy: { id: 'asc' },
    take: PAGE,
  });
}

/** Stored callbacks of known payments that no workflow has heard of for certain. */
export async function callbacksToRecover(
  db: LedgerClient,
  after: string,
): Promise<(Callback & { payment: Payment | null })[]> {
  return await db.callback.findMany({
    where: { id: { gt: after }, deliveredAt: null, paymentId: { not: null } },
    include: { payment: true },
    orderBy: { id: 'asc' },
    take: PAGE,
  });
}

/** Refunds that the channel has not decided. */
export async function refundsToRecover(
  db: LedgerClient,
  after: string,
): Promise<(Refund & { payment: Payment })[]> {
  return await db.refund.findMany({
    where: { id: { gt: after }, status: { in: ['created', 'processing'] } },
    include: { payment: true },
    orderBy: { id: 'asc' },
    take: PAGE,
  });
}
