import type { Attention } from '../domain/attention.ts';
import { type LatePayment, reviewInstead } from '../domain/decision.ts';
import {
  DELIVERY_ALARM_MS,
  type DeliverySnapshot,
  deliveryWait,
  isToldByPayment,
  TELLING_TAKES_AT_MOST_MS,
  type Telling,
} from '../domain/delivery.ts';
import type { DeliveryOutcome, DeliveryStatus, EventType } from '../domain/event.ts';
import { Refusal } from '../domain/refusal.ts';
import type { OrderUpdate, RefundReason } from '../domain/states.ts';
import type { Delivery, Event, Payment, Prisma } from '../generated/prisma/client.ts';
import type { LedgerClient, LedgerTx } from './client.ts';
import { cleared, type Locked, raised, raisedUnlessDisputed, underLock, update } from './locked.ts';
import { isAllBack, oweRefund, showReversed } from './refunds.ts';
import { note } from './timeline.ts';
import { transaction } from './turns.ts';

/**
 * Events on their way to the order service. What is known of a delivery is here alone: when it is told next follows
 * from its row, so that a workflow that was lost, or started twice, changes nothing about it.
 */

/** An attempt this little before its time is that attempt: clocks of server and worker differ. */
const SAME_TIME_MS = 500;

/** How soon somebody looks again whether the one who tells it is done. */
const LOOK_AGAIN_MS = 2_000;

export type DeliveryRow = Delivery & { readonly event: Event; readonly payment: Payment };

const withContext = { event: true, payment: true } as const;

/** The event on whose delivery the payment waits, or null when it waits for none. */
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
 * Has the event on which the payment waits told by its own workflow from now on, as the payment's is stuck. Should that
 * get on all the same, both take turns.
 * @returns the delivery, or null when the payment waits for none.
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
 * Deliveries that wait for an answer and have a workflow of their own, of the payment and of its order's others: what
 * pays an order is news of them too.
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

/** Null when there is no such delivery. */
export async function findMerchantOf(db: LedgerClient, deliveryId: string): Promise<string | null> {
  const row = await db.delivery.findUnique({ where: { id: deliveryId }, select: { merchantId: true } });
  return row?.merchantId ?? null;
}

/** @throws Prisma's P2025 when there is no such delivery. */
export async function findDelivery(db: LedgerClient, deliveryId: string): Promise<DeliveryRow> {
  return await db.delivery.findUniqueOrThrow({ where: { id: deliveryId }, include: withContext });
}

/** Null when there is no such delivery: it is kept for as long as its event. */
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
  const type = event.type as EventType;
  return {
    id,
    type,
    version: event.version,
    paymentId: payment.id,
    orderId: payment.orderId,
    status: row.status as DeliveryStatus,
    toldByPayment:
      row.handedOverAt === null && isToldByPayment(type, payment.orderUpdate as OrderUpdate | null),
    attention: payment.attention as Attention | null,
    telling: tellingOf(row, lastAnswer),
  };
}

function tellingOf(row: Delivery, lastAnswer: string | undefined): Telling | null {
  if (row.status !== 'pending' || row.firstAttemptAt === null || lastAnswer === undefined) return null;
  return {
    since: row.firstAttemptAt.getTime(),
    lastAnswer,
    nextAt: (row.nextAttemptAt ?? row.tellingUntil ?? row.firstAttemptAt).getTime(),
  };
}

export type Turn =
  /** Its turn is now, and nobody else's until `TELLING_TAKES_AT_MOST_MS` have passed. */
  | { readonly kind: 'now'; readonly row: DeliveryRow }
  | { readonly kind: 'later'; readonly row: DeliveryRow; readonly inMs: number }
  | { readonly kind: 'settled' };

