import { z } from '../http/zod.ts';
import {
  amount,
  currency,
  EXPIRY_RULE,
  expiresInSeconds,
  metadata,
  orderId,
  orElse,
  READABLE_RULE,
  readableText,
} from './common.ts';

/** The schema of a new order, in `POST /v1/orders` and inside `POST /v1/payments`. */
export const newOrder = z
  .strictObject({
    id: orderId,
    amount,
    currency: currency.openapi({
      description:
        'An ISO 4217 code of a currency in use today: no funds code, metal or withdrawn currency. An existing order keeps ' +
        'its currency, also if it has been withdrawn since.',
    }),
    subject: readableText(128)
      .optional()
      .openapi({
        description: `What the payer reads. ${READABLE_RULE} Default: \`Order {id}\`.`,
        example: 'Two tickets',
      }),
    expiresInSeconds: expiresInSeconds(366 * 86_400)
      .optional()
      .openapi({
        description: `After how many seconds the order accepts no more payments. ${EXPIRY_RULE} Default: never.`,
        example: 86_400,
      }),
    metadata: orElse(metadata, {}),
  })
  .openapi('NewOrder');

/**
 * The schema of a request that changes an order. It has only the fields that can change, with the same rules as for a
 * new order.
 */
export const orderChange = z
  .strictObject({
    amount: amount.optional().openapi({ description: 'Minor units, in the currency of the order.' }),
    subject: newOrder.shape.subject.openapi({ description: 'What the payer of the next attempt reads.' }),
    expiresInSeconds: newOrder.shape.expiresInSeconds.openapi({
      description:
        "After how many seconds the order accepts no more payments, counted from the order's `createdAt`. The resulting time " +
        `must not be in the past or before a live attempt expires. ${EXPIRY_RULE}`,
      example: 172_800,
    }),
    // This field has no fallback value, because a request without metadata leaves the order's metadata unchanged.
    metadata: metadata.optional().openapi({ description: 'Replaces all metadata of the order.' }),
  })
  .openapi('OrderChange', { description: 'Absent fields stay unchanged. The currency never changes.' });
