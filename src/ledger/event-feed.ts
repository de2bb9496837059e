import type { DeliveryStatus } from '../domain/event.ts';
import { Refusal } from '../domain/refusal.ts';
import type { LedgerClient } from './client.ts';
import { positionCommitted } from './feed-positions.ts';
import { beyond, NEWEST_FIRST, type Page } from './queries.ts';
import type { Delivery, DeliveryAttempt, Event, Payment } from './rows.ts';

/** This file reads a merchant's events and deliveries. */

/** A reader's position in the merchant's feed of events. */
export interface FeedPosition {
  /** The reader has received all events up to this position. */
  readonly seq: bigint;
  /**
   * The id of the event at `seq`. After a restore another event can have the position `seq`, and the id shows the
   * difference. The id is null before the first event, and in cursors of older releases.
   */
  readonly eventId: string | null;
  /**
   * Events up to this position were deleted before the reader started. Therefore the reader has not missed these
   * events.
   */
  readonly removedTo: bigint;
}

/**
 * Reads the merchant's events after the reader's position, oldest first. If the reader has no position, reading begins
 * with the oldest stored event. First, the function assigns positions to events that have none. It also returns the
 * position of the last event that it read. A merchant's positions become visible in ascending order, so a reader that
 * continues from the returned position misses no event.
 * @throws Refusal `cursor_expired` if events after the position have been removed (see retention.ts), or if the ledger
 *   was restored to a time before the position. After such a restore, new events can get positions that the reader has
 *   passed, and the reader would skip them.
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
  // The event at the reader's position is read after the list of newer events, so that a restore between the two reads
  // is detected.
  const reached =
    after === null || after.eventId === null
      ? null
      : await db.event.findUnique({ where: { seq: after.seq }, select: { id: true, merchantId: true } });
  // `eventsRemovedTo` is read last, so that it covers every event that was removed before the list was read.
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
    // With a cursor that has no event id, a restore is detected only if the cursor's position is higher than that of
    // every event.
    const kept = await db.event.aggregate({ where: { merchantId }, _max: { seq: true } });
    const newest = kept._max.seq ?? eventsRemovedTo;
    isKnown = newest === 0n || after.seq <= newest;
  }
  if (!isKnown) {
    throw new Refusal(
      'cursor_expired',
      'The event at this cursor is not in the ledger, which was restored from an older backup. Read your orders or ' +
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

/** An operator can see the current problem from the last 20 delivery attempts. */
const withLog = {
  event: { select: { type: true, version: true } },
  payment: { select: { orderId: true, orderUpdate: true } },
  log: { orderBy: { id: 'desc' as const }, take: 20 },
};

/** Lists the deliveries of a payment or of a merchant, newest first. Each delivery includes its last attempts. */
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

/** Reads one delivery of any merchant, with its last attempts. The caller checks who may see the delivery. */
export async function findDeliveryWithLog(
  db: LedgerClient,
  deliveryId: string,
): Promise<DeliveryWithLog | null> {
  return await db.delivery.findUnique({ where: { id: deliveryId }, include: withLog });
}
