import { isBackUnexplained } from '../domain/answer.ts';
import type { CallbackRefund } from '../domain/channel.ts';
import { isHeldByDispute } from '../domain/dispute.ts';
import { automaticRefundId, refundIdOf, replacementRefundId, requestedRefundId } from '../domain/ids.ts';
import { multipleFault } from '../domain/limits.ts';
import { amountText, smaller } from '../domain/money.ts';
import { REFUND_LOOKED_AT_AGAIN_AFTER_MS, type RefundSnapshot } from '../domain/refund.ts';
import { Refusal } from '../domain/refusal.ts';
import {
  isOfOthers,
  isOnlyWatched,
  OPEN_REFUND_STATUSES,
  REASONS_OF_OTHERS,
  type RefundReason,
  VOID_REFUND_STATUSES,
} from '../domain/states.ts';
import { isConstraintViolation, type LedgerClient, type LedgerTx } from './client.ts';
import { type Locked, raisedUnlessDisputed, underOrderLock, update } from './order-lock.ts';
import { toRefundSnapshot } from './payment-facts.ts';
import { reviewAttention } from './refund-trouble.ts';
import type { Order, Payment, Refund } from './rows.ts';
import { note } from './timeline.ts';

/**
 * These rules apply to every change of a refund. Each change is one transaction under the row lock of the payment's
 * order and depends on the refund's current state. Therefore a change that is repeated, or that runs late, has no
 * effect (P5). The refund's row is always written before the payment's row, because the sweep locks the two rows in
 * this sequence.
 *
 * This file creates the requested refunds and the automatic refunds.
 */

/** Returns null if the refund does not exist. */
export async function findRefund(
  db: LedgerClient,
  refundId: string,
  now: Date,
): Promise<RefundSnapshot | null> {
  const refund = await db.refund.findUnique({ where: { id: refundId }, include: { payment: true } });
  if (refund === null) return null;
  const snapshot = toRefundSnapshot(refund, refund.payment);
  return isToLookAgain(refund, now) ? { ...snapshot, isToLookAgain: true } : snapshot;
}

/** True if a refund that succeeded long ago is due for its single later check. */
function isToLookAgain({ status, reason, settledAt, lookedAgainAt }: Refund, now: Date): boolean {
  if (status !== 'succeeded' || isOfOthers(reason) || settledAt === null || lookedAgainAt !== null)
    return false;
  return now.getTime() - settledAt.getTime() >= REFUND_LOOKED_AT_AGAIN_AFTER_MS;
}

/**
 * Finds the refund of this payment that a callback names by nodrop's number or by the channel's id. Returns null if
 * nodrop made no such refund.
 */
export async function findNamedRefund(
  db: LedgerClient | LedgerTx,
  paymentId: string,
  { outRefundNo, channelRefundId }: Pick<CallbackRefund, 'outRefundNo' | 'channelRefundId'>,
): Promise<Refund | null> {
  const named = [
    ...(outRefundNo === undefined ? [] : [{ id: refundIdOf(outRefundNo) }]),
    ...(channelRefundId === undefined ? [] : [{ channelRefundId }]),
  ];
  if (named.length === 0) return null;
  return await db.refund.findFirst({
    where: { paymentId, reason: { notIn: [...REASONS_OF_OTHERS] }, OR: named },
    orderBy: { createdAt: 'desc' },
  });
}

export interface RefundRequest {
  /** The amount in minor units. If it is missing, all remaining money is refunded. */
  readonly amount: number | undefined;
  readonly note: string | undefined;
  /** The idempotency key. A merchant can use each key for only one refund, forever. */
  readonly idempotencyKey: string;
  /**
   * The step for amounts, in minor units. The requested amount must be a multiple of the step, unless it is all
   * remaining money. If the step is absent, any amount is accepted.
   */
  readonly multipleOf?: number | undefined;
}

/**
 * Records a requested refund, which nodrop must then make. If the request is repeated with the same key, the function
 * returns the first request's refund.
 * @throws Refusal `not_refundable`, `refund_exceeds_payment`, `amount_not_supported`, `idempotency_key_reused`.
 */
