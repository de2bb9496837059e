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
 * Every change of a payment. Each is one transaction under the order's row lock, conditional on the state it comes from,
 * so that doing it twice, or late, changes nothing (P5).
 */

/** Null when there is no such payment. */
export async function findPayment(
  db: LedgerClient,
  paymentId: string,
  now: Date,
): Promise<PaymentSnapshot | null> {
  const row = await db.payment.findUnique({ where: { id: paymentId } });
  return row && toSnapshot(row, now);
}

/** @throws Prisma's P2025 when there is no such payment. */
export async function loadPayment(db: LedgerClient, paymentId: string, now: Date): Promise<PaymentSnapshot> {
  return toSnapshot(await db.payment.findUniqueOrThrow({ where: { id: paymentId } }), now);
}

/**
 * The payment as it is before its trade is asked for. That it is asked for is on record when this returns: one statement
 * reads and writes, so that a create costs no more for it. Only of a payment whose trade may be asked for now.
 * @returns also whether it is asked for the first time: then nothing can be unknown yet
 * @throws Prisma's P2025 when there is no such payment.
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
  // As it is written: what it waited for may have changed it since the statement began.
  const payment = read && readRow(PAYMENTS, read.payment);
  if (payment !== undefined && read?.isFirst === true) return { payment, isFirst: true };
  // Two attempts at the same moment: the other one was the first.
  const isRead = payment !== undefined && payment.createAskedAt !== null;
  return {
    payment: isRead ? payment : await db.payment.findUniqueOrThrow({ where: { id: paymentId } }),
    isFirst: false,
  };
}

/** A reference and its data as columns. */
const columnsOf = ({ id, data }: TradeReference) => ({
  reference: id,
  referenceData: (data ?? null) as Payment['referenceData'],
});

/**
 * The channel has the trade: the payment and its order become `paying`, and the payer has something to do next. One
 * that is to be cancelled gets no next action: nobody should pay it any more. The channel's reference is written with it.
 */
export async function recordCreated(
  db: LedgerClient,
  of: string | OwnedPayment,
  nextAction: NextAction,
  now: Date,
  reference?: TradeReference,
): Promise<PaymentSnapshot> {
  return await underOrderLock(db, of, now, async ({ order, payment, write }) => {
    // The one on record is what the channel is asked by.
    const found = payment.reference === null && reference !== undefined ? columnsOf(reference) : undefined;
    if (!isLive(payment.status)) {
      return toSnapshot(found === undefined ? payment : write({ payment: found }).payment, now);
    }
    const noted =
      payment.status === 'created'
        ? aNote('transition', 'The channel has the trade: paying.', now)
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
 * What the channel calls the trade, found out after its creation. The one on record stays.
 * @returns the one on record
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
      notes: [aNote('channel', `The channel has the trade, as ${found.id}.`, now)],
    });
    return found;
  });
}