/** Whether the delivery is to be told now. */
export async function takeTurn(db: LedgerClient, deliveryId: string, now: Date): Promise<Turn> {
  const until = new Date(now.getTime() + TELLING_TAKES_AT_MOST_MS);
  const taken = await db.$executeRaw`
    UPDATE deliveries SET telling_until = ${until}, next_attempt_at = ${until},
      first_attempt_at = COALESCE(first_attempt_at, ${now})
    WHERE id = ${deliveryId} AND status = 'pending'
      AND (next_attempt_at IS NULL OR next_attempt_at <= ${new Date(now.getTime() + SAME_TIME_MS)})
      AND (telling_until IS NULL OR telling_until <= ${new Date(now.getTime() + SAME_TIME_MS)})`;
  const row = await findDelivery(db, deliveryId);
  if (row.status !== 'pending') return { kind: 'settled' };
  if (taken === 1) return { kind: 'now', row };
  const inMs = Math.max(0, (row.nextAttemptAt ?? row.tellingUntil ?? now).getTime() - now.getTime());
  // The one who tells it now is mostly done long before its time is over.
  return { kind: 'later', row, inMs: row.tellingUntil === null ? inMs : Math.min(inMs, LOOK_AGAIN_MS) };
}

/** What one call of the order service came to. */
export interface Attempt {
  readonly outcome: DeliveryOutcome;
  /** Null when there was no answer. */
  readonly statusCode: number | null;
  /** A sentence. */
  readonly detail: string;
  readonly durationMs: number;
  /** What the service asked for. */
  readonly retryAfterMs?: number;
  /** When it began. */
  readonly at: Date;
}

/**
 * Writes down what the order service said, and draws the conclusions in the same transaction: a delivery settles once,
 * and the payment that waits for it with it. A call for a delivery that is settled is only logged.
 * @param random from 0 to 1, see deliveryWait.
 */
export async function recordAttempt(
  db: LedgerClient,
  deliveryId: string,
  attempt: Attempt,
  random: number,
  now: Date,
): Promise<DeliverySnapshot> {
  return await underDeliveryLock(db, deliveryId, now, async (locked) => {
    const { tx } = locked;
    const paymentId = locked.payment.id;
    const { outcome, statusCode, detail, durationMs, at } = attempt;
    await tx.deliveryAttempt.create({ data: { deliveryId, at, outcome, statusCode, detail, durationMs } });
    const row = await tx.delivery.update({
      where: { id: deliveryId },
      data: { attempts: { increment: 1 } },
      include: { event: true },
    });
    const { event, ...delivery } = row;
    const told = `The order service was told of ${event.type} (${event.id}): ${detail}`;
    await note(tx, paymentId, 'delivery', told, now, { deliveryId, eventId: event.id, outcome, statusCode });
    if (delivery.status !== 'pending')
      return toDeliverySnapshot({ ...delivery, event, payment: locked.payment });
    if (outcome === 'unknown' || outcome === 'not_applied')
      return await goOn(locked, { ...delivery, event }, attempt, random, now);
    const settled = await settle(tx, delivery.id, outcome === 'agreed' ? 'delivered' : outcome, now);
    const payment = await conclude(locked, event, attempt, now);
    return toDeliverySnapshot({ ...settled, event, payment });
  });
}

/** @throws Prisma's P2025 when there is no such delivery. */
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
  return await underLock(db, paymentId, now, work);
}

async function settle(
  tx: LedgerTx,
  deliveryId: string,
  status: Exclude<DeliveryStatus, 'pending'>,
  now: Date,
): Promise<Delivery> {
  return await tx.delivery.update({
    where: { id: deliveryId },
    data: { status, settledAt: now, nextAttemptAt: null, tellingUntil: null },
  });
}

/** No answer that counts: when it is told next, and whether a person should look. */
async function goOn(
  locked: Locked,
  { event, ...delivery }: Delivery & { event: Event },
  { outcome, detail, retryAfterMs }: Attempt,
  random: number,
  now: Date,
): Promise<DeliverySnapshot> {
  const wait = deliveryWait(delivery.attempts, random, retryAfterMs);
  // A person who wanted it told at once, while this attempt was under way, may have mended what it failed by.
  const isHurried = delivery.tellingUntil !== null && delivery.nextAttemptAt === null;
  const waiting = await locked.tx.delivery.update({
    where: { id: delivery.id },
    data: { nextAttemptAt: isHurried ? null : new Date(now.getTime() + wait), tellingUntil: null },
  });
  const row = { ...waiting, event, payment: locked.payment };
  const payment =
    outcome === 'not_applied' || isOverdue(row, now) || row.payment.attention === 'order_update_failing'
      ? await showFailing(locked, row, detail, now)
      : locked.payment;
  return toDeliverySnapshot({ ...row, payment }, detail);
}

