import { isMoney } from '../domain/answer.ts';
import { type Attention, isFree } from '../domain/attention.ts';
import type { ChannelAnswer, ChannelError, RefundAnswer } from '../domain/channel.ts';
import { sayAmount, smaller } from '../domain/money.ts';
import type { RefundSnapshot } from '../domain/refund.ts';
import { isRefundOpen } from '../domain/states.ts';
import { readCallback } from './callbacks.ts';
import type { LedgerClient, LedgerTx } from './client.ts';
import { type Locked, raised, underLock, update } from './locked.ts';
import { moneyWentBack, reviewAttention } from './refund-trouble.ts';
import { promised } from './refunds.ts';
import { isOfAllThatIsLeft, oweExplainedLate, oweInItsPlace } from './replacement.ts';
import { correctExternal, recordExternalRefunds } from './reversals.ts';
import type { Payment, Refund } from './rows.ts';
import { toRefundSnapshot } from './snapshot.ts';
import { note } from './timeline.ts';

/** What the channel says of our refunds. How changes are made: see refunds.ts. */

/**
 * Before the channel is asked for a refund the first time: the trade was queried, and after it the refund's number,
 * which the channel does not know. So the trade's sum cannot hold this refund, and what went back unknown to us is
 * recorded without counting it. Of a refund of all that is left, what that leaves is asked for; with nothing left it has
 * failed, and the channel is not asked. Else the channel may have it from here on. Does nothing the second time.
 */
export async function recordFirstAsk(
  db: LedgerClient,
  refundId: string,
  trade: ChannelAnswer,
  now: Date,
): Promise<void> {
  await underRefundLock(db, refundId, now, async (locked, refund) => {
    if (!isRefundOpen(refund.status) || refund.askedAt !== null) return;
    const { tx } = locked;
    // Its row before the payment's.
    const asked = await tx.refund.update({ where: { id: refundId }, data: { askedAt: now } });
    const seen = await recordTrade(locked, trade, now, refundId);
    const isMore = seen.refundedAmount > locked.payment.refundedAmount;
    const payment = isMore ? await oweExplainedLate({ ...locked, payment: seen }, now, refundId) : seen;
    const left = (payment.receivedAmount ?? 0n) - (await promised(tx, payment.id, refundId));
    if (left >= asked.amount || !(await isOfAllThatIsLeft(tx, asked))) return;
    if (left > 0n) {
      await tx.refund.update({ where: { id: refundId }, data: { amount: left } });
      const say = (amount: bigint) => sayAmount(amount, asked.currency);
      const detail = `Refund ${refundId}: ${say(asked.amount - left)} less are asked for, ${say(left)}, as they went back already.`;
      await note(tx, payment.id, 'refund', detail, now, { refundId });
      return;
    }
    await tx.refund.update({ where: { id: refundId }, data: { askedAt: null } });
    const reason = 'All of the money is back, or on its way back: the channel was not asked for it.';
    await recordRefusal({ ...locked, payment }, asked, reason, now);
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
    const isRefused = answer.state === 'failed' && isRefundOpen(refund.status);
    if (isRefused) return await recordRefusal(locked, refund, answer.reason, now, trade);
    const written = await writeAnswer(locked, refund, answer, now, trade);
    if (trade !== undefined) await recordTrade(locked, trade, now);
    return written;
  });
}

/**
 * An open refund gives nothing back, now or later. What is owed in its place is written with it.
 * @param trade what the channel said of the trade after the refusal
 */
async function recordRefusal(
  locked: Locked,
  refund: Refund,
  reason: string,
  now: Date,
  trade?: ChannelAnswer,
): Promise<RefundSnapshot> {
  const { tx, news } = locked;
  const { id } = refund;
  // Its row before the payment's.
  await tx.refund.update({ where: { id }, data: { unknownSince: null, settledAt: now } });
  // The sum does not hold it. While it is open nothing is raised that the rest makes untrue.
  const payment = trade === undefined ? locked.payment : await recordTrade(locked, trade, now, id);
  const failed = await tx.refund.update({ where: { id }, data: { status: 'failed', failure: reason } });
  const said = `Refund ${id} of ${sayAmount(refund.amount, refund.currency)} failed: ${reason}`;
  await note(tx, payment.id, 'refund', said, now, { refundId: id, status: 'failed' });
  const isExplained = payment.refundedAmount > locked.payment.refundedAmount;
  await oweInItsPlace({ ...locked, payment }, failed, isExplained, now);
  // This one may have hidden what explains an earlier refusal.
  const after = isExplained ? await oweExplainedLate({ ...locked, payment }, now, id) : payment;
  news.push({ type: 'refund.failed', refundId: id });
  await reviewAttention(tx, after, now);
  return toRefundSnapshot(failed, after);
}

/** What the channel said of the trade when it was queried for a refund. `absent`: see recordExternalRefunds. */
async function recordTrade(
  locked: Locked,
  trade: ChannelAnswer,
  now: Date,
  absent?: string,
): Promise<Payment> {
  const { tx, payment } = locked;
  const { state } = trade;
  await note(tx, payment.id, 'query', `The channel answered ${state}.`, now, { state, by: 'query' });
  const seen = await update(tx, payment.id, {
    channelState: state,
    channelAnsweredAt: now,
    channelErrorSince: null,
  });
  return isMoney(trade)
    ? await recordExternalRefunds({ ...locked, payment: seen }, trade, now, absent)
    : seen;
}

/**
 * The channel gave no definite answer on a refund: none that can be read, or a refusal that can end. After an hour of
 * that a person should look.
 */
export async function recordRefundSilence(
  db: LedgerClient,
  refundId: string,
  { kind, message: reason }: Pick<ChannelError, 'kind' | 'message'>,
  now: Date,
): Promise<RefundSnapshot> {
  return await underRefundLock(db, refundId, now, async ({ tx, payment }, refund) => {
    if (!isRefundOpen(refund.status)) return toRefundSnapshot(refund, payment);
    const silent = await tx.refund.update({
      where: { id: refundId },
      data: { failure: reason, unknownSince: refund.unknownSince ?? now },
    });
    // The same trouble again is no news.
    if (refund.failure !== reason) {
      const said =
        kind === 'not_now'
          ? `The channel refuses refund ${refundId} for now`
          : `No readable answer on refund ${refundId}`;
      await note(tx, payment.id, 'refund', `${said}: ${reason}`, now);
    }
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
  // An open one that failed: see recordRefusal.
  if (!isRefundOpen(refund.status) || answer.state === 'failed') return toRefundSnapshot(refund, payment);
  if (answer.state === 'reversed' || answer.state === 'needs_person' || answer.state === 'ask_again')
    return toRefundSnapshot(refund, payment);
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
    case 'processing': {
      // Without `askedAt`: one that was found there before it was asked for may be on record as external.
      const written = await write(`${said}: the channel has it in process.`, {
        status: 'processing',
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

/** What says less than that the channel gave back another amount than it was asked for. */
const GIVES_WAY: readonly Attention[] = ['order_conflict', 'channel_reversed'];

/** Shows that the channel gave back another amount than it was asked for, unless something else is shown. */
async function showOtherAmount(tx: LedgerTx, payment: Payment, detail: string, now: Date): Promise<void> {
  if (payment.attention !== null && !isFree(payment.attention) && !GIVES_WAY.includes(payment.attention))
    return;
  await note(tx, payment.id, 'attention', `amount_mismatch: ${detail}.`, now);
  await update(tx, payment.id, raised('amount_mismatch', `${detail}.`, now));
}
