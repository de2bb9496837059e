import { type Attention, isClearedBy, type Occasion } from '../domain/attention.ts';
import { Prisma } from '../generated/prisma/client.ts';
import type { LedgerClient, LedgerTx } from './client.ts';
import { supersedePending } from './delivery-row.ts';
import { eventOf, type NewEvent, recordEvent } from './events.ts';
import { type VisibleModel, visibleTransaction } from './notify.ts';
import { ORDERS, PAYMENTS, type RawRow, readRow, rowsOf, takeOrderLock } from './raw-rows.ts';
import type { Merchant, Order, Payment } from './rows.ts';
import { type OwnedPayment, ownerOf } from './transaction-limits.ts';
import { type Writes, write } from './write-decision.ts';

/** Every change of a payment or of its refunds is made in a transaction that this file runs. */

export interface Locked {
  readonly tx: LedgerTx;
  readonly order: Order;
  readonly payment: Payment;
  /** The events that the work records for the merchant. They are written in the last step of the transaction. */
  readonly newEvents: NewEvent[];
}

/**
 * Rows related to the payment. All of them are read under the order's lock, before the transaction writes anything.
 */
interface Around {
  /** The order's other payments. */
  readonly others: readonly Payment[];
  readonly merchant: Pick<Merchant, 'latePayment' | 'orderServiceUrl'>;
  /** True if an event of one of the order's payments has a pending delivery. */
  readonly hasPendingDelivery: boolean;
  /** The time of the newest event of the order's payments; null if they have none. */
  readonly newestEventAt: Date | null;
}

export interface Work extends Locked {
  readonly around: Around;
  /**
   * Defers these changes of the rows. The changes are written together with the new events, in one statement, at the
   * end of the transaction or when `flush` is called. Call this function at most once.
   */
  readonly write: (writes: Writes) => { readonly payment: Payment; readonly order: Order };
  /** Writes the deferred changes now. Call it before any code that reads rows again or writes with Prisma. */
  readonly flush: () => Promise<void>;
}

/**
 * Runs one transaction under the row lock of the payment's order. After the lock is taken, a separate statement reads
 * all rows. The statement that takes the lock would read the rows as they were before it waited for the lock. At the
 * end, pending events that are no longer true are superseded, and the merchant's new events are written. After the
 * commit, waiting requests are notified of changes that they can see.
 * @param mayWait true if the transaction may wait for a slot, see `withinLimits`.
 * @throws TooBusy, and Prisma's P2025 if the payment does not exist.
 */
export async function underOrderLock<T>(
  db: LedgerClient,
  given: string | OwnedPayment,
  now: Date,
  work: (locked: Work) => Promise<T>,
  mayWait = true,
): Promise<T> {
  const owned = await ownerOf(db, given);
  const { paymentId, merchantId, orderId } = owned;
  const inTransaction = async (tx: LedgerTx, written: Set<VisibleModel>): Promise<T> => {
    await takeOrderLock(tx, merchantId, orderId);
    const { order, payment, around } = await readLocked(tx, owned);
    const newEvents: NewEvent[] = [];
    let after = { payment, order };
    let unwritten: Writes | null = null;
    const put = async (writes: Writes) => {
      if (writes.payment !== undefined) written.add('payment');
      if (writes.order !== undefined) written.add('order');
      if (writes.event !== undefined) written.add('event');
      await write(tx, payment, writes);
    };
    const flush = async () => {
      if (unwritten === null) return;
      const writes = unwritten;
      unwritten = null;
      await put(writes);
    };
    const result = await work({
      tx,
      order,
      payment,
      newEvents,
      around,
      flush,
      write: (writes) => {
        unwritten = writes;
        after = { payment: { ...payment, ...writes.payment }, order: { ...order, ...writes.order } };
        return after;
      },
    });
    const [first, ...more] = newEvents;
    const last = unwritten as Writes | null;
    // One statement is enough, because nothing has been written yet, no event can be superseded, and all rows are
    // known.
    if (
      last !== null &&
      first?.paymentId === undefined &&
      first?.refundId === undefined &&
      more.length === 0 &&
      !around.hasPendingDelivery
    ) {
      if (first === undefined) await put(last);
      else {
        const event = eventOf({ ...after, ...around }, first, now);
        await put({ ...last, ...event, payment: { ...last.payment, ...event.payment } });
      }
      return result;
    }
    await flush();
    for (const id of new Set(newEvents.map((event) => event.paymentId ?? paymentId)))
      await supersedePending(tx, id, now);
    for (const event of newEvents) {
      written.add('payment').add('event');
      await recordEvent(tx, event.paymentId ?? paymentId, event, now);
    }
    return result;
  };
  return await visibleTransaction(db, merchantId, orderId, inTransaction, mayWait);
}

