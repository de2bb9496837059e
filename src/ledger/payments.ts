import {
  goneBackBy,
  isMoney,
  isNewAnswer,
  isUndecidedTooLong,
  recordedAnswer,
  reportsRefunds,
  undecidedAlarm,
} from '../domain/answer.ts';
import { type Attention, isClearedBy, isFree, type Occasion, severityOf } from '../domain/attention.ts';
import type { ChannelAnswer, NextAction, PaidAnswer, TradeReference } from '../domain/channel.ts';
import type { EventType } from '../domain/event.ts';
import type { PaymentSnapshot } from '../domain/payment.ts';
import { canPaymentGo, isLive, type SettledBy } from '../domain/states.ts';
import { json, type LedgerClient, type LedgerTx } from './client.ts';
import { hasLosses, lossesOf, recordDisputes, recordLosses } from './disputes.ts';
import {
  cleared,
  clearedOnceAccepted,
  hidden,
  type Locked,
  raised,
  raisedUnlessDisputed,
  underOrderLock,
  update,
  type Work,
} from './order-lock.ts';
import { cancelOthers, othersToCancel, payOrder, releaseOrder } from './order-row.ts';
import { toSnapshot } from './payment-facts.ts';
import { PAYMENTS, type RawRow, readRow } from './raw-rows.ts';
import { giveBackOthers, othersToGiveBack, owedRefund, oweRefund } from './refunds.ts';
import { endAnswers, otherAnswer, takeAnswer } from './repeated-answer.ts';
import { asExplained } from './reported-refunds.ts';
import { recordExternalRefunds } from './reversals.ts';
import type { Payment } from './rows.ts';
import { aNote, note } from './timeline.ts';
import { findReceived, tradeOf } from './trade-of-payment.ts';
import type { OwnedPayment } from './transaction-limits.ts';

/**
 * This file changes payments. Each change is one transaction under the order's row lock and depends on the payment's
 * current state. Therefore a change that is repeated, or that runs late, has no effect (P5).
 */

/** Returns null if the payment does not exist. */
export async function findPayment(
  db: LedgerClient,
  paymentId: string,
  now: Date,
): Promise<PaymentSnapshot | null> {
  const row = await db.payment.findUnique({ where: { id: paymentId } });
  return row && toSnapshot(row, now);
}

/** @throws Prisma's P2025 if the payment does not exist. */
export async function loadPayment(db: LedgerClient, paymentId: string, now: Date): Promise<PaymentSnapshot> {
  return toSnapshot(await db.payment.findUniqueOrThrow({ where: { id: paymentId } }), now);
}

/**
 * Records that the trade is about to be requested from the channel, and returns the payment. One statement does both,
 * so that a create needs no additional statement. The record is written only if the trade may be requested now.
 * @returns the payment, and whether this is the first request. Before the first request the channel cannot have a
 *   trade.
 * @throws Prisma's P2025 if the payment does not exist.
 */
export async function askForTrade(
  db: LedgerClient,
  paymentId: string,
  now: Date,
): Promise<{ payment: Payment; isFirst: boolean }> {
  const [read] = await db.$queryRaw<{ payment: RawRow; isFirst: boolean }[]>`
    WITH asked AS (
      UPDATE payments SET create_asked_at = ${now}::timestamptz
      WHERE id = ${paymentId} AND create_asked_at IS NULL AND status = 'created'
        AND cancel_requested_at IS NULL AND recovered_at IS NULL AND expires_at > ${now}::timestamptz
      RETURNING *
    )
    SELECT COALESCE((SELECT to_jsonb(asked) FROM asked), to_jsonb(payments)) AS payment,
      EXISTS (SELECT FROM asked) AS "isFirst"
    FROM payments WHERE id = ${paymentId}`;
  // If the statement has written the row, this is the row as it was written. It includes the changes of transactions
  // that the statement waited for.
  const payment = read && readRow(PAYMENTS, read.payment);
  if (payment !== undefined && read?.isFirst === true) return { payment, isFirst: true };
  // If a concurrent request for the trade was recorded first, the row that was read can be out of date. It is then read
  // again.
  const isRead = payment !== undefined && payment.createAskedAt !== null;
  return {
    payment: isRead ? payment : await db.payment.findUniqueOrThrow({ where: { id: paymentId } }),
    isFirst: false,
  };
}

