import { type Attention, isFree } from '../domain/attention.ts';
import {
  DELIVERY_ALARM_MS,
  DELIVERY_ATTEMPT_AT_MOST_MS,
  type DeliveryProgress,
  type DeliverySnapshot,
  deliveryWait,
  isDeliveredByPayment,
  ORDER_UNKNOWN_EVERY_MS,
} from '../domain/delivery.ts';
import { type DeliveryOutcome, isRedeliverable, ORDER_UNKNOWN_FOR_MS } from '../domain/event.ts';
import { Refusal } from '../domain/refusal.ts';
import { SAME_TIME_MS } from '../domain/schedule.ts';
import type { Prisma } from '../generated/prisma/client.ts';
import type { LedgerClient, LedgerTx } from './client.ts';
import { holds, settle } from './delivery-row.ts';
import { type AttemptResult, applyOutcome } from './delivery-verdict.ts';
import { cleared, type Locked, raised, underOrderLock, update } from './order-lock.ts';
import { noteHealth } from './redelivery.ts';
import type { Delivery, Event, Payment } from './rows.ts';
import { note } from './timeline.ts';
import { transaction } from './transaction-limits.ts';

/**
 * This file delivers events to the order service. Only the delivery's row holds the delivery's state and the time of
 * its next attempt. Therefore the delivery is not affected if its workflow is lost or is started twice.
 */

/** A worker that finds another worker's lease on a delivery checks the delivery again after this time. */
const LOOK_AGAIN_MS = 2_000;

export type DeliveryRow = Delivery & { readonly event: Event; readonly payment: Payment };

const withContext = { event: true, payment: true } as const;

/** Returns the id of the pending delivery that the payment waits for. Returns null if there is none. */
export async function findPendingDelivery(db: LedgerClient, paymentId: string): Promise<string | null> {
  const row = await db.delivery.findFirst({
    where: {
      paymentId,
      status: 'pending',
      event: { type: 'payment.succeeded' },
      payment: { orderUpdate: 'pending' },
    },
    select: { id: true },
  });
  return row?.id ?? null;
}

/**
 * Called when a payment's workflow is stuck while the payment waits for the order service. A separate workflow then
 * delivers the event. If the payment's workflow continues anyway, the lease prevents both workflows from delivering at
 * the same time.
 * @returns the delivery, or null if the payment does not wait for a delivery.
 */
export async function handOver(
  db: LedgerClient,
  paymentId: string,
  now: Date,
): Promise<DeliverySnapshot | null> {
  const id = await findPendingDelivery(db, paymentId);
  if (id === null) return null;
  await db.delivery.updateMany({ where: { id, handedOverAt: null }, data: { handedOverAt: now } });
  return await loadDelivery(db, id);
}

/**
 * Lists pending deliveries that have their own workflow, for the payment and for the other payments of its order. The
 * other payments are included because paying an order also creates events for them.
 */
export async function findPendingDeliveries(
  db: LedgerClient,
  paymentId: string,
): Promise<DeliverySnapshot[]> {
  const rows = await db.delivery.findMany({
    where: { status: 'pending', payment: { order: { payments: { some: { id: paymentId } } } } },
    include: withContext,
    orderBy: { id: 'asc' },
  });
  return rows.map((row) => toDeliverySnapshot(row)).filter(({ toldByPayment }) => !toldByPayment);
}

/** Returns null if the delivery does not exist. */
export async function findMerchantOf(db: LedgerClient, deliveryId: string): Promise<string | null> {
  const row = await db.delivery.findUnique({ where: { id: deliveryId }, select: { merchantId: true } });
  return row?.merchantId ?? null;
}

/** @throws Prisma's P2025 if the delivery does not exist. */
export async function findDelivery(db: LedgerClient, deliveryId: string): Promise<DeliveryRow> {
  return await db.delivery.findUniqueOrThrow({ where: { id: deliveryId }, include: withContext });
}

/**
 * True if the event may be delivered once more. If the event is superseded, the function also removes the redelivery
 * request.
 */
export async function mayBeRedelivered(db: LedgerClient, row: DeliveryRow, now: Date): Promise<boolean> {
  if (!isRedeliverable(row.status)) return false;
  return await underDeliveryLock(db, row.id, now, async ({ tx, payment }) => {
    if (await holds(tx, row.event, payment)) return true;
    await tx.delivery.update({ where: { id: row.id }, data: { redeliveryAskedAt: null } });
    return false;
  });
}

