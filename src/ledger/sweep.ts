import { DELIVERY_ALARM_MS } from '../domain/delivery.ts';
import { REFUND_LOOKED_AT_AGAIN_AFTER_MS, REFUND_QUIET_FOR_MS } from '../domain/refund.ts';
import { LAST_ANSWER_EARLY_MS, LATE_WATCH_TAIL_MS } from '../domain/schedule.ts';
import { Prisma } from '../generated/prisma/client.ts';
import type { LedgerClient } from './client.ts';
import type { DeliveryRow } from './deliveries.ts';
import type { Callback, Payment, Refund } from './rows.ts';

/**
 * The sweep's queries. Each query reads a bounded batch through a partial index and leases the rows (`next_sweep_at`).
 * Therefore the cost depends only on the number of rows that need repair. Because of the leases, the next batch has
 * other rows, and two concurrent sweeps do not repair the same rows. Rows with unsettled money come first, then rows
 * that were never examined, and then the rows that were examined longest ago. With this sequence, thousands of rows
 * that wait for one channel do not delay other rows.
 */

const BATCH = 200;
const LEASE_MS = 60_000;
/** After the sweep has handled a row, it does not read the row again for this time. */
const REST_MS = 5 * 60_000;

/**
 * If a row has no workflow after this time, the sweep repairs it, because the request that created the row is no longer
 * running.
 */
const CREATED_FOR_MS = 30_000;
/** After a payment's expiry, its workflow has this time to end the payment. Later the sweep acts. */
const OVERDUE_FOR_MS = 10 * 60_000;
/** After a cancellation request, the payment's workflow has this time to end the payment. Later the sweep acts. */
const CANCEL_FORGOTTEN_FOR_MS = 60_000;
/** After money was recorded, the payment's workflow has this time to settle it. Later the sweep settles it. */
const UNSETTLED_FOR_MS = 60_000;
/** If a delivery's next attempt was due this long ago, the sweep assumes that no workflow makes the attempt. */
const OVERDUE_ATTEMPT_FOR_MS = 2 * 60_000;
/** The API has this time to forward a stored callback. Later the sweep forwards the callback. */
const UNDELIVERED_FOR_MS = 10_000;
/**
 * After a channel's notice, the query that is made immediately has this time to get an answer. Later the sweep repeats
 * the notice.
 */
const NOTICED_FOR_MS = 15_000;
const NOTICED_EVERY_MS_AT_MOST = 3_600_000;

/**
 * Lists the payments that the sweep must examine. Payments with unsettled money come first. The list also includes live
 * payments that stayed `created`, or whose expiry or requested cancellation is overdue. In addition, it includes
 * payments of any status whose workflow had an unfinished task when the sweep last examined the payment.
 */
export async function takeStuckPayments(db: LedgerClient, now: Date): Promise<Payment[]> {
  // Each condition has its own statement, which uses a partial index. A single WHERE with OR would read every live
  // payment.
  const ids = await db.$queryRaw<{ id: string }[]>`
    WITH picked AS (
      SELECT id, next_sweep_at, created_at,
        (status <> 'succeeded' AND channel_answer->>'state' IN ('paid', 'refunded')) IS TRUE AS has_money
      FROM payments
      WHERE id IN (
        SELECT id FROM payments
          WHERE status <> 'succeeded' AND channel_answer->>'state' IN ('paid', 'refunded')
            AND channel_answered_at < ${later(now, -UNSETTLED_FOR_MS)}
        UNION SELECT id FROM payments
          WHERE status = 'created' AND created_at < ${later(now, -CREATED_FOR_MS)}
        UNION SELECT id FROM payments
          WHERE status IN ('created', 'paying') AND expires_at < ${later(now, -OVERDUE_FOR_MS)}
        UNION SELECT id FROM payments
          WHERE status IN ('created', 'paying') AND cancel_requested_at IS NOT NULL
            AND cancel_requested_at < ${later(now, -CANCEL_FORGOTTEN_FOR_MS)}
        UNION SELECT id FROM payments WHERE workflow_busy_since IS NOT NULL
      ) AND (next_sweep_at IS NULL OR next_sweep_at <= ${now})
      ORDER BY has_money DESC, next_sweep_at NULLS FIRST, created_at
      LIMIT ${BATCH} FOR UPDATE SKIP LOCKED
    ), leased AS (
      UPDATE payments SET next_sweep_at = ${later(now, LEASE_MS)} FROM picked WHERE payments.id = picked.id
      RETURNING payments.id
    )
    SELECT id FROM picked JOIN leased USING (id) ORDER BY has_money DESC, next_sweep_at NULLS FIRST, created_at`;
  const rows = await db.payment.findMany({ where: { id: { in: ids.map(({ id }) => id) } } });
  // The payments are returned in the query's sequence, so that the most urgent ones are handled even if the time runs
  // out within a batch.
  const place = new Map(ids.map(({ id }, i) => [id, i]));
  return rows.sort((a, b) => (place.get(a.id) ?? 0) - (place.get(b.id) ?? 0));
}

