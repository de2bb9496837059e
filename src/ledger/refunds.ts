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
 * Every change of a refund. Each is one transaction under the row lock of the payment's order, conditional on the
 * state it comes from, so that doing it twice, or late, changes nothing (P5). The refund's row is always written
 * before the payment's: the sweep takes their locks in this order.
 *
 * Here: the refunds that somebody asks for, and those that are owed.
 */

/** Null when there is no such refund. */
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

/** Long after it succeeded it is looked at once more. */
function isToLookAgain({ status, reason, settledAt, lookedAgainAt }: Refund, now: Date): boolean {
  if (status !== 'succeeded' || isOfOthers(reason) || settledAt === null || lookedAgainAt !== null)
    return false;
  return now.getTime() - settledAt.getTime() >= REFUND_LOOKED_AT_AGAIN_AFTER_MS;
}

/** The refund of this payment that a callback names, by its number or by the channel's own id; null: none of ours. */
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
  /** Minor units; all that is left when not given. */
  readonly amount: number | undefined;
  readonly note: string | undefined;
  /** Unique for ever within the merchant. */
  readonly idempotencyKey: string;
  /** What an amount must be a multiple of, unless it is all that is left; minor units. Absent: anything. */
  readonly multipleOf?: number | undefined;
}

/**
 * Writes a refund that somebody asks for; it is owed from then on. The same request under the same key returns
 * the refund of the first.
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
    // The key went to a refund of another payment in the same moment: the row is there to be compared now.
    if (!isConstraintViolation(error)) throw error;
    return await attempt();
  }
}

/**
 * A new request for all that is left of money that came in, which the ledger would not refuse: what is left is worth
 * asking the channel before.
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
      `The key belongs to refund ${known.id}, which was asked for with another ${paths.join(', ')}.`,
      { errors: paths.map((path) => ({ path, message: 'differs from the first request with this key' })) },
    );
  }
  const { receivedAmount, receivedCurrency } = payment;
  if (receivedAmount === null || receivedCurrency === null) {
    throw new Refusal('not_refundable', `Payment ${payment.id} is ${payment.status}: no money came in.`);
  }
  if (isHeldByDispute(payment, 'requested')) {
    throw new Refusal('not_refundable', `Payment ${payment.id} is disputed: the channel decides over it.`);
  }
  const left = receivedAmount - (await promised(tx, payment.id));
  const amount = given.amount === undefined ? left : BigInt(given.amount);
  if (amount <= 0n) {
    throw new Refusal(
      'not_refundable',
      `All money of payment ${payment.id} has gone back, or is on its way back.`,
    );
  }
  if (amount > left) {
    throw new Refusal(
      'refund_exceeds_payment',
      `Of payment ${payment.id} ${amountText(left, receivedCurrency)} are left, not ${amountText(amount, receivedCurrency)}.`,
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
    `${amountText(amount, receivedCurrency)} must go back: requested.`,
    now,
    {
      refundId: refund.id,
      asked: given.amount ?? null,
    },
  );
  return { refund, created: true };
}

/**
 * The rest of a request for all that was left, which the channel refused as part of the money had gone back. It is owed
 * as the request was, and never for more. The `Idempotency-Key` stays with the refused one.
 * @returns null when nothing is left to go back.
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
  const said = `${amountText(amount, currency)} must go back: the rest of refund ${refusedId}.`;
  await note(tx, payment.id, 'refund', said, now, { refundId: id });
  return refund;
}

/**
 * The fields in which a request is another one than that of the refund which has its key; `id` is the payment's. "All
 * that is left" is another amount than the one it happened to be: the timeline knows what was asked.
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

/** What has gone back of a payment, and what is to; without the refund `except`. */
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
 * The money that must go back, written with the decision that owes it; its id makes it one a payment until the channel
 * has refused it. What has gone back already, or is to, is not owed again, unless what is to go back is refused.
 * @returns null when nothing is left to go back.
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
  await note(tx, payment.id, 'refund', `${amountText(amount, currency)} must go back: ${reason}.`, now, {
    refundId: id,
  });
  return refund;
}

/** What is owed and already on its way: should that be refused, this is what it is owed for. */
async function noteCovered(tx: LedgerTx, { id }: Payment, reason: RefundReason, now: Date): Promise<void> {
  const open = await findOpenRefund(tx, id);
  if (open === null) return;
  const detail = `All of its money must go back: ${reason}. It is on its way already.`;
  await note(tx, id, 'refund', detail, now, { owedFor: reason, coveredBy: open.id, covered: true });
}

/** What a conflict's money is owed back for. */
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
 * The refund that brings a conflict's money back: the one that is open, or a new one of all that is left, for the
 * reason of the one the channel refused.
 * @returns null when nothing is left to go back.
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
 * Payments of a paid order besides the one that pays it whose money waits for a decision: it goes back by itself. Not when
 * nobody knows how much of it is left: a person decides over that.
 */
export const othersToGiveBack = (
  // Of a recovered one a person decides over each.
  { recoveredAt }: Pick<Order, 'recoveredAt'>,
  others: readonly Payment[],
): Payment[] =>
  recoveredAt === null
    ? others.filter(
        (other) => other.orderUpdate === 'review' && !isBackUnexplained(other) && !isOnlyWatched(other),
      )
    : [];

/**
 * Owes their money back, in the transaction that pays the order.
 * @param toGiveBack see `othersToGiveBack`, as they are under the order's lock.
 * @returns the refunds that are owed by it, which are to start.
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
    const detail = `The order is paid by ${paidBy}; this one is owed back.`;
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

/** The newest refund of ours that the channel has not decided, or null. */
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

/** The automatic refund of a conflict that has not been started yet, as far as the ledger knows. */
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
