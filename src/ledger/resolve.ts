import { automaticRefundId } from '../domain/ids.ts';
import { Refusal } from '../domain/refusal.ts';
import type { Payment, Refund } from '../generated/prisma/client.ts';
import { cancelOthers, lockOrder, releaseOrder } from '../orders/embedded.ts';
import type { LedgerClient } from './client.ts';
import { note } from './timeline.ts';

/** What an operator decides about a payment that needs attention. Every decision is on the timeline. */

export const RESOLUTIONS = ['accept', 'refund', 'retry', 'dismiss'] as const;
export type Resolution = (typeof RESOLUTIONS)[number];

export interface Resolved {
  readonly payment: Payment;
  /** The refund that is owed by the decision, whose workflow is to start. */
  readonly refund: Refund | null;
  /** The order's other live attempts, which are to cancel and want to hear of it. */
  readonly cancelled: readonly Payment[];
}

/**
 * - `accept`: money that waits for a decision pays its order all the same, though it is another amount or late.
 * - `refund`: it goes back, all of it.
 * - `retry`: what failed is tried again; here only noted, the caller wakes who does it.
 * - `dismiss`: a person has seen it; nothing else changes.
 * @throws Refusal `payment_not_found`, `not_resolvable` when there is nothing to decide in this way.
 */
export async function resolvePayment(
  db: LedgerClient,
  merchantId: string,
  paymentId: string,
  action: Resolution,
  remark: string,
  now: Date,
): Promise<Resolved> {
  return await db.$transaction(async (tx) => {
    const found = await tx.payment.findFirst({ where: { id: paymentId, merchantId } });
    if (found === null) throw new Refusal('payment_not_found', `There is no payment ${paymentId}.`);
    const order = await lockOrder(tx, merchantId, found.orderId);
    const payment = await tx.payment.findUniqueOrThrow({ where: { id: paymentId } });
    if (order === null) throw new Error(`order ${found.orderId} of payment ${paymentId} is gone`);
    const where = { id: paymentId };
    const nobody = { refund: null, cancelled: [] };
    const settled = { attention: null, attentionSince: null, attentionDetail: null };
    await note(tx, paymentId, 'manual', `Resolved by an operator: ${action}. ${remark}`, now, { action });

    if (action === 'retry') return { payment, ...nobody };
    if (action === 'dismiss') {
      if (payment.orderUpdate === 'review') {
        throw new Refusal('not_resolvable', 'Money waits for a decision: accept it or refund it.');
      }
      return { payment: await tx.payment.update({ where, data: settled }), ...nobody };
    }
    if (payment.orderUpdate !== 'review') {
      throw new Refusal('not_resolvable', `Payment ${paymentId} holds no money that waits for a decision.`);
    }
    const refunds = await tx.refund.count({ where: { paymentId, status: { not: 'failed' } } });
    if (refunds > 0) throw new Refusal('not_resolvable', `A refund of payment ${paymentId} is made already.`);
    if (action === 'accept') {
      if (order.status !== 'unpaid' && order.status !== 'paying') {
        throw new Refusal(
          'not_resolvable',
          `Order ${order.id} is ${order.status}: it takes no money any more.`,
        );
      }
      await tx.order.update({
        where: { merchantId_id: { merchantId, id: order.id } },
        data: { status: 'succeeded', paidPaymentId: paymentId, paidAt: payment.paidAt },
      });
      const cancelled = await cancelOthers(tx, order, paymentId, now);
      await note(
        tx,
        paymentId,
        'order',
        `Order ${order.id} is paid, as an operator accepted the money.`,
        now,
      );
      const applied = await tx.payment.update({
        where,
        data: { ...settled, orderUpdate: 'applied', orderUpdatedAt: now, settledBy: 'operator' },
      });
      return { payment: applied, refund: null, cancelled };
    }
    const refund = await tx.refund.create({
      data: {
        id: automaticRefundId(paymentId),
        merchantId,
        paymentId,
        amount: (payment.receivedAmount ?? 0n) - payment.refundedAmount,
        currency: payment.receivedCurrency ?? payment.currency,
        reason: payment.attention === 'late_payment_review' ? 'late_payment' : 'requested',
        createdAt: now,
      },
    });
    const refunding = await tx.payment.update({
      where,
      data: {
        orderUpdate: 'conflict',
        orderUpdatedAt: now,
        attention: 'order_conflict',
        attentionSince: now,
        attentionDetail: 'An operator refunds it.',
      },
    });
    await releaseOrder(tx, order, now);
    return { payment: refunding, refund, cancelled: [] };
  });
}
