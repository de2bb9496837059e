import { type Attention, isClearedBy, type Occasion } from '../domain/attention.ts';
import type { ChannelAnswer, PaidAnswer, RefundAnswer } from '../domain/channel.ts';
import {
  automaticRefundId,
  externalRefundId,
  isAutomaticRefundId,
  requestedRefundId,
} from '../domain/ids.ts';
import { type CurrencyCode, toDecimal } from '../domain/money.ts';
import type { PaymentSnapshot } from '../domain/payment.ts';
import {
  REFUND_FAILING_AFTER_MS,
  REFUND_PROCESSING_AT_MOST_MS,
  type RefundSnapshot,
} from '../domain/refund.ts';
import { Refusal } from '../domain/refusal.ts';
import { isRefundOpen, type RefundReason, type RefundStatus } from '../domain/states.ts';
import type { Payment, Refund } from '../generated/prisma/client.ts';
import { readCallback } from './callbacks.ts';
import { isConstraintViolation, type LedgerClient, type LedgerTx } from './client.ts';
import { cleared, type Locked, raised, raisedUnlessDisputed, underLock, update } from './locked.ts';
import { releaseOrder } from './order-row.ts';
import { toSnapshot } from './snapshot.ts';
import { note } from './timeline.ts';

/**
 * Every change of a refund. Each is one transaction under the row lock of the payment's order, conditional on the
 * state it comes from, so that doing it twice, or late, changes nothing (P5). The refund's row is always written
 * before the payment's: the sweep takes their locks in this order.
 */

/** `19.90 CNY` */
export const sayAmount = (amount: bigint, currency: CurrencyCode): string =>
  `${toDecimal(Number(amount), currency)} ${currency}`;

export function toRefundSnapshot(
  refund: Refund,
  payment: Pick<Payment, 'orderId' | 'channel'>,
): RefundSnapshot {
  return {
    id: refund.id,
    paymentId: refund.paymentId,
    orderId: payment.orderId,
    channel: payment.channel,
    amount: Number(refund.amount),
    currency: refund.currency,
    status: refund.status as RefundStatus,
    reason: refund.reason as RefundReason,
    createdAt: refund.createdAt.getTime(),
    unknownSince: refund.unknownSince?.getTime() ?? null,
  };
}

/** Null when there is no such refund. */
export async function findRefund(db: LedgerClient, refundId: string): Promise<RefundSnapshot | null> {
  const refund = await db.refund.findUnique({ where: { id: refundId }, include: { payment: true } });
  return refund && toRefundSnapshot(refund, refund.payment);
}

export interface RefundRequest {
  /** Minor units; all that is left when not given. */
  readonly amount: number | undefined;
  readonly note: string | undefined;
  /** Unique for ever within the merchant. */
  readonly idempotencyKey: string;
}

/**
 * Writes a refund that somebody asks for; it is owed from then on. The same request under the same key returns
 * the refund of the first.
 * @throws Refusal `not_refundable`, `refund_exceeds_payment`, `idempotency_key_reused`.
 */
export async function requestRefund(
  db: LedgerClient,
  paymentId: string,
  given: RefundRequest,
  now: Date,
): Promise<{ refund: Refund; created: boolean }> {
  const attempt = () => underLock(db, paymentId, now, (locked) => insertRefund(locked, given, now));
  try {
    return await attempt();
  } catch (error) {
    // The key went to a refund of another payment in the same moment: the row is there to be compared now.
    if (!isConstraintViolation(error)) throw error;
    return await attempt();
  }
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
    if (await isSameRequest(tx, known, payment.id, given)) return { refund: known, created: false };
    throw new Refusal(
      'idempotency_key_reused',
      `The key belongs to refund ${known.id}, which was asked for with other content.`,
    );
  }
  const { receivedAmount, receivedCurrency } = payment;
  if (receivedAmount === null || receivedCurrency === null) {
    throw new Refusal('not_refundable', `Payment ${payment.id} is ${payment.status}: no money came in.`);
  }
  if (payment.attention === 'disputed') {
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
      `Of payment ${payment.id} ${sayAmount(left, receivedCurrency)} are left, not ${sayAmount(amount, receivedCurrency)}.`,
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
    `${sayAmount(amount, receivedCurrency)} must go back: requested.`,
    now,
    {
      refundId: refund.id,
      asked: given.amount ?? null,
    },
  );
  return { refund, created: true };
}

