import type { LedgerClient } from './client.ts';

/**
 * The positions of events in their merchant's feed. An event is written without one, so that no transaction that touches
 * money waits for another of its merchant. Who reads the feed first gives positions to what has none.
 *
 * Readers go on from the last position that they have seen, so within a merchant positions must become visible in their order.
 * They are given under a lock of the merchant's, which is kept until the commit: whoever has the lock next sees every
 * place that was given before, and gives higher ones. An event that is committed later gets its place later.
 *
 * The order is that of time, which for the payments of an order is that of the commits: see `eventOf` in events.ts. Events
 * that an older release wrote can have a newer version with an earlier time: within a payment the order is that of the
 * versions.
 */

/** So many events get their positions in one transaction, and earlier versions with them. */
export const POSITIONS_AT_ONCE = 1_000;

/**
 * In no turn: it takes no order's lock, and a reader of the feed does not wait behind changes of the merchant's orders.
 * @param before only those of before this time, and earlier versions of their payments.
 * @returns how many have a place now that had none; at least `POSITIONS_AT_ONCE` when there may be more.
 */
export async function givePositions(
  db: LedgerClient,
  merchantId: string,
  before: Date | null = null,
): Promise<number> {
  return await db.$transaction(async (tx) => {
    // A statement of its own: the next one then sees all that was committed before the lock was had.
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

/** Those of a process, which have one time under way for each merchant, and share the next. */
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
 * Gives positions to the merchant's events that were committed before, at least to the first 1,000 of them. However many
 * read the feed at the same moment, it costs one look, and one transaction when there are any.
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