/** Returns the columns that store the channel's reference of a trade, and the reference's data. */
const columnsOf = ({ id, data }: TradeReference) => ({
  reference: id,
  referenceData: (data ?? null) as Payment['referenceData'],
});

/**
 * Records that the channel has the trade. The payment and its order become `paying`, and the payer gets a next
 * action. A payment whose cancellation was requested gets no next action, so that the payer does not pay it. The
 * channel's reference of the trade is also stored.
 */
export async function recordCreated(
  db: LedgerClient,
  of: string | OwnedPayment,
  nextAction: NextAction,
  now: Date,
  reference?: TradeReference,
): Promise<PaymentSnapshot> {
  return await underOrderLock(db, of, now, async ({ order, payment, write }) => {
    // If the row already has a reference of the trade, this reference is not replaced, because calls to the channel use
    // it.
    const found = payment.reference === null && reference !== undefined ? columnsOf(reference) : undefined;
    if (!isLive(payment.status)) {
      return toSnapshot(found === undefined ? payment : write({ payment: found }).payment, now);
    }
    const noted =
      payment.status === 'created'
        ? aNote('transition', 'The channel has the trade: created -> paying.', now)
        : aNote('channel', 'The channel gave a new next action.', now);
    const after = write({
      payment: {
        status: 'paying',
        ...found,
        ...(payment.cancelRequestedAt === null
          ? { nextAction: json(nextAction) as Payment['nextAction'] }
          : {}),
        channelErrorSince: null,
        ...cleared(payment, 'answered', 'trade_known'),
        ...clearedOnceAccepted(payment),
      },
      ...(order.status === 'unpaid' ? { order: { status: 'paying' as const } } : {}),
      notes: [noted],
    });
    return toSnapshot(after.payment, now);
  });
}

/**
 * Stores the channel's reference of the trade, if the reference became known only after the trade was created. A stored
 * reference is not replaced.
 * @returns the stored reference
 */
export async function recordReference(
  db: LedgerClient,
  paymentId: string,
  found: TradeReference,
  now: Date,
): Promise<TradeReference> {
  return await underOrderLock(db, paymentId, now, async ({ payment, write }) => {
    const known = tradeOf(payment).reference;
    if (known !== null) return known;
    write({
      payment: columnsOf(found),
      notes: [aNote('channel', `The channel's id of the trade is ${found.id}.`, now)],
    });
    return found;
  });
}

/**
 * Called when the channel gives the payer no next action, or does not renew it. A payment never gets a second trade.
 * Therefore the trade is queried and closed. The row gets `cancelRequestedAt`, but the payment ends as `closed`,
 * because neither payer nor merchant cancelled it.
 */
export async function endAttempt(
  db: LedgerClient,
  paymentId: string,
  why: string,
  now: Date,
): Promise<PaymentSnapshot> {
  return await underOrderLock(db, paymentId, now, async ({ tx, payment }) => {
    const isOver = !isLive(payment.status) || isMoney(recordedAnswer(payment));
    if (isOver || payment.cancelRequestedAt !== null) return toSnapshot(payment, now);
    await note(tx, paymentId, 'channel', `${why}: the attempt is closed.`, now);
    const ending = await update(tx, paymentId, { cancelRequestedAt: now, noActionSince: now });
    return toSnapshot(ending, now);
  });
}

/**
 * Records that the channel closes the trade no earlier than `until`. Until then the payment waits, and no attention
 * is raised.
 */
export async function recordNotYet(
  db: LedgerClient,
  paymentId: string,
  until: Date,
  now: Date,
): Promise<PaymentSnapshot> {
  return await underOrderLock(db, paymentId, now, async ({ tx, payment }) => {
    if (!isLive(payment.status)) return toSnapshot(payment, now);
    const detail = `The channel does not close the trade before ${until.toISOString()}.`;
    if (payment.closeNotBefore === null) await note(tx, paymentId, 'channel', detail, now);
    const waiting = await update(tx, paymentId, {
      closeNotBefore: until,
      channelErrorSince: null,
      ...cleared(payment, 'answered'),
      ...clearedOnceAccepted(payment),
    });
    return toSnapshot(waiting, now);
  });
}

/**
 * Records that the channel rejects our credentials, permissions or clock. The attention is raised immediately,
 * whatever the payment's status. The new attention replaces attentions that only wait for the channel. It also
 * replaces the attention of a conflict, because the conflict's refund cannot be made until an operator has fixed the
 * cause.
 * @param detail a sentence that names what an operator has to fix
 */
