import type { DeliveryStatus } from '../domain/event.ts';
import { Refusal } from '../domain/refusal.ts';
import type { LedgerClient } from './client.ts';
import { positionCommitted } from './feed-positions.ts';
import { beyond, NEWEST_FIRST, type Page } from './queries.ts';
import type { Delivery, DeliveryAttempt, Event, Payment } from './rows.ts';

/** Reads of a merchant's events and deliveries. */

/** The position of a reader in the feed. */
export interface FeedPosition {
  /** The reader has all events up to this position. */
  readonly seq: bigint;
  /**
   * The id of the event at `seq`. It is needed because another event can have that position after a restore. Null
   * before the first event, and in cursors of older releases.
   */
  readonly eventId: string | null;
  /** Events up to this position had been deleted before the reader started, so the reader has not missed them. */
  readonly removedTo: bigint;
}

/**
 * Reads the merchant's events after the reader's position, oldest first. Without a position, reading begins with the
 * oldest event that is kept. Also returns the position after the last event. First, events without a position get a
 * position. Positions of a merchant become visible in ascending order, so a reader that continues from the returned
 * position misses no event.
 * @throws Refusal `cursor_expired` when events after the position have been removed (see retention.ts), or when the
 *   ledger was restored to a time before the position: new events then get positions that are not higher, and the
 *   reader would skip them.
 */
export async function listEvents(
  db: LedgerClient,
  merchantId: string,
  { limit, after }: { readonly limit: number; readonly after: FeedPosition | null },
): Promise<{ readonly events: Event[]; readonly next: FeedPosition }> {
  await positionCommitted(db, merchantId);
  const events = await db.event.findMany({
    where: { merchantId, seq: { gt: after?.seq ?? 0n } },
    orderBy: { seq: 'asc' },
    take: limit,
  });
  // This is read after the events, so that a restore between the two reads is detected.
  const reached =
    after === null || after.eventId === null
      ? null
      : await db.event.findUnique({ where: { seq: after.seq }, select: { id: true, merchantId: true } });
  // This is read last, so that it includes everything that was removed before the two reads above.
  const { eventsRemovedTo } = await db.merchant.findUniqueOrThrow({
    where: { id: merchantId },
    select: { eventsRemovedTo: true },
  });
  if (after !== null && eventsRemovedTo > after.seq && eventsRemovedTo > after.removedTo) {
    throw new Refusal(
      'cursor_expired',
      'Events after this cursor are older than 30 days and were removed. Read your orders or payments again, and ' +
        'start without `after`, from the oldest event kept.',
    );
  }
  let isKnown = true;
  if (after !== null && after.eventId !== null) {
    isKnown =
      reached === null
        ? after.seq <= eventsRemovedTo
        : reached.id === after.eventId && reached.merchantId === merchantId;
  } else if (after !== null && events.length === 0 && after.seq > eventsRemovedTo) {
    // If a cursor has no event id, a restore is detected only if the cursor's position is ahead of all events.
    const kept = await db.event.aggregate({ where: { merchantId }, _max: { seq: true } });
    const newest = kept._max.seq ?? eventsRemovedTo;
    isKnown = newest === 0n || after.seq <= newest;
  }
  if (!isKnown) {
    throw new Refusal(
      'cursor_expired',
      'The event at this cursor is not in the ledger, which was restored from before it. Read your orders or ' +
        'payments again, and start without `after`.',
    );
  }
  return {
    events,
    next: {
      seq: events.at(-1)?.seq ?? after?.seq ?? 0n,
      eventId: events.at(-1)?.id ?? after?.eventId ?? null,
      removedTo: after?.removedTo ?? eventsRemovedTo,
    },
  };
}

export type DeliveryWithLog = Delivery & {
  readonly event: Pick<Event, 'type' | 'version'>;
  readonly payment: Pick<Payment, 'orderId' | 'orderUpdate'>;
  readonly log: DeliveryAttempt[];
};

/** The last 20 attempts are enough to see what is wrong now. */
const withLog = {
  event: { select: { type: true, version: true } },
  payment: { select: { orderId: true, orderUpdate: true } },
  log: { orderBy: { id: 'desc' as const }, take: 20 },
};

/** The deliveries of a payment or of a merchant, newest first, with their last attempts. */
export async function listDeliveries(
  db: LedgerClient,
  of: { readonly paymentId: string } | { readonly merchantId: string; readonly status?: DeliveryStatus },
  { limit, after }: Page,
): Promise<DeliveryWithLog[]> {
  return await db.delivery.findMany({
    where: { ...of, ...beyond(after) },
    include: withLog,
    orderBy: NEWEST_FIRST,
    take: limit,
  });
}

/** One delivery of any merchant, with its last attempts. The caller checks who may see the delivery. */
export async function findDeliveryWithLog(
  db: LedgerClient,
  deliveryId: string,
): Promise<DeliveryWithLog | null> {
  return await db.delivery.findUnique({ where: { id: deliveryId }, include: withLog });
}
