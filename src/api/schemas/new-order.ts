import { z } from '../http/zod.ts';
import {
  amount,
  currency,
  expiresInSeconds,
  metadata,
  orderId,
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
      .openapi({ description: 'When the order takes no more payments. Default: never.', example: 86_400 }),
    metadata: metadata.default({}),
  })
  .openapi('NewOrder');
