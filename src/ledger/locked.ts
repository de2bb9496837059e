import { type Attention, isClearedBy, type Occasion } from '../domain/attention.ts';
import type { Prisma } from '../generated/prisma/client.ts';
import type { LedgerClient, LedgerTx } from './client.ts';
import { supersedeUntold } from './delivery-row.ts';
import { type News, recordEvent } from './events.ts';
import { lockOrder } from './order-row.ts';
import type { Order, Payment } from './rows.ts';
import { ownerOf, transaction } from './turns.ts';

/** What every change of a payment and its refunds is made with. */

export interface Locked {
  readonly tx: LedgerTx;
  readonly order: Order;
  readonly payment: Payment;
  /** What the merchant is to be told of the work: written as the transaction's last step. */
  readonly news: News[];
}

/**
 * One transaction under the row lock of the payment's order; both rows are read after the lock is had. At the end what
 * has not been told and does not hold any more is superseded, and the merchant's events are written.
 * @throws TooBusy, and Prisma's P2025 when there is no such payment.
 */
export async function underLock<T>(
  db: LedgerClient,
  paymentId: string,
  now: Date,
  work: (locked: Locked) => Promise<T>,
): Promise<T> {
  const { merchantId, orderId } = await ownerOf(db, paymentId);
  return await transaction(db, merchantId, orderId, async (tx) => {
    const order = await lockOrder(tx, merchantId, orderId);
    if (order === null) throw new Error(`order ${orderId} of payment ${paymentId} is gone`);
    const payment = await tx.payment.findUniqueOrThrow({ where: { id: paymentId } });
    const news: News[] = [];
    const result = await work({ tx, order, payment, news });
    for (const id of new Set(news.map((told) => told.paymentId ?? paymentId)))
      await supersedeUntold(tx, id, now);
    for (const told of news) await recordEvent(tx, told.paymentId ?? paymentId, told, now);
    return result;
  });
}

export async function update(tx: LedgerTx, id: string, data: Prisma.PaymentUpdateInput): Promise<Payment> {
  return await tx.payment.update({ where: { id }, data });
}

export const raised = (attention: Attention, detail: string, now: Date) => ({
  attention,
  attentionSince: now,
  attentionDetail: detail,
});

/** What a dispute holds back stays shown as that. */
export const raisedUnlessDisputed = (payment: Payment, attention: Attention, detail: string, now: Date) =>
  payment.attention === 'disputed' ? {} : raised(attention, detail, now);

/** Takes back an attention that one of these occasions clears: what it said is not true any more. */
export const cleared = (payment: Payment, ...occasions: readonly Occasion[]) =>
  payment.attention !== null && isClearedBy(payment.attention, occasions)
    ? { attention: null, attentionSince: null, attentionDetail: null }
    : {};
