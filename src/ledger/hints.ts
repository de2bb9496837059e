import type { LedgerClient } from './client.ts';
import { note } from './timeline.ts';
import { ownerOf, transaction } from './turns.ts';

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
