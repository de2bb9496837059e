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
 * Events that are told before their time, or once more. Whether a merchant's order service answers is in the merchant's
 * row: the call that finds it answering after it had failed makes a redelivery due, in the transaction that writes the
 * answer down. The workflow `redelivery/{merchantId}` then tells what waits, batch after batch; what it does next
 * follows from the rows, so that it can be lost, or started twice.
 */

/** Deliveries that one request has told again. */
export const REDELIVERED_A_REQUEST = 1_000;

const later = (now: Date, ms: number): Date => new Date(now.getTime() + ms);

/** 4xx that speak of the service or of its address, and not of the event. */
const OF_THE_SERVICE: readonly number[] = [401, 403, 408, 425, 429];

/** The order service answers, and does not accept this one event: that says nothing of the others. */
const isEventRefused = (outcome: DeliveryOutcome | null, statusCode: number | null): boolean =>
  outcome === 'order_unknown' ||
  (outcome === 'unknown' &&
    statusCode !== null &&
    statusCode >= 400 &&
    statusCode < 500 &&
    !OF_THE_SERVICE.includes(statusCode));

/**
 * What a call says of the order service as a whole: of any number of calls at once, one UPDATE finds that it has begun to
 * fail, or answers again. A refusal of one event says neither. A redelivery that is under way goes on.
 */
export async function noteHealth(
  tx: LedgerTx,
  merchantId: string,
  { outcome, statusCode, at }: Pick<AttemptResult, 'outcome' | 'statusCode' | 'at'>,
  now: Date,
): Promise<void> {
  if (isEventRefused(outcome, statusCode)) return;
  if (outcome === 'unknown') {
    // A call that began before it answered another one says nothing new. Without anything that waited, nothing is due.
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

/** Whether the merchant's redelivery is to run now, and has not begun. */
export async function isRedeliveryDue(db: LedgerClient, merchantId: string, now: Date): Promise<boolean> {
  const hasNotBegun = [
    { redeliveryStartedAt: null },
    { redeliveryStartedAt: { lt: db.merchant.fields.redeliveryDueAt } },
  ];
  const where = { id: merchantId, redeliveryDueAt: { lte: now }, OR: hasNotBegun };
  return (await db.merchant.count({ where })) > 0;
}

/**
 * The merchants whose redelivery is to run now: it is due, or a request wants events told once more and the order
 * service does not fail, or has no time at which it is tried.
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
 * The next deliveries to be told: those that a request wants told and that have not been told since, and while a
 * redelivery is due all that have no answer yet and have not been told since it began. What payments wait for comes
 * first, then what would be told soonest. What the order service asked to be left alone with is left alone.
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

/** The delivery is told now, unless it has been told since it was picked, or is being told. */
export async function makeDue(db: LedgerClient, { id, attempts }: PickedDelivery): Promise<void> {
  await db.delivery.updateMany({
    where: { id, attempts, status: 'pending', leasedUntil: null },
    data: { nextAttemptAt: null },
  });
}

/** What became of the batch; null while some of it is still to be told, and there is time. */
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
  // What is not told by now its own workflow tells.
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
 * Nothing more can be told now. When it is to go on: while the order service fails and something waits, in an hour at
 * the latest; otherwise once something waits that has not been told since it answers again, at the time the order
 * service asked for.
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

/** What a request has told again. */
export interface Redelivery {
  readonly count: number;
  /** There are more than one request takes: the first of them is of this time. */
  readonly nextSince: Date | null;
}

/**
 * A merchant wants its events of this status told again, the oldest first. Asked for twice before they are told, they
 * are told once; one whose call failed is told at once when it is asked for again.
 * @param since the oldest event's time
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
    // Those that are locked are being told now, or asked for by the same request sent twice.
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
        detail: `Told again, asked for by ${by} with all that are ${status}: ${eventId}.`,
        data: { deliveryId: id, eventId },
      })),
    });
    return { count: ids.length, nextSince: next?.createdAt ?? null };
  });
}
