import { createHash } from 'node:crypto';
import { newUnverifiedCallbackId } from '../domain/ids.ts';
import type { LedgerClient } from './client.ts';

/**
 * Stores callbacks whose signature could not be verified, for an operator who looks for an attack or a wrong secret.
 * Anyone can send such callbacks, so only a limited number of them is stored. Further callbacks are only counted.
 */

/** How many unverified callbacks are stored per account, address and minute. */
export const STORED_A_MINUTE = 100;
/** How many unverified callbacks are stored per account and minute, from all addresses together. */
const STORED_A_MINUTE_IN_ALL = 1_000;
const HEAD_BYTES = 4 * 1024;
const MINUTE_MS = 60_000;

/** The minute in which a callback is counted. */
export const minuteOf = (at: Date): Date => new Date(Math.floor(at.getTime() / MINUTE_MS) * MINUTE_MS);

/** The stored part of an unverified callback. */
export interface UnverifiedCallback {
  /** The SHA-256 of the whole body, in hex. */
  readonly bodyHash: string;
  /** The first 4 KiB of the body. */
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

/** The unverified callbacks that one address sent to one account in one minute. */
export interface UnverifiedSender {
  readonly accountId: string;
  /** The sender's address. For IPv6 it is the network, because one sender has many addresses. */
  readonly address: string;
  readonly minute: Date;
  /** The number of these callbacks, including the callbacks that are not stored. */
  readonly count: number;
  /** The first callbacks, at most the number that may be stored. */
  readonly callbacks: readonly UnverifiedCallback[];
}

/**
 * Counts the unverified callbacks of these senders, and stores as many callbacks as the limits allow. Each sender
 * must be listed only once.
 * @returns the number of stored callbacks.
 */
export async function recordUnverified(
  db: LedgerClient,
  senders: readonly UnverifiedSender[],
): Promise<number> {
  if (senders.length === 0) return 0;
  // The rows are sorted by key, so that all processes lock them in the same sequence. Different sequences could cause a
  // deadlock.
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
