import { isMoney } from '../domain/answer.ts';
import type { ChannelAnswer, ChannelError, RefundAnswer } from '../domain/channel.ts';
import { isHeldByDispute } from '../domain/dispute.ts';
import { refundIdOf } from '../domain/ids.ts';
import { amountText, smaller } from '../domain/money.ts';
import type { RefundSnapshot } from '../domain/refund.ts';
import { isRefundOpen } from '../domain/states.ts';
import { readCallback } from './callbacks.ts';
import type { LedgerClient } from './client.ts';
import { recordDisputes, recordLosses } from './disputes.ts';
import { claimExternal } from './external-refunds.ts';
import { underNumber } from './listed-refunds.ts';
import { clearedOnceAccepted, type Locked, underOrderLock, update } from './order-lock.ts';
import { toRefundSnapshot } from './payment-facts.ts';
import { moneyWentBack, reviewAttention, showOtherAmount } from './refund-trouble.ts';
import { promised } from './refunds.ts';
import { isOfAllThatIsLeft, oweExplainedLate, oweInItsPlace } from './replacement.ts';
import { correctExternal, recordExternalRefunds } from './reversals.ts';
import { recordReversal } from './reversed-refunds.ts';
import type { Payment, Refund } from './rows.ts';
import { note } from './timeline.ts';

/** What the channel says of our refunds. How changes are made: see refunds.ts. */

/** With the number under which the channel has it, when a list or a callback told that. */
export type RefundReport = RefundAnswer & { readonly outRefundNo?: string };

/**
 * Before the channel is asked for a refund the first time: the trade was queried, and after it the refund's number,
 * which the channel does not know. So the trade's sum cannot hold this refund, and what went back unknown to us is
 * recorded without counting it. Of a refund of all that is left, what that leaves is asked for; with nothing left it has
 * failed, and the channel is not asked. Else the channel may have it from here on, unless the trade tells of a dispute:
 * then it is held back. Does nothing the second time.
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
    // Its row before the payment's. Not asked for yet, it gives way to a dispute that is lost.
    await tx.refund.update({ where: { id: refundId }, data: { askedAt: null } });
    const seen = await recordTrade(locked, trade, now, refundId);
    const before = await tx.refund.findUniqueOrThrow({ where: { id: refundId } });
    if (!isRefundOpen(before.status) || isHeldByDispute(seen, before.reason)) return;
    const asked = await tx.refund.update({ where: { id: refundId }, data: { askedAt: now } });
    const isMore = seen.refundedAmount > locked.payment.refundedAmount;
    const payment = isMore ? await oweExplainedLate({ ...locked, payment: seen }, now, refundId) : seen;
    const left = (payment.receivedAmount ?? 0n) - (await promised(tx, payment.id, refundId));
    if (left >= asked.amount || !(await isOfAllThatIsLeft(tx, asked))) return;
    if (left > 0n) {
      await tx.refund.update({ where: { id: refundId }, data: { amount: left } });
      const say = (amount: bigint) => amountText(amount, asked.currency);
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
  answer: RefundReport,
  now: Date,
  trade?: ChannelAnswer,
): Promise<RefundSnapshot> {
  return await underRefundLock(db, refundId, now, async (under, refund) => {
    const over = clearedOnceAccepted(under.payment);
    const isOver = Object.keys(over).length > 0;
    const payment = isOver ? await update(under.tx, under.payment.id, over) : under.payment;
    const locked = { ...under, payment };
    const isOpen = isRefundOpen(refund.status);
    if (answer.state === 'failed' && isOpen)
      return await recordRefusal(locked, refund, answer.reason, now, trade);
    const isTakenBack =
      (answer.state === 'reversed' && isOpen) ||
      ((answer.state === 'reversed' || answer.state === 'failed') && refund.status === 'succeeded');
    if (isTakenBack) return await recordTakenBack(locked, refund, answer, now, trade);
    const written = await writeAnswer(locked, refund, answer, now, trade);
    if (trade !== undefined) await recordTrade(locked, trade, now);
    return written;
  });
}

/** What was given back is here again. With it comes what the channel said of the trade. */
async function recordTakenBack(
  locked: Locked,
  refund: Refund,
  { reason, channelRefundId }: Extract<RefundAnswer, { reason: string }>,
  now: Date,
  trade?: ChannelAnswer,
): Promise<RefundSnapshot> {
  const claimed = (await claimExternal(locked, refund, channelRefundId, now)) ?? locked.payment;
  const payment = await recordReversal({ ...locked, payment: claimed }, refund, reason, now);
  if (trade !== undefined) await recordTrade({ ...locked, payment }, trade, now);
  const row = await locked.tx.refund.findUniqueOrThrow({ where: { id: refund.id } });
  return toRefundSnapshot(row, payment);
}

