import { createHash } from 'node:crypto';
import { newUnverifiedCallbackId } from '../domain/ids.ts';
import type { LedgerClient } from './client.ts';

/**
 * Callbacks whose signature is not proven, for a person who looks for an attack or a wrong secret. Anybody can send
 * them, so all that is kept is bounded; past the bounds they are only counted.
 */

/** Stored of an account and address in a minute. */
export const STORED_A_MINUTE = 100;
/** Stored of an account in a minute, from however many addresses. */
const STORED_A_MINUTE_IN_ALL = 1_000;
const HEAD_BYTES = 4 * 1024;
const MINUTE_MS = 60_000;

/** The minute that a callback is counted in. */
export const minuteOf = (at: Date): Date => new Date(Math.floor(at.getTime() / MINUTE_MS) * MINUTE_MS);

/** What is kept of one. */
export interface UnverifiedCallback {
  /** SHA-256 of the whole body, hex. */
  readonly bodyHash: string;
  /** Its first 4 KiB. */
  readonly bodyHead: Uint8Array<ArrayBuffer>;
  readonly reason: string;
  readonly receivedAt: Date;
}

export function unverifiedCallback(body: Buffer, reason: string, receivedAt: Date): UnverifiedCallback {
  return {
    bodyHash: createHash('sha256').update(body).digest('hex'),
    bodyHead: new Uint8Array(body.subarray(0, HEAD_BYTES)),
    reason,
    receivedAt,
  };
}

/** What came for one account from one address in one minute. */
export interface UnverifiedSender {
  readonly accountId: string;
  /** Of an IPv6 address its network, as one sender has many. */
  readonly address: string;
  readonly minute: Date;
  /** All of them. */
  readonly count: number;
  /** The first of them. */
  readonly callbacks: readonly UnverifiedCallback[];
}

/** Counts them, no sender twice, and stores those for which there is room in their minute. @returns how many. */
export async function recordUnverified(
  db: LedgerClient,
  senders: readonly UnverifiedSender[],
): Promise<number> {
  if (senders.length === 0) return 0;
  // In the order of their keys: two processes that lock the same rows in other orders would wait for each other.
  const counted = await db.$queryRaw<{ account: string; address: string; minute: Date; count: number }[]>`
    INSERT INTO unverified_callback_counts (channel_account_id, address, minute, count)
    SELECT * FROM unnest(
      ${senders.map(({ accountId }) => accountId)}::text[],
      ${senders.map(({ address }) => address)}::text[],
      ${senders.map(({ minute }) => minute.toISOString())}::timestamptz[],
      ${senders.map(({ count }) => count)}::int[]
    ) AS senders (account, address, minute, count)
    ORDER BY account, address, minute
    ON CONFLICT (channel_account_id, address, minute)
    DO UPDATE SET count = unverified_callback_counts.count + excluded.count
    RETURNING channel_account_id AS account, address, minute, count`;
  const nameOf = (account: string, address: string, minute: Date) =>
    `${account} ${address} ${minute.getTime()}`;
  const totals = new Map(
    counted.map(({ account, address, minute, count }) => [nameOf(account, address, minute), count]),
  );
  const room = new Map<string, number>();
  const rows = [];
  for (const { accountId, address, minute, count, callbacks } of senders) {
    const before = (totals.get(nameOf(accountId, address, minute)) ?? count) - count;
    const here = callbacks.slice(0, Math.max(0, STORED_A_MINUTE - before));
    if (here.length === 0) continue;
    const all = `${accountId} ${minute.getTime()}`;
    const left = room.get(all) ?? STORED_A_MINUTE_IN_ALL - (await countStored(db, accountId, minute));
    const stored = here.slice(0, Math.max(0, left));
    room.set(all, left - stored.length);
    rows.push(
      ...stored.map((callback) => ({
        ...callback,
        id: newUnverifiedCallbackId(),
        channelAccountId: accountId,
        address,
      })),
    );
  }
  if (rows.length > 0) await db.unverifiedCallback.createMany({ data: rows });
  return rows.length;
}

const countStored = (db: LedgerClient, channelAccountId: string, minute: Date) =>
  db.unverifiedCallback.count({
    where: { channelAccountId, receivedAt: { gte: minute, lt: new Date(minute.getTime() + MINUTE_MS) } },
  });
