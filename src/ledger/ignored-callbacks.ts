import type { LedgerClient } from './client.ts';

/**
 * This file counts callbacks that are not for nodrop, and notices about unknown trades. nodrop counts all of them, but
 * stores only `KEPT_AN_HOUR` of each kind per account and hour.
 */

/** At most this many callbacks of each kind are stored per account and hour. */
export const KEPT_AN_HOUR = 100;
const HOUR_MS = 3_600_000;
const HEAD_BYTES = 4 * 1024;

const hourOf = (at: Date): Date => new Date(Math.floor(at.getTime() / HOUR_MS) * HOUR_MS);

/**
 * Counts a callback that is not for nodrop, and stores it unless the hour's limit is reached. Repeated callbacks are
 * also counted. The caller may acknowledge the callback after this function has returned.
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

/**
 * Counts a notice about an unknown trade. @returns true if the notice may be stored, because the hour's limit is not
 * reached
 */
export async function mayKeepNotice(db: LedgerClient, accountId: string, now: Date): Promise<boolean> {
  const [counted] = await db.$queryRaw<{ count: number }[]>`
    INSERT INTO callback_counts (channel_account_id, kind, hour, count)
    VALUES (${accountId}, 'notice', ${hourOf(now)}, 1)
    ON CONFLICT (channel_account_id, kind, hour) DO UPDATE SET count = callback_counts.count + 1
    RETURNING count`;
  return (counted?.count ?? 1) <= KEPT_AN_HOUR;
}
