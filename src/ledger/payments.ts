import { type Attention, isClearedBy, isFree, type Occasion } from '../domain/attention.ts';
import type { ChannelAnswer, NextAction, PaidAnswer } from '../domain/channel.ts';
import type { EventType } from '../domain/event.ts';
import type { PaymentSnapshot } from '../domain/payment.ts';
import { canPaymentGo, isLive, type SettledBy } from '../domain/states.ts';
import { json, type LedgerClient, type LedgerTx } from './client.ts';
import { cleared, type Locked, raised, raisedUnlessDisputed, underLock, update } from './locked.ts';
import { payOrder, releaseOrder } from './order-row.ts';
import { giveBackOthers, owedRefund, oweRefund } from './refunds.ts';
import { recordExternalRefunds } from './reversals.ts';
import type { Order } from './rows.ts';
import { isMoney, recordedAnswer, tellsMoreOf, toSnapshot } from './snapshot.ts';
import { note } from './timeline.ts';

/**
 * Every change of a payment. Each is one transaction under the order's row lock, conditional on the state it comes from,
 * so that doing it twice, or late, changes nothing (P5).
 */

/** A channel that has not decided so long after the payment's expiry is shown to a person. */
const UNDECIDED_ALARM_MS = 86_400_000;

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
 * The channel has the trade: the payment and its order become `paying`, and the payer has something to do next. One
 * that is to be cancelled gets no next action: nobody should pay it any more.
 */
export async function recordCreated(
  db: LedgerClient,
  paymentId: string,
  nextAction: NextAction,
  now: Date,
): Promise<PaymentSnapshot> {
  return await underLock(db, paymentId, now, async ({ tx, order, payment }) => {
    if (!isLive(payment.status)) return toSnapshot(payment, now);
    const paying = await update(tx, paymentId, {
      status: 'paying',
      ...(payment.cancelRequestedAt === null ? { nextAction: json(nextAction) } : {}),
      channelErrorSince: null,
      ...cleared(payment, 'answered', 'trade_known'),
    });
    if (order.status === 'unpaid') {
      await tx.order.update({
        where: { merchantId_id: { merchantId: order.merchantId, id: order.id } },
        data: { status: 'paying' },
      });
    }
    if (payment.status === 'created')
      await note(tx, paymentId, 'transition', 'The channel has the trade: paying.', now);
    else await note(tx, paymentId, 'channel', 'The channel gave a new next action.', now);
    return toSnapshot(paying, now);
  });
}

/** The channel's refusal to create the trade is definite, and fails a payment that was never more than `created`. */
export async function recordRefusal(
  db: LedgerClient,
  paymentId: string,
  reason: string,
  now: Date,
): Promise<PaymentSnapshot> {
  return await underLock(db, paymentId, now, async (locked) => {
    const { tx, payment } = locked;
    if (payment.status !== 'created' || recordedAnswer(payment) !== null) return toSnapshot(payment, now);
    const refused = await update(tx, paymentId, {
      channelState: 'failed',
      channelAnsweredAt: now,
      channelAnswer: { state: 'failed', reason, by: 'query' },
    });
    return await end({ ...locked, payment: refused }, 'failed', `refused by the channel: ${reason}`, now);
  });
}

/**
 * Writes down what the channel said before anybody acts on it, so that an answer is never lost with the
 * activity that got it. A definite answer is kept, money received is replaced only by word that more of it has gone
 * back, and a definite answer without money ends a live payment in the same transaction.
 */