/** Selects from the given payments those whose workflow has unfinished work and was not woken recently. */
export async function takeUnfinished(
  db: LedgerClient,
  paymentIds: readonly string[],
  now: Date,
): Promise<Payment[]> {
  const ids = await db.$queryRaw<{ id: string }[]>`
    UPDATE payments SET next_sweep_at = ${later(now, LEASE_MS)}
    WHERE id IN (
      SELECT id FROM payments
      WHERE id = ANY(${[...paymentIds]})
        AND (
          status IN ('created', 'paying') OR order_update = 'pending'
          OR (status <> 'succeeded' AND ${isWatchedLate(now)})
        )
        AND (next_sweep_at IS NULL OR next_sweep_at <= ${now})
      FOR UPDATE SKIP LOCKED
    ) RETURNING id`;
  return await db.payment.findMany({ where: { id: { in: ids.map(({ id }) => id) } } });
}

/**
 * An SQL condition that is true while the late watch of an ended payment is not complete. It is complete once its time
 * has passed and the channel has then answered. `lateWatchEnd` and `isLastAnswerMissing` express the same condition in
 * code.
 */
export const isWatchedLate = (now: Date): Prisma.Sql => Prisma.sql`(
  GREATEST(ended_at, expires_at) > ${later(now, -LATE_WATCH_TAIL_MS)}
  OR channel_error_since IS NOT NULL
  OR channel_answered_at IS NULL
  OR channel_answered_at
    < GREATEST(ended_at, expires_at) + ${LATE_WATCH_TAIL_MS - LAST_ANSWER_EARLY_MS} * interval '1 ms'
)`;

/**
 * Postpones the next sweep of a payment that was examined.
 * @param busySince when the sweep first found an unfinished task of the payment's workflow, or null if there is none.
 *   If it is set, the payment is examined again, whatever its status.
 */
export async function postponePayment(
  db: LedgerClient,
  paymentId: string,
  busySince: Date | null,
  now: Date,
): Promise<void> {
  const data = { nextSweepAt: later(now, REST_MS), workflowBusySince: busySince };
  await db.payment.update({ where: { id: paymentId }, data });
}

/**
 * If a refund's later check has been overdue for longer than this, the sweep ignores the refund. It was settled by an
 * old release that made no later checks.
 */
const LOOKED_AGAIN_WITHIN_MS = 30 * 24 * 3_600_000;

/**
 * Lists the refunds that the sweep must examine. Such a refund was never requested from the channel, or its workflow
 * makes no progress, or it succeeded some days ago and its later check is due.
 */
export async function takeStuckRefunds(
  db: LedgerClient,
  now: Date,
): Promise<(Refund & { payment: Payment })[]> {
  const ids = await db.$queryRaw<{ id: string }[]>`
    UPDATE refunds SET next_sweep_at = ${later(now, LEASE_MS)}
    WHERE id IN (
      SELECT id FROM refunds
      WHERE id IN (
        SELECT id FROM refunds
          WHERE status IN ('created', 'processing', 'needs_person') AND reason NOT IN ('external', 'dispute')
            AND (
              (status = 'created' AND unknown_since IS NULL AND created_at < ${later(now, -CREATED_FOR_MS)})
              OR updated_at < ${later(now, -REFUND_QUIET_FOR_MS)}
            )
        UNION ALL SELECT id FROM refunds
          WHERE status = 'succeeded' AND reason NOT IN ('external', 'dispute') AND looked_again_at IS NULL
            AND settled_at <= ${later(now, -REFUND_LOOKED_AT_AGAIN_AFTER_MS)}
            AND settled_at > ${later(now, -REFUND_LOOKED_AT_AGAIN_AFTER_MS - LOOKED_AGAIN_WITHIN_MS)}
      ) AND (next_sweep_at IS NULL OR next_sweep_at <= ${now})
      ORDER BY next_sweep_at NULLS FIRST, created_at LIMIT ${BATCH} FOR UPDATE SKIP LOCKED
    ) RETURNING id`;
  return await db.refund.findMany({
    where: { id: { in: ids.map(({ id }) => id) } },
    include: { payment: true },
  });
}

/** Postpones the next sweep of a refund whose workflow is known to run. */
export async function postponeRefund(db: LedgerClient, refundId: string, now: Date): Promise<void> {
  await db.$executeRaw`UPDATE refunds SET next_sweep_at = ${later(now, REST_MS)} WHERE id = ${refundId}`;
}

