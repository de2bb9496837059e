import {
  type BatchOutcome,
  type PickedDelivery,
  PROBE_EVERY_MS,
  REDELIVERED_WITHIN_MS,
  REDELIVERY_EVERY_MS,
  type RedeliveryBatch,
} from '../domain/delivery.ts';
import { type DeliveryOutcome, REDELIVERABLE_STATUSES, type RedeliverableStatus } from '../domain/event.ts';
import type { LedgerClient, LedgerTx } from './client.ts';
import type { AttemptResult } from './delivery-verdict.ts';
import { transaction } from './transaction-limits.ts';

/**
 * Redelivery sends events before their scheduled time, or once more after their delivery was settled. The merchant's
 * row records whether the order service answers. When the service answers again after a failure, the transaction that
 * records the answer also makes a redelivery due. The workflow `redelivery/{merchantId}` then delivers the pending
 * events in batches. The workflow reads its next step from the ledger. Therefore the workflow may be lost or started
 * twice.
 */

/** The largest number of deliveries that one redelivery request can include. */
export const REDELIVERED_A_REQUEST = 1_000;

const later = (now: Date, ms: number): Date => new Date(now.getTime() + ms);

/** HTTP 4xx codes that concern the order service or its address. All other 4xx codes concern the event. */
const OF_THE_SERVICE: readonly number[] = [401, 403, 408, 425, 429];

/** True if the order service is up and rejects only this event. Such a rejection says nothing about other events. */
const isEventRefused = (outcome: DeliveryOutcome | null, statusCode: number | null): boolean =>
  outcome === 'order_unknown' ||
  (outcome === 'unknown' &&
    statusCode !== null &&
    statusCode >= 400 &&
    statusCode < 500 &&
    !OF_THE_SERVICE.includes(statusCode));

/**
 * Updates the health of the order service after a delivery attempt. If several attempts run concurrently, only one
 * UPDATE records that the service has begun to fail, or that it answers again. The rejection of one event does not
 * change the service's health. A running redelivery is not affected.
 */
export async function noteHealth(
  tx: LedgerTx,
  merchantId: string,
  { outcome, statusCode, at }: Pick<AttemptResult, 'outcome' | 'statusCode' | 'at'>,
  now: Date,
): Promise<void> {
  if (isEventRefused(outcome, statusCode)) return;
  if (outcome === 'unknown') {
    // The attempt is ignored if the order service has answered another attempt since this attempt began. A redelivery
    // is due only if events wait.
    await tx.$executeRaw`
      UPDATE merchants SET order_service_failing_since = COALESCE(order_service_failing_since, ${now}),
        redelivery_due_at = CASE WHEN redelivery_due_at <= ${now} THEN redelivery_due_at
          ELSE ${later(now, PROBE_EVERY_MS)} END
      WHERE id = ${merchantId} AND (order_service_failing_since IS NULL OR redelivery_due_at IS NULL)
        AND (order_service_answers_since IS NULL OR order_service_answers_since <= ${at})`;
    return;
  }
  await tx.$executeRaw`
    UPDATE merchants SET order_service_failing_since = NULL, order_service_answers_since = ${now},
      redelivery_due_at = CASE WHEN redelivery_due_at <= ${now} THEN redelivery_due_at
        ELSE GREATEST(${now}, redelivery_started_at + ${REDELIVERY_EVERY_MS} * interval '1 ms') END
    WHERE id = ${merchantId} AND order_service_failing_since IS NOT NULL`;
}

/** True if the merchant's redelivery is due and has not begun. */
export async function isRedeliveryDue(db: LedgerClient, merchantId: string, now: Date): Promise<boolean> {
  const hasNotBegun = [
    { redeliveryStartedAt: null },
    { redeliveryStartedAt: { lt: db.merchant.fields.redeliveryDueAt } },
  ];
  const where = { id: merchantId, redeliveryDueAt: { lte: now }, OR: hasNotBegun };
  return (await db.merchant.count({ where })) > 0;
}

/**
 * Lists the merchants whose redelivery must run now. A redelivery must run if it is due. It must also run if
 * redeliveries were requested, except when the order service is failing and the next probe is already scheduled.
 */
