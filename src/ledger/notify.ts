import type { LedgerClient, LedgerTx } from './client.ts';
import { transaction } from './transaction-limits.ts';

/**
 * This file notifies waiting requests (src/api/changes.ts) of a change after its commit. A transaction that uses
 * PostgreSQL's NOTIFY holds a server-wide lock during its commit, including the flush to disk. Therefore a transaction
 * that moves money never uses NOTIFY. If a process dies before it notifies, a waiting request sees the change at its
 * next periodic read.
 */

/** After a commit, the caller waits at most this time until the notification is sent. */
const NOTIFY_WITHIN_MS = 500;

/**
 * While this number of notifications is being sent, further notifications are dropped, so that a slow database keeps
 * its connections for transactions. The number is twice the number of connections. Each notification belongs to a
 * transaction that has a slot, so no notification is dropped while the database is fast enough.
 */
const NOTIFICATIONS_AT_ONCE = 40;

const VISIBLE_MODELS = ['payment', 'order', 'refund', 'event'] as const;
export type VisibleModel = (typeof VISIBLE_MODELS)[number];

/**
 * Runs a transaction (see transaction-limits.ts) that changes what waiting requests read: an order, its payments and
 * refunds, or the merchant's events. If the transaction wrote any of these, the waiting requests are notified once
 * after the commit. If the database stops responding after the commit, the function still returns soon.
 * @param orderId null if the order is not known. No notification is sent in that case.
 * @param work adds the models that it writes by raw SQL or by `upsert` to `written`.
 * @param mayWait whether the transaction may wait for a slot, see `withinLimits`.
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
    await waitAtMost(
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

/** Waits for the notifications that are being sent. Call this function before you close the client. */
export async function notificationsSent(db: LedgerClient): Promise<void> {
  await Promise.all(underWay.get(db) ?? []);
}

async function waitAtMost(ms: number, work: Promise<void>): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const over = new Promise<void>((resolve) => {
    timer = setTimeout(resolve, ms);
  });
  await Promise.race([work, over]);
  clearTimeout(timer);
}

/**
 * Wraps the transaction so that the models that it writes are added to `written`. Writes by raw SQL or by `upsert` are
 * not detected. The code that makes such writes must add the models to `written`.
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
 * Notifies the requests that wait for the order, for any payment of the order, or for the merchant's feed. All payments
 * are included, because a payer's view of one payment depends on the order's other payments. The notification has its
 * own transaction, whose commit does not wait for a flush to disk. The function never throws, because the change itself
 * is already committed.
 */
export async function notifyWaiters(
  db: LedgerClient,
  merchantId: string,
  orderId: string,
  hasEvents: boolean,
): Promise<void> {
  // `synchronous_commit` is off only for this statement, because the statement is its own transaction.
  await db.$executeRaw`
    SELECT pg_notify('nodrop', key)
    FROM set_config('synchronous_commit', 'off', true), (
      SELECT 'payment/' || id AS key FROM payments WHERE merchant_id = ${merchantId} AND order_id = ${orderId}
      UNION ALL SELECT 'order/' || ${merchantId} || '/' || md5(${orderId})
      UNION ALL SELECT 'events/' || ${merchantId} WHERE ${hasEvents}
    ) AS changed`.catch(() => undefined);
}
