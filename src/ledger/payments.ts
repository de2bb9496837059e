import type { ChannelAnswer, NextAction, PaidAnswer } from '../domain/channel.ts';
import { automaticRefundId, externalRefundId } from '../domain/ids.ts';
import type { PaymentSnapshot } from '../domain/payment.ts';
import {
  type Attention,
  canPaymentGo,
  isLive,
  type PaymentStatus,
  type SettledBy,
} from '../domain/states.ts';
import type { Order, Payment, Prisma } from '../generated/prisma/client.ts';
import { lockOrder, payOrder, releaseOrder } from '../orders/embedded.ts';
import type { LedgerClient, LedgerTx } from './client.ts';
import { recordedAnswer, toSnapshot } from './snapshot.ts';
import { note } from './timeline.ts';

/**
 * Every change of a payment. Each is one transaction under the order's row lock (silence, which decides nothing,
 * under the payment's own), conditional on the state it comes from, so that doing it twice, or late, changes nothing (P5).
 */

export interface Locked {
  readonly tx: LedgerTx;
  readonly order: Order;
  readonly payment: Payment;
}

export async function underLock<T>(
  db: LedgerClient,
  paymentId: string,
  work: (locked: Locked) => Promise<T>,
): Promise<T> {
  return await db.$transaction(async (tx) => {
    const { merchantId, orderId } = await tx.payment.findUniqueOrThrow({
      where: { id: paymentId },
      select: { merchantId: true, orderId: true },
    });
    const order = await lockOrder(tx, merchantId, orderId);
    if (order === null) throw new Error(`order ${orderId} of payment ${paymentId} is gone`);
    const payment = await tx.payment.findUniqueOrThrow({ where: { id: paymentId } });
    return await work({ tx, order, payment });
  });
}