export async function recordMisconfigured(
  db: LedgerClient,
  paymentId: string,
  detail: string,
  now: Date,
): Promise<PaymentSnapshot> {
  return await underOrderLock(db, paymentId, now, async ({ tx, payment }) => {
    const { attention, channelErrorSince: since } = payment;
    const isShown = attention === 'channel_misconfigured';
    const givesWay =
      isShown ||
      attention === null ||
      isFree(attention) ||
      attention === 'order_conflict' ||
      severityOf(attention) === 'wait';
    const isNewDetail = givesWay && !(isShown && payment.attentionDetail === detail);
    const isSilent = payment.status !== 'succeeded' && since === null;
    if (!isNewDetail && !isSilent) return toSnapshot(payment, now);
    if (isNewDetail) await note(tx, paymentId, 'attention', `channel_misconfigured: ${detail}`, now);
    const after = await update(tx, paymentId, {
      ...(isSilent ? { channelErrorSince: now } : {}),
      ...(isNewDetail
        ? isShown
          ? { attentionDetail: detail }
          : {
              ...raised('channel_misconfigured', detail, now),
              ...(attention === 'order_conflict' ? hidden(payment) : {}),
            }
        : {}),
    });
    return toSnapshot(after, now);
  });
}

/** Records that the channel definitely refused to create the trade. If the payment is still `created`, it fails. */
export async function recordRefusal(
  db: LedgerClient,
  paymentId: string,
  reason: string,
  now: Date,
): Promise<PaymentSnapshot> {
  return await underOrderLock(db, paymentId, now, async (locked) => {
    const { tx, payment } = locked;
    if (payment.status !== 'created' || recordedAnswer(payment) !== null) return toSnapshot(payment, now);
    const refused = await update(tx, paymentId, {
      ...(await takeAnswer(tx, payment, 'failed', now)),
      channelAnswer: { state: 'failed', reason, by: 'query' },
    });
    return await end({ ...locked, payment: refused }, 'failed', `refused by the channel: ${reason}`, now);
  });
}

/**
 * Records the channel's answer before nodrop acts on it, so that the answer is not lost with the activity that got it.
 * A definite answer is not replaced, with one exception: if it reports money, an answer with a larger refunded amount
 * replaces it. A definite answer without money ends a live payment in the same transaction.
 * @param noticed the payment's `noticedAt`, read before the channel was queried. The answer covers all notices up to
 *   that time
 */
export async function recordAnswer(
  db: LedgerClient,
  paymentId: string,
  answer: ChannelAnswer,
  by: SettledBy,
  now: Date,
  noticed: Date | null = null,
): Promise<PaymentSnapshot> {
  return await underOrderLock(db, paymentId, now, async (locked) => {
    const { tx, payment } = locked;
    const known = recordedAnswer(payment);
    const newAnswer = isNewAnswer(payment.status, known, answer) ? answer : null;
    // A payment ends only after a query and a close. The query before a close is only the first half, so it does not
    // clear the attention.
    const isHalf = by === 'close' && (answer.state === 'unpaid' || answer.state === 'unknown_trade');
    const occasions: Occasion[] = [
      ...(isHalf ? [] : (['answered'] as const)),
      ...(answer.state === 'unknown_trade' ? [] : (['trade_known'] as const)),
      ...(answer.state === 'processing' ? [] : (['decided'] as const)),
    ];
    // The first answer after the alarm time raises the attention. Later answers do not raise it again, because an
    // operator may have dismissed it.
    const isFirst = (payment.channelAnsweredAt?.getTime() ?? 0) < undecidedAlarm(payment);
    const alarmed =
      isUndecidedTooLong(payment, answer, now) &&
      (payment.attention === null ? isFirst : isClearedBy(payment.attention, occasions));
    const isOther =
      answer.state !== payment.channelState || newAnswer !== null || payment.channelErrorSince !== null;
    const recorded = await update(tx, paymentId, {
      ...(await takeAnswer(tx, payment, answer.state, now)),
      channelErrorSince: null,
      // A notice that arrived after the query began is not cleared, because this answer may be older than the change
      // that caused the notice.
      ...(noticed !== null && payment.noticedAt?.getTime() === noticed.getTime() ? { noticedAt: null } : {}),
      ...cleared(payment, ...occasions),
      ...clearedOnceAccepted(payment),
      ...(alarmed
        ? raised('channel_undecided', 'One day after the expiry the channel still reports processing.', now)
        : {}),
      ...(newAnswer === null ? {} : { channelAnswer: json({ ...newAnswer, by }) }),
    });
    // An answer that equals the payment's last answer is counted, and gets no timeline entry.
    if (isOther) {
      await note(tx, paymentId, 'query', `The channel answered ${answer.state}.`, now, {
        state: answer.state,
        by,
      });
    }
    if (alarmed) await note(tx, paymentId, 'attention', 'channel_undecided', now);
    const seen = await recordDisputes({ ...locked, payment: recorded }, answer, now);
    // If the payment is not settled, its refunds are recorded later, when it is settled.
    if (isMoney(answer) && seen.status === 'succeeded') {
      return toSnapshot(await recordExternalRefunds({ ...locked, payment: seen }, answer, now), now);
    }
    if (isMoney(known) || !isLive(payment.status)) return toSnapshot(seen, now);
    if (answer.state === 'failed') {
      const detail = answer.reason ?? 'declined at the channel.';
      return await end({ ...locked, payment: recorded }, 'failed', detail, now);
    }
    if (answer.state === 'closed') {
      const isCancellation = payment.cancelRequestedAt !== null && payment.noActionSince === null;
      const to = isCancellation ? 'cancelled' : 'closed';
      return await end({ ...locked, payment: recorded }, to, 'closed at the channel.', now);
    }
    return toSnapshot(seen, now);
  });
}