export async function findDueRedeliveries(db: LedgerClient, now: Date): Promise<string[]> {
  const rows = await db.$queryRaw<{ id: string }[]>`
    SELECT id FROM merchants WHERE redelivery_due_at <= ${now}
    UNION
    SELECT id FROM merchants
    WHERE (order_service_failing_since IS NULL OR redelivery_due_at IS NULL)
      AND id IN (
        SELECT merchant_id FROM deliveries
        WHERE redelivery_asked_at IS NOT NULL AND status = ANY(${REDELIVERABLE_STATUSES}::text[])
          AND (last_attempt_at IS NULL OR last_attempt_at < redelivery_asked_at)
          AND (telling_until IS NULL OR telling_until <= ${now}) AND (retry_after IS NULL OR retry_after <= ${now})
      )`;
  return rows.map(({ id }) => id);
}

/**
 * Lists the next deliveries of a redelivery. They include requested deliveries without an attempt since the request.
 * While a redelivery is due, they also include all pending or requested deliveries without an attempt since the
 * redelivery began. Deliveries that payments wait for come first. The other deliveries follow, sorted by the time of
 * their next attempt. Deliveries with a `Retry-After` in the future are left out.
 */
export async function takeWaiting(
  db: LedgerClient,
  merchantId: string,
  size: number,
  now: Date,
): Promise<RedeliveryBatch> {
  await db.$executeRaw`
    UPDATE merchants SET redelivery_started_at = ${now}
    WHERE id = ${merchantId} AND redelivery_due_at <= ${now}
      AND (redelivery_started_at IS NULL OR redelivery_started_at < redelivery_due_at)`;
  const picked = await db.$queryRaw<PickedDelivery[]>`
    WITH wanted AS (
      SELECT deliveries.id FROM deliveries JOIN merchants ON merchants.id = deliveries.merchant_id
      WHERE merchant_id = ${merchantId} AND redelivery_asked_at IS NOT NULL
        AND status = ANY(${REDELIVERABLE_STATUSES}::text[])
        AND (last_attempt_at IS NULL OR last_attempt_at < redelivery_asked_at
          OR redelivery_due_at <= ${now} AND last_attempt_at < redelivery_started_at)
      UNION
      SELECT deliveries.id FROM deliveries JOIN merchants ON merchants.id = deliveries.merchant_id
      WHERE merchant_id = ${merchantId} AND status = 'pending' AND next_attempt_at > ${now}
        AND redelivery_due_at <= ${now}
        AND COALESCE(last_attempt_at, deliveries.created_at) < redelivery_started_at
    )
    SELECT deliveries.id, attempts FROM deliveries JOIN events ON events.id = event_id
    WHERE deliveries.id IN (SELECT id FROM wanted)
      AND (telling_until IS NULL OR telling_until <= ${now}) AND (retry_after IS NULL OR retry_after <= ${now})
    ORDER BY (status = 'pending' AND type = 'payment.succeeded') DESC, next_attempt_at, deliveries.created_at, deliveries.id
    LIMIT ${size}`;
  return { picked, until: now.getTime() + REDELIVERED_WITHIN_MS };
}

/**
 * Makes the delivery due now. Has no effect if an attempt is running, or if an attempt was made after the delivery was
 * picked.
 */
export async function makeDue(db: LedgerClient, { id, attempts }: PickedDelivery): Promise<void> {
  await db.delivery.updateMany({
    where: { id, attempts, status: 'pending', leasedUntil: null },
    data: { nextAttemptAt: null },
  });
}

/**
 * Returns the result of the batch. Returns null while some deliveries have no attempt yet and the batch's time limit
 * has not passed.
 */
export async function readOutcome(
  db: LedgerClient,
  { picked, until }: RedeliveryBatch,
  now: Date,
): Promise<BatchOutcome | null> {
  const ids = picked.map(({ id }) => id);
  const rows = await db.$queryRaw<
    {
      id: string;
      attempts: number;
      is_over: boolean;
      retry_after: Date | null;
      outcome: DeliveryOutcome | null;
      status_code: number | null;
    }[]
  >`
    SELECT deliveries.id, attempts,
      status <> 'pending' AND (redelivery_asked_at IS NULL OR status <> ALL(${REDELIVERABLE_STATUSES}::text[])) AS is_over,
      retry_after, last.outcome, last.status_code
    FROM deliveries LEFT JOIN LATERAL (
      SELECT outcome, status_code FROM delivery_attempts
      WHERE delivery_id = deliveries.id ORDER BY id DESC LIMIT 1
    ) last ON true
    WHERE deliveries.id = ANY(${ids}::text[])`;
  const before = new Map(picked.map(({ id, attempts }) => [id, attempts]));
  const told = rows.filter(({ id, attempts }) => attempts > (before.get(id) ?? 0));
  const isWhole = rows.every((row) => row.is_over || told.includes(row));
  if (!isWhole && now.getTime() < until) return null;
  // Deliveries of this batch without an attempt are not lost, because their own workflows make the attempts.
  const late = ids.filter((id) => !told.some((row) => row.id === id));
  if (!isWhole)
    await db.delivery.updateMany({ where: { id: { in: late } }, data: { redeliveryAskedAt: null } });
  const unanswered = told.filter(
    ({ outcome, status_code }) => outcome === 'unknown' && !isEventRefused(outcome, status_code),
  ).length;
  const pauses = told.map(({ retry_after }) => (retry_after?.getTime() ?? 0) - now.getTime());
  return { answered: told.length - unanswered, unanswered, pauseMs: Math.max(0, ...pauses) };
}