/** Lists the deliveries that have no attempt yet, or whose next attempt is overdue. */
export async function takeOverdueDeliveries(db: LedgerClient, now: Date): Promise<DeliveryRow[]> {
  const ids = await db.$queryRaw<{ id: string }[]>`
    UPDATE deliveries SET next_sweep_at = ${later(now, LEASE_MS)}
    WHERE id IN (
      SELECT id FROM deliveries
      WHERE status = 'pending' AND created_at < ${later(now, -CREATED_FOR_MS)}
        AND (next_attempt_at IS NULL OR next_attempt_at < ${later(now, -OVERDUE_ATTEMPT_FOR_MS)})
        AND (next_sweep_at IS NULL OR next_sweep_at <= ${now})
      ORDER BY next_sweep_at NULLS FIRST, created_at LIMIT ${BATCH} FOR UPDATE SKIP LOCKED
    ) RETURNING id`;
  return await db.delivery.findMany({
    where: { id: { in: ids.map(({ id }) => id) } },
    include: { event: true, payment: true },
  });
}

/**
 * Lists pending deliveries that should have raised an attention because they are overdue, but have raised none. Usually
 * a delivery attempt raises the attention. If no attempts are made, the sweep must raise it. A dismissed attention is
 * not raised again.
 */
export async function findUnseenDeliveries(db: LedgerClient, now: Date): Promise<string[]> {
  const rows = await db.$queryRaw<{ id: string }[]>`
    SELECT deliveries.id FROM deliveries
    JOIN payments ON payments.id = deliveries.payment_id
    JOIN events ON events.id = deliveries.event_id
    WHERE deliveries.status = 'pending' AND deliveries.created_at <= ${later(now, -DELIVERY_ALARM_MS)}
      AND COALESCE(first_attempt_at, deliveries.created_at) <= ${later(now, -DELIVERY_ALARM_MS)}
      AND (
        payments.attention IS NULL OR (
          payments.attention = 'delivery_failing' AND payments.order_update = 'pending'
          AND events.type = 'payment.succeeded'
        )
      )
      AND NOT EXISTS (
        SELECT FROM timeline
        WHERE timeline.payment_id = payments.id AND kind = 'attention' AND data->>'deliveryId' = deliveries.id
      )
    ORDER BY deliveries.created_at LIMIT ${BATCH}`;
  return rows.map(({ id }) => id);
}

/** Postpones the next sweep of a delivery whose workflow is known to run. */
export async function postponeDelivery(db: LedgerClient, deliveryId: string, now: Date): Promise<void> {
  await db.delivery.update({ where: { id: deliveryId }, data: { nextSweepAt: later(now, REST_MS) } });
}

/** Lists the callbacks that were acknowledged but are not marked as delivered to their payment's workflow. */
export async function takeUndeliveredCallbacks(
  db: LedgerClient,
  now: Date,
): Promise<(Callback & { payment: Payment })[]> {
  const ids = await db.$queryRaw<{ id: string }[]>`
    UPDATE callbacks SET next_sweep_at = ${later(now, LEASE_MS)}
    WHERE id IN (
      SELECT id FROM callbacks
      WHERE delivered_at IS NULL AND payment_id IS NOT NULL AND received_at < ${later(now, -UNDELIVERED_FOR_MS)}
        AND (next_sweep_at IS NULL OR next_sweep_at <= ${now})
      ORDER BY next_sweep_at NULLS FIRST, received_at LIMIT ${BATCH} FOR UPDATE SKIP LOCKED
    ) RETURNING id`;
  const rows = await db.callback.findMany({
    where: { id: { in: ids.map(({ id }) => id) } },
    include: { payment: true },
  });
  return rows.flatMap(({ payment, ...callback }) => (payment === null ? [] : [{ ...callback, payment }]));
}

/**
 * Lists the payments with a notice since which the channel has answered no query. The sweep causes a query of each, at
 * growing intervals while the channel does not answer. A payment with a very recent notice is left out, because the
 * process that recorded the notice causes a query itself.
 */
export async function takeNoticed(db: LedgerClient, now: Date): Promise<Payment[]> {
  const ids = await db.$queryRaw<{ id: string }[]>`
    UPDATE payments SET last_query_due_at = ${now}
    WHERE id IN (
      SELECT id FROM payments
      WHERE noticed_at IS NOT NULL AND (
        last_query_due_at IS NULL OR last_query_due_at <= ${now}::timestamptz - LEAST(
          GREATEST(last_query_due_at - noticed_at, ${NOTICED_FOR_MS} * interval '1 ms'),
          ${NOTICED_EVERY_MS_AT_MOST} * interval '1 ms'
        )
      )
      ORDER BY last_query_due_at NULLS FIRST LIMIT ${BATCH} FOR UPDATE SKIP LOCKED
    ) RETURNING id`;
  return await db.payment.findMany({ where: { id: { in: ids.map(({ id }) => id) } } });
}

function later(now: Date, ms: number): Date {
  return new Date(now.getTime() + ms);
}