const waitingSince = ({ firstAttemptAt, createdAt }: Delivery): Date => firstAttemptAt ?? createdAt;

const isOverdue = (delivery: Delivery, now: Date): boolean =>
  now.getTime() - waitingSince(delivery).getTime() >= DELIVERY_ALARM_MS;

/** Between two attempts, or when there is none: shows the payment that waits when its time has come. */
export async function showOverdue(
  db: LedgerClient,
  deliveryId: string,
  now: Date,
): Promise<DeliverySnapshot> {
  return await underDeliveryLock(db, deliveryId, now, async (locked) => {
    const { log, ...delivery } = await locked.tx.delivery.findUniqueOrThrow({
      where: { id: deliveryId },
      include: { event: true, log: LAST_ATTEMPT },
    });
    const lastAnswer = log[0]?.detail;
    const row = { ...delivery, payment: locked.payment };
    if (row.status !== 'pending' || !isOverdue(row, now)) return toDeliverySnapshot(row, lastAnswer);
    const payment = await showFailing(locked, row, lastAnswer, now);
    return toDeliverySnapshot({ ...row, payment }, lastAnswer);
  });
}

/** Shows the payment that waits for this delivery, once: a person who has seen it is not told again. */
async function showFailing(
  { tx, payment }: Locked,
  delivery: DeliveryRow,
  lastAnswer: string | undefined,
  now: Date,
): Promise<Payment> {
  if (!isToldByPayment(delivery.event.type as EventType, payment.orderUpdate as OrderUpdate | null))
    return payment;
  const since = waitingSince(delivery).toISOString();
  const detail =
    lastAnswer === undefined
      ? `The order service has not been told yet, and should have been at ${since}.`
      : `The order service has not agreed since ${since}. Its last answer: ${lastAnswer}`;
  if (payment.attention === 'order_update_failing')
    return await update(tx, payment.id, { attentionDetail: detail });
  if (payment.attention !== null) return payment;
  const shown = await tx.timelineEntry.findFirst({
    where: {
      paymentId: payment.id,
      kind: 'attention',
      data: { path: ['deliveryId'], equals: delivery.id },
    },
    select: { id: true },
  });
  if (shown !== null) return payment;
  await note(tx, payment.id, 'attention', `order_update_failing: ${detail}`, now, {
    deliveryId: delivery.id,
  });
  return await update(tx, payment.id, raised('order_update_failing', detail, now));
}

/** What the order service's word does to the payment that waits for it. Of every other event it settles the delivery alone. */
async function conclude(locked: Locked, event: Event, attempt: Attempt, now: Date): Promise<Payment> {
  const { tx, payment, order } = locked;
  if (!isToldByPayment(event.type as EventType, payment.orderUpdate as OrderUpdate | null)) return payment;
  switch (attempt.outcome) {
    case 'agreed':
      return await agree(locked, `The order service agrees: order ${order.id} is paid.`, now);
    case 'conflict':
      return await giveBack(
        locked,
        'duplicate_payment',
        `The order service refuses it. ${attempt.detail}`,
        now,
      );
    case 'gone': {
      const merchant = await tx.merchant.findUniqueOrThrow({ where: { id: payment.merchantId } });
      const detail = 'The order service has no such order any more';
      if ((merchant.latePayment as LatePayment) !== 'review')
        return await giveBack(locked, 'late_payment', `${detail}; the money is owed back.`, now);
      const said = `${detail}; the merchant wants to decide.`;
      return await refuse(locked, 'review', 'late_payment_review', said, now);
    }
    default:
      return payment;
  }
}