/**
 * Records that the channel gave no readable answer. If no readable answer comes for `alarmAfterMs`, an attention is
 * raised.
 */
export async function recordSilence(
  db: LedgerClient,
  paymentId: string,
  reason: string,
  alarmAfterMs: number,
  now: Date,
): Promise<PaymentSnapshot> {
  return await underOrderLock(db, paymentId, now, async ({ tx, payment }) => {
    if (payment.status === 'succeeded') return toSnapshot(payment, now);
    const since = payment.channelErrorSince ?? now;
    await note(tx, paymentId, 'query', `The channel gave no readable answer: ${reason}`, now);
    const alarmed =
      isLive(payment.status) && payment.attention === null && now.getTime() - since.getTime() >= alarmAfterMs;
    if (payment.channelErrorSince !== null && !alarmed) return toSnapshot(payment, now);
    const silent = await update(tx, paymentId, {
      channelErrorSince: since,
      ...(alarmed
        ? raised('channel_unreachable', `No readable answer since ${since.toISOString()}: ${reason}`, now)
        : {}),
    });
    if (alarmed) await note(tx, paymentId, 'attention', 'channel_unreachable', now);
    return toSnapshot(silent, now);
  });
}

/**
 * Changes the answer `paid` to `refunded` if all of the money was refunded, because the payment must then not pay the
 * order.
 */
const asRefundedIfAllBack = <Answer extends PaidAnswer>(answer: Answer): Answer => ({
  ...answer,
  state: goneBackBy(answer) >= answer.amount ? 'refunded' : 'paid',
});

const EVENT_OF = {
  applied: 'payment.succeeded',
  conflict: 'payment.conflict',
  review: 'payment.review',
} as const satisfies Record<string, EventType>;

/**
 * Settles a payment and updates its order in one transaction. The transaction records the received money, makes the
 * payment `succeeded` and decides about the order. It takes the amount from the recorded answer, which came from a
 * verified callback, a query or a close.
 * @returns the payment, the order's other live payments that must be cancelled, and the due refund that must be
 *   started. A repeated call returns them again. `mayTell` is true if deliveries for the order may have to be started.
 * @param mayWait true if the transaction may wait for a slot, see `withinLimits`.
 */
