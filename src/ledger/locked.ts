import type { Attention } from '../domain/states.ts';
import type { Order, Payment, Prisma } from '../generated/prisma/client.ts';
import { lockOrder } from '../orders/embedded.ts';
import type { LedgerClient, LedgerTx } from './client.ts';

/** What every change of a payment and its refunds is made with. */

export interface Locked {
  readonly tx: LedgerTx;
  readonly order: Order;
  readonly payment: Payment;
}

/** One transaction under the row lock of the payment's order; both rows are read after the lock is had. */
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

export async function update(tx: LedgerTx, id: string, data: Prisma.PaymentUpdateInput): Promise<Payment> {
  return await tx.payment.update({ where: { id }, data });
}

export const raised = (attention: Attention, detail: string, now: Date) => ({
  attention,
  attentionSince: now,
  attentionDetail: detail,
});

/** Takes back an attention of one of these kinds: what it said is not true any more. */
export const cleared = (payment: Payment, kinds: readonly Attention[]) =>
  kinds.includes(payment.attention as Attention)
    ? { attention: null, attentionSince: null, attentionDetail: null }
    : {};