/**
 * A refund that had succeeded was looked at again: the channel's answer on it, and what it says of the trade.
 */
export async function recordLookAgain(
  db: LedgerClient,
  refundId: string,
  answer: RefundAnswer,
  trade: ChannelAnswer,
  now: Date,
): Promise<RefundSnapshot> {
  await underRefundLock(db, refundId, now, async ({ tx }) => {
    await tx.refund.update({ where: { id: refundId }, data: { lookedAgainAt: now } });
  });
  return await recordRefundAnswer(db, refundId, answer, now, trade);
}

/**
 * An open refund gives nothing back, now or later. What is owed in its place is written with it.
 * @param trade what the channel said of the trade after the refusal
 */
export async function recordRefusal(
  locked: Locked,
  refund: Refund,
  reason: string,
  now: Date,
  trade?: ChannelAnswer,
): Promise<RefundSnapshot> {
  const { tx, newEvents } = locked;
  const { id } = refund;
  // Its row before the payment's.
  await tx.refund.update({ where: { id }, data: { unknownSince: null, settledAt: now } });
  // The sum does not hold it. While it is open nothing is raised that the rest makes untrue.
  const seen = trade === undefined ? locked.payment : await recordTrade(locked, trade, now, id);
  const failed = await tx.refund.update({ where: { id }, data: { status: 'failed', failure: reason } });
  const said = `Refund ${id} of ${amountText(refund.amount, refund.currency)} failed: ${reason}`;
  await note(tx, seen.id, 'refund', said, now, { refundId: id, status: 'failed' });
  // What disputes that are lost have taken it counted on.
  const payment = await recordLosses({ ...locked, payment: seen }, now);
  const isMore = payment.refundedAmount > locked.payment.refundedAmount;
  // A list told of what leaves too little for it before this refusal: while it was under way, exactly.
  const others = await promised(tx, payment.id, id);
  const isExplained = isMore || others + refund.amount > (payment.receivedAmount ?? 0n);
  await oweInItsPlace({ ...locked, payment }, failed, isExplained, now);
  // This one may have hidden what explains an earlier refusal.
  const after = isExplained ? await oweExplainedLate({ ...locked, payment }, now, id) : payment;
  newEvents.push({ type: 'refund.failed', refundId: id });
  await reviewAttention(tx, after, now);
  return toRefundSnapshot(failed, after);
}

/** What the channel said of the trade when it was queried for a refund. `absent`: see recordExternalRefunds. */
export async function recordTrade(
  locked: Locked,
  trade: ChannelAnswer,
  now: Date,
  absent?: string,
): Promise<Payment> {
  const { tx, payment } = locked;
  const { state } = trade;
  await note(tx, payment.id, 'query', `The channel answered ${state}.`, now, { state, by: 'query' });
  const answered = await update(tx, payment.id, {
    channelState: state,
    channelAnsweredAt: now,
    channelErrorSince: null,
  });
  const seen = await recordDisputes({ ...locked, payment: answered }, trade, now);
  if (!isMoney(trade)) return seen;
  const how = absent === undefined ? {} : { absent };
  const after = await recordExternalRefunds({ ...locked, payment: seen }, trade, now, how);
  return await recordLosses({ ...locked, payment: after }, now);
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
    // The same trouble again is not recorded.
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
    const { outRefundNo, channelRefundId } = said.refund ?? {};
    const isNamed =
      (outRefundNo !== undefined && refundIdOf(outRefundNo) === refundId) ||
      (channelRefundId !== undefined && channelRefundId === refund.channelRefundId);
    const answer = isNamed ? said.refund?.answer : undefined;
    const isVerifiedAnswer =
      refund.askedAt !== null &&
      (answer?.state === 'processing' ||
        (answer?.state === 'succeeded' && BigInt(answer.amount) === refund.amount));
    const written =
      isVerifiedAnswer && answer !== undefined
        ? await writeAnswer(
            locked,
            refund,
            { ...answer, ...(outRefundNo === undefined ? {} : { outRefundNo }) },
            now,
          )
        : toRefundSnapshot(refund, payment);
    const current = await tx.payment.findUniqueOrThrow({ where: { id: payment.id } });
    if (isMoney(said.answer))
      await recordExternalRefunds({ ...locked, payment: current }, said.answer, now, { isOld: true });
    // The channel itself is asked whether the money is here again.
    const isTakenBack = answer?.state === 'failed' || answer?.state === 'reversed';
    return written.status === 'succeeded' && isTakenBack ? { ...written, isToLookAgain: true } : written;
  });
}