/** The payment that was told to its order service is applied. */
async function agree({ tx, payment }: Locked, detail: string, now: Date): Promise<Payment> {
  const over = cleared(payment, 'order_decided');
  if (over.attention === null) await note(tx, payment.id, 'attention', 'order_update_failing is over.', now);
  await note(tx, payment.id, 'order', detail, now, { orderUpdate: 'applied' });
  const applied = await update(tx, payment.id, { orderUpdate: 'applied', orderUpdatedAt: now, ...over });
  return await showReversed(tx, applied, now);
}

async function giveBack(locked: Locked, reason: RefundReason, detail: string, now: Date): Promise<Payment> {
  if (locked.order.recoveredAt !== null && reason !== 'requested') {
    const { orderUpdate, attention, detail: said } = reviewInstead(reason, detail);
    return await refuse(locked, orderUpdate, attention, said, now);
  }
  const payment = await refuse(locked, 'conflict', 'order_conflict', detail, now);
  await oweRefund(locked.tx, payment, reason, now);
  return payment;
}

/** Our order row keeps naming the payment: nobody else can pay it, and it is refunded when the money is back. */
async function refuse(
  { tx, payment, news }: Locked,
  to: 'conflict' | 'review',
  attention: Attention,
  detail: string,
  now: Date,
): Promise<Payment> {
  // Once all of its money is back nothing is left to decide, or to be shown.
  const isBack = isAllBack(payment);
  const decided = isBack ? 'conflict' : to;
  await note(tx, payment.id, 'order', detail, now, { orderUpdate: decided });
  news.push({ type: `payment.${decided}` });
  const shown = isBack
    ? cleared(payment, 'order_decided')
    : raisedUnlessDisputed(payment, attention, detail, now);
  return await update(tx, payment.id, {
    orderUpdate: decided,
    orderUpdatedAt: now,
    ...shown,
  });
}

/**
 * An operator decides in the order service's stead about a payment that waits for it.
 * @returns the payment, or null when it waits for none.
 */
export async function decidePending(
  locked: Locked,
  action: 'accept' | 'refund',
  now: Date,
): Promise<Payment | null> {
  const { tx, payment } = locked;
  if (payment.orderUpdate !== 'pending') return null;
  const waiting = await tx.delivery.findMany({
    where: { paymentId: payment.id, status: 'pending', event: { type: 'payment.succeeded' } },
    select: { id: true },
  });
  const detail = `An operator decided: ${action}.`;
  for (const { id: deliveryId } of waiting) {
    await settle(tx, deliveryId, action === 'accept' ? 'delivered' : 'conflict', now);
    const outcome = action === 'accept' ? 'agreed' : 'conflict';
    await tx.deliveryAttempt.create({
      data: { deliveryId, at: now, outcome, statusCode: null, detail, durationMs: 0 },
    });
  }
  if (action === 'refund') return await giveBack(locked, 'requested', 'An operator refunds it.', now);
  return await agree(locked, `Order ${payment.orderId} is paid, by an operator's word.`, now);
}

/** Everything of the payment that waits for the order service is told at once, or after the attempt under way. */
export async function hurryDeliveries(tx: LedgerTx, paymentId: string): Promise<void> {
  await tx.delivery.updateMany({ where: { paymentId, status: 'pending' }, data: { nextAttemptAt: null } });
}

/**
 * A person wants the delivery told now: one that is pending need not wait for its time. Of one that is settled nothing
 * changes here.
 * @throws Refusal `delivery_not_found`
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
    const data: Prisma.DeliveryUpdateManyMutationInput = { nextAttemptAt: null };
    await tx.delivery.updateMany({ where: { id: deliveryId, status: 'pending' }, data });
    const { event, payment } = row;
    const detail = `Told again, asked for by ${by}: ${event.type} (${event.id}).`;
    await note(tx, payment.id, 'manual', detail, now, { deliveryId, eventId: event.id });
    return { delivery: toDeliverySnapshot(row), payment };
  });
}
