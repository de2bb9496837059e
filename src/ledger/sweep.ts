import { DELIVERY_ALARM_MS } from '../domain/delivery.ts';
import { REFUND_LOOKED_AT_AGAIN_AFTER_MS, REFUND_QUIET_FOR_MS } from '../domain/refund.ts';
import { LAST_ANSWER_EARLY_MS, LATE_WATCH_TAIL_MS } from '../domain/schedule.ts';
import { Prisma } from '../generated/prisma/client.ts';
import type { LedgerClient } from './client.ts';
import type { DeliveryRow } from './deliveries.ts';
import type { Callback, Payment, Refund } from './rows.ts';

/**
 * What the sweep looks for. Every query is a bounded batch over a partial index and leases what it takes
 * (`next_sweep_at`), so that its cost follows the anomalies, the next batch is another one, and two sweeps at once do
 * not do the same work. Money that nobody settles comes first, then what was never looked at, then what was looked at
 * longest ago: thousands that wait for one channel keep nobody else waiting.
 */

const BATCH = 200;
const LEASE_MS = 60_000;
/** How long what was dealt with is left alone. */
const REST_MS = 5 * 60_000;

/** A row this old without a workflow is nobody's request in progress any more. */
const CREATED_FOR_MS = 30_000;
/** Past its expiry for so long, a payment's own workflow has failed it. */
const OVERDUE_FOR_MS = 10 * 60_000;
/** A wish to cancel this old that its workflow would have heard of by now. */
const CANCEL_FORGOTTEN_FOR_MS = 60_000;
/** Money on record this long that nobody has settled. */
const UNSETTLED_FOR_MS = 60_000;
/** Past the time of its next attempt for so long, nobody makes it. */
const UNTOLD_FOR_MS = 2 * 60_000;
/** The API is given this long to deliver what it just stored. */
const UNDELIVERED_FOR_MS = 10_000;
/** The channel is given this long to answer the query that is made at once after its notice. */
const NOTICED_FOR_MS = 15_000;
const ASKED_FOR_NEWS_EVERY_MS_AT_MOST = 3_600_000;

/**
 * Payments with money on record that is not settled, first of all, live ones that stayed `created`, are overdue, or
 * want to be cancelled since long, and those whose workflow had an unfinished task at the last look, settled ones too.
 */
export async function takeStuckPayments(db: LedgerClient, now: Date): Promise<Payment[]> {
  // Each condition has a partial index of its own; one WHERE with OR would read every live payment.
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
  // A batch that runs out of time has come to the first of them.
  const place = new Map(ids.map(({ id }, i) => [id, i]));
  return rows.sort((a, b) => (place.get(a.id) ?? 0) - (place.get(b.id) ?? 0));
}

/** Of these, the payments whose workflow still has something to do and was not woken just now. */
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
 * Whether the late watch of an ended payment goes on: until it has passed and the channel has answered after that.
 * `lateWatchEnd` and `isLastAnswerMissing` as a condition on rows.
 */
export const isWatchedLate = (now: Date): Prisma.Sql => Prisma.sql`(
  GREATEST(ended_at, expires_at) > ${later(now, -LATE_WATCH_TAIL_MS)}
  OR channel_error_since IS NOT NULL
  OR channel_answered_at IS NULL
  OR channel_answered_at
    < GREATEST(ended_at, expires_at) + ${LATE_WATCH_TAIL_MS - LAST_ANSWER_EARLY_MS} * interval '1 ms'
)`;

/**
 * The payment was looked at: leave it alone for a while.
 * @param busySince since when its workflow has an unfinished task, as far as the sweep knows: then it is looked at
 *   again, whatever its state is. Null: no need.
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

/** What nobody looked at for so long after its time was settled before there were such looks. */
const LOOKED_AGAIN_WITHIN_MS = 30 * 24 * 3_600_000;

/**
 * Refunds that nobody ever asked the channel for, or whose workflow has fallen silent; and those that succeeded so long ago
 * that they are to be looked at again.
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

/** The refund's workflow is known to run: leave it alone for a while. */
export async function postponeRefund(db: LedgerClient, refundId: string, now: Date): Promise<void> {
  await db.$executeRaw`UPDATE refunds SET next_sweep_at = ${later(now, REST_MS)} WHERE id = ${refundId}`;
}

/** Deliveries that nobody has begun with, or whose time has passed without an attempt. */
export async function takeOverdueDeliveries(db: LedgerClient, now: Date): Promise<DeliveryRow[]> {
  const ids = await db.$queryRaw<{ id: string }[]>`
    UPDATE deliveries SET next_sweep_at = ${later(now, LEASE_MS)}
    WHERE id IN (
      SELECT id FROM deliveries
      WHERE status = 'pending' AND created_at < ${later(now, -CREATED_FOR_MS)}
        AND (next_attempt_at IS NULL OR next_attempt_at < ${later(now, -UNTOLD_FOR_MS)})
        AND (next_sweep_at IS NULL OR next_sweep_at <= ${now})
      ORDER BY next_sweep_at NULLS FIRST, created_at LIMIT ${BATCH} FOR UPDATE SKIP LOCKED
    ) RETURNING id`;
  return await db.delivery.findMany({
    where: { id: { in: ids.map(({ id }) => id) } },
    include: { event: true, payment: true },
  });
}

/**
 * The deliveries that wait for so long that a person should look, and whose payments nothing shows: what is shown
 * between two attempts is never shown of one that is not attempted. What was dismissed stays hidden.
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

/** Somebody is known to tell it: leave it alone for a while. */
export async function postponeDelivery(db: LedgerClient, deliveryId: string, now: Date): Promise<void> {
  await db.delivery.update({ where: { id: deliveryId }, data: { nextSweepAt: later(now, REST_MS) } });
}

/** Callbacks that were acknowledged and have not reached their payment's workflow for certain. */
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
 * Payments with a notice from the channel that no query has answered yet: queried again, ever less often while the channel
 * is silent. Not within the first moments, in which whoever recorded the notice queries it.
 */
export async function takeNoticed(db: LedgerClient, now: Date): Promise<Payment[]> {
  const ids = await db.$queryRaw<{ id: string }[]>`
    UPDATE payments SET last_query_due_at = ${now}
    WHERE id IN (
      SELECT id FROM payments
      WHERE noticed_at IS NOT NULL AND (
        last_query_due_at IS NULL OR last_query_due_at <= ${now}::timestamptz - LEAST(
          GREATEST(last_query_due_at - noticed_at, ${NOTICED_FOR_MS} * interval '1 ms'),
          ${ASKED_FOR_NEWS_EVERY_MS_AT_MOST} * interval '1 ms'
        )
      )
      ORDER BY last_query_due_at NULLS FIRST LIMIT ${BATCH} FOR UPDATE SKIP LOCKED
    ) RETURNING id`;
  return await db.payment.findMany({ where: { id: { in: ids.map(({ id }) => id) } } });
}

function later(now: Date, ms: number): Date {
  return new Date(now.getTime() + ms);
}
