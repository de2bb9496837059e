import { isBackUnexplained } from '../domain/answer.ts';
import { amountText } from '../domain/money.ts';
import { Refusal } from '../domain/refusal.ts';
import type { LedgerClient, LedgerTx } from './client.ts';
import { hurryDeliveries } from './deliveries.ts';
import { decidePending } from './delivery-verdict.ts';
import { insertExternal } from './external-refunds.ts';
import {
  type Locked,
  nextShown,
  raisedUnlessDisputed,
  underOrderLock,
  update,
  type Work,
} from './order-lock.ts';
import { cancelOthers, othersToCancel, releaseOrder } from './order-row.ts';
import { isAllBack } from './payment-facts.ts';
import { renewKeys } from './refund-keys.ts';
import { findOpenRefund, giveBackOthers, othersToGiveBack, oweRefund, oweRefundAgain } from './refunds.ts';
import type { Payment, Refund } from './rows.ts';
import { note } from './timeline.ts';

/** An operator's decisions about a payment that needs attention. Every decision is recorded on the timeline. */

export const RESOLUTIONS = ['accept', 'refund', 'retry', 'dismiss'] as const;
export type Resolution = (typeof RESOLUTIONS)[number];

export interface Resolved {
  readonly payment: Payment;
  /**
   * All refunds that the decision causes, of this payment and of other payments. The caller starts the refunds'
   * workflows.
   */
  readonly refunds: readonly (Refund & { readonly payment: Payment })[];
  /** The order's other live attempts, which must be cancelled. The caller signals the attempts' workflows. */
  readonly cancelled: readonly Payment[];
}

/**
 * Applies an operator's decision:
 * - `accept`: the payment's remaining money pays the order, although the money is late or has another amount. If money
 *   of the order's other payments waits for a decision, that money is refunded. If the order service has not agreed
 *   yet, the operator's decision replaces the order service's agreement.
 * - `refund`: refunds the payment's remaining money, even if the channel has refused an earlier refund of it.
 * - `retry`: repeats the work that failed. The caller wakes the workflows that do this work. If the channel has refused
 *   a due refund, a new refund is made.
 * - `dismiss`: removes the attention. It is not allowed while a refund is due. If the channel does not report how much
 *   was refunded, `dismiss` also records that all of the money was refunded.
 * @throws Refusal `payment_not_found`, or `not_resolvable` if the action cannot be applied to the payment.
 */
export async function resolvePayment(
  db: LedgerClient,
  merchantId: string,
  paymentId: string,
  action: Resolution,
  remark: string,
  now: Date,
): Promise<Resolved> {
  const found = await db.payment.findFirst({ where: { id: paymentId, merchantId }, select: { id: true } });
  if (found === null) throw new Refusal('payment_not_found', `There is no payment ${paymentId}.`);
  return await underOrderLock(db, paymentId, now, async (locked) => {
    await note(locked.tx, paymentId, 'manual', `Resolved by an operator: ${action}. ${remark}`, now, {
      action,
    });
    switch (action) {
      case 'retry': {
        await hurryDeliveries(locked.tx, paymentId);
        const renewed = await renewKeys(locked, now);
        if (locked.payment.orderUpdate !== 'conflict') {
          const payment = await locked.tx.payment.findUniqueOrThrow({ where: { id: paymentId } });
          return { payment, ...NO_OTHERS, refunds: of(payment, renewed) };
        }
        const { payment, refund } = await oweRefundAgain(locked, now);
        return { payment, ...NO_OTHERS, refunds: of(payment, refund) };
      }
      case 'dismiss':
        return { payment: await dismiss(locked, now), ...NO_OTHERS };
      case 'accept': {
        const agreed = await decidePending(locked, action, now);
        return agreed === null ? await accept(locked, now) : { payment: agreed, ...NO_OTHERS };
      }
      case 'refund': {
        const payment = (await decidePending(locked, action, now)) ?? (await refund(locked, now));
        return { payment, ...NO_OTHERS, refunds: of(payment, await findOpenRefund(locked.tx, paymentId)) };
      }
    }
  });
}

const NO_OTHERS = { refunds: [], cancelled: [] };

const of = (payment: Payment, refund: Refund | null): Resolved['refunds'] =>
  refund === null ? [] : [{ ...refund, payment }];

const HIDES_NOTHING = { hiddenAttention: null, hiddenAttentionSince: null, hiddenAttentionDetail: null };
const SEEN = { attention: null, attentionSince: null, attentionDetail: null };

