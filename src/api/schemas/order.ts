import { z } from '../http/zod.ts';
import { amount, currency, cursor, limit, time, wait } from './common.ts';
import { payment } from './payment.ts';
import { orderStatus } from './sets.ts';

/** Schemas of orders in answers, and of the queries that read them. */

export const orderQuery = z.strictObject({ wait });

export const orderListQuery = z.strictObject({
  status: orderStatus.known.optional(),
  limit: limit(100, 20),
  cursor,
});

export const order = z
  .object({
    id: z.string().openapi({ example: 'order-1001' }),
    amount,
    currency,
    subject: z.string().openapi({ example: 'Two tickets' }),
    status: orderStatus.open,
    paidPaymentId: z.string().nullable(),
    paidAt: time.nullable().openapi({ description: "When the payer paid, by the channel's clock." }),
    metadata: z.record(z.string(), z.string()),
    createdAt: time,
    expiresAt: time.nullable(),
    cancelRequestedAt: time.nullable().openapi({
      description:
        'When the merchant requested cancellation; otherwise null. The order is cancelled once none of its payments can be paid.',
    }),
    recoveredAt: time.nullable().openapi({
      description:
        'When a payment of the order was restored after the database had lost it; otherwise null. From then on, no refund of ' +
        'its payments is automatic. If the order was lost too, `subject` is empty until you create the order again with the ' +
        'same amount and currency, which sets subject, metadata and expiry.',
    }),
    payments: z.array(payment).openapi({ description: 'Every attempt, newest first.' }),
  })
  .openapi('Order');

export const orderPage = z
  .object({ data: z.array(order), nextCursor: z.string().nullable() })
  .openapi('OrderPage', { description: 'Newest first.' });

export type OrderView = z.infer<typeof order>;
