import type { Delivery, DeliveryAttempt, Event } from '../generated/prisma/client.ts';
import type { LedgerClient } from './client.ts';
import { beyond, NEWEST_FIRST, type Page } from './views.ts';

/** What merchants read of their events. */

/**
 * The merchant's events after place `after`, oldest first. Within a merchant events become visible in the order of
 * their places, so that a reader that goes on from the last one misses none, as long as it comes back before they are
 * removed (see cleanup.ts): what is not kept any more is passed over.
 */
export async function listEvents(
  db: LedgerClient,
  merchantId: string,
  page: { readonly limit: number; readonly after: bigint },
): Promise<Event[]> {
  return await db.event.findMany({
    where: { merchantId, seq: { gt: page.after } },
    orderBy: { seq: 'asc' },
    take: page.limit,
  });
}

export type DeliveryWithLog = Delivery & {
  readonly event: Pick<Event, 'type' | 'version'>;
  readonly log: DeliveryAttempt[];
};

/** Enough of the log to see what is wrong now. */
const withLog = {
  event: { select: { type: true, version: true } },
  log: { orderBy: { id: 'desc' as const }, take: 20 },
};

/** The payment's deliveries with their last calls, newest first. */
export async function listDeliveries(
  db: LedgerClient,
  paymentId: string,
  { limit, after }: Page,
): Promise<DeliveryWithLog[]> {
  return await db.delivery.findMany({
    where: { paymentId, ...beyond(after) },
    include: withLog,
    orderBy: NEWEST_FIRST,
    take: limit,
  });
}

/** One of them, whoever's it is: the caller checks that it may be seen. */
export async function findDeliveryWithLog(
  db: LedgerClient,
  deliveryId: string,
): Promise<DeliveryWithLog | null> {
  return await db.delivery.findUnique({ where: { id: deliveryId }, include: withLog });
}