async function update(tx: LedgerTx, id: string, data: Prisma.PaymentUpdateInput): Promise<Payment> {
  return await tx.payment.update({ where: { id }, data });
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
  return await underLock(db, paymentId, async ({ tx, order, payment }) => {
    if (!isLive(payment.status as PaymentStatus)) return toSnapshot(payment, now);
    const paying = await update(tx, paymentId, {
      status: 'paying',
      ...(payment.cancelRequestedAt === null
        ? { nextAction: nextAction as unknown as Prisma.InputJsonObject }
        : {}),
      ...cleared(payment, ['create_unknown']),
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
  return await underLock(db, paymentId, async ({ tx, order, payment }) => {
    if (payment.status !== 'created' || recordedAnswer(payment) !== null) return toSnapshot(payment, now);
    const refused = await update(tx, paymentId, {
      channelState: 'failed',
      channelAnsweredAt: now,
      channelAnswer: { state: 'failed', reason, by: 'query' },
    });
    return await end(tx, order, refused, 'failed', `refused by the channel: ${reason}`, now);
  });
}

/**
 * Writes down what the channel said before anybody acts on it, so that an answer is never lost with the
 * activity that got it. A definite answer is kept, money received is never replaced by less, and a definite answer
 * without money ends a live payment in the same transaction.
 */
export async function recordAnswer(
  db: LedgerClient,
  paymentId: string,
  answer: ChannelAnswer,
  by: SettledBy,
  now: Date,
): Promise<PaymentSnapshot> {
  return await underLock(db, paymentId, async ({ tx, order, payment }) => {
    const known = recordedAnswer(payment);
    const keep = isMoney(known) || (known !== null && !isMoney(answer));
    const definite = isMoney(answer) || answer.state === 'closed' || answer.state === 'failed';
    const recorded = await update(tx, paymentId, {
      channelState: answer.state,
      channelAnsweredAt: now,
      channelErrorSince: null,
      ...cleared(
        payment,
        answer.state === 'unknown_trade'
          ? ['channel_unreachable']
          : ['channel_unreachable', 'create_unknown'],
      ),
      ...(definite && !keep ? { channelAnswer: { ...answer, by } as unknown as Prisma.InputJsonObject } : {}),
    });
    await note(tx, paymentId, 'query', `The channel answered ${answer.state}.`, now, {
      state: answer.state,
      by,
    });
    if (isMoney(known) || !isLive(payment.status as PaymentStatus)) return toSnapshot(recorded, now);
    if (answer.state === 'failed') {
      return await end(tx, order, recorded, 'failed', answer.reason ?? 'declined at the channel.', now);
    }
    if (answer.state === 'closed') {
      const to = payment.cancelRequestedAt === null ? 'closed' : 'cancelled';
      return await end(tx, order, recorded, to, 'closed at the channel.', now);
    }
    return toSnapshot(recorded, now);
  });
}

/** True for an answer that says that money came in, wherever it is now. */
export function isMoney(answer: ChannelAnswer | null): answer is PaidAnswer {
  return answer?.state === 'paid' || answer?.state === 'refunded';
}

/** The channel gave no readable answer; after `alarmAfterMs` of that a person should look. */
export async function recordSilence(
  db: LedgerClient,
  paymentId: string,
  reason: string,
  alarmAfterMs: number,
  now: Date,
): Promise<PaymentSnapshot> {
  return await db.$transaction(async (tx) => {
    await tx.$queryRaw`SELECT 1 FROM payments WHERE id = ${paymentId} FOR UPDATE`;
    const payment = await tx.payment.findUniqueOrThrow({ where: { id: paymentId } });
    if (payment.status === 'succeeded') return toSnapshot(payment, now);
    const since = payment.channelErrorSince ?? now;
    await note(tx, paymentId, 'query', `The channel gave no readable answer: ${reason}`, now);
    const alarmed =
      isLive(payment.status as PaymentStatus) &&
      payment.attention === null &&
      now.getTime() - since.getTime() >= alarmAfterMs;
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
 * The order update: one transaction records the money received, makes the payment `succeeded` and decides the
 * order. Reads the money from the answer on record, which a verified callback, a query or a close wrote.
 * @returns also the order's other live payments that are to cancel: the same ones however often it is called.
 */
export async function settlePayment(
  db: LedgerClient,
  paymentId: string,
  now: Date,
): Promise<{ snapshot: PaymentSnapshot; cancelled: string[] }> {
  return await underLock(db, paymentId, async ({ tx, order, payment }) => {
    const answer = recordedAnswer(payment);
    const from = payment.status as PaymentStatus;
    if (!isMoney(answer) || !canPaymentGo(from, 'succeeded')) {
      // Done before: whoever died before it could tell the others tells them now.
      const cancelled =
        payment.orderUpdate === 'applied' ? await cancelledSiblings(tx, order, paymentId) : [];
      return { snapshot: toSnapshot(payment, now), cancelled };
    }
    const { decision, cancelled } = await payOrder(tx, order, payment, answer, now);
    const settled = await update(tx, paymentId, {
      status: 'succeeded',
      orderUpdate: decision.orderUpdate,
      orderUpdatedAt: now,
      settledAt: now,
      settledBy: answer.by,
      channelPaymentId: answer.channelPaymentId,
      channelState: answer.state,
      channelAnswer: answer as unknown as Prisma.InputJsonObject,
      receivedAmount: BigInt(answer.amount),
      receivedCurrency: answer.currency,
      payerAmount: answer.payerAmount === undefined ? null : BigInt(answer.payerAmount),
      paidAt: new Date(answer.paidAt),
      channelErrorSince: null,
      ...(decision.orderUpdate === 'applied' || decision.attention === null
        ? { attention: null, attentionSince: null, attentionDetail: null }
        : raised(decision.attention, decision.detail, now)),
    });
    await note(tx, paymentId, 'transition', `Paid, by ${answer.by}: ${from} -> succeeded.`, now, {
      amount: answer.amount,
      currency: answer.currency,
    });
    await note(
      tx,
      paymentId,
      'order',
      decision.orderUpdate === 'applied' ? `Order ${order.id} is paid.` : decision.detail,
      now,
      { orderUpdate: decision.orderUpdate },
    );
    if (decision.orderUpdate === 'conflict') await oweRefund(tx, settled, decision.refund, now);
    await releaseOrder(
      tx,
      await tx.order.findUniqueOrThrow({
        where: { merchantId_id: { merchantId: order.merchantId, id: order.id } },
      }),
      now,
    );
    return { snapshot: toSnapshot(settled, now), cancelled };
  });
}

/** The money that must go back, written with the decision that owes it; its id makes it one a payment. */
async function oweRefund(
  tx: LedgerTx,
  payment: Payment,
  reason: 'duplicate_payment' | 'late_payment' | 'external' | 'requested',
  now: Date,
): Promise<void> {
  const received = payment.receivedAmount ?? 0n;
  const external = reason === 'external';
  await tx.refund.create({
    data: {
      id: external ? externalRefundId(payment.id) : automaticRefundId(payment.id),
      merchantId: payment.merchantId,
      paymentId: payment.id,
      amount: received,
      currency: payment.receivedCurrency ?? payment.currency,
      reason,
      status: external ? 'succeeded' : 'created',
      createdAt: now,
      settledAt: external ? now : null,
    },
  });
  if (external) await update(tx, payment.id, { refundedAmount: received });
  await note(
    tx,
    payment.id,
    'refund',
    `${received} ${payment.currency} ${external ? 'went' : 'must go'} back: ${reason}.`,
    now,
  );
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
  return await underLock(db, paymentId, async ({ tx, order, payment }) => {
    if (isMoney(recordedAnswer(payment)) || !canPaymentGo(payment.status as PaymentStatus, to)) {
      return toSnapshot(payment, now);
    }
    return await end(tx, order, payment, to, detail, now);
  });
}

async function end(
  tx: LedgerTx,
  order: Order,
  payment: Payment,
  to: 'failed' | 'cancelled' | 'closed',
  detail: string,
  now: Date,
): Promise<PaymentSnapshot> {
  const ended = await update(tx, payment.id, {
    status: to,
    endedAt: now,
    ...cleared(payment, ['channel_unreachable', 'create_unknown']),
  });
  await note(tx, payment.id, 'transition', `${payment.status} -> ${to}: ${detail}`, now);
  await releaseOrder(tx, order, now);
  return toSnapshot(ended, now);
}

/** Writes the wish to cancel; the payment stays what it is until the channel has been asked. */
export async function requestCancel(
  db: LedgerClient,
  paymentId: string,
  by: string,
  now: Date,
): Promise<PaymentSnapshot> {
  return await underLock(db, paymentId, async ({ tx, payment }) => {
    if (!isLive(payment.status as PaymentStatus) || payment.cancelRequestedAt !== null)
      return toSnapshot(payment, now);
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
  return await underLock(db, paymentId, async ({ tx, payment }) => {
    if (payment.attention !== null || payment.status === 'succeeded') return toSnapshot(payment, now);
    await note(tx, paymentId, 'attention', `${attention}: ${detail}`, now);
    return toSnapshot(await update(tx, paymentId, raised(attention, detail, now)), now);
  });
}

const raised = (attention: Attention, detail: string, now: Date) => ({
  attention,
  attentionSince: now,
  attentionDetail: detail,
});

/** Takes back an attention of one of these kinds: what it said is not true any more. */
const cleared = (payment: Payment, kinds: readonly Attention[]) =>
  kinds.includes(payment.attention as Attention)
    ? { attention: null, attentionSince: null, attentionDetail: null }
    : {};
