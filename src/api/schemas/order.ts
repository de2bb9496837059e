import { z } from '../http/zod.ts';
import { amount, currency, cursor, limit, time, wait } from './common.ts';
import { payment } from './payment.ts';
import { orderStatus } from './sets.ts';

/** Orders as they go out, and what can be asked of them. */

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
    paidAt: time.nullable().openapi({ description: "The channel's clock." }),
    metadata: z.record(z.string(), z.string()),
    createdAt: time,
    expiresAt: time.nullable(),
    cancelRequestedAt: time.nullable().openapi({
      description:
        'Since when its owner wants it cancelled; it is, once none of its payments can be paid any more.',
    }),
    recoveredAt: time.nullable().openapi({
      description:
        'When a payment of it was written again after the database had lost it. No refund of its payments is automatic ' +
        'from then on. If the order was lost as well, `subject` is empty until it is created again with the same amount ' +
        'and currency, which fills subject, metadata and expiry.',
    }),
    payments: z.array(payment).openapi({ description: 'Every attempt, newest first.' }),
  })
  .openapi('Order');

export const orderPage = z
  .object({ data: z.array(order), nextCursor: z.string().nullable() })
  .openapi('OrderPage', { description: 'Newest first.' });

export type OrderView = z.infer<typeof order>;
