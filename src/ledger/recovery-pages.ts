import { Prisma } from '../generated/prisma/client.ts';
import type { LedgerClient } from './client.ts';
import type { DeliveryRow } from './deliveries.ts';
import type { Callback, Payment, Refund } from './rows.ts';
import { isWatchedLate } from './sweep.ts';

/**
 * What must run in Temporal, read from the ledger alone. Pages by id, so that new rows in between do no harm, and by
 * how many rows are looked at: what is over does not make a page slower, however much of it there is.
 */

const LOOKED_AT = 5_000;
/** Whatever is said of a callback this young, it is delivered again. */
const REDELIVERED_FOR_MS = 72 * 3_600_000;

/** A page of a table: what is not over in it, and where it ends; without an end there is nothing more. */
export interface RecoveryPage<Row> {
  readonly rows: readonly Row[];
  readonly end: string | undefined;
}

/** Looks at the next rows of a table: the ids of those that go on, and the last id looked at. */
async function look(
  db: LedgerClient,
  table: 'payments' | 'deliveries' | 'callbacks' | 'refunds',
  goesOn: Prisma.Sql,
  after: string,
): Promise<{ ids: string[]; end: string | undefined }> {
  const rows = await db.$queryRaw<{ id: string; goes_on: boolean | null }[]>`
    SELECT id, (${goesOn}) AS goes_on FROM ${Prisma.raw(table)} WHERE id > ${after} ORDER BY id LIMIT ${LOOKED_AT}`;
  return { ids: rows.filter((row) => row.goes_on === true).map(({ id }) => id), end: rows.at(-1)?.id };
}

/** Live payments, those whose order service has not agreed, and those that ended unpaid and are still watched. */
export async function paymentsToRecover(
  db: LedgerClient,
  now: Date,
  after: string,
): Promise<RecoveryPage<Payment>> {
  const goesOn = Prisma.sql`
    status IN ('created', 'paying') OR order_update = 'pending'
    OR (status IN ('failed', 'cancelled', 'closed') AND ${isWatchedLate(now)})`;
  const { ids, end } = await look(db, 'payments', goesOn, after);
  return { rows: await db.payment.findMany({ where: { id: { in: ids } }, orderBy: { id: 'asc' } }), end };
}

/** Events that the order service has not answered. */
export async function deliveriesToRecover(
  db: LedgerClient,
  after: string,
): Promise<RecoveryPage<DeliveryRow>> {
  const { ids, end } = await look(db, 'deliveries', Prisma.sql`status = 'pending'`, after);
  const rows = await db.delivery.findMany({
    where: { id: { in: ids } },
    include: { event: true, payment: true },
    orderBy: { id: 'asc' },
  });
  return { rows, end };
}

/**
 * Stored callbacks of known payments that no workflow has heard of for certain, and the late ones whatever is said of
 * them: a workflow that had heard may be lost before it acted. Of a payment that is settled only those that tell of
 * money gone back; any other changes nothing of it.
 */
export async function callbacksToRecover(
  db: LedgerClient,
  now: Date,
  after: string,
): Promise<RecoveryPage<Callback & { payment: Payment | null }>> {
  const goesOn = Prisma.sql`
    payment_id IS NOT NULL AND (
      delivered_at IS NULL
      OR (received_at > ${new Date(now.getTime() - REDELIVERED_FOR_MS)} AND (
        answer->'refund' IS NOT NULL OR answer->>'state' = 'refunded'
        OR COALESCE(answer->>'refundedAmount', '0') <> '0' OR jsonb_array_length(answer->'refunds') > 0
        OR EXISTS (
          SELECT FROM payments WHERE payments.id = callbacks.payment_id AND payments.status <> 'succeeded'
        )
      ))
    )`;
  const { ids, end } = await look(db, 'callbacks', goesOn, after);
  const rows = await db.callback.findMany({
    where: { id: { in: ids } },
    include: { payment: true },
    orderBy: { id: 'asc' },
  });
  return { rows, end };
}

/** Refunds that the channel has not decided. */
export async function refundsToRecover(
  db: LedgerClient,
  after: string,
): Promise<RecoveryPage<Refund & { payment: Payment }>> {
  const { ids, end } = await look(
    db,
    'refunds',
    Prisma.sql`status IN ('created', 'processing', 'needs_person') AND reason NOT IN ('external', 'dispute')`,
    after,
  );
  const rows = await db.refund.findMany({
    where: { id: { in: ids } },
    include: { payment: true },
    orderBy: { id: 'asc' },
  });
  return { rows, end };
}