async function dismiss(locked: Locked, now: Date): Promise<Payment> {
  const { tx, payment } = locked;
  if (payment.orderUpdate === 'review' && isBackUnexplained(payment)) {
    await requireNoneOnItsWay(tx, payment.id);
    const amount = (payment.receivedAmount ?? 0n) - payment.refundedAmount;
    return await insertExternal(locked, { amount, state: 'succeeded' }, now);
  }
  if (payment.orderUpdate === 'review')
    throw new Refusal(
      'not_resolvable',
      'The money of the payment waits for a decision: accept or refund it.',
    );
  if (payment.orderUpdate === 'conflict' && !isAllBack(payment))
    throw new Refusal(
      'not_resolvable',
      'The payment is not refunded in full yet: use retry, or wait for its refund.',
    );
  return await update(tx, payment.id, nextShown(payment));
}

/**
 * Throws if no money of the payment waits for a decision, or if a refund of the payment is open. While a refund is
 * open, the remaining amount is unknown.
 */
async function requireUndecided({ tx, payment: { id, orderUpdate } }: Locked): Promise<void> {
  if (orderUpdate !== 'review')
    throw new Refusal('not_resolvable', `Payment ${id} has no money that waits for a decision.`);
  await requireNoneOnItsWay(tx, id);
}

async function requireNoneOnItsWay(tx: LedgerTx, paymentId: string): Promise<void> {
  const open = await findOpenRefund(tx, paymentId);
  if (open !== null)
    throw new Refusal('not_resolvable', `Refund ${open.id} of payment ${paymentId} has not ended yet.`);
}

async function accept(locked: Work, now: Date): Promise<Resolved> {
  await requireUndecided(locked);
  const { tx, order, payment, newEvents, around } = locked;
  const { merchantId, id: paymentId } = payment;
  // True if the order service answered that the order is gone. The operator's decision then overrules that answer.
  const isDecided = order.paidPaymentId === paymentId;
  if (!isDecided && order.status !== 'unpaid' && order.status !== 'paying') {
    throw new Refusal('not_resolvable', `Order ${order.id} is ${order.status}: it accepts no more money.`);
  }
  const mustBeTold = around.merchant.orderServiceUrl !== null;
  const isPending = mustBeTold && !isDecided;
  // The payment is updated before its order. A database check allows the payment's amount to differ from the order's
  // amount only if an operator has settled the payment.
  const accepted = await update(tx, paymentId, {
    // The decision clears the payment's attention, but not the attention of an open dispute.
    ...(payment.attention === 'disputed' ? HIDES_NOTHING : SEEN),
    orderUpdate: isPending ? 'pending' : 'applied',
    orderUpdatedAt: isPending ? null : now,
    settledBy: 'operator',
  });
  if (!isDecided) {
    await tx.order.update({
      where: { merchantId_id: { merchantId, id: order.id } },
      data: { status: 'succeeded', paidPaymentId: paymentId, paidAt: payment.paidAt },
    });
  }
  const cancelled = othersToCancel(around.others);
  await cancelOthers(tx, cancelled, paymentId, now);
  const rest = amountText(
    (payment.receivedAmount ?? 0n) - payment.refundedAmount,
    payment.receivedCurrency ?? payment.currency,
  );
  const less = isBackUnexplained(payment)
    ? ', less an amount that the channel refunded and does not report'
    : '';
  await note(tx, paymentId, 'order', `Order ${order.id} is paid: an operator accepted ${rest}${less}.`, now);
  newEvents.push({ type: 'payment.succeeded', mustBeTold });
  const refunds = await giveBackOthers(locked, othersToGiveBack(order, around.others), paymentId, now);
  return { payment: accepted, refunds, cancelled };
}

async function refund(locked: Locked, now: Date): Promise<Payment> {
  const { tx, order, payment, newEvents } = locked;
  if (payment.orderUpdate === 'conflict' && !isAllBack(payment)) {
    await requireNoneOnItsWay(tx, payment.id);
    return (await oweRefundAgain(locked, now)).payment;
  }
  await requireUndecided(locked);
  const isLate = [payment.attention, payment.hiddenAttention].includes('late_payment_review');
  const refunding = await update(tx, payment.id, {
    orderUpdate: 'conflict',
    orderUpdatedAt: now,
    ...raisedUnlessDisputed(payment, 'order_conflict', 'An operator refunds the payment.', now),
  });
  await oweRefund(tx, refunding, isLate ? 'late_payment' : 'requested', now);
  newEvents.push({ type: 'payment.conflict' });
  await releaseOrder(tx, order, now);
  return refunding;
}
