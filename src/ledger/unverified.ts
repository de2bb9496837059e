import { createHash } from 'node:crypto';
import { newUnverifiedCallbackId } from '../domain/ids.ts';
import type { LedgerClient } from './client.ts';

/**
 * Callbacks whose signature is not proven, for a person who looks for an attack or a wrong secret. Anybody can send
 * them, so all that is kept is bounded; past the bounds they are only counted.
 */

/** Stored of an account and address in a minute. */
const STORED_A_MINUTE = 100;
/** Stored of an account in a minute, from however many addresses. */
const STORED_A_MINUTE_IN_ALL = 1_000;
const HEAD_BYTES = 4 * 1024;
const MINUTE_MS = 60_000;

export interface UnverifiedCallback {
  readonly accountId: string;
  /** Where it came from; of an IPv6 address its network, as one sender has many. */
  readonly address: string;
  readonly body: Buffer;
  readonly reason: string;
}

/** Counts it, and stores it while there is room in this minute. @returns whether it is stored. */
export async function recordUnverified(
  db: LedgerClient,
  { accountId, address, body, reason }: UnverifiedCallback,
  now: Date,
): Promise<boolean> {
  const minute = new Date(Math.floor(now.getTime() / MINUTE_MS) * MINUTE_MS);
  const counted = await db.$queryRaw<{ count: number }[]>`
    INSERT INTO unverified_callback_counts (channel_account_id, address, minute, count)
    VALUES (${accountId}, ${address}, ${minute}, 1)
    ON CONFLICT (channel_account_id, address, minute)
    DO UPDATE SET count = unverified_callback_counts.count + 1
    RETURNING count`;
  if ((counted[0]?.count ?? 0) > STORED_A_MINUTE) return false;
  const hash = createHash('sha256').update(body).digest('hex');
  const stored = await db.$executeRaw`
    INSERT INTO unverified_callbacks (id, channel_account_id, address, body_hash, body_head, reason, received_at)
    SELECT ${newUnverifiedCallbackId()}, ${accountId}, ${address}, ${hash},
      ${new Uint8Array(body.subarray(0, HEAD_BYTES))}, ${reason}, ${now}
    WHERE (
      SELECT count(*) FROM unverified_callbacks WHERE channel_account_id = ${accountId} AND received_at >= ${minute}
    ) < ${STORED_A_MINUTE_IN_ALL}`;
  return stored === 1;
}
