import type { LedgerClient } from './client.ts';
import { note } from './timeline.ts';
import { ownerOf, transaction } from './transaction-limits.ts';

/**
 * This file limits how often hints, notices and unverified callbacks cause queries. The state is in the database, so
 * the limits apply across all API processes.
 */

const HINT_EVERY_MS = 10_000;
const TIGHT_PHASES_AT_MOST = 5;
const QUERY_DUE_EVERY_MS = 10_000;
const UNVERIFIED_QUERIES_AT_MOST = 20;

/**
 * The effect of a hint. `tight` starts a tight phase of queries, and `query` starts one query. `nothing` starts no
 * query, because another hint was accepted in the last 10 s.
 */
export type HintEffect = 'tight' | 'query' | 'nothing';

/**
 * Accepts at most one hint of a payment in 10 s. Each of the first 5 accepted hints starts a tight phase of queries.
 */
export async function takeHint(
  db: LedgerClient,
  paymentId: string,
  source: string,
  now: Date,
): Promise<HintEffect> {
  const { merchantId, orderId } = await ownerOf(db, paymentId);
  return await transaction(db, merchantId, orderId, async (tx) => {
    const taken = await tx.payment.updateManyAndReturn({
      where: {
        id: paymentId,
        OR: [{ lastHintAt: null }, { lastHintAt: { lte: new Date(now.getTime() - HINT_EVERY_MS) } }],
      },
      data: { lastHintAt: now, tightPhases: { increment: 1 } },
      select: { tightPhases: true },
    });
    const first = taken[0];
    if (first === undefined) return 'nothing';
    await note(tx, paymentId, 'hint', `Hint: ${source}.`, now);
    return first.tightPhases <= TIGHT_PHASES_AT_MOST ? 'tight' : 'query';
  });
}

/** Takes back a hint that could not be signalled to the workflow, so that the next hint is accepted. */
export async function returnHint(db: LedgerClient, paymentId: string, takenAt: Date): Promise<void> {
  await db.payment.updateMany({
    where: { id: paymentId, lastHintAt: takenAt },
    data: { lastHintAt: null, tightPhases: { decrement: 1 } },
  });
}

/**
 * True if an unverified callback that names this payment may cause a query now. Anyone can send such callbacks, so they
 * cause at most 20 queries of a payment.
 */
export async function takeQueryDue(
  db: LedgerClient,
  paymentId: string,
  reason: string,
  now: Date,
): Promise<boolean> {
  const { merchantId, orderId } = await ownerOf(db, paymentId);
  return await transaction(db, merchantId, orderId, async (tx) => {
    const taken = await tx.payment.updateMany({
      where: {
        id: paymentId,
        unverifiedQueries: { lt: UNVERIFIED_QUERIES_AT_MOST },
        OR: [
          { lastQueryDueAt: null },
          { lastQueryDueAt: { lte: new Date(now.getTime() - QUERY_DUE_EVERY_MS) } },
        ],
      },
      data: { lastQueryDueAt: now, unverifiedQueries: { increment: 1 } },
    });
    if (taken.count === 1) await note(tx, paymentId, 'callback', reason, now);
    return taken.count === 1;
  });
}

/**
 * The effect of a notice. `due` means that the channel is queried now. `waits` means that the sweep causes a query
 * soon. `spent` means that unproven notices have used up their queries of this payment, and no query follows.
 */
export type NoticeEffect = 'due' | 'waits' | 'spent';

/**
 * Records the channel's notice that something happened to the payment, whatever the payment's status. nodrop then
 * queries the channel at most once in 10 s, until the channel has answered a query that began after the notice. Unless
 * the result is `spent`, the notice is stored when this function returns, and the caller may acknowledge it.
 * @param isProven false for a notice that anyone may have sent. Such notices cause at most 20 queries of a payment.
 */
export async function recordNotice(
  db: LedgerClient,
  paymentId: string,
  isProven: boolean,
  reason: string,
  now: Date,
): Promise<NoticeEffect> {
  const { merchantId, orderId } = await ownerOf(db, paymentId);
  return await transaction(db, merchantId, orderId, async (tx) => {
    const [noted] = await tx.$queryRaw<{ isDue: boolean }[]>`
      UPDATE payments SET
        noticed_at = ${now}::timestamptz,
        last_query_due_at = CASE WHEN before.is_due THEN ${now}::timestamptz ELSE last_query_due_at END,
        unverified_queries = unverified_queries
          + CASE WHEN ${isProven} OR NOT (before.is_due OR before.noticed_at IS NULL) THEN 0 ELSE 1 END
      FROM (
        SELECT noticed_at,
          last_query_due_at IS NULL OR last_query_due_at <= ${new Date(now.getTime() - QUERY_DUE_EVERY_MS)} AS is_due
        FROM payments WHERE id = ${paymentId} FOR UPDATE
      ) AS before
      WHERE id = ${paymentId} AND (${isProven} OR unverified_queries < ${UNVERIFIED_QUERIES_AT_MOST})
      RETURNING before.is_due AS "isDue"`;
    if (noted === undefined) return 'spent';
    if (noted.isDue) await note(tx, paymentId, 'callback', reason, now);
    return noted.isDue ? 'due' : 'waits';
  });
}