export async function settlePayment(
  db: LedgerClient,
  of: string | OwnedPayment,
  now: Date,
  mayWait = true,
): Promise<{ snapshot: PaymentSnapshot; cancelled: string[]; refund: string | null; mayTell: boolean }> {
  const settle = async (locked: Work) => {
    const { tx, order, payment, newEvents, around, write, flush } = locked;
    const { others, merchant, hasPendingDelivery } = around;
    const recorded = recordedAnswer(payment);
    const said = isMoney(recorded) ? recorded : null;
    const answer = said === null ? null : asRefundedIfAllBack(await asExplained(tx, payment, said));
    const from = payment.status;
    if (said === null || answer === null || !canPaymentGo(from, 'succeeded')) {
      // If an earlier call has settled the payment, its process may have died before it signalled the order's other
      // payments. Therefore this call returns those payments again.
      const cancelled =
        payment.orderUpdate === 'applied' || payment.orderUpdate === 'pending'
          ? othersToCancel(others).filter(({ cancelRequestedAt }) => cancelRequestedAt !== null)
          : [];
      return {
        snapshot: toSnapshot(payment, now),
        cancelled: cancelled.map(({ id }) => id),
        refund: await owedRefund(tx, payment),
        mayTell: hasPendingDelivery,
      };
    }
    // If lost disputes took money before the payment was settled, that money does not pay the order.
    const isLost = lossesOf(payment, answer.currency) + goneBackBy(answer) >= answer.amount;
    const seen = isLost ? { ...answer, state: 'refunded' as const } : answer;
    const paid = payOrder(order, payment, merchant, seen);
    const isAnothers = await hasPaidByAnother(tx, payment, answer.channelPaymentId);
    const { decision, changes } = isAnothers ? notTwice(paid) : paid;
    const mustBeTold = merchant.orderServiceUrl !== null;
    const isApplied = decision.orderUpdate === 'applied';
    // The order's row decides first. If the merchant has an HTTP order service, that service makes the final decision.
    const isPending = isApplied && mustBeTold;
    const orderUpdate = isPending ? 'pending' : decision.orderUpdate;
    // The code above can replace the state in the channel's answer. If the new state differs from the payment's last
    // recorded state, it is recorded like a different answer of the channel.
    const taken =
      answer.state === payment.channelState
        ? { changes: {}, notes: [] }
        : otherAnswer(payment, answer.state, payment.channelAnsweredAt ?? now);
    const orderSaid = isApplied
      ? `Order ${order.id} is paid${mustBeTold ? '; the event is delivered until the order service agrees' : ''}.`
      : decision.detail;
    const settled = write({
      payment: {
        status: 'succeeded',
        orderUpdate,
        orderUpdatedAt: isPending ? null : now,
        settledAt: now,
        settledBy: answer.by,
        channelPaymentId: answer.channelPaymentId,
        ...taken.changes,
        channelAnswer: json(answer) as Payment['channelAnswer'],
        receivedAmount: BigInt(answer.amount),
        receivedCurrency: answer.currency,
        // Another payment has received the same money, so from now on nodrop must not refund this payment
        // automatically.
        ...(isAnothers ? { adopted: 'watched' as const } : {}),
        payerAmount: answer.payerAmount === undefined ? null : BigInt(answer.payerAmount),
        paidAt: new Date(answer.paidAt),
        channelErrorSince: null,
        ...(isApplied || decision.attention === null
          ? cleared(payment, 'settled')
          : raisedUnlessDisputed(payment, decision.attention, decision.detail, now)),
      },
      ...(changes === undefined ? {} : { order: changes }),
      notes: [
        ...taken.notes,
        aNote('transition', `Paid, detected by ${answer.by}: ${from} -> succeeded.`, now, {
          amount: answer.amount,
          currency: answer.currency,
        }),
        aNote('order', orderSaid, now, { orderUpdate }),
      ],
    });
    newEvents.push({ type: EVENT_OF[decision.orderUpdate], mustBeTold });
    const toCancel = isApplied ? othersToCancel(others) : [];
    const toGiveBack = isApplied ? othersToGiveBack(order, others) : [];
    const isAlone = toCancel.length === 0 && toGiveBack.length === 0 && !hasLosses(payment);
    // Nothing is left to do if the money pays the order, none of it was refunded or lost, and no other payment of the
    // order is affected.
    if (isApplied && isAlone && !reportsRefunds(said)) {
      const snapshot = toSnapshot(settled.payment, now);
      return { snapshot, cancelled: [], refund: null, mayTell: hasPendingDelivery || mustBeTold };
    }
    await flush();
    await cancelOthers(tx, toCancel, payment.id, now);
    // The sweep starts the refunds of the other payments.
    await giveBackOthers(locked, toGiveBack, payment.id, now);
    const lost = await recordLosses({ ...locked, ...settled }, now);
    const isOld = answer.by === 'callback';
    const rest = await recordExternalRefunds({ ...locked, ...settled, payment: lost }, said, now, { isOld });
    if (decision.orderUpdate === 'conflict') await oweRefund(tx, rest, decision.refund, now);
    await releaseOrder(tx, settled.order, now);
    return {
      snapshot: toSnapshot(rest, now),
      cancelled: toCancel.map(({ id }) => id),
      refund: await owedRefund(tx, rest),
      mayTell: true,
    };
  };
  return await underOrderLock(db, of, now, settle, mayWait);
}

