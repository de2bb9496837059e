import type { Pool } from 'pg';
import { inTransaction, isStorable } from './database.ts';
import type { Product } from './products.ts';

/** The shop's orders in its own database. Only `events.ts` marks an order as paid. */

export interface Order {
  readonly id: string;
  readonly product: string;
  readonly subject: string;
  readonly amount: number;
  readonly currency: string;
  readonly createdAt: Date;
  readonly cancelledAt: Date | null;
  readonly paidPaymentId: string | null;
  readonly paidAt: Date | null;
  readonly pickupCode: string | null;
  readonly refunded: number;
  readonly revision: number;
  /** Every attempt to pay the order, newest first. */
  readonly payments: readonly Payment[];
}

/** An attempt to pay, as reported by nodrop's events. */
export interface Payment {
  readonly id: string;
  readonly state: string;
  readonly refunded: number;
}

/**
 * Creates an order. The order's id comes from the form, so that pressing "Buy" twice makes one order.
 * @param subject what is bought, in the customer's language; the cashier and the wallet show it
 */
export async function createOrder(db: Pool, id: string, product: Product, subject: string): Promise<void> {
  await db.query(
    `insert into orders (id, product, subject, amount, currency) values ($1, $2, $3, $4, $5)
     on conflict (id) do nothing`,
    [id, product.id, subject, product.amount, product.currency],
  );
}

export async function findOrder(db: Pool, id: string): Promise<Order | null> {
  if (!isStorable(id)) return null;
  const { rows } = await db.query<Order>(
    `select id, product, subject, amount, currency, created_at as "createdAt", cancelled_at as "cancelledAt",
       paid_payment_id as "paidPaymentId", paid_at as "paidAt", pickup_code as "pickupCode", refunded, revision,
       coalesce((select json_agg(json_build_object('id', p.id, 'state', p.state, 'refunded', p.refunded)
         order by p.created_at desc, p.id) from payments p where p.order_id = o.id), '[]')
         as payments
     from orders o where id = $1`,
    [id],
  );
  return rows[0] ?? null;
}

export async function findRevision(db: Pool, id: string): Promise<number | null> {
  if (!isStorable(id)) return null;
  const { rows } = await db.query<{ revision: number }>('select revision from orders where id = $1', [id]);
  return rows[0]?.revision ?? null;
}

/** Stores a new attempt to pay. If one of the attempt's events has arrived already, keeps the state from this event. */
export async function keepPayment(db: Pool, orderId: string, id: string): Promise<void> {
  await inTransaction(db, async (tx) => {
    // Lock the order's row first. `applyEvent` does the same, so this transaction and that of `applyEvent` cannot
    // deadlock.
    await tx.query('update orders set revision = revision + 1 where id = $1', [orderId]);
    await tx.query('insert into payments (id, order_id) values ($1, $2) on conflict (id) do nothing', [
      id,
      orderId,
    ]);
  });
}

/** @returns false when the order is paid, and therefore not cancelled */
export async function cancelOrder(db: Pool, id: string): Promise<boolean> {
  const { rowCount } = await db.query(
    `update orders set cancelled_at = coalesce(cancelled_at, now()), revision = revision + 1
     where id = $1 and paid_payment_id is null`,
    [id],
  );
  return rowCount === 1;
}