/** Returns null if the delivery does not exist. A delivery is kept as long as its event. */
export async function loadDelivery(db: LedgerClient, deliveryId: string): Promise<DeliverySnapshot | null> {
  const row = await db.delivery.findUnique({
    where: { id: deliveryId },
    include: { ...withContext, log: LAST_ATTEMPT },
  });
  return row && toDeliverySnapshot(row, row.log[0]?.detail);
}

const LAST_ATTEMPT = { orderBy: { id: 'desc' as const }, take: 1 };

export function toDeliverySnapshot(row: DeliveryRow, lastAnswer?: string): DeliverySnapshot {
  const { id, event, payment } = row;
  const { type } = event;
  return {
    id,
    type,
    version: event.version,
    paymentId: payment.id,
    orderId: payment.orderId,
    status: row.status,
    toldByPayment: row.handedOverAt === null && isDeliveredByPayment(type, payment.orderUpdate),
    attention: payment.attention,
    telling: tellingOf(row, lastAnswer),
  };
}

function tellingOf(row: Delivery, lastAnswer: string | undefined): DeliveryProgress | null {
  if (row.status !== 'pending' || row.firstAttemptAt === null || lastAnswer === undefined) return null;
  return {
    since: row.firstAttemptAt.getTime(),
    lastAnswer,
    nextAt: (row.nextAttemptAt ?? row.leasedUntil ?? row.firstAttemptAt).getTime(),
  };
}

export type Turn =
  /** The caller has the delivery's lease. No other worker delivers until `DELIVERY_ATTEMPT_AT_MOST_MS` have passed. */
  | { readonly kind: 'now'; readonly row: DeliveryRow }
  | { readonly kind: 'later'; readonly row: DeliveryRow; readonly inMs: number }
  | { readonly kind: 'settled' };

/** Takes the lease of the delivery if the next attempt is due. */
export async function leaseDelivery(db: LedgerClient, deliveryId: string, now: Date): Promise<Turn> {
  const until = new Date(now.getTime() + DELIVERY_ATTEMPT_AT_MOST_MS);
  const taken = await db.$executeRaw`
    UPDATE deliveries SET telling_until = ${until}, next_attempt_at = ${until},
      first_attempt_at = COALESCE(first_attempt_at, ${now})
    WHERE id = ${deliveryId} AND status = 'pending'
      AND (next_attempt_at IS NULL OR next_attempt_at <= ${new Date(now.getTime() + SAME_TIME_MS)})
      AND (telling_until IS NULL OR telling_until <= ${new Date(now.getTime() + SAME_TIME_MS)})`;
  const row = await findDelivery(db, deliveryId);
  if (row.status !== 'pending') return { kind: 'settled' };
  if (taken === 1) return { kind: 'now', row };
  const inMs = Math.max(0, (row.nextAttemptAt ?? row.leasedUntil ?? now).getTime() - now.getTime());
  // Another worker has the lease of the delivery. That worker's attempt usually ends long before its lease ends.
  return { kind: 'later', row, inMs: row.leasedUntil === null ? inMs : Math.min(inMs, LOOK_AGAIN_MS) };
}

/**
 * Records a delivery attempt and applies its outcome in the same transaction. Therefore a delivery settles only once,
 * and a payment that waits for the delivery settles in the same transaction. If the delivery is already settled, the
 * attempt is only logged.
 * @param random a number from 0 to 1, see deliveryWait.
 * @param unknownForMs the time for which the order service may answer that it does not know the order.
 */
