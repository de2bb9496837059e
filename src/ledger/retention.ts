import { MATCH_FOR_MS } from './callbacks.ts';
import type { LedgerClient } from './client.ts';
import { givePositions, POSITIONS_AT_ONCE } from './feed-positions.ts';

/** Deletes the rows that are kept for a limited time. All other rows of the ledger are kept forever. */

const DAY_MS = 86_400_000;
const UNVERIFIED_MS = 7 * DAY_MS;
const IGNORED_MS = 7 * DAY_MS;
/**
 * Idempotency keys are kept for longer than any caller repeats a request. The keys of refund requests are stored with
 * the refunds and kept forever.
 */
const IDEMPOTENCY_KEYS_MS = 30 * DAY_MS;
/** How long events are kept. An event with a pending delivery is kept longer. */
const EVENTS_MS = 30 * DAY_MS;
const BATCH = 5_000;
const BATCHES_AT_MOST = 10;

/** Deletes expired rows in bounded batches, oldest first. @returns the number of deleted rows. */
export async function removeOld(db: LedgerClient, now: Date): Promise<number> {
  const before = (ms: number) => new Date(now.getTime() - ms);
  let removed = 0;
  removed += await inBatches(
    () => db.$executeRaw`
      DELETE FROM unverified_callbacks WHERE id IN (
        SELECT id FROM unverified_callbacks WHERE received_at < ${before(UNVERIFIED_MS)}
        ORDER BY received_at LIMIT ${BATCH} FOR UPDATE SKIP LOCKED
      )`,
  );
  removed += await inBatches(
    () => db.$executeRaw`
      DELETE FROM unverified_callback_counts WHERE (channel_account_id, address, minute) IN (
        SELECT channel_account_id, address, minute FROM unverified_callback_counts
        WHERE minute < ${before(UNVERIFIED_MS)}
        ORDER BY minute LIMIT ${BATCH} FOR UPDATE SKIP LOCKED
      )`,
  );
  removed += await inBatches(
    () => db.$executeRaw`
      DELETE FROM ignored_callbacks WHERE (channel_account_id, notification_id) IN (
        SELECT channel_account_id, notification_id FROM ignored_callbacks WHERE received_at < ${before(IGNORED_MS)}
        ORDER BY received_at LIMIT ${BATCH} FOR UPDATE SKIP LOCKED
      )`,
  );
  removed += await inBatches(
    () => db.$executeRaw`
      DELETE FROM callback_counts WHERE (channel_account_id, kind, hour) IN (
        SELECT channel_account_id, kind, hour FROM callback_counts WHERE hour < ${before(IGNORED_MS)}
        ORDER BY hour LIMIT ${BATCH} FOR UPDATE SKIP LOCKED
      )`,
  );
  // An old unmatched notice does not help an operator, because it will never match a payment.
  removed += await inBatches(
    () => db.$executeRaw`
      DELETE FROM callbacks WHERE id IN (
        SELECT id FROM callbacks
        WHERE payment_id IS NULL AND kind = 'notice' AND received_at < ${before(MATCH_FOR_MS)}
        ORDER BY received_at LIMIT ${BATCH} FOR UPDATE SKIP LOCKED
      )`,
  );
  removed += await inBatches(
    () => db.$executeRaw`
      DELETE FROM idempotency_keys WHERE (merchant_id, key) IN (
        SELECT merchant_id, key FROM idempotency_keys
        WHERE created_at < ${before(IDEMPOTENCY_KEYS_MS)} AND (locked_until IS NULL OR locked_until <= ${now})
        ORDER BY created_at LIMIT ${BATCH} FOR UPDATE SKIP LOCKED
      )`,
  );
  removed += await inBatches(async () => {
    await placeExpired(db, before(EVENTS_MS));
    // A reader whose position is before the last deleted event gets `cursor_expired` (see event-feed.ts).
    const [row] = await db.$queryRaw<{ count: number }[]>`
      WITH removed AS (
        DELETE FROM events WHERE id IN (
          SELECT id FROM events
          WHERE created_at < ${before(EVENTS_MS)} AND seq IS NOT NULL
            AND NOT EXISTS (SELECT FROM deliveries WHERE event_id = events.id AND status = 'pending')
          ORDER BY created_at LIMIT ${BATCH} FOR UPDATE SKIP LOCKED
        ) RETURNING merchant_id, seq
      ), marked AS (
        UPDATE merchants SET events_removed_to = GREATEST(events_removed_to, last.seq)
        FROM (SELECT merchant_id, max(seq) AS seq FROM removed GROUP BY merchant_id) AS last
        WHERE id = last.merchant_id
      )
      SELECT count(*)::int AS count FROM removed`;
    return row?.count ?? 0;
  });
  return removed;
}

/**
 * Assigns positions to expired events that no reader has seen, so that a reader whose position is before them gets
 * `cursor_expired`.
 */
async function placeExpired(db: LedgerClient, before: Date): Promise<void> {
  const merchants = await db.$queryRaw<{ merchant_id: string }[]>`
    SELECT DISTINCT merchant_id FROM (
      SELECT merchant_id FROM events WHERE created_at < ${before} AND seq IS NULL ORDER BY created_at LIMIT ${BATCH}
    ) AS expired`;
  for (const { merchant_id: merchantId } of merchants) {
    for (let placed = 0; placed < BATCH; ) {
      const count = await givePositions(db, merchantId, before);
      if (count < POSITIONS_AT_ONCE) break;
      placed += count;
    }
  }
}

/** Deletes one batch of rows after another until a batch is not full. */
async function inBatches(removeBatch: () => Promise<number>): Promise<number> {
  let removed = 0;
  for (let i = 0; i < BATCHES_AT_MOST; i++) {
    const count = await removeBatch();
    removed += count;
    if (count < BATCH) break;
  }
  return removed;
}