export async function requestRefund(
  db: LedgerClient,
  paymentId: string,
  given: RefundRequest,
  now: Date,
): Promise<{ refund: Refund; created: boolean }> {
  const attempt = () => underOrderLock(db, paymentId, now, (locked) => insertRefund(locked, given, now));
  try {
    return await attempt();
  } catch (error) {
    // A concurrent request for another payment used the same key, and its refund is stored now. Therefore the
    // transaction runs again, and compares this request with that refund.
    if (!isConstraintViolation(error)) throw error;
    return await attempt();
  }
}

/**
 * True if the request is new and acceptable, and refunds all remaining money. The caller then queries the channel
 * before it records the request, because refunds made at the channel may have reduced the remaining money.
 */
export async function asksForTheRest(
  db: LedgerClient,
  payment: Payment,
  { amount, idempotencyKey }: RefundRequest,
): Promise<boolean> {
  const { id, merchantId, receivedAmount } = payment;
  if (amount !== undefined || receivedAmount === null || isHeldByDispute(payment, 'requested')) return false;
  const key = { merchantId_idempotencyKey: { merchantId, idempotencyKey } };
  if ((await db.refund.findUnique({ where: key, select: { id: true } })) !== null) return false;
  return (await promised(db, id)) < receivedAmount;
}

async function insertRefund(
  { tx, payment }: Locked,
  given: RefundRequest,
  now: Date,
): Promise<{ refund: Refund; created: boolean }> {
  const { merchantId } = payment;
  const { idempotencyKey } = given;
  const known = await tx.refund.findUnique({
    where: { merchantId_idempotencyKey: { merchantId, idempotencyKey } },
  });
  if (known !== null) {
    const paths = await differences(tx, known, payment.id, given);
    if (paths.length === 0) return { refund: known, created: false };
    throw new Refusal(
      'idempotency_key_reused',
      `The key belongs to refund ${known.id}, which was requested with another ${paths.join(', ')}.`,
      { errors: paths.map((path) => ({ path, message: 'differs from the first request with this key' })) },
    );
  }
  const { receivedAmount, receivedCurrency } = payment;
  if (receivedAmount === null || receivedCurrency === null) {
    throw new Refusal(
      'not_refundable',
      `Payment ${payment.id} is ${payment.status}: it has received no money.`,
    );
  }
  if (isHeldByDispute(payment, 'requested')) {
    throw new Refusal(
      'not_refundable',
      `Payment ${payment.id} is disputed. It cannot be refunded while the channel decides the dispute.`,
    );
  }
  const left = receivedAmount - (await promised(tx, payment.id));
  const amount = given.amount === undefined ? left : BigInt(given.amount);
  if (amount <= 0n) {
    throw new Refusal(
      'not_refundable',
      `All money of payment ${payment.id} has been refunded or is being refunded.`,
    );
  }
  if (amount > left) {
    throw new Refusal(
      'refund_exceeds_payment',
      `Payment ${payment.id} has ${amountText(left, receivedCurrency)} left to refund, not ${amountText(amount, receivedCurrency)}.`,
    );
  }
  const fault = amount === left ? undefined : multipleFault({ multipleOf: given.multipleOf }, Number(amount));
  if (fault !== undefined) {
    throw new Refusal(
      'amount_not_supported',
      `The amount ${fault} for ${payment.channel} in ${receivedCurrency}, or be all that is left.`,
      { errors: [{ path: 'amount', message: fault }] },
    );
  }
  const refund = await tx.refund.create({
    data: {
      id: requestedRefundId({
        merchantId,
        paymentId: payment.id,
        idempotencyKey,
        amount: given.amount ?? 'all',
      }),
      merchantId,
      paymentId: payment.id,
      amount,
      currency: receivedCurrency,
      reason: 'requested',
      note: given.note ?? null,
      idempotencyKey,
      createdAt: now,
    },
  });
  await note(
    tx,
    payment.id,
    'refund',
    `A refund of ${amountText(amount, receivedCurrency)} is due: requested.`,
    now,
    {
      refundId: refund.id,
      asked: given.amount ?? null,
    },
  );
  return { refund, created: true };
}

