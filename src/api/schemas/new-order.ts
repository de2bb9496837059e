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

/** An order as it is created, by itself or inside a payment. */
export const newOrder = z
  .strictObject({
    id: orderId,
    amount,
    currency: currency.openapi({
      description:
        'An ISO 4217 code that people pay in today: no funds code, metal or withdrawn currency. An order that exists ' +
        'keeps its own.',
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
        description: `When the order takes no more payments. ${EXPIRY_RULE} Default: never.`,
        example: 86_400,
      }),
    metadata: orElse(metadata, {}),
  })
  .openapi('NewOrder');

/** What can change of an order: the same rules as for a new one. */
export const orderChange = z
  .strictObject({
    amount: amount.optional().openapi({ description: 'Minor units, in the currency of the order.' }),
    subject: newOrder.shape.subject.openapi({ description: 'What the payer of the next attempt reads.' }),
    expiresInSeconds: newOrder.shape.expiresInSeconds.openapi({
      description:
        "When the order takes no more payments, counted from the order's `createdAt` as at its creation. Not in the " +
        `past, and not before a live attempt expires. ${EXPIRY_RULE}`,
      example: 172_800,
    }),
    // Without the fallback of a new order: what is absent stays.
    metadata: metadata.optional().openapi({ description: 'Replaces all that was there.' }),
  })
  .openapi('OrderChange', { description: 'What is absent stays as it is. The currency never changes.' });