export async function recordAnswer(
  db: LedgerClient,
  paymentId: string,
  answer: ChannelAnswer,
  by: SettledBy,
  now: Date,
): Promise<PaymentSnapshot> {
  return await underLock(db, paymentId, now, async (locked) => {
    const { tx, payment } = locked;
    const known = recordedAnswer(payment);
    const definite = isMoney(answer) || answer.state === 'closed' || answer.state === 'failed';
    const isNews = isMoney(known)
      ? payment.status !== 'succeeded' && isMoney(answer) && tellsMoreOf(known, answer)
      : definite && (known === null || isMoney(answer));
    // Before an end the query is half of the answer: what is shown then is over when the close agrees, and ends it.
    const isHalf = by === 'close' && (answer.state === 'unpaid' || answer.state === 'unknown_trade');
    const occasions: Occasion[] = [
      ...(isHalf ? [] : (['answered'] as const)),
      ...(answer.state === 'unknown_trade' ? [] : (['trade_known'] as const)),
      ...(answer.state === 'processing' ? [] : (['decided'] as const)),
    ];
    const isOverdue =
      answer.state === 'processing' &&
      isLive(payment.status) &&
      now.getTime() - payment.expiresAt.getTime() >= UNDECIDED_ALARM_MS;
    // By the first answer after that, as what was dismissed stays hidden.
    const isFirst =
      (payment.channelAnsweredAt?.getTime() ?? 0) < payment.expiresAt.getTime() + UNDECIDED_ALARM_MS;
    const alarmed =
      isOverdue && (payment.attention === null ? isFirst : isClearedBy(payment.attention, occasions));
    const recorded = await update(tx, paymentId, {
      channelState: answer.state,
      channelAnsweredAt: now,
      channelErrorSince: null,
      ...cleared(payment, ...occasions),
      ...(alarmed
        ? raised('channel_undecided', 'A day past its expiry the channel still says processing.', now)
        : {}),
      ...(isNews ? { channelAnswer: json({ ...answer, by }) } : {}),
    });
    await note(tx, paymentId, 'query', `The channel answered ${answer.state}.`, now, {
      state: answer.state,
      by,
    });
    if (alarmed) await note(tx, paymentId, 'attention', 'channel_undecided', now);
    // Of a payment that is not settled, settling it records what has gone back.
    if (isMoney(answer) && recorded.status === 'succeeded') {
      return toSnapshot(await recordExternalRefunds({ ...locked, payment: recorded }, answer, now), now);
    }
    if (isMoney(known) || !isLive(payment.status)) return toSnapshot(recorded, now);
    if (answer.state === 'failed') {
      const detail = answer.reason ?? 'declined at the channel.';
      return await end({ ...locked, payment: recorded }, 'failed', detail, now);
    }
    if (answer.state === 'closed') {
      const to = payment.cancelRequestedAt === null ? 'closed' : 'cancelled';
      return await end({ ...locked, payment: recorded }, to, 'closed at the channel.', now);
    }
    return toSnapshot(recorded, now);
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
  return await underLock(db, paymentId, now, async ({ tx, payment }) => {
    if (payment.status === 'succeeded') return toSnapshot(payment, now);
    const since = payment.channelErrorSince ?? now;
    await note(tx, paymentId, 'query', `The channel gave no readable answer: ${reason}`, now);
    const alarmed =
      isLive(payment.status) && payment.attention === null && now.getTime() - since.getTime() >= alarmAfterMs;
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

/** Money that is all back pays no order, and no shop is told to hand out goods for it, in whichever words it is said. */
const whereItIs = <Answer extends PaidAnswer>(answer: Answer): Answer =>
  (answer.refundedAmount ?? 0) >= answer.amount ? { ...answer, state: 'refunded' } : answer;

const NEWS = {
  applied: 'payment.succeeded',
  conflict: 'payment.conflict',
  review: 'payment.review',
} as const satisfies Record<string, EventType>;

/**
 * The order update: one transaction records the money received, makes the payment `succeeded` and decides the
 * order. Reads the money from the answer on record, which a verified callback, a query or a close wrote.
 * @returns also the order's other live payments that are to cancel, and the refund that is owed and is to start: the
 * same ones however often it is called.
 */
export async function settlePayment(
  db: LedgerClient,
  paymentId: string,
  now: Date,
): Promise<{ snapshot: PaymentSnapshot; cancelled: string[]; refund: string | null }> {
  return await underLock(db, paymentId, now, async (locked) => {
    const { tx, order, payment, news } = locked;
    const recorded = recordedAnswer(payment);
    const answer = isMoney(recorded) ? whereItIs(recorded) : null;
    const from = payment.status;
    if (answer === null || !canPaymentGo(from, 'succeeded')) {
      // Done before: whoever died before it could tell the others tells them now.
      const cancelled =
        payment.orderUpdate === 'applied' || payment.orderUpdate === 'pending'
          ? await cancelledSiblings(tx, order, paymentId)
          : [];
      return { snapshot: toSnapshot(payment, now), cancelled, refund: await owedRefund(tx, payment) };
    }
    const { decision, mustBeTold, cancelled } = await payOrder(tx, order, payment, answer, now);
    // Our order row decides first; with an order service elsewhere that is not the last word.
    const isPending = decision.orderUpdate === 'applied' && mustBeTold;
    const settled = await update(tx, paymentId, {
      status: 'succeeded',
      orderUpdate: isPending ? 'pending' : decision.orderUpdate,
      orderUpdatedAt: isPending ? null : now,
      settledAt: now,
      settledBy: answer.by,
      channelPaymentId: answer.channelPaymentId,
      channelState: answer.state,
      channelAnswer: json(answer),
      receivedAmount: BigInt(answer.amount),
      receivedCurrency: answer.currency,
      payerAmount: answer.payerAmount === undefined ? null : BigInt(answer.payerAmount),
      paidAt: new Date(answer.paidAt),
      channelErrorSince: null,
      ...(decision.orderUpdate === 'applied' || decision.attention === null
        ? cleared(payment, 'settled')
        : raisedUnlessDisputed(payment, decision.attention, decision.detail, now)),
    });
    await note(tx, paymentId, 'transition', `Paid, by ${answer.by}: ${from} -> succeeded.`, now, {
      amount: answer.amount,
      currency: answer.currency,
    });
    await note(
      tx,
      paymentId,
      'order',
      decision.orderUpdate === 'applied'
        ? `Order ${order.id} is paid${mustBeTold ? '; its order service is told until it agrees' : ''}.`
        : decision.detail,
      now,
      { orderUpdate: settled.orderUpdate },
    );
    news.push({ type: NEWS[decision.orderUpdate], mustBeTold });
    // Their refunds are the sweep's to start.
    if (decision.orderUpdate === 'applied') await giveBackOthers(locked, paymentId, now);
    const decided = await tx.order.findUniqueOrThrow({
      where: { merchantId_id: { merchantId: order.merchantId, id: order.id } },
    });
    const rest = await recordExternalRefunds({ ...locked, order: decided, payment: settled }, answer, now);
    if (decision.orderUpdate === 'conflict') await oweRefund(tx, rest, decision.refund, now);
    await releaseOrder(tx, decided, now);
    return { snapshot: toSnapshot(rest, now), cancelled, refund: await owedRefund(tx, rest) };
  });
}

/** The order's other live payments that were told to cancel when this one paid it. */
async function cancelledSiblings(tx: LedgerTx, order: Order, paymentId: string): Promise<string[]> {
  const siblings = await tx.payment.findMany({
    where: {
      merchantId: order.merchantId,
      orderId: order.id,
      id: { not: paymentId },
      status: { in: ['created', 'paying'] },
      cancelRequestedAt: { not: null },
    },
    select: { id: true },
  });
  return siblings.map(({ id }) => id);
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
  return await underLock(db, paymentId, now, async (locked) => {
    const { payment } = locked;
    if (isMoney(recordedAnswer(payment)) || !canPaymentGo(payment.status, to)) {
      return toSnapshot(payment, now);
    }
    return await end(locked, to, detail, now);
  });
}

async function end(
  { tx, order, payment, news }: Locked,
  to: 'failed' | 'cancelled' | 'closed',
  detail: string,
  now: Date,
): Promise<PaymentSnapshot> {
  const ended = await update(tx, payment.id, {
    status: to,
    endedAt: now,
    ...cleared(payment, 'ended'),
  });
  await note(tx, payment.id, 'transition', `${payment.status} -> ${to}: ${detail}`, now);
  await releaseOrder(tx, order, now);
  news.push({ type: `payment.${to}` });
  return toSnapshot(ended, now);
}

/** Writes the wish to cancel; the payment stays what it is until the channel has been asked. */
export async function requestCancel(
  db: LedgerClient,
  paymentId: string,
  by: string,
  now: Date,
): Promise<PaymentSnapshot> {
  return await underLock(db, paymentId, now, async ({ tx, payment }) => {
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
  return await underLock(db, paymentId, now, async ({ tx, payment }) => {
    if (!isFree(payment.attention) || payment.status === 'succeeded') return toSnapshot(payment, now);
    await note(tx, paymentId, 'attention', `${attention}: ${detail}`, now);
    return toSnapshot(await update(tx, paymentId, raised(attention, detail, now)), now);
  });
}