/**
 * Makes sure that the money of one trade does not pay two orders. If two channel accounts can see a trade, the trade
 * can be adopted at each account. Only adopted payments need this check, because a trade that nodrop created belongs to
 * one payment. The lock is held until the commit. Therefore, if two payments settle at the same time, the second
 * payment sees the money of the first.
 * @returns true if another payment at this channel has received the money with this `channelPaymentId`
 */
async function hasPaidByAnother(
  tx: LedgerTx,
  { id, adopted, channel }: Payment,
  channelPaymentId: string,
): Promise<boolean> {
  if (adopted === null) return false;
  const lock = `nodrop-paid-${channel}-${channelPaymentId}`;
  await tx.$queryRaw`SELECT 1 FROM pg_advisory_xact_lock(hashtextextended(${lock}, 0))`;
  return (await findReceived(tx, channel, channelPaymentId, id)) !== null;
}

/**
 * Returns the decision about money that another payment has already received. Such money does not change the order, and
 * an operator must decide about the two payments.
 */
function notTwice(paid: ReturnType<typeof payOrder>): ReturnType<typeof payOrder> {
  const { decision } = paid;
  // All of the money was refunded, so it cannot pay an order anyway.
  if (decision.orderUpdate === 'conflict' && decision.refund === 'external') return paid;
  return {
    decision: {
      orderUpdate: 'review',
      attention: 'order_conflict',
      detail:
        'Another payment adopted this trade at another account and has received its money. The money pays no second ' +
        'order, and nothing is refunded automatically: an operator decides.',
    },
    changes: undefined,
  };
}

/**
 * Ends a payment that received no money, and updates its order's status. The function has no effect if the payment is
 * no longer live, or if the recorded answer reports money.
 */
export async function endPayment(
  db: LedgerClient,
  paymentId: string,
  to: 'failed' | 'cancelled' | 'closed',
  detail: string,
  now: Date,
): Promise<PaymentSnapshot> {
  return await underOrderLock(db, paymentId, now, async (locked) => {
    const { payment } = locked;
    if (isMoney(recordedAnswer(payment)) || !canPaymentGo(payment.status, to)) {
      return toSnapshot(payment, now);
    }
    return await end(locked, to, detail, now);
  });
}

async function end(
  { tx, order, payment, newEvents }: Locked,
  to: 'failed' | 'cancelled' | 'closed',
  detail: string,
  now: Date,
): Promise<PaymentSnapshot> {
  const ended = await update(tx, payment.id, {
    ...(await endAnswers(tx, payment, now)),
    status: to,
    endedAt: now,
    ...cleared(payment, 'ended'),
  });
  await note(tx, payment.id, 'transition', `${payment.status} -> ${to}: ${detail}`, now);
  await releaseOrder(tx, order, now);
  newEvents.push({ type: `payment.${to}` });
  return toSnapshot(ended, now);
}

/**
 * Records the request to cancel the payment. The payment's status does not change until the channel has been queried.
 */
export async function requestCancel(
  db: LedgerClient,
  paymentId: string,
  by: string,
  now: Date,
): Promise<PaymentSnapshot> {
  return await underOrderLock(db, paymentId, now, async ({ tx, payment }) => {
    if (!isLive(payment.status) || payment.cancelRequestedAt !== null) return toSnapshot(payment, now);
    await note(tx, paymentId, 'manual', `Cancellation requested by ${by}.`, now);
    return toSnapshot(await update(tx, paymentId, { cancelRequestedAt: now }), now);
  });
}

/** Raises an attention of an unsettled payment, unless a more important attention is raised already. */
export async function raiseAttention(
  db: LedgerClient,
  paymentId: string,
  attention: Attention,
  detail: string,
  now: Date,
): Promise<PaymentSnapshot> {
  return await underOrderLock(db, paymentId, now, async ({ tx, payment }) => {
    if (!isFree(payment.attention) || payment.status === 'succeeded') return toSnapshot(payment, now);
    await note(tx, paymentId, 'attention', `${attention}: ${detail}`, now);
    return toSnapshot(await update(tx, paymentId, raised(attention, detail, now)), now);
  });
}
