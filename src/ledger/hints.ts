import type { LedgerClient } from './client.ts';
import { note } from './timeline.ts';
import { ownerOf, transaction } from './transaction-limits.ts';

/** Debounces of what makes a query due, in the database, so that they hold over all API processes. */

const HINT_EVERY_MS = 10_000;
const TIGHT_PHASES_AT_MOST = 5;
const QUERY_DUE_EVERY_MS = 10_000;
const UNVERIFIED_QUERIES_AT_MOST = 20;

/** What a hint may do: a tight phase of queries, one query, or nothing as one was just made. */
export type HintEffect = 'tight' | 'query' | 'nothing';

/** At most one hint in 10 s counts, and the first 5 of a payment each give a tight phase. */
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

/** Gives back a hint that could not be passed on, so that the next one counts. */
export async function returnHint(db: LedgerClient, paymentId: string, takenAt: Date): Promise<void> {
  await db.payment.updateMany({
    where: { id: paymentId, lastHintAt: takenAt },
    data: { lastHintAt: null, tightPhases: { decrement: 1 } },
  });
}

/**
 * A callback that cannot be verified names this payment: true when a query may be made due for it now. Anybody can
 * send one, so a payment has a few such queries in its life and no more.
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

/** What became of word that something happened: asked now, asked by the sweep soon, or no more queries for such word. */
export type NoticeEffect = 'due' | 'waits' | 'spent';

/**
 * The channel says that something happened to the payment, in whatever status it is: the channel is asked, once in 10 s,
 * and until it has answered a query that began after this. On record when this returns, so that it may be acknowledged
 * unless it is `spent`.
 * @param isProven false for word that anybody may have sent: it makes a few queries in the payment's life
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
