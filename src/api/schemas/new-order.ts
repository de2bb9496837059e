import { z } from '../http/zod.ts';
import { amount, currency, expiresInSeconds, metadata, orderId, orElse, text } from './common.ts';

/** An order as it is created, by itself or inside a payment. */
export const newOrder = z
  .strictObject({
    id: orderId,
    amount,
    currency,
    subject: text(128)
      .optional()
      .openapi({ description: 'What the payer reads. Default: `Order {id}`.', example: 'Two tickets' }),
    expiresInSeconds: expiresInSeconds(366 * 86_400)
      .optional()
      .openapi({ description: 'When the order takes no more payments. Default: never.', example: 86_400 }),
    metadata: orElse(metadata, {}),
  })
  .openapi('NewOrder');