export async function underRefundLock<T>(
  db: LedgerClient,
  refundId: string,
  now: Date,
  work: (locked: Locked, refund: Refund) => Promise<T>,
): Promise<T> {
  const { paymentId } = await db.refund.findUniqueOrThrow({
    where: { id: refundId },
    select: { paymentId: true },
  });
  return await underOrderLock(db, paymentId, now, async (locked) =>
    work(locked, await locked.tx.refund.findUniqueOrThrow({ where: { id: refundId } })),
  );
}

async function writeAnswer(
  locked: Locked,
  refund: Refund,
  answer: RefundReport,
  now: Date,
  trade?: ChannelAnswer,
): Promise<RefundSnapshot> {
  const { tx, payment, newEvents } = locked;
  // An open one that failed, or was taken back: see recordRefundAnswer.
  if (!isRefundOpen(refund.status) || answer.state === 'failed' || answer.state === 'reversed')
    return toRefundSnapshot(refund, payment);
  const said = `Refund ${refund.id} of ${amountText(refund.amount, refund.currency)}`;
  const write = async (detail: string, data: Parameters<typeof tx.refund.update>[0]['data']) => {
    const row = await tx.refund.update({ where: { id: refund.id }, data });
    await note(tx, payment.id, 'refund', detail, now, { refundId: refund.id, status: row.status });
    return toRefundSnapshot(row, payment);
  };
  const present = () => tx.payment.findUniqueOrThrow({ where: { id: payment.id } });
  const definite = { unknownSince: null, settledAt: now, keySpentAt: null, absentAt: null };
  // The channel has it, under this id of its own.
  const has = async ({ channelRefundId }: { readonly channelRefundId?: string }) => {
    await claimExternal(locked, refund, channelRefundId, now);
    return {
      keySpentAt: null,
      absentAt: null,
      ...underNumber(answer.outRefundNo),
      ...(channelRefundId === undefined ? {} : { channelRefundId }),
    };
  };
  switch (answer.state) {
    case 'succeeded': {
      const given = BigInt(answer.amount);
      const { receivedAmount, refundedAmount } = await correctExternal(
        locked,
        refund,
        { amount: given, channelRefundId: answer.channelRefundId },
        trade,
        now,
      );
      // Never more than came in, whatever the channel says.
      const amount = smaller(given, (receivedAmount ?? 0n) - refundedAmount);
      const isAsAsked = given === refund.amount && amount === given;
      const say = (sum: bigint) => amountText(sum, refund.currency);
      const difference =
        `The channel gave back ${say(given)} under refund ${refund.id}, asked were ${say(refund.amount)}` +
        (amount === given ? '' : `; recorded are ${say(amount)}, as no more came in`);
      const written = await write(
        `${said} succeeded: ${refund.reason}.${isAsAsked ? '' : ` ${difference}.`}`,
        {
          ...definite,
          ...underNumber(answer.outRefundNo),
          status: 'succeeded',
          channelRefundId: answer.channelRefundId,
          failure: null,
          ...(isAsAsked ? {} : { amount, askedAmount: refund.amount }),
        },
      );
      newEvents.push({ type: 'refund.succeeded', refundId: refund.id });
      const after = await moneyWentBack(locked, amount, now);
      if (!isAsAsked) await showOtherAmount(tx, after, difference, now);
      return written;
    }
    case 'processing': {
      // Without `askedAt`: one that was found there before it was asked for may be on record as external.
      const written = await write(`${said}: the channel has it in process.`, {
        ...(await has(answer)),
        status: 'processing',
        unknownSince: null,
        failure: null,
      });
      await reviewAttention(tx, await present(), now);
      return written;
    }
    case 'needs_person': {
      const data = {
        ...(await has(answer)),
        status: 'needs_person',
        unknownSince: null,
        failure: answer.reason,
      };
      const isNewAnswer = refund.status !== 'needs_person' || refund.failure !== answer.reason;
      const detail = `${said}: the channel waits for a person: ${answer.reason}`;
      const written = isNewAnswer ? await write(detail, data) : toRefundSnapshot(refund, payment);
      await reviewAttention(tx, await present(), now);
      return written;
    }
    case 'ask_again': {
      const unknownSince = refund.unknownSince ?? now;
      const written = await write(
        `${said} failed, and the channel wants it asked for again under the same number: ${answer.reason}`,
        {
          ...(await has(answer)),
          ...{ status: 'created', askedAt: refund.askedAt ?? now, unknownSince, failure: answer.reason },
        },
      );
      await reviewAttention(tx, await present(), now);
      return written;
    }
    case 'unknown_refund': {
      // It waits for a person, as no key is left: see refund-keys.ts.
      if (refund.status === 'needs_person' && refund.keySpentAt !== null)
        return toRefundSnapshot(refund, payment);
      const written = await write(`${said}: the channel does not know it, and is told again.`, {
        unknownSince: refund.unknownSince ?? now,
        failure: null,
      });
      await reviewAttention(tx, payment, now);
      return written;
    }
  }
}