/** @throws Prisma's P2025 if the payment does not exist. */
async function readLocked(
  tx: LedgerTx,
  { paymentId, merchantId, orderId }: OwnedPayment,
): Promise<{ order: Order; payment: Payment; around: Around }> {
  const [row] = await rowsOf<{
    order: RawRow;
    payment: RawRow;
    others: RawRow[];
    merchant: Around['merchant'];
    hasPendingDelivery: boolean;
    newestEventAt: Date | null;
  }>(
    tx,
    Prisma.sql`
      SELECT to_jsonb(o) AS "order", to_jsonb(p) AS payment,
        jsonb_build_object('latePayment', m.late_payment, 'orderServiceUrl', m.order_service_url) AS merchant,
        (
          SELECT COALESCE(jsonb_agg(to_jsonb(other) ORDER BY other.id), '[]') FROM payments AS other
          WHERE other.merchant_id = ${merchantId} AND other.order_id = ${orderId} AND other.id <> ${paymentId}
        ) AS others,
        EXISTS (
          SELECT FROM deliveries AS d JOIN payments AS told ON told.id = d.payment_id
          WHERE told.merchant_id = ${merchantId} AND told.order_id = ${orderId} AND d.status = 'pending'
        ) AS "hasPendingDelivery",
        (
          SELECT max(e.created_at) FROM payments AS told JOIN events AS e ON e.payment_id = told.id
          WHERE told.merchant_id = ${merchantId} AND told.order_id = ${orderId}
        ) AS "newestEventAt"
      FROM payments AS p
        JOIN orders AS o ON o.merchant_id = p.merchant_id AND o.id = p.order_id
        JOIN merchants AS m ON m.id = p.merchant_id
      WHERE p.id = ${paymentId} AND p.merchant_id = ${merchantId} AND p.order_id = ${orderId}`,
  );
  if (row === undefined) {
    await tx.payment.findUniqueOrThrow({ where: { id: paymentId, merchantId, orderId } });
    throw new Error(`order ${orderId} of payment ${paymentId} does not exist`);
  }
  const { merchant, hasPendingDelivery, newestEventAt } = row;
  const others = row.others.map((other) => readRow(PAYMENTS, other));
  return {
    order: readRow(ORDERS, row.order),
    payment: readRow(PAYMENTS, row.payment),
    around: { others, merchant, hasPendingDelivery, newestEventAt },
  };
}

export async function update(tx: LedgerTx, id: string, data: Prisma.PaymentUpdateInput): Promise<Payment> {
  return await tx.payment.update({ where: { id }, data });
}

export const raised = (attention: Attention, detail: string, now: Date) => ({
  attention,
  attentionSince: now,
  attentionDetail: detail,
});

/**
 * Raises an attention, but never replaces `disputed`. While the payment is disputed, the new attention is stored as
 * hidden. It is raised once the dispute is decided.
 */
export const raisedUnlessDisputed = (payment: Payment, attention: Attention, detail: string, now: Date) =>
  payment.attention === 'disputed'
    ? { hiddenAttention: attention, hiddenAttentionSince: now, hiddenAttentionDetail: detail }
    : raised(attention, detail, now);

const NONE = { attention: null, attentionSince: null, attentionDetail: null };
const NONE_HIDDEN = { hiddenAttention: null, hiddenAttentionSince: null, hiddenAttentionDetail: null };

/**
 * Clears the payment's raised attention and its hidden attention, each if one of the given occasions clears an
 * attention of its kind.
 */
export const cleared = (
  { attention, hiddenAttention }: Pick<Payment, 'attention' | 'hiddenAttention'>,
  ...occasions: readonly Occasion[]
): Partial<typeof NONE & typeof NONE_HIDDEN> => ({
  ...(attention !== null && isClearedBy(attention, occasions) ? NONE : {}),
  ...(hiddenAttention !== null && isClearedBy(hiddenAttention, occasions) ? NONE_HIDDEN : {}),
});

/**
 * Clears `channel_misconfigured` once the channel has accepted a call. If `channel_misconfigured` has replaced a
 * conflict, the conflict is raised again.
 */
export const clearedOnceAccepted = (payment: Payment) =>
  payment.attention === 'channel_misconfigured' && payment.hiddenAttention !== null
    ? nextShown(payment)
    : cleared(payment, 'configured');

/** Stores the current attention as hidden, because another attention replaces it. */
export const hidden = ({ attention, attentionSince, attentionDetail }: Payment) => ({
  hiddenAttention: attention,
  hiddenAttentionSince: attentionSince,
  hiddenAttentionDetail: attentionDetail,
});

/**
 * Replaces the current attention with the hidden attention. If no attention is hidden, the payment has no attention
 * afterwards.
 */
export const nextShown = (payment: Payment) => ({
  attention: payment.hiddenAttention,
  attentionSince: payment.hiddenAttentionSince,
  attentionDetail: payment.hiddenAttentionDetail,
  ...NONE_HIDDEN,
});
