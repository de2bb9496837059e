import { Prisma } from '../generated/prisma/client.ts';
import type { LedgerTx } from './client.ts';
import { assignments, notesOf, ORDERS, PAYMENTS } from './raw-rows.ts';
import type { Event, Order, Payment } from './rows.ts';
import type { Note } from './timeline.ts';

/** Everything that a transaction writes for its decision about one payment and its order. */
export interface Writes {
  readonly payment?: Partial<Payment>;
  readonly order?: Partial<Order>;
  readonly notes?: readonly Note[];
  readonly event?: Omit<Event, 'seq'>;
  /** The event's delivery. */
  readonly deliveryId?: string;
}

/**
 * Writes a decision in one statement, including its timeline entries. The order must be locked, and the rows of the
 * payment and of the order must exist.
 */
export async function write(
  tx: LedgerTx,
  { id, merchantId, orderId }: Pick<Payment, 'id' | 'merchantId' | 'orderId'>,
  { payment, order, notes = [], event, deliveryId }: Writes,
): Promise<void> {
  const updatedAt = new Date();
  const parts = [Prisma.sql`written AS (SELECT ${id}::text AS payment_id)`];
  if (payment !== undefined) {
    const set = assignments(PAYMENTS, { ...payment, updatedAt });
    parts.push(Prisma.sql`written_payment AS (UPDATE payments SET ${set} WHERE id = ${id})`);
  }
  if (order !== undefined) {
    const set = assignments(ORDERS, { ...order, updatedAt });
    parts.push(
      Prisma.sql`written_order AS (UPDATE orders SET ${set} WHERE merchant_id = ${merchantId} AND id = ${orderId})`,
    );
  }
  if (event !== undefined) {
    const { type, version, data, createdAt } = event;
    parts.push(Prisma.sql`written_event AS (
      INSERT INTO events (id, merchant_id, payment_id, type, version, data, created_at)
      VALUES (${event.id}, ${merchantId}, ${id}, ${type}, ${version}, ${JSON.stringify(data)}::jsonb, ${createdAt}::timestamptz)
    )`);
    if (deliveryId !== undefined) {
      parts.push(Prisma.sql`written_delivery AS (
        INSERT INTO deliveries (id, event_id, merchant_id, payment_id, created_at)
        VALUES (${deliveryId}, ${event.id}, ${merchantId}, ${id}, ${createdAt}::timestamptz)
      )`);
    }
  }
  if (notes.length > 0) parts.push(Prisma.sql`written_notes AS (${notesOf(Prisma.sql`written`, notes)})`);
  await tx.$queryRaw`WITH ${Prisma.join(parts)} SELECT 1`;
}