export async function recordAttempt(
  db: LedgerClient,
  deliveryId: string,
  attempt: AttemptResult,
  random: number,
  now: Date,
  unknownForMs = ORDER_UNKNOWN_FOR_MS,
): Promise<DeliverySnapshot> {
  return await underDeliveryLock(db, deliveryId, now, async (locked) => {
    const { tx } = locked;
    const paymentId = locked.payment.id;
    const { outcome, statusCode, detail, answer, durationMs, at, retryAfterMs } = attempt;
    const call = { deliveryId, at, outcome, statusCode, detail, durationMs, answer: answer ?? null };
    await tx.deliveryAttempt.create({ data: call });
    const row = await tx.delivery.update({
      where: { id: deliveryId },
      data: {
        attempts: { increment: 1 },
        lastAttemptAt: at,
        retryAfter: retryAfterMs === undefined ? null : new Date(now.getTime() + retryAfterMs),
      },
      include: { event: true },
    });
    const isAnswered = SETTLED_BY[outcome] !== undefined;
    // A settled delivery is redelivered only while its redelivery request is stored. If the redelivery fails, the
    // request stays stored, so that the redelivery is retried.
    if (isAnswered || row.status === 'pending')
      await tx.delivery.updateMany({ where: { id: deliveryId }, data: { redeliveryAskedAt: null } });
    await noteHealth(tx, row.merchantId, attempt, now);
    const { event, ...delivery } = row;
    const told = `Delivery attempt of ${event.type} (${event.id}) to the order service: ${detail}`;
    await note(tx, paymentId, 'delivery', told, now, { deliveryId, eventId: event.id, outcome, statusCode });
    if (delivery.status === 'superseded' && outcome === 'agreed') {
      const late = `The order service agreed to ${event.type} (${event.id}), which had been superseded meanwhile: newer events report the current state.`;
      await note(tx, paymentId, 'order', late, now, { deliveryId, eventId: event.id });
    }
    if (delivery.status !== 'pending')
      return toDeliverySnapshot({ ...delivery, event, payment: locked.payment });
    const status =
      outcome === 'order_unknown' &&
      (await isUnknownForGood(locked, { ...delivery, event }, at, unknownForMs))
        ? 'gone'
        : SETTLED_BY[outcome];
    if (status === undefined)
      return await scheduleNextAttempt(locked, { ...delivery, event }, attempt, random, now, unknownForMs);
    const settled = await settle(tx, delivery.id, status, now);
    const concluded = await applyOutcome(locked, event, attempt, now, unknownForMs);
    const payment = await endFailing({ ...locked, payment: concluded }, now, unknownForMs);
    return toDeliverySnapshot({ ...settled, event, payment });
  });
}

/** Maps each outcome that settles a pending delivery to the delivery's new status. */
const SETTLED_BY: Readonly<Partial<Record<DeliveryOutcome, 'delivered' | 'conflict' | 'gone'>>> = {
  agreed: 'delivered',
  conflict: 'conflict',
  gone: 'gone',
};

/**
 * Returns the time from which the answer "order unknown" settles the delivery as `gone`. Two conditions must hold.
 * First, `unknownForMs` has passed since the first such answer. Second, the service has given only this answer for one
 * hour. Any other outcome of an attempt starts that hour again. Without the second condition, one such answer before an
 * outage and one after the outage would be enough.
 * @returns null if the order service never answered that it does not know the order.
 */
async function unknownUntil(tx: LedgerTx, deliveryId: string, unknownForMs: number): Promise<Date | null> {
  const firstAfter = (id: bigint) =>
    tx.deliveryAttempt.findFirst({
      where: { deliveryId, outcome: 'order_unknown', id: { gt: id } },
      select: { at: true },
      orderBy: { id: 'asc' },
    });
  const first = await firstAfter(0n);
  if (first === null) return null;
  const other = await tx.deliveryAttempt.findFirst({
    where: { deliveryId, outcome: { not: 'order_unknown' } },
    select: { id: true },
    orderBy: { id: 'desc' },
  });
  const last = other === null ? first : await firstAfter(other.id);
  const ends = [first.at.getTime() + unknownForMs];
  if (last !== null) ends.push(last.at.getTime() + ORDER_UNKNOWN_EVERY_MS);
  return new Date(Math.max(...ends));
}

/**
 * Called when the order service has answered that it does not know the order. True if it has given this answer for long
 * enough (see `unknownUntil`), so that the delivery is `gone`. If another delivery of the payment is `gone` already,
 * the function immediately returns true for events that move no money.
 */
async function isUnknownForGood(
  { tx, payment }: Locked,
  { id, event }: Delivery & { event: Event },
  at: Date,
  unknownForMs: number,
): Promise<boolean> {
  const until = await unknownUntil(tx, id, unknownForMs);
  if (until !== null && at.getTime() + SAME_TIME_MS >= until.getTime()) return true;
  if (isDeliveredByPayment(event.type, payment.orderUpdate)) return false;
  return (await tx.delivery.count({ where: { paymentId: payment.id, status: 'gone' } })) > 0;
}

