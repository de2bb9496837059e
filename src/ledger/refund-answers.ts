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

/** Records the channel's answers about refunds that nodrop made. refunds.ts describes how changes are made. */

/**
 * An answer about a refund. It includes the channel's number of the refund if a list or a callback reported that
 * number.
 */
export type RefundReport = RefundAnswer & { readonly outRefundNo?: string };

/**
 * Records that a refund is about to be requested from the channel for the first time. Before this call, nodrop has
 * queried the trade and then the refund's number, and the channel does not know the number. Therefore the trade's
 * refunded sum cannot contain this refund. If the sum contains refunds that nodrop does not know, they are recorded. If
 * this refund was created to refund all remaining money, it is then lowered to the money that still remains. If nothing
 * remains, the refund fails without a request to the channel. If the trade has an open dispute, the refund is not
 * requested yet. Otherwise the refund is recorded as requested. A repeated call has no effect.
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
    // This write locks the refund's row, which must be locked before the payment's row. `askedAt` stays null, so that a
    // lost dispute can still lower or end the refund.
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
      const detail = `Refund ${refundId} was lowered by ${say(asked.amount - left)} to ${say(left)}, because the difference was given back already.`;
      await note(tx, payment.id, 'refund', detail, now, { refundId });
      return;
    }
    await tx.refund.update({ where: { id: refundId }, data: { askedAt: null } });
    const reason =
      'All of the money was given back, or other refunds give it back: the channel was not asked for this refund.';
    await recordRefusal({ ...locked, payment }, asked, reason, now);
  });
}

/**
 * Records the channel's answer about a refund before nodrop acts on the answer. A definite answer is final. The same
 * transaction records the state of the trade, which was queried after the refund, and the refunds that were made at
 * the channel. If the channel refused this refund and another refund becomes due instead, the sweep starts that other
 * refund.
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

/**
 * Records that a refund's money came back to the merchant. Also records the state of the trade, which was queried
 * together with the refund.
 */
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
 * Records the later check of a refund that had succeeded. The check consists of the channel's answer about the refund
 * and the state of the trade.
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
 * Records that an open refund has failed and will give nothing back. If the money must still be refunded, the function
 * also creates the refund that replaces the failed one.
 * @param trade the state of the trade, queried after the refusal
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
  // The refund's row must be locked before the payment's row.
  await tx.refund.update({ where: { id }, data: { unknownSince: null, settledAt: now } });
  // The trade's refunded sum does not contain this refund. `recordTrade` runs before the refund's status changes.
  // Otherwise it could raise an attention that would be cleared again immediately.
  const seen = trade === undefined ? locked.payment : await recordTrade(locked, trade, now, id);
  const failed = await tx.refund.update({ where: { id }, data: { status: 'failed', failure: reason } });
  const said = `Refund ${id} of ${amountText(refund.amount, refund.currency)} failed: ${reason}`;
  await note(tx, seen.id, 'refund', said, now, { refundId: id, status: 'failed' });
  // Some amounts of lost disputes may not have been recorded while this refund was open. They can be recorded now.
  const payment = await recordLosses({ ...locked, payment: seen }, now);
  const isMore = payment.refundedAmount > locked.payment.refundedAmount;
  // Other refunds may have left too little money for this refund. They may come from a list that was recorded while
  // this refund was open.
  const others = await promised(tx, payment.id, id);
  const isExplained = isMore || others + refund.amount > (payment.receivedAmount ?? 0n);
  await oweInItsPlace({ ...locked, payment }, failed, isExplained, now);
  // An earlier refund may have been refused because of refunds made at the channel. While this refund was open, nodrop
  // could not detect that reason, because the trade's refunded sum could have contained this refund.
  const after = isExplained ? await oweExplainedLate({ ...locked, payment }, now, id) : payment;
  newEvents.push({ type: 'refund.failed', refundId: id });
  await reviewAttention(tx, after, now);
  return toRefundSnapshot(failed, after);
}

/**
 * Records the state of a trade that was queried because of a refund. `recordExternalRefunds` describes the parameter
 * `absent`.
 */
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
 * Records that the channel gave no readable answer about a refund, or refused it temporarily. If this lasts for an
 * hour, an attention is raised.
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
    // A repeated failure with the same reason gets no further timeline entry.
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
 * Records what a stored callback reports about a refund that nodrop made. A reported success is recorded only if its
 * amount is exactly the refund's amount. If the callback also reports refunds made at the channel, they are recorded. A
 * refusal in a callback is not recorded. nodrop queries the channel instead, because the next due refund depends on
 * refunds made at the channel, which only the trade's state shows. nodrop also queries the channel if it has not
 * requested the refund yet, because the ledger may have recorded the refund as made at the channel.
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
    const counts =
      refund.askedAt !== null &&
      (answer?.state === 'processing' ||
        (answer?.state === 'succeeded' && BigInt(answer.amount) === refund.amount));
    const written =
      counts && answer !== undefined
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
    // If a callback reports that a succeeded refund failed or was reversed, nodrop queries the channel to learn whether
    // the money came back to the merchant.
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
  // `recordRefundAnswer` records the answers `failed` and `reversed` itself.
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
  // Returns the columns for a refund that the channel has accepted. They include the channel's id of the refund.
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
      // The recorded amount is at most the received amount, even if the channel reports more.
      const amount = smaller(given, (receivedAmount ?? 0n) - refundedAmount);
      const isAsAsked = given === refund.amount && amount === given;
      const say = (sum: bigint) => amountText(sum, refund.currency);
      const difference =
        `The channel gave back ${say(given)} for refund ${refund.id}; nodrop asked for ${say(refund.amount)}` +
        (amount === given ? '' : `; only ${say(amount)} is recorded, because no more was received`);
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
      // If nodrop found the refund at the channel before it requested the refund, `askedAt` stays null. Such a refund
      // may also be on record as an external refund.
      const written = await write(`${said}: the channel is processing it.`, {
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
      const isNewReason = refund.status !== 'needs_person' || refund.failure !== answer.reason;
      const detail = `${said}: the channel needs a manual action: ${answer.reason}`;
      const written = isNewReason ? await write(detail, data) : toRefundSnapshot(refund, payment);
      await reviewAttention(tx, await present(), now);
      return written;
    }
    case 'ask_again': {
      const unknownSince = refund.unknownSince ?? now;
      const written = await write(
        `${said} failed, and the channel expects the request again with the same number: ${answer.reason}`,
        {
          ...(await has(answer)),
          ...{ status: 'created', askedAt: refund.askedAt ?? now, unknownSince, failure: answer.reason },
        },
      );
      await reviewAttention(tx, await present(), now);
      return written;
    }
    case 'unknown_refund': {
      // A refund with no idempotency key left still needs a manual action, see refund-keys.ts.
      if (refund.status === 'needs_person' && refund.keySpentAt !== null)
        return toRefundSnapshot(refund, payment);
      const written = await write(`${said}: the channel does not know it, so the request is repeated.`, {
        unknownSince: refund.unknownSince ?? now,
        failure: null,
      });
      await reviewAttention(tx, payment, now);
      return written;
    }
  }
}