/**
 * The channel gives no next action (any more), and no second trade is made for one payment: it is asked about and closed.
 * That is a wish to cancel, of a payment that ends as `closed`: nobody wanted it cancelled.
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

/** The channel closes the trade no earlier than `until`: the payment waits for that, and is not shown to anybody. */
export async function recordNotYet(
  db: LedgerClient,
  paymentId: string,
  until: Date,
  now: Date,
): Promise<PaymentSnapshot> {
  return await underOrderLock(db, paymentId, now, async ({ tx, payment }) => {
    if (!isLive(payment.status)) return toSnapshot(payment, now);
    const detail = `The channel does not close it before ${until.toISOString()}.`;
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
 * The channel does not take our credentials, permissions or clock: shown at once, whatever the payment's state. It takes
 * the place of what only waits for the channel, and of a conflict whose money cannot be given back meanwhile.
 * @param detail a sentence that names what is to be mended
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
    const isNewAnswer = givesWay && !(isShown && payment.attentionDetail === detail);
    const isSilent = payment.status !== 'succeeded' && since === null;
    if (!isNewAnswer && !isSilent) return toSnapshot(payment, now);
    if (isNewAnswer) await note(tx, paymentId, 'attention', `channel_misconfigured: ${detail}`, now);
    const after = await update(tx, paymentId, {
      ...(isSilent ? { channelErrorSince: now } : {}),
      ...(isNewAnswer
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

/** The channel's refusal to create the trade is definite, and fails a payment that was never more than `created`. */
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
 * Writes down what the channel said before anybody acts on it, so that an answer is never lost with the
 * activity that got it. A definite answer is kept, money received is replaced only by word that more of it has gone
 * back, and a definite answer without money ends a live payment in the same transaction.
 * @param noticed the payment's `noticedAt` as it was before the channel was asked: it is answered by this
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
    // Before an end the query is half of the answer: what is shown then is over when the close agrees, and ends it.
    const isHalf = by === 'close' && (answer.state === 'unpaid' || answer.state === 'unknown_trade');
    const occasions: Occasion[] = [
      ...(isHalf ? [] : (['answered'] as const)),
      ...(answer.state === 'unknown_trade' ? [] : (['trade_known'] as const)),
      ...(answer.state === 'processing' ? [] : (['decided'] as const)),
    ];
    // By the first answer after that, as what was dismissed stays hidden.
    const isFirst = (payment.channelAnsweredAt?.getTime() ?? 0) < undecidedAlarm(payment);
    const alarmed =
      isUndecidedTooLong(payment, answer, now) &&
      (payment.attention === null ? isFirst : isClearedBy(payment.attention, occasions));
    const isOther =
      answer.state !== payment.channelState || newAnswer !== null || payment.channelErrorSince !== null;
    const recorded = await update(tx, paymentId, {
      ...(await takeAnswer(tx, payment, answer.state, now)),
      channelErrorSince: null,
      // Notices that came since then are not: what they report may have happened after the answer.
      ...(noticed !== null && payment.noticedAt?.getTime() === noticed.getTime() ? { noticedAt: null } : {}),
      ...cleared(payment, ...occasions),
      ...clearedOnceAccepted(payment),
      ...(alarmed
        ? raised('channel_undecided', 'A day past its expiry the channel still says processing.', now)
        : {}),
      ...(newAnswer === null ? {} : { channelAnswer: json({ ...newAnswer, by }) }),
    });
    // What is the same as before is counted.
    if (isOther) {
      await note(tx, paymentId, 'query', `The channel answered ${answer.state}.`, now, {
        state: answer.state,
        by,
      });
    }
    if (alarmed) await note(tx, paymentId, 'attention', 'channel_undecided', now);
    const seen = await recordDisputes({ ...locked, payment: recorded }, answer, now);
    // Of a payment that is not settled, settling it records what has gone back.
    if (isMoney(answer) && seen.status === 'succeeded') {
      return toSnapshot(await recordExternalRefunds({ ...locked, payment: seen }, answer, now), now);
    }
    if (isMoney(known) || !isLive(payment.status)) return toSnapshot(seen, now);
    if (answer.state === 'failed') {
      const detail = answer.reason ?? 'declined at the channel.';
      return await end({ ...locked, payment: recorded }, 'failed', detail, now);
    }
    if (answer.state === 'closed') {
      const isWished = payment.cancelRequestedAt !== null && payment.noActionSince === null;
      const to = isWished ? 'cancelled' : 'closed';
      return await end({ ...locked, payment: recorded }, to, 'closed at the channel.', now);
    }
    return toSnapshot(seen, now);
  });
}

/** The channel gave no readable answer; after `alarmAfterMs` of that a person should look. */
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

/** A payment that was refunded in full counts as `refunded`, even if the channel says `paid`: it must not pay the order. */
const asRefundedIfAllBack = <Answer extends PaidAnswer>(answer: Answer): Answer => ({
  ...answer,
  state: goneBackBy(answer) >= answer.amount ? 'refunded' : 'paid',
});

const NEWS = {
  applied: 'payment.succeeded',
  conflict: 'payment.conflict',
  review: 'payment.review',
} as const satisfies Record<string, EventType>;

/**
 * The order update: one transaction records the money received, makes the payment `succeeded` and decides the
 * order. Reads the money from the answer on record, which a verified callback, a query or a close wrote.
 * @returns also the order's other live payments that are to cancel, and the refund that is owed and is to start: the
 * same ones however often it is called; and whether deliveries of the order may be waiting to be started.
 * @param mayWait for its turn, see `withinLimits`.
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
      // Done before: whoever died before it could tell the others tells them now.
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
    // What disputes have taken before it was first seen pays no order either.
    const isLost = lossesOf(payment, answer.currency) + goneBackBy(answer) >= answer.amount;
    const seen = isLost ? { ...answer, state: 'refunded' as const } : answer;
    const paid = payOrder(order, payment, merchant, seen);
    const isAnothers = await hasPaidByAnother(tx, payment, answer.channelPaymentId);
    const { decision, changes } = isAnothers ? notTwice(paid) : paid;
    const mustBeTold = merchant.orderServiceUrl !== null;
    const isApplied = decision.orderUpdate === 'applied';
    // Our order row decides first; with an order service elsewhere that is not the last word.
    const isPending = isApplied && mustBeTold;
    const orderUpdate = isPending ? 'pending' : decision.orderUpdate;
    // Of another one it was the last word, but for what it said of the money.
    const taken =
      answer.state === payment.channelState
        ? { changes: {}, notes: [] }
        : otherAnswer(payment, answer.state, payment.channelAnsweredAt ?? now);
    const orderSaid = isApplied
      ? `Order ${order.id} is paid${mustBeTold ? '; its order service is told until it agrees' : ''}.`
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
        // Nothing may give it back by itself from now on.
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
        aNote('transition', `Paid, by ${answer.by}: ${from} -> succeeded.`, now, {
          amount: answer.amount,
          currency: answer.currency,
        }),
        aNote('order', orderSaid, now, { orderUpdate }),
      ],
    });
    newEvents.push({ type: NEWS[decision.orderUpdate], mustBeTold });
    const toCancel = isApplied ? othersToCancel(others) : [];
    const toGiveBack = isApplied ? othersToGiveBack(order, others) : [];
    const isAlone = toCancel.length === 0 && toGiveBack.length === 0 && !hasLosses(payment);
    // All that is left concerns money that does not pay, has gone back, or was paid by others.
    if (isApplied && isAlone && !reportsRefunds(said)) {
      const snapshot = toSnapshot(settled.payment, now);
      return { snapshot, cancelled: [], refund: null, mayTell: hasPendingDelivery || mustBeTold };
    }
    await flush();
    await cancelOthers(tx, toCancel, payment.id, now);
    // Their refunds are the sweep's to start.
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
 * Two accounts can see one trade, so that it is adopted at both, and money must not pay two orders. Only for adopted payments:
 * what nodrop makes is one payment's. The lock, held until the commit, makes the second of two that settle at once see the first.
 * @returns whether another payment of the channel has received what the channel calls `channelPaymentId`
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

/** Money of which another payment has the whole decides nothing here: a person looks at both. */
function notTwice(paid: ReturnType<typeof payOrder>): ReturnType<typeof payOrder> {
  const { decision } = paid;
  // All of it has gone back, which pays nothing.
  if (decision.orderUpdate === 'conflict' && decision.refund === 'external') return paid;
  return {
    decision: {
      orderUpdate: 'review',
      attention: 'order_conflict',
      detail:
        'Another payment has this trade at another account, and has received its money: it pays no second order, ' +
        'and nothing goes back by itself. A person decides.',
    },
    changes: undefined,
  };
}

/**
 * Ends a payment without money, and frees its order. Does nothing when it is not live any more or when the
 * answer on record says that money came in.
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

/** Writes the wish to cancel; the payment stays what it is until the channel has been asked. */
export async function requestCancel(
  db: LedgerClient,
  paymentId: string,
  by: string,
  now: Date,
): Promise<PaymentSnapshot> {
  return await underOrderLock(db, paymentId, now, async ({ tx, payment }) => {
    if (!isLive(payment.status) || payment.cancelRequestedAt !== null) return toSnapshot(payment, now);
    await note(tx, paymentId, 'manual', `Cancel asked for by ${by}.`, now);
    return toSnapshot(await update(tx, paymentId, { cancelRequestedAt: now }), now);
  });
}

/** Shows a payment that is not settled to a person, unless it is shown already. */
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