/** "All that is left" is another request than the amount it happened to be: the timeline knows what was asked. */
async function isSameRequest(
  tx: LedgerTx,
  known: Refund,
  paymentId: string,
  given: RefundRequest,
): Promise<boolean> {
  if (known.paymentId !== paymentId || known.note !== (given.note ?? null)) return false;
  const entry = await tx.timelineEntry.findFirst({
    where: { paymentId, kind: 'refund', data: { path: ['refundId'], equals: known.id } },
    orderBy: { id: 'asc' },
  });
  return (entry?.data as { asked?: number | null } | undefined)?.asked === (given.amount ?? null);
}

/** What has gone back of a payment, and what is to; without the refund `except`. */
async function promised(tx: LedgerTx, paymentId: string, except?: string): Promise<bigint> {
  const { _sum } = await tx.refund.aggregate({
    where: {
      paymentId,
      status: { not: 'failed' },
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
  await note(tx, payment.id, 'refund', `${sayAmount(amount, currency)} must go back: ${reason}.`, now, {
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
async function reasonOwed(tx: LedgerTx, paymentId: string): Promise<RefundReason> {
  const first = await tx.refund.findUnique({ where: { id: automaticRefundId(paymentId) } });
  if (first !== null) return first.reason as RefundReason;
  const entry = await tx.timelineEntry.findFirst({
    where: { paymentId, kind: 'refund', data: { path: ['covered'], equals: true } },
    orderBy: { id: 'asc' },
  });
  return (entry?.data as { owedFor?: RefundReason } | undefined)?.owedFor ?? 'requested';
}

/**
 * A refund that somebody asked for stood for money that is owed back, and the channel has refused it: what is left is
 * owed by itself from now on. One that was owed by itself waits for a person, who has it asked again.
 */
async function oweWhatWasRefused(
  { tx, payment: { id } }: Locked,
  refund: Refund,
  written: RefundSnapshot,
  now: Date,
): Promise<void> {
  const isNews = isRefundOpen(refund.status as RefundStatus) && written.status === 'failed';
  if (!isNews || isAutomaticRefundId(refund.id, id)) return;
  const payment = await tx.payment.findUniqueOrThrow({ where: { id } });
  if (payment.orderUpdate !== 'conflict') return;
  if ((await oweRefund(tx, payment, await reasonOwed(tx, id), now)) !== null)
    await reviewAttention(tx, payment, now);
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
 * The order is paid: what its other payments brought in and waits for a decision goes back by itself, in the same
 * transaction. Of a recovered order a person decides over each.
 * @returns the refunds that are owed by it, which are to start.
 */
export async function giveBackOthers(
  { tx, order: { merchantId, id: orderId, recoveredAt }, news }: Pick<Locked, 'tx' | 'order' | 'news'>,
  paidBy: string,
  now: Date,
): Promise<(Refund & { payment: Payment })[]> {
  if (recoveredAt !== null) return [];
  const others = await tx.payment.findMany({
    where: { merchantId, orderId, id: { not: paidBy }, orderUpdate: 'review' },
  });
  const owed: (Refund & { payment: Payment })[] = [];
  for (const other of others) {
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
    news.push({ type: 'payment.conflict', paymentId: id });
  }
  return owed;
}

/** The newest refund of the payment that the channel has not decided, or null. */
export async function findOpenRefund(tx: LedgerTx, paymentId: string): Promise<Refund | null> {
  return await tx.refund.findFirst({
    where: { paymentId, status: { in: ['created', 'processing'] } },
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

/**
 * Before the channel is asked for a refund the first time: the trade was queried, and after it the refund's number,
 * which the channel does not know. So the trade's sum cannot hold this refund, and what went back unknown to us is
 * recorded without counting it. From here on the channel may have it. Does nothing the second time.
 */
export async function recordFirstAsk(
  db: LedgerClient,
  refundId: string,
  trade: ChannelAnswer,
  now: Date,
): Promise<void> {
  await underRefundLock(db, refundId, now, async (locked, refund) => {
    if (!isRefundOpen(refund.status as RefundStatus) || refund.askedAt !== null) return;
    await locked.tx.refund.update({ where: { id: refundId }, data: { askedAt: now } });
    await recordTrade(locked, trade, now, refundId);
  });
}

/**
 * Writes down what the channel said of a refund before anybody acts on it. A definite answer is the last, and with it
 * comes what the channel said of the trade after it: money that others gave back is recorded in the same transaction.
 * What is owed anew by a refusal is the sweep's to start.
 */
export async function recordRefundAnswer(
  db: LedgerClient,
  refundId: string,
  answer: RefundAnswer,
  now: Date,
  trade?: ChannelAnswer,
): Promise<RefundSnapshot> {
  return await underRefundLock(db, refundId, now, async (locked, refund) => {
    const written = await writeAnswer(locked, refund, answer, now, trade);
    if (trade !== undefined) await recordTrade(locked, trade, now);
    await oweWhatWasRefused(locked, refund, written, now);
    return written;
  });
}

/** What the channel said of the trade when it was queried for a refund. `absent`: see recordExternalRefunds. */
async function recordTrade(locked: Locked, trade: ChannelAnswer, now: Date, absent?: string): Promise<void> {
  const { tx, payment } = locked;
  const { state } = trade;
  await note(tx, payment.id, 'query', `The channel answered ${state}.`, now, { state, by: 'query' });
  const seen = await update(tx, payment.id, {
    channelState: state,
    channelAnsweredAt: now,
    channelErrorSince: null,
  });
  if (isMoney(trade)) await recordExternalRefunds({ ...locked, payment: seen }, trade, now, absent);
}

/** The channel gave no readable answer on a refund; after an hour of that a person should look. */
export async function recordRefundSilence(
  db: LedgerClient,
  refundId: string,
  reason: string,
  now: Date,
): Promise<RefundSnapshot> {
  return await underRefundLock(db, refundId, now, async ({ tx, payment }, refund) => {
    if (!isRefundOpen(refund.status as RefundStatus)) return toRefundSnapshot(refund, payment);
    const silent = await tx.refund.update({
      where: { id: refundId },
      data: { failure: reason, unknownSince: refund.unknownSince ?? now },
    });
    // The same trouble again is no news.
    if (refund.failure !== reason)
      await note(tx, payment.id, 'refund', `No readable answer on refund ${refundId}: ${reason}`, now);
    await reviewAttention(tx, payment, now);
    return toRefundSnapshot(silent, payment);
  });
}

/**
 * What a stored callback says of a refund of ours: believed for exactly the refund's amount. What it says of
 * money that others gave back is recorded as well. A refusal is asked about: what is owed after it depends on what
 * others gave back, which the trade says with the answer. So is a refund that was not asked for yet: what is recorded
 * as others' may be this one.
 */
export async function recordRefundCallback(
  db: LedgerClient,
  refundId: string,
  callbackId: string,
  now: Date,
): Promise<RefundSnapshot> {
  return await underRefundLock(db, refundId, now, async (locked, refund) => {
    const { tx, payment } = locked;
    const callback = await tx.callback.findUnique({ where: { id: callbackId } });
    if (callback === null || callback.paymentId !== payment.id) return toRefundSnapshot(refund, payment);
    const said = readCallback(callback);
    const answer = said.refund?.outRefundNo === refundId ? said.refund.answer : undefined;
    const isWord =
      refund.askedAt !== null &&
      (answer?.state === 'processing' ||
        (answer?.state === 'succeeded' && BigInt(answer.amount) === refund.amount));
    const written =
      isWord && answer !== undefined
        ? await writeAnswer(locked, refund, answer, now)
        : toRefundSnapshot(refund, payment);
    const current = await tx.payment.findUniqueOrThrow({ where: { id: payment.id } });
    if (isMoney(said.answer)) await recordExternalRefunds({ ...locked, payment: current }, said.answer, now);
    return written;
  });
}

/** What a stored callback says of money that went back without our asking. */
export async function recordRefundsOfCallback(
  db: LedgerClient,
  paymentId: string,
  callbackId: string,
  now: Date,
): Promise<PaymentSnapshot> {
  return await underLock(db, paymentId, now, async (locked) => {
    const callback = await locked.tx.callback.findUnique({ where: { id: callbackId } });
    const answer =
      callback === null || callback.paymentId !== paymentId ? undefined : readCallback(callback).answer;
    if (answer === undefined || !isMoney(answer)) return toSnapshot(locked.payment, now);
    return toSnapshot(await recordExternalRefunds(locked, answer, now), now);
  });
}

const isMoney = (answer: ChannelAnswer): answer is PaidAnswer =>
  answer.state === 'paid' || answer.state === 'refunded';

/** What has gone back at the channel, at most what came in; null when it speaks of other money than was settled. */
function goneBack({ receivedAmount, receivedCurrency }: Payment, answer: PaidAnswer): bigint | null {
  if (receivedAmount === null) return null;
  if (BigInt(answer.amount) !== receivedAmount || answer.currency !== receivedCurrency) return null;
  return answer.state === 'refunded'
    ? receivedAmount
    : smaller(receivedAmount, BigInt(answer.refundedAmount ?? 0));
}

const smaller = (a: bigint, b: bigint): bigint => (a < b ? a : b);

/**
 * Records what the channel has given back beyond every refund that is known: somebody made it there. Refunds of
 * ours that are under way count as known, as the channel's sum may hold them already.
 * @param absent a refund of ours whose number the channel did not know after it said this: the sum does not hold it.
 */
export async function recordExternalRefunds(
  locked: Locked,
  answer: PaidAnswer,
  now: Date,
  absent?: string,
): Promise<Payment> {
  const { tx, payment } = locked;
  const atChannel = goneBack(payment, answer);
  if (atChannel === null) {
    await noteOtherMoney(tx, payment, answer, now);
    return payment;
  }
  if (atChannel === 0n) return payment;
  const amount = atChannel - (await promised(tx, payment.id, absent));
  return amount <= 0n ? payment : await insertExternal(locked, amount, now);
}

async function insertExternal(locked: Locked, amount: bigint, now: Date): Promise<Payment> {
  const { tx, payment } = locked;
  const currency = payment.receivedCurrency ?? payment.currency;
  const nth = 1 + (await tx.refund.count({ where: { paymentId: payment.id, reason: 'external' } }));
  const id = externalRefundId(payment.id, nth);
  await tx.refund.create({
    data: {
      id,
      merchantId: payment.merchantId,
      paymentId: payment.id,
      amount,
      currency,
      reason: 'external',
      status: 'succeeded',
      createdAt: now,
      settledAt: now,
    },
  });
  const said = `${sayAmount(amount, currency)} went back at the channel, and nobody asked for it here`;
  await note(tx, payment.id, 'refund', `${said}.`, now, { refundId: id });
  locked.news.push({ type: 'refund.succeeded', refundId: id });
  const after = await moneyWentBack(locked, amount, now);
  return after.orderUpdate === 'applied' ? await showReversed(tx, after, now) : after;
}

/** Shows an applied payment whose money went back at the channel, unless something else is shown of it. */
export async function showReversed(tx: LedgerTx, payment: Payment, now: Date): Promise<Payment> {
  if (payment.attention !== null) return payment;
  const { _sum } = await tx.refund.aggregate({
    where: { paymentId: payment.id, reason: 'external', status: 'succeeded' },
    _sum: { amount: true },
  });
  if (_sum.amount === null) return payment;
  const currency = payment.receivedCurrency ?? payment.currency;
  const said = `${sayAmount(_sum.amount, currency)} went back at the channel, and nobody asked for it here`;
  await note(tx, payment.id, 'attention', `channel_reversed: ${said}.`, now);
  return await update(tx, payment.id, raised('channel_reversed', `${said}; the order was paid by it.`, now));
}

/**
 * The channel gave back `amount` under the refund's number, and more is recorded than it has given back in all: what was
 * concluded from the trade's sum, while the refund was unknown here, was this refund. Such external refunds are failed,
 * and what others did give back of them is recorded anew.
 */
async function correctExternal(
  locked: Locked,
  refund: Refund,
  amount: bigint,
  trade: ChannelAnswer | undefined,
  now: Date,
): Promise<Payment> {
  const { tx, payment, news } = locked;
  const received = payment.receivedAmount ?? 0n;
  // The sum may be older than a refund that has just been made, so it counts for one that was there before we asked.
  const isOlder = refund.askedAt === null && trade !== undefined && isMoney(trade);
  const most = (isOlder ? goneBack(payment, trade) : null) ?? received;
  const surplus = smaller(amount, payment.refundedAmount + amount - most);
  if (surplus <= 0n) return payment;
  const externals = await tx.refund.findMany({
    where: { paymentId: payment.id, reason: 'external', status: 'succeeded' },
    orderBy: [{ createdAt: 'desc' }, { id: 'desc' }],
  });
  if (externals.length === 0) return payment;
  // Its row before the payment's, which those of the others lock.
  await tx.refund.update({ where: { id: refund.id }, data: { askedAt: refund.askedAt ?? now } });
  let freed = 0n;
  for (const external of externals) {
    if (freed >= surplus) break;
    freed += external.amount;
    const failure = `It was refund ${refund.id}.`;
    await tx.refund.update({ where: { id: external.id }, data: { status: 'failed', failure } });
    const said = `Refund ${external.id} of ${sayAmount(external.amount, external.currency)} was refund ${refund.id}.`;
    await note(tx, payment.id, 'refund', said, now, { refundId: external.id, status: 'failed' });
    news.push({ type: 'refund.failed', refundId: external.id });
  }
  const corrected = await update(tx, payment.id, {
    refundedAmount: { decrement: freed },
    ...cleared(payment, 'reversal_explained'),
  });
  if (freed > surplus) return await insertExternal({ ...locked, payment: corrected }, freed - surplus, now);
  return payment.attention === 'channel_reversed' ? await showReversed(tx, corrected, now) : corrected;
}

/** Shows that the channel gave back another amount than it was asked for, unless something else is shown. */
async function showOtherAmount(tx: LedgerTx, payment: Payment, detail: string, now: Date): Promise<void> {
  if (payment.attention !== null && payment.attention !== 'order_conflict') return;
  await note(tx, payment.id, 'attention', `amount_mismatch: ${detail}.`, now);
  await update(tx, payment.id, raised('amount_mismatch', `${detail}.`, now));
}

/** What the channel says of another amount than it was settled with tells nothing of refunds; a person may see it. */
async function noteOtherMoney(
  tx: LedgerTx,
  { id: paymentId, receivedAmount, receivedCurrency, currency }: Payment,
  answer: PaidAnswer,
  now: Date,
): Promise<void> {
  if (receivedAmount === null) return;
  const settled = sayAmount(receivedAmount, receivedCurrency ?? currency);
  const detail = `The channel speaks of ${sayAmount(BigInt(answer.amount), answer.currency)}, settled were ${settled}: not acted on.`;
  // Said again it is no news.
  const known = await tx.timelineEntry.findFirst({
    where: { paymentId, kind: 'query', detail },
    select: { id: true },
  });
  if (known === null) await note(tx, paymentId, 'query', detail, now, { state: answer.state });
}

async function underRefundLock<T>(
  db: LedgerClient,
  refundId: string,
  now: Date,
  work: (locked: Locked, refund: Refund) => Promise<T>,
): Promise<T> {
  const { paymentId } = await db.refund.findUniqueOrThrow({
    where: { id: refundId },
    select: { paymentId: true },
  });
  return await underLock(db, paymentId, now, async (locked) =>
    work(locked, await locked.tx.refund.findUniqueOrThrow({ where: { id: refundId } })),
  );
}

async function writeAnswer(
  locked: Locked,
  refund: Refund,
  answer: RefundAnswer,
  now: Date,
  trade?: ChannelAnswer,
): Promise<RefundSnapshot> {
  const { tx, payment, news } = locked;
  if (!isRefundOpen(refund.status as RefundStatus)) return toRefundSnapshot(refund, payment);
  const said = `Refund ${refund.id} of ${sayAmount(refund.amount, refund.currency)}`;
  const write = async (detail: string, data: Parameters<typeof tx.refund.update>[0]['data']) => {
    const row = await tx.refund.update({ where: { id: refund.id }, data });
    await note(tx, payment.id, 'refund', detail, now, { refundId: refund.id, status: row.status });
    return toRefundSnapshot(row, payment);
  };
  const definite = { unknownSince: null, settledAt: now };
  switch (answer.state) {
    case 'succeeded': {
      const given = BigInt(answer.amount);
      const { receivedAmount, refundedAmount } = await correctExternal(locked, refund, given, trade, now);
      // Never more than came in, whatever the channel says.
      const amount = smaller(given, (receivedAmount ?? 0n) - refundedAmount);
      const isAsAsked = given === refund.amount && amount === given;
      const say = (sum: bigint) => sayAmount(sum, refund.currency);
      const difference =
        `The channel gave back ${say(given)} under refund ${refund.id}, asked were ${say(refund.amount)}` +
        (amount === given ? '' : `; recorded are ${say(amount)}, as no more came in`);
      const written = await write(
        `${said} succeeded: ${refund.reason}.${isAsAsked ? '' : ` ${difference}.`}`,
        {
          ...definite,
          status: 'succeeded',
          channelRefundId: answer.channelRefundId,
          failure: null,
          ...(isAsAsked ? {} : { amount, askedAmount: refund.amount }),
        },
      );
      news.push({ type: 'refund.succeeded', refundId: refund.id });
      const after = await moneyWentBack(locked, amount, now);
      if (!isAsAsked) await showOtherAmount(tx, after, difference, now);
      return written;
    }
    case 'failed': {
      const written = await write(`${said} failed: ${answer.reason}`, {
        ...definite,
        status: 'failed',
        failure: answer.reason,
      });
      news.push({ type: 'refund.failed', refundId: refund.id });
      await reviewAttention(tx, payment, now);
      return written;
    }
    case 'processing': {
      const written = await write(`${said}: the channel has it in process.`, {
        status: 'processing',
        askedAt: refund.askedAt ?? now,
        unknownSince: null,
        failure: null,
      });
      await reviewAttention(tx, payment, now);
      return written;
    }
    case 'unknown_refund': {
      const written = await write(`${said}: the channel does not know it, and is told again.`, {
        unknownSince: refund.unknownSince ?? now,
        failure: null,
      });
      await reviewAttention(tx, payment, now);
      return written;
    }
  }
}

/** All that came in has gone back. */
export const isAllBack = ({ receivedAmount, refundedAmount }: Payment): boolean =>
  receivedAmount !== null && refundedAmount >= receivedAmount;

/** Adds to what has gone back, and draws the conclusions for the order when that is everything. */
async function moneyWentBack(
  { tx, order, payment: { id }, news }: Locked,
  amount: bigint,
  now: Date,
): Promise<Payment> {
  let payment = await update(tx, id, { refundedAmount: { increment: amount } });
  if (isAllBack(payment)) {
    if (order.paidPaymentId === id && order.status === 'succeeded') {
      await tx.order.update({
        where: { merchantId_id: { merchantId: order.merchantId, id: order.id } },
        data: { status: 'refunded' },
      });
      await note(tx, id, 'order', `Order ${order.id} is refunded: all of its money is back.`, now);
    }
    if (payment.orderUpdate === 'review') {
      payment = await update(tx, id, { orderUpdate: 'conflict', orderUpdatedAt: now });
      await note(tx, id, 'order', 'All money is back: nothing is left to decide.', now);
      news.push({ type: 'payment.conflict' });
      await releaseOrder(tx, order, now);
    }
  }
  return await reviewAttention(tx, payment, now);
}

/** Shows a payment whose refund does not get on, and stops showing it when that is over. */
async function reviewAttention(tx: LedgerTx, payment: Payment, now: Date): Promise<Payment> {
  const refunds = await tx.refund.findMany({
    where: { paymentId: payment.id },
    orderBy: [{ createdAt: 'desc' }, { id: 'desc' }],
  });
  const allBack = isAllBack(payment);
  const current = payment.attention as Attention | null;
  const onItsWay = refunds.reduce(
    (sum, { status, amount }) => (status === 'failed' ? sum : sum + amount),
    0n,
  );
  const isHeld = onItsWay < (payment.receivedAmount ?? 0n);
  for (const refund of refunds) {
    const trouble = troubleWith(refund, isHeld, now);
    if (trouble === undefined) continue;
    if (current === 'refund_failing') {
      // As old as it was, and with what is true of it now.
      if (payment.attentionDetail === trouble) return payment;
      await note(tx, payment.id, 'attention', `refund_failing: ${trouble}`, now);
      return await update(tx, payment.id, { attentionDetail: trouble });
    }
    // An open conflict is no news beside money that cannot be given back.
    if (current !== null && current !== 'order_conflict') return payment;
    await note(tx, payment.id, 'attention', `refund_failing: ${trouble}`, now);
    return await update(tx, payment.id, raised('refund_failing', trouble, now));
  }
  // That the channel gave back another amount than asked stays to be seen.
  const isOtherAmount = refunds.some(({ askedAmount }) => askedAmount !== null);
  const occasions: Occasion[] = allBack
    ? ['money_back', ...(isOtherAmount ? [] : (['money_back_as_asked'] as const))]
    : ['refunds_get_on'];
  if (current === null || !isClearedBy(current, occasions)) return payment;
  await note(tx, payment.id, 'attention', `${current} is over.`, now);
  if (payment.orderUpdate === 'conflict' && !allBack) {
    // As old as it was: the money has been here since.
    const detail = 'Its money is on its way back.';
    return await update(tx, payment.id, { attention: 'order_conflict', attentionDetail: detail });
  }
  return await update(tx, payment.id, cleared(payment, ...occasions));
}

/** @param isHeld money of the payment is here that no refund brings back */
function troubleWith(refund: Refund, isHeld: boolean, now: Date): string | undefined {
  const what = `refund ${refund.id} of ${sayAmount(refund.amount, refund.currency)}`;
  if (refund.status === 'failed') {
    // One that was asked for is its asker's to ask for again; one that is owed stays owed.
    return isAutomaticRefundId(refund.id, refund.paymentId) && isHeld
      ? `The channel refused ${what}: ${refund.failure ?? 'it gave no reason'}`
      : undefined;
  }
  if (!isRefundOpen(refund.status as RefundStatus)) return undefined;
  const { unknownSince, createdAt } = refund;
  if (unknownSince !== null && now.getTime() - unknownSince.getTime() >= REFUND_FAILING_AFTER_MS)
    return `No definite answer on ${what} since ${unknownSince.toISOString()}; it is asked on.`;
  if (refund.status === 'processing' && now.getTime() - createdAt.getTime() >= REFUND_PROCESSING_AT_MOST_MS)
    return `The channel still has ${what} in process, owed since ${createdAt.toISOString()}; it is asked on.`;
  return undefined;
}
