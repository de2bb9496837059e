import { Prisma } from '../generated/prisma/client.ts';
import type { LedgerClient } from './client.ts';
import type { DeliveryRow } from './deliveries.ts';
import type { Callback, Payment, Refund } from './rows.ts';
import { isWatchedLate } from './sweep.ts';

/**
 * Lists the ledger's rows whose workflows must run in Temporal. Pages follow the rows' ids, so that rows inserted
 * meanwhile do not shift pages. The limit of a page is a number of rows that are read, finished or unfinished.
 * Therefore many finished rows do not make a page slow.
 */

const LOOKED_AT = 5_000;
/** A callback that is younger than this time is forwarded again even if it is marked as delivered. */
const REDELIVERED_FOR_MS = 72 * 3_600_000;

/**
 * One page of a table. It has the unfinished rows of the page, and in `end` the id of the last row. If `end` is
 * missing, this was the last page.
 */
export interface RecoveryPage<Row> {
  readonly rows: readonly Row[];
  readonly end: string | undefined;
}

/** Reads the next rows of a table. Returns the ids of the unfinished rows, and the last id that was read. */
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

/**
 * Lists live payments, payments that wait for the order service's agreement, and payments that ended unpaid and are
 * still queried.
 */
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

/** Lists the pending deliveries. */
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
 * Lists stored callbacks of known payments if the callbacks are not marked as delivered. Recent callbacks are
 * included even if they are marked as delivered, because the workflow that received a callback may have been lost
 * before it acted. For a settled payment only callbacks about refunds are included, because other callbacks have no
 * effect on a settled payment.
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

/** Lists refunds that the channel has not decided. */
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
