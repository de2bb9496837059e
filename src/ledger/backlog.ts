import { ATTENTION_NAMES, type Attention } from '../domain/attention.ts';
import { DELIVERY_ALARM_MS } from '../domain/delivery.ts';
import type { LedgerClient } from './client.ts';

/**
 * This file counts waiting rows for operators. Every count reads an index that holds only waiting rows, and stops at a
 * limit.
 */

/** The count stops at this number, because operators do not need a larger count. */
const COUNT_AT_MOST = 10_000;

export interface Backlog {
  readonly count: number;
  /** True if counting stopped at the limit, so there are more rows than `count`. */
  readonly more: boolean;
  /** The time at which the oldest counted row began to wait. */
  readonly oldest: Date;
}

/**
 * Counts the payments of all merchants that have an attention, for each kind of attention. Kinds without payments are
 * left out.
 */
export async function countAttention(
  db: LedgerClient,
  atMost: number = COUNT_AT_MOST,
): Promise<ReadonlyMap<Attention, Backlog>> {
  const rows = await db.$queryRaw<{ kind: Attention; count: number; oldest: Date }[]>`
    SELECT kind, count(*)::int AS count, min(attention_since) AS oldest
    FROM unnest(${ATTENTION_NAMES}::text[]) AS kind CROSS JOIN LATERAL (
      SELECT attention_since FROM payments WHERE attention = kind
      ORDER BY attention_since LIMIT ${atMost + 1}
    ) AS waiting
    GROUP BY kind`;
  return new Map(rows.map(({ kind, ...row }) => [kind, capped(row, atMost)]));
}

/** Counts two groups of stored callbacks: those that match no payment, and those that no workflow has confirmed. */
export async function countCallbacks(
  db: LedgerClient,
  atMost: number = COUNT_AT_MOST,
): Promise<{ readonly undelivered: Backlog | null; readonly unmatched: Backlog | null }> {
  const rows = await db.$queryRaw<{ kind: string; count: number; oldest: Date }[]>`
    SELECT kind, count(*)::int AS count, min(received_at) AS oldest
    FROM (
      (SELECT 'undelivered' AS kind, received_at FROM callbacks
        WHERE delivered_at IS NULL AND payment_id IS NOT NULL ORDER BY received_at LIMIT ${atMost + 1})
      UNION ALL
      (SELECT 'unmatched', received_at FROM callbacks
        WHERE payment_id IS NULL ORDER BY received_at LIMIT ${atMost + 1})
    ) AS waiting
    GROUP BY kind`;
  const of = (wanted: string) => {
    const row = rows.find(({ kind }) => kind === wanted);
    return row === undefined ? null : capped(row, atMost);
  };
  return { undelivered: of('undelivered'), unmatched: of('unmatched') };
}

/**
 * Counts the pending deliveries to the order services of all merchants. A second count contains only deliveries that
 * have been pending for longer than `DELIVERY_ALARM_MS`.
 */
export async function countDeliveries(
  db: LedgerClient,
  now: Date,
  atMost: number = COUNT_AT_MOST,
): Promise<{ readonly pending: Backlog | null; readonly overdue: Backlog | null }> {
  const overdue = new Date(now.getTime() - DELIVERY_ALARM_MS);
  const count = async (before: Date) => {
    const [row] = await db.$queryRaw<{ count: number; oldest: Date | null }[]>`
      SELECT count(*)::int AS count, min(created_at) AS oldest FROM (
        SELECT created_at FROM deliveries WHERE status = 'pending' AND created_at <= ${before}
        ORDER BY created_at LIMIT ${atMost + 1}
      ) AS waiting`;
    return row === undefined || row.oldest === null
      ? null
      : capped({ count: row.count, oldest: row.oldest }, atMost);
  };
  return { pending: await count(now), overdue: await count(overdue) };
}

const capped = ({ count, oldest }: { count: number; oldest: Date }, atMost: number): Backlog => ({
  count: Math.min(count, atMost),
  more: count > atMost,
  oldest,
});