/** @throws Prisma's P2025 if the delivery does not exist. */
async function underDeliveryLock<T>(
  db: LedgerClient,
  deliveryId: string,
  now: Date,
  work: (locked: Locked) => Promise<T>,
): Promise<T> {
  const { paymentId } = await db.delivery.findUniqueOrThrow({
    where: { id: deliveryId },
    select: { paymentId: true },
  });
  return await underOrderLock(db, paymentId, now, work);
}

/**
 * Called after an attempt that did not settle the delivery. Schedules the next attempt, and raises an attention if the
 * delivery is overdue.
 */
async function scheduleNextAttempt(
  locked: Locked,
  { event, ...delivery }: Delivery & { event: Event },
  attempt: AttemptResult,
  random: number,
  now: Date,
  unknownForMs: number,
): Promise<DeliverySnapshot> {
  const { outcome, detail, retryAfterMs } = attempt;
  const until = await unknownUntil(locked.tx, delivery.id, unknownForMs);
  const unknownForMoreMs = until === null ? null : until.getTime() - now.getTime();
  const wait = deliveryWait(delivery.attempts, random, retryAfterMs, unknownForMoreMs);
  // If an operator requested a redelivery during this attempt, the next attempt is due immediately, because the
  // operator may have fixed the cause of the failure. A `Retry-After` of the order service still applies.
  const isHurried =
    delivery.leasedUntil !== null && delivery.nextAttemptAt === null && retryAfterMs === undefined;
  const waiting = await locked.tx.delivery.update({
    where: { id: delivery.id },
    data: { nextAttemptAt: isHurried ? null : new Date(now.getTime() + wait), leasedUntil: null },
  });
  const row = { ...waiting, event, payment: locked.payment };
  const isShownNow =
    outcome === 'not_applied' ||
    isOverdue(row, now) ||
    isOfAwaited(row.payment.attention) ||
    (saysUnknown(attempt) && isDeliveredByPayment(event.type, row.payment.orderUpdate));
  const payment = isShownNow ? await showFailing(locked, row, attempt, now, unknownForMs) : locked.payment;
  return toDeliverySnapshot({ ...row, payment }, detail);
}

/** The result of the last delivery attempt. It has the fields that the text of an attention needs. */
type LastAnswer = Pick<AttemptResult, 'outcome' | 'statusCode' | 'detail'>;

/**
 * True if the last answer says that the order is unknown, or if it is a 404 without a code. Such a 404 settles nothing,
 * because a router may have sent it. However, the operator has to check the same things in both cases.
 */
const saysUnknown = ({ outcome, statusCode }: LastAnswer): boolean =>
  outcome === 'order_unknown' || (outcome === 'unknown' && statusCode === 404);

/**
 * Attentions of a payment that waits for the order service's agreement. The order service's last answer decides which
 * of them is raised.
 */
const isOfAwaited = (attention: Attention | null): boolean =>
  attention === 'order_update_failing' || attention === 'order_unknown';

const waitingSince = ({ firstAttemptAt, createdAt }: Delivery): Date => firstAttemptAt ?? createdAt;

const isOverdue = (delivery: Delivery, now: Date): boolean =>
  now.getTime() - waitingSince(delivery).getTime() >= DELIVERY_ALARM_MS;

/**
 * Raises the attention of a payment whose delivery is overdue. It is raised even if no attempt has begun or ended yet.
 */
export async function showOverdue(
  db: LedgerClient,
  deliveryId: string,
  now: Date,
  unknownForMs = ORDER_UNKNOWN_FOR_MS,
): Promise<DeliverySnapshot> {
  return await underDeliveryLock(db, deliveryId, now, async (locked) => {
    const { log, ...delivery } = await locked.tx.delivery.findUniqueOrThrow({
      where: { id: deliveryId },
      include: { event: true, log: LAST_ATTEMPT },
    });
    const last = log[0];
    const row = { ...delivery, payment: locked.payment };
    if (row.status !== 'pending' || !isOverdue(row, now)) return toDeliverySnapshot(row, last?.detail);
    const payment = await showFailing(locked, row, last, now, unknownForMs);
    return toDeliverySnapshot({ ...row, payment }, last?.detail);
  });
}

/**
 * True if the payment has no attention, so that an attention of this delivery can be raised. Also true if the payment
 * waits for this delivery and has a less important attention. The new attention then replaces that one.
 */