/**
 * Called when the channel has refused a refund of all remaining money, because part of the money had already been given
 * back. Creates a refund of the amount that still remains, at most the requested amount. The `Idempotency-Key` stays
 * with the refused refund.
 * @returns null if nothing is left to refund.
 */
export async function requestRest(
  tx: LedgerTx,
  payment: Payment,
  { id: refusedId, merchantId, amount: asked, currency, reason, note: remark }: Refund,
  now: Date,
): Promise<Refund | null> {
  const left = (payment.receivedAmount ?? 0n) - (await promised(tx, payment.id));
  if (left <= 0n) return null;
  const [id, amount] = [replacementRefundId(refusedId), smaller(left, asked)];
  const refund = await tx.refund.create({
    data: { id, merchantId, paymentId: payment.id, amount, currency, reason, note: remark, createdAt: now },
  });
  const said = `A refund of ${amountText(amount, currency)} is due: the rest of refund ${refusedId}.`;
  await note(tx, payment.id, 'refund', said, now, { refundId: id });
  return refund;
}

/**
 * Lists the fields in which a refund request differs from the earlier refund with the same key. The field `id` is the
 * payment's id. A request without an amount differs from a request that names the same amount as a number. The timeline
 * entry shows whether the earlier request named an amount.
 */
async function differences(
  tx: LedgerTx,
  known: Refund,
  paymentId: string,
  given: RefundRequest,
): Promise<('id' | 'amount' | 'note')[]> {
  const entry = await tx.timelineEntry.findFirst({
    where: { paymentId: known.paymentId, kind: 'refund', data: { path: ['refundId'], equals: known.id } },
    orderBy: { id: 'asc' },
  });
  const asked = (entry?.data as { asked?: number | null } | undefined)?.asked;
  return [
    ...(known.paymentId === paymentId ? [] : (['id'] as const)),
    ...(asked === (given.amount ?? null) ? [] : (['amount'] as const)),
    ...(known.note === (given.note ?? null) ? [] : (['note'] as const)),
  ];
}

/**
 * Returns the sum of a payment's refunds that have succeeded or are open, in minor units. The refund `except` is not
 * counted.
 */
export async function promised(
  tx: LedgerClient | LedgerTx,
  paymentId: string,
  except?: string,
): Promise<bigint> {
  const { _sum } = await tx.refund.aggregate({
    where: {
      paymentId,
      status: { notIn: [...VOID_REFUND_STATUSES] },
      ...(except === undefined ? {} : { id: { not: except } }),
    },
    _sum: { amount: true },
  });
  return _sum.amount ?? 0n;
}

/**
 * Creates the automatic refund of all remaining money, in the transaction of the decision that makes the refund due.
 * The refund's id is unique, so a payment has only one such refund until the channel refuses that refund. Amounts that
 * were given back already, or that an open refund covers, are not included.
 * @returns null if nothing is left to refund.
 */
export async function oweRefund(
  tx: LedgerTx,
  payment: Payment,
  reason: RefundReason,
  now: Date,
): Promise<Refund | null> {
  const amount = (payment.receivedAmount ?? 0n) - (await promised(tx, payment.id));
  if (amount <= 0n) {
    await noteCovered(tx, payment, reason, now);
    return null;
  }
  const before = await tx.refund.count({
    where: { paymentId: payment.id, id: { startsWith: automaticRefundId(payment.id) } },
  });
  const id = automaticRefundId(payment.id, before + 1);
  const currency = payment.receivedCurrency ?? payment.currency;
  const refund = await tx.refund.create({
    data: {
      id,
      merchantId: payment.merchantId,
      paymentId: payment.id,
      amount,
      currency,
      reason,
      createdAt: now,
    },
  });
  await note(
    tx,
    payment.id,
    'refund',
    `A refund of ${amountText(amount, currency)} is due: ${reason}.`,
    now,
    {
      refundId: id,
    },
  );
  return refund;
}

/**
 * If another open refund covers the amount, no refund is created and only the reason is recorded. The reason is used if
 * the channel refuses the other refund.
 */
async function noteCovered(tx: LedgerTx, { id }: Payment, reason: RefundReason, now: Date): Promise<void> {
  const open = await findOpenRefund(tx, id);
  if (open === null) return;
  const detail = `A refund of all the money is due: ${reason}. Other refunds cover it already.`;
  await note(tx, id, 'refund', detail, now, { owedFor: reason, coveredBy: open.id, covered: true });
}

