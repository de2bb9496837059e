import type { LedgerClient } from './client.ts';

/**
 * Callbacks of which only so many are kept of an account in an hour: those that are none of ours, and notices of trades that
 * are not known here. All of them are counted.
 */

/** Kept of each kind. */
export const KEPT_AN_HOUR = 100;
const HOUR_MS = 3_600_000;
const HEAD_BYTES = 4 * 1024;

const hourOf = (at: Date): Date => new Date(Math.floor(at.getTime() / HOUR_MS) * HOUR_MS);

/**
 * Stores a callback that is none of ours while there is room, and counts it: it may be acknowledged when this returns.
 * A repetition is counted.
 */
export async function storeIgnored(
  db: LedgerClient,
  accountId: string,
  { notificationId, reason }: { readonly notificationId: string; readonly reason: string },
  rawBody: Buffer,
  now: Date,
): Promise<void> {
  await db.$executeRaw`
    WITH counted AS (
      INSERT INTO callback_counts (channel_account_id, kind, hour, count)
      VALUES (${accountId}, 'ignored', ${hourOf(now)}, 1)
      ON CONFLICT (channel_account_id, kind, hour) DO UPDATE SET count = callback_counts.count + 1
      RETURNING count
    )
    INSERT INTO ignored_callbacks (channel_account_id, notification_id, reason, body_head, received_at)
    SELECT ${accountId}, ${notificationId}, ${reason}, ${new Uint8Array(rawBody.subarray(0, HEAD_BYTES))}, ${now}
    FROM counted WHERE count <= ${KEPT_AN_HOUR}
    ON CONFLICT DO NOTHING`;
}

/** Counts a notice of a trade that is not known here. @returns false when no more of them are kept in this hour */
export async function mayKeepNotice(db: LedgerClient, accountId: string, now: Date): Promise<boolean> {
  const [counted] = await db.$queryRaw<{ count: number }[]>`
    INSERT INTO callback_counts (channel_account_id, kind, hour, count)
    VALUES (${accountId}, 'notice', ${hourOf(now)}, 1)
    ON CONFLICT (channel_account_id, kind, hour) DO UPDATE SET count = callback_counts.count + 1
    RETURNING count`;
  return (counted?.count ?? 1) <= KEPT_AN_HOUR;
}