export const isShowable = ({ event, payment }: DeliveryRow): boolean =>
  payment.attention === null ||
  (isFree(payment.attention) && isDeliveredByPayment(event.type, payment.orderUpdate));

/**
 * Raises the attention of a delivery. Each kind of attention is raised only once (see `isSeen`), so that an operator
 * who dismissed it does not see it again. While the payment waits for the order service, the last answer decides which
 * kind is raised.
 */
async function showFailing(
  locked: Locked,
  delivery: DeliveryRow,
  last: LastAnswer | undefined,
  now: Date,
  unknownForMs: number,
): Promise<Payment> {
  const { tx, payment } = locked;
  const failing = await failingOf(tx, { ...delivery, payment }, last, unknownForMs);
  const { attention, detail, until } = failing;
  const data = { deliveryId: delivery.id, ...(until && { until: until.toISOString() }) };
  if (payment.attention === attention) {
    // A new timeline entry records the changed deadline. An operator may have dismissed the attention before it named a
    // deadline, and `isSeen` must not apply that dismissal to the new deadline.
    if (await hasChangedDeadline(tx, delivery, failing))
      await note(tx, payment.id, 'attention', `${attention}: ${detail}`, now, data);
    return await update(tx, payment.id, { attentionDetail: detail });
  }
  const replaces = isOfAwaited(payment.attention) && isOfAwaited(attention);
  if (!replaces) {
    if (!isShowable({ ...delivery, payment })) return payment;
    if (await isSeen(tx, delivery, failing)) return payment;
  }
  await note(tx, payment.id, 'attention', `${attention}: ${detail}`, now, data);
  return await update(tx, payment.id, raised(attention, detail, now));
}

/**
 * The attention of a delivery. `until` is the deadline from which the answer "order unknown" settles the delivery as
 * `gone`. Null if there is no deadline.
 */
interface Failing {
  readonly attention: Attention;
  readonly detail: string;
  readonly until: Date | null;
}

/** Selects the timeline entries that raised an attention of the delivery. */
const shownOf = ({ id, paymentId }: Delivery) =>
  ({
    ...{ paymentId, kind: 'attention' },
    data: { path: ['deliveryId'], equals: id },
  }) satisfies Prisma.TimelineEntryWhereInput;

/** Selects timeline entries of attentions that name a deadline. */
const NAMES_DEADLINE = {
  data: { path: ['until'], string_starts_with: '' },
} satisfies Prisma.TimelineEntryWhereInput;

/**
 * Compares the order service's last answer with the newest timeline entry about `order_unknown`. True if one of them
 * has a deadline and the other has none.
 */
async function hasChangedDeadline(
  tx: LedgerTx,
  delivery: Delivery,
  { attention, until }: Failing,
): Promise<boolean> {
  if (attention !== 'order_unknown') return false;
  const newest = await tx.timelineEntry.findFirst({
    where: shownOf(delivery),
    select: { id: true },
    orderBy: { id: 'desc' },
  });
  if (newest === null) return true;
  const named = await tx.timelineEntry.count({ where: { id: newest.id, ...NAMES_DEADLINE } });
  return named > 0 !== (until !== null);
}

/**
 * True if this attention of the delivery must not be raised again. For any attention except `order_unknown`, this is
 * true once the attention was raised. The rule for `order_unknown` is stricter, because money may be refunded at its
 * deadline. If another attention has replaced `order_unknown`, the result is true only if an operator dismissed
 * `order_unknown` before the replacement. If the answer sets a deadline, timeline entries that name no deadline are
 * ignored.
 */
async function isSeen(tx: LedgerTx, delivery: Delivery, { attention, until }: Failing): Promise<boolean> {
  const ofDelivery = shownOf(delivery);
  const shown = await tx.timelineEntry.findFirst({
    where: {
      ...{ ...ofDelivery, detail: { startsWith: `${attention}: ` } },
      AND: until === null ? [] : [NAMES_DEADLINE],
    },
    select: { id: true },
    orderBy: { id: 'desc' },
  });
  if (shown === null) return false;
  if (attention !== 'order_unknown') return true;
  const next = await tx.timelineEntry.findFirst({
    where: { ...ofDelivery, id: { gt: shown.id } },
    select: { id: true },
    orderBy: { id: 'asc' },
  });
  if (next === null) return true;
  const dismissals = await tx.timelineEntry.count({
    where: {
      ...{ paymentId: delivery.paymentId, kind: 'manual', id: { gt: shown.id, lt: next.id } },
      data: { path: ['action'], equals: 'dismiss' },
    },
  });
  return dismissals > 0;
}