/** The reason why a conflict's money must be refunded. */
export async function reasonOwed(tx: LedgerTx, paymentId: string): Promise<RefundReason> {
  const first = await tx.refund.findUnique({ where: { id: automaticRefundId(paymentId) } });
  if (first !== null) return first.reason;
  const entry = await tx.timelineEntry.findFirst({
    where: { paymentId, kind: 'refund', data: { path: ['covered'], equals: true } },
    orderBy: { id: 'asc' },
  });
  return (entry?.data as { owedFor?: RefundReason } | undefined)?.owedFor ?? 'requested';
}

/**
 * Returns the refund that gives back a conflict's money. If a refund is open, returns that refund. Otherwise creates a
 * refund of all remaining money, with the reason of the refused refund.
 * @returns null if nothing is left to refund.
 */
export async function oweRefundAgain(
  { tx, payment }: Locked,
  now: Date,
): Promise<{ refund: Refund | null; payment: Payment }> {
  const open = await findOpenRefund(tx, payment.id);
  if (open !== null) return { refund: open, payment };
  const refund = await oweRefund(tx, payment, await reasonOwed(tx, payment.id), now);
  return { refund, payment: await reviewAttention(tx, payment, now) };
}

/**
 * Returns the other payments of a paid order whose money waits for a decision. This money is refunded automatically.
 * If it is unknown how much of a payment's money is left, the payment is left out, because an operator decides about
 * it.
 */
export const othersToGiveBack = (
  // If the order was recovered, an operator decides about each payment. Therefore none of them is refunded
  // automatically.
  { recoveredAt }: Pick<Order, 'recoveredAt'>,
  others: readonly Payment[],
): Payment[] =>
  recoveredAt === null
    ? others.filter(
        (other) => other.orderUpdate === 'review' && !isBackUnexplained(other) && !isOnlyWatched(other),
      )
    : [];

/**
 * Records, in the transaction that pays the order, that each of these payments must be refunded.
 * @param toGiveBack see `othersToGiveBack`, read under the order's lock.
 * @returns the new refunds, which the caller starts.
 */
export async function giveBackOthers(
  { tx, newEvents }: Pick<Locked, 'tx' | 'newEvents'>,
  toGiveBack: readonly Payment[],
  paidBy: string,
  now: Date,
): Promise<(Refund & { payment: Payment })[]> {
  const owed: (Refund & { payment: Payment })[] = [];
  for (const other of toGiveBack) {
    const { id } = other;
    const detail = `The order was paid by ${paidBy}; a refund of this payment is due.`;
    const conflict = await update(tx, id, {
      orderUpdate: 'conflict',
      orderUpdatedAt: now,
      ...raisedUnlessDisputed(other, 'order_conflict', detail, now),
    });
    await note(tx, id, 'order', detail, now, { orderUpdate: 'conflict' });
    const refund = await oweRefund(tx, conflict, 'duplicate_payment', now);
    if (refund !== null) owed.push({ ...refund, payment: conflict });
    newEvents.push({ type: 'payment.conflict', paymentId: id });
  }
  return owed;
}

/** The newest refund made by nodrop that the channel has not decided, or null. */
export async function findOpenRefund(tx: LedgerTx, paymentId: string): Promise<Refund | null> {
  return await tx.refund.findFirst({
    where: {
      paymentId,
      status: { in: [...OPEN_REFUND_STATUSES] },
      reason: { notIn: [...REASONS_OF_OTHERS] },
    },
    orderBy: { createdAt: 'desc' },
  });
}

/** Returns the id of a conflict's automatic refund if the refund still has the status `created`. */
export async function owedRefund(
  tx: LedgerTx,
  payment: Pick<Payment, 'id' | 'orderUpdate'>,
): Promise<string | null> {
  if (payment.orderUpdate !== 'conflict') return null;
  const owed = await tx.refund.findFirst({
    where: { paymentId: payment.id, id: { startsWith: automaticRefundId(payment.id) }, status: 'created' },
    select: { id: true },
  });
  return owed?.id ?? null;
}