/**
 * Ends the redelivery and sets when the next one is due. If the order service fails and deliveries wait, the next
 * redelivery is due in an hour. If the order service answers again, but some deliveries had no attempt since then, the
 * next redelivery is due as soon as `Retry-After` and the interval between redeliveries allow.
 */
export async function endRedelivery(db: LedgerClient, merchantId: string, now: Date): Promise<void> {
  await db.$executeRaw`
    UPDATE merchants SET redelivery_due_at = CASE
      WHEN order_service_failing_since IS NOT NULL THEN (
        SELECT ${later(now, PROBE_EVERY_MS)}::timestamptz WHERE EXISTS (
          SELECT FROM deliveries
          WHERE merchant_id = merchants.id AND (status = 'pending'
            OR redelivery_asked_at IS NOT NULL AND status = ANY(${REDELIVERABLE_STATUSES}::text[]))
        ))
      ELSE (
        SELECT GREATEST(min(retry_after), redelivery_started_at + ${REDELIVERY_EVERY_MS} * interval '1 ms', ${now})
        FROM deliveries
        WHERE merchant_id = merchants.id
          AND (status = 'pending' AND next_attempt_at > ${now}
            OR redelivery_asked_at IS NOT NULL AND status = ANY(${REDELIVERABLE_STATUSES}::text[]))
          AND COALESCE(last_attempt_at, created_at) < order_service_answers_since
        HAVING count(*) > 0
      ) END
    WHERE id = ${merchantId} AND redelivery_due_at <= ${now}`;
}

/** The result of a redelivery request. */
export interface Redelivery {
  readonly count: number;
  /** The time of the first delivery that the request did not include. Null if the request included all deliveries. */
  readonly nextSince: Date | null;
}

/**
 * Records a merchant's request to redeliver its events whose deliveries have this status, oldest first. Repeated
 * requests before the next attempt cause only one attempt. If that attempt fails, a new request makes the next attempt
 * due immediately.
 * @param since the time of the oldest event to include
 */
export async function requestRedeliveries(
  db: LedgerClient,
  merchantId: string,
  status: RedeliverableStatus,
  since: Date,
  by: string,
  now: Date,
): Promise<Redelivery> {
  return await transaction(db, merchantId, null, async (tx) => {
    const rows = await tx.delivery.findMany({
      where: { merchantId, status, createdAt: { gte: since } },
      select: { id: true, createdAt: true },
      orderBy: [{ createdAt: 'asc' }, { id: 'asc' }],
      take: REDELIVERED_A_REQUEST + 1,
    });
    const next = rows[REDELIVERED_A_REQUEST];
    const ids = rows.slice(0, REDELIVERED_A_REQUEST).map(({ id }) => id);
    // A locked row is skipped. Either an attempt of the delivery is running, or a concurrent identical request has
    // locked the row.
    const asked = await tx.$queryRaw<{ id: string; payment_id: string; event_id: string }[]>`
      UPDATE deliveries SET redelivery_asked_at = ${now}
      WHERE id IN (
        SELECT id FROM deliveries
        WHERE id = ANY(${ids}::text[]) AND status = ${status}
          AND (redelivery_asked_at IS NULL OR redelivery_asked_at <= last_attempt_at)
        FOR UPDATE SKIP LOCKED
      ) RETURNING id, payment_id, event_id`;
    await tx.timelineEntry.createMany({
      data: asked.map(({ id, payment_id: paymentId, event_id: eventId }) => ({
        paymentId,
        at: now,
        kind: 'manual',
        detail: `Redelivery of event ${eventId} requested by ${by}, with all deliveries that are ${status}.`,
        data: { deliveryId: id, eventId },
      })),
    });
    return { count: ids.length, nextSince: next?.createdAt ?? null };
  });
}
