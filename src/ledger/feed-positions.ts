import type { LedgerClient } from './client.ts';

/**
 * This file gives the events of a merchant their positions in the merchant's feed. An event is written without a
 * position, so that a transaction that moves money never waits for another transaction of its merchant. The event gets
 * its position when the merchant's feed is read the next time.
 *
 * A reader continues after the last position that it has seen. Therefore the positions of a merchant must become
 * visible in ascending order. They are assigned under a lock of the merchant that is kept until the commit. The next
 * holder of the lock sees every position that was assigned before, and assigns higher positions. An event that commits
 * later gets its position later.
 *
 * Positions follow the times of the events. For the events of an order, these times follow the sequence of the commits:
 * see `eventOf` in events.ts. Events of an older release can have a newer version with an earlier time. Therefore the
 * positions of one payment's events follow their versions.
 */

/**
 * The largest number of events that one transaction selects. The transaction assigns positions to these events, and
 * also to lower versions of the same payments.
 */
export const POSITIONS_AT_ONCE = 1_000;

/**
 * Assigns feed positions to the merchant's events. The function takes no order's lock, so a reader of the feed does not
 * wait for changes of the merchant's orders.
 * @param before Only events before this time are selected. Lower versions of the same payments also get positions.
 * @returns the number of events that got a position. If it is at least `POSITIONS_AT_ONCE`, there may be more events.
 */
export async function givePositions(
  db: LedgerClient,
  merchantId: string,
  before: Date | null = null,
): Promise<number> {
  return await db.$transaction(async (tx) => {
    // A separate statement takes the lock. The next statement's snapshot then contains everything that was committed
    // before the lock was taken.
    await tx.$queryRaw`
      SELECT 1 FROM pg_advisory_xact_lock(hashtextextended(${`nodrop-events-${merchantId}`}, 0))`;
    return await tx.$executeRaw`
      WITH oldest AS MATERIALIZED (
        SELECT payment_id, version FROM events
        WHERE merchant_id = ${merchantId} AND seq IS NULL
          AND created_at < COALESCE(${before}::timestamptz, 'infinity')
        ORDER BY created_at, payment_id, version LIMIT ${POSITIONS_AT_ONCE}
      ), unplaced AS MATERIALIZED (
        SELECT id, events.payment_id, events.version,
          max(created_at) OVER (PARTITION BY events.payment_id ORDER BY events.version) AS at
        FROM events JOIN (
          SELECT payment_id, max(version) AS version FROM oldest GROUP BY payment_id
        ) AS newest ON events.payment_id = newest.payment_id AND events.version <= newest.version
        WHERE merchant_id = ${merchantId} AND seq IS NULL
      ), placed AS MATERIALIZED (
        SELECT id, nextval('events_seq_seq') AS seq
        FROM (SELECT id FROM unplaced ORDER BY at, payment_id, version) AS ordered
      )
      UPDATE events SET seq = placed.seq FROM placed WHERE events.id = placed.id`;
  });
}

/**
 * In this process, at most one run at a time assigns positions for a merchant. All callers that arrive during a run
 * share the next run.
 */
class Placing {
  #running: Promise<unknown> = Promise.resolve();
  #next: Promise<void> | undefined;

  run(work: () => Promise<void>): Promise<void> {
    this.#next ??= this.#running.then(() => {
      this.#next = undefined;
      const running = work();
      this.#running = running.catch(() => undefined);
      return running;
    });
    return this.#next;
  }
}

const placings = new WeakMap<LedgerClient, Map<string, Placing>>();

/**
 * Assigns positions to the merchant's committed events, at least to the first 1,000 of them. Concurrent readers of the
 * feed share one check for events without a position, and one transaction that assigns the positions.
 */
export async function positionCommitted(db: LedgerClient, merchantId: string): Promise<void> {
  const ofClient = placings.get(db) ?? new Map<string, Placing>();
  placings.set(db, ofClient);
  const placing = ofClient.get(merchantId) ?? new Placing();
  ofClient.set(merchantId, placing);
  await placing.run(async () => {
    const unplaced = await db.event.findFirst({ where: { merchantId, seq: null }, select: { id: true } });
    if (unplaced !== null) await givePositions(db, merchantId);
  });
}
