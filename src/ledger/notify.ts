import type { LedgerClient, LedgerTx } from './client.ts';
import { transaction } from './transaction-limits.ts';

/**
 * Waiters (src/api/changes.ts) are notified after the commit. PostgreSQL holds one lock of the whole server while a
 * transaction that notifies commits, flush included: a transaction that touches money never does. A notification that is
 * lost with its process costs a waiter the time until it reads again by itself.
 */

/** What was committed is acknowledged after so long, though the notification has not been sent yet. */
const NOTIFY_WITHIN_MS = 500;

/**
 * Beyond so many on their way one is dropped, as on a database that is too slow for them: they would take the connections
 * that transactions need. Twice as many as there are connections: while they are sent in time, none is dropped, as each
 * is waited for by a transaction that has its turn.
 */
const NOTIFICATIONS_AT_ONCE = 40;

const VISIBLE_MODELS = ['payment', 'order', 'refund', 'event'] as const;
export type VisibleModel = (typeof VISIBLE_MODELS)[number];

/**
 * A transaction, see turns.ts, that changes what waiters read: of one order, its payments and refunds, or the merchant's
 * events. When it has written any of these, they are notified once, after the commit. It returns soon after the commit,
 * also when the database falls silent then.
 * @param orderId null when the order is not known: nobody is notified.
 * @param work adds what it writes by raw SQL, or by `upsert`, to `written`.
 * @param mayWait for its turn, see `withinLimits`.
 * @throws TooBusy
 */
export async function visibleTransaction<T>(
  db: LedgerClient,
  merchantId: string,
  orderId: string | null,
  work: (tx: LedgerTx, written: Set<VisibleModel>) => Promise<T>,
  mayWait = true,
): Promise<T> {
  const written = new Set<VisibleModel>();
  const result = await transaction(
    db,
    merchantId,
    orderId,
    (tx) => work(watched(tx, written), written),
    mayWait,
  );
  const isOverloaded = (underWay.get(db)?.size ?? 0) >= NOTIFICATIONS_AT_ONCE;
  if (orderId !== null && written.size > 0 && !isOverloaded)
    await orFallbackWithin(
      NOTIFY_WITHIN_MS,
      track(db, notifyWaiters(db, merchantId, orderId, written.has('event'))),
    );
  return result;
}

const underWay = new WeakMap<LedgerClient, Set<Promise<void>>>();

function track(db: LedgerClient, sending: Promise<void>): Promise<void> {
  const ofClient = underWay.get(db) ?? new Set();
  underWay.set(db, ofClient);
  ofClient.add(sending);
  return sending.finally(() => ofClient.delete(sending));
}

/** Waits until the notifications that are under way have been sent, or have failed: before the client is closed. */
export async function notificationsSent(db: LedgerClient): Promise<void> {
  await Promise.all(underWay.get(db) ?? []);
}

async function orFallbackWithin(ms: number, work: Promise<void>): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const over = new Promise<void>((resolve) => {
    timer = setTimeout(resolve, ms);
  });
  await Promise.race([work, over]);
  clearTimeout(timer);
}

/**
 * The transaction, adding the models that it writes to `written`. Raw SQL and `upsert` are not seen: whoever
 * runs them adds to `written`.
 */
function watched(tx: LedgerTx, written: Set<VisibleModel>): LedgerTx {
  return new Proxy(tx, {
    get(target, name) {
      const member = Reflect.get(target, name);
      const model = VISIBLE_MODELS.find((it) => it === name);
      if (model === undefined) return member;
      return new Proxy(member, {
        get(delegate, name) {
          const call = Reflect.get(delegate, name);
          if (!/^(create|update)/.test(String(name))) return call;
          return async (...given: unknown[]) => {
            const result: { count?: number } = await Reflect.apply(call, delegate, given);
            if (result.count !== 0) written.add(model);
            return result;
          };
        },
      });
    },
  });
}

/**
 * Notifies the waiters of the order and of all its payments, as what a payer is shown of one depends on the others, and
 * those at the merchant's feed: in one transaction of its own, whose commit waits for no flush. Never fails: what it tells
 * is committed.
 */
export async function notifyWaiters(
  db: LedgerClient,
  merchantId: string,
  orderId: string,
  hasEvents: boolean,
): Promise<void> {
  // The setting ends with the statement's own transaction.
  await db.$executeRaw`
    SELECT pg_notify('nodrop', key)
    FROM set_config('synchronous_commit', 'off', true), (
      SELECT 'payment/' || id AS key FROM payments WHERE merchant_id = ${merchantId} AND order_id = ${orderId}
      UNION ALL SELECT 'order/' || ${merchantId} || '/' || md5(${orderId})
      UNION ALL SELECT 'events/' || ${merchantId} WHERE ${hasEvents}
    ) AS changed`.catch(() => undefined);
}