/** Returns the attention for a delivery that the order service has not settled. */
async function failingOf(
  tx: LedgerTx,
  delivery: DeliveryRow,
  last: LastAnswer | undefined,
  unknownForMs: number,
): Promise<Failing> {
  const { event, payment } = delivery;
  const since = waitingSince(delivery).toISOString();
  const isAwaited = isDeliveredByPayment(event.type, payment.orderUpdate);
  const attention = isAwaited ? 'order_update_failing' : 'delivery_failing';
  if (last === undefined) {
    const detail = `${event.type} has not been sent to the order service yet. Its first delivery attempt was due at ${since}.`;
    return { attention, detail, until: null };
  }
  const answer = `Its last answer: ${last.detail}`;
  if (isAwaited && saysUnknown(last)) {
    const until = last.outcome === 'order_unknown' ? await unknownUntil(tx, delivery.id, unknownForMs) : null;
    const then =
      until === null
        ? ''
        : ` Unless the order service knows the order by ${until.toISOString()}, the order counts as gone.`;
    const said = `The order service does not know order ${payment.orderId}. First delivery attempt: ${since}. ${answer}`;
    return { attention: 'order_unknown', detail: `${said}${then}`, until };
  }
  const silent = `The order service has not ${isAwaited ? 'agreed' : `answered ${event.type}`} since ${since}.`;
  return { attention, detail: `${silent} ${answer}`, until: null };
}

/**
 * Called after an event was delivered. Clears the attention `delivery_failing`, unless another delivery of the payment
 * still fails. In that case the attention is raised for the other delivery.
 */
async function endFailing(locked: Locked, now: Date, unknownForMs: number): Promise<Payment> {
  const { tx, payment } = locked;
  const over = cleared(payment, 'events_told');
  if (over.attention === undefined) return payment;
  const others = await tx.delivery.findMany({
    where: { paymentId: payment.id, status: 'pending' },
    include: { event: true, log: LAST_ATTEMPT },
    orderBy: { id: 'asc' },
  });
  await note(tx, payment.id, 'attention', 'delivery_failing was cleared.', now);
  let shown = await update(tx, payment.id, over);
  for (const { log, ...other } of others) {
    if (!isOverdue(other, now)) continue;
    shown = await showFailing(
      { ...locked, payment: shown },
      { ...other, payment: shown },
      log[0],
      now,
      unknownForMs,
    );
  }
  return shown;
}

/** Makes all pending deliveries of the payment due immediately. A delivery attempt that is running ends first. */
export async function hurryDeliveries(tx: LedgerTx, paymentId: string): Promise<void> {
  await tx.delivery.updateMany({ where: { paymentId, status: 'pending' }, data: { nextAttemptAt: null } });
}

/**
 * Called when an operator or merchant requests a redelivery. If the delivery is pending, it becomes due immediately. If
 * it is settled, this function does not change it. A superseded event is never delivered again, even if the order
 * service has answered the event before.
 * @throws Refusal `delivery_not_found`, `delivery_superseded`
 */
export async function requestRedelivery(
  db: LedgerClient,
  merchantId: string,
  deliveryId: string,
  by: string,
  now: Date,
): Promise<{ delivery: DeliverySnapshot; payment: Payment }> {
  return await transaction(db, merchantId, null, async (tx) => {
    const row = await tx.delivery.findFirst({
      where: { id: deliveryId, merchantId },
      include: withContext,
    });
    if (row === null) throw new Refusal('delivery_not_found', `There is no delivery ${deliveryId}.`);
    if (row.status === 'superseded' || !(await holds(tx, row.event, row.payment))) {
      const detail = `${row.event.type} (${row.eventId}) is superseded: newer events report the current state.`;
      throw new Refusal('delivery_superseded', detail);
    }
    const data: Prisma.DeliveryUpdateManyMutationInput = { nextAttemptAt: null };
    await tx.delivery.updateMany({ where: { id: deliveryId, status: 'pending' }, data });
    const { event, payment } = row;
    const detail = `Redelivery of ${event.type} (${event.id}) requested by ${by}.`;
    await note(tx, payment.id, 'manual', detail, now, { deliveryId, eventId: event.id });
    return { delivery: toDeliverySnapshot(row), payment };
  });
}
