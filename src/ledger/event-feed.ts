import type { DeliveryStatus } from '../domain/event.ts';
import { Refusal } from '../domain/refusal.ts';
import type { LedgerClient } from './client.ts';
import { positionCommitted } from './feed-positions.ts';
import { beyond, NEWEST_FIRST, type Page } from './queries.ts';
import type { Delivery, DeliveryAttempt, Event, Payment } from './rows.ts';

/** What merchants read of their events. */

/** Where a reader of the feed is. */
export interface FeedPosition {
  /** It has what came up to here. */
  readonly seq: bigint;
  /** The event at `seq`, which may be another one's after a restore. Null before the first, and in older cursors. */
  readonly eventId: string | null;
  /** Events up to here had been deleted when the reader started, so it has not missed them. */
  readonly removedTo: bigint;
}

/**
 * The merchant's events after the place, or from the oldest kept, oldest first, and the place after them. Those that
 * have no place get theirs. Within a merchant places become visible in their order, so that a reader that goes on from
 * there misses none.
 * @throws Refusal `cursor_expired` when events after the place have been removed (see cleanup.ts), or when the ledger
 * was restored from before the place: new events get places up to it, and the reader would skip them.
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
  // Read after the events: a restore in between must not pass for the ledger that the place is of.
  const reached =
    after === null || after.eventId === null
      ? null
      : await db.event.findUnique({ where: { seq: after.seq }, select: { id: true, merchantId: true } });
  // Read last: whatever was removed before the two others were read is known by then.
  const { eventsRemovedTo } = await db.merchant.findUniqueOrThrow({
    where: { id: merchantId },
    select: { eventsRemovedTo: true },
  });
  if (after !== null && eventsRemovedTo > after.seq && eventsRemovedTo > after.removedTo) {
    throw new Refusal(
      'cursor_expired',
      'Events after this cursor are older than 30 days and were removed. Read your orders or payments anew, and ' +
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
    // Without an id only a place ahead of all events shows it.
    const kept = await db.event.aggregate({ where: { merchantId }, _max: { seq: true } });
    const newest = kept._max.seq ?? eventsRemovedTo;
    isKnown = newest === 0n || after.seq <= newest;
  }
  if (!isKnown) {
    throw new Refusal(
      'cursor_expired',
      'The event at this cursor is not in the ledger, which was restored from before it. Read your orders or ' +
        'payments anew, and start without `after`.',
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

/** Enough of the log to see what is wrong now. */
const withLog = {
  event: { select: { type: true, version: true } },
  payment: { select: { orderId: true, orderUpdate: true } },
  log: { orderBy: { id: 'desc' as const }, take: 20 },
};

/** The deliveries of a payment, or of a merchant, with their last calls, newest first. */
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

/** One of them, whoever's it is: the caller checks that it may be seen. */
export async function findDeliveryWithLog(
  db: LedgerClient,
  deliveryId: string,
): Promise<DeliveryWithLog | null> {
  return await db.delivery.findUnique({ where: { id: deliveryId }, include: withLog });
}
