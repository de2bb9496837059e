import { z } from '../http/zod.ts';
import { cursor, limit, time } from './common.ts';
import { openSet } from './sets.ts';

/** Schemas of the callbacks that operators can read. */

export const callbackListQuery = z.strictObject({
  unmatched: z
    .literal('true')
    .openapi({ description: 'Required: only callbacks that match no payment can be listed.' }),
  limit: limit(100, 20),
  cursor,
});

export const callback = z
  .object({
    id: z.string().openapi({ example: 'cb_01JD7Z7C8Q6W4Y9V5T3R1P0N2M' }),
    channel: z.string().openapi({ example: 'simulator' }),
    channelAccountId: z.string(),
    notificationId: z
      .string()
      .openapi({ description: "The channel's own id of the callback, the same on every retry." }),
    kind: openSet('CallbackKind', ['trade', 'refund', 'dispute', 'notice']).open,
    outTradeNo: z.string().openapi({
      description:
        'The payment id in the callback; this account has no payment with that id. Empty if the callback only has ids of the channel.',
    }),
    reference: z
      .string()
      .nullable()
      .openapi({ description: "The channel's own id of the trade, as the callback names it." }),
    channelPaymentId: z
      .string()
      .nullable()
      .openapi({ description: "The channel's own id of the payer's payment, as the callback names it." }),
    state: z.string().openapi({ description: 'The state that the callback reports.', example: 'paid' }),
    receivedAt: time,
    ageSeconds: z.int(),
    retrying: z.boolean().openapi({
      description:
        'True while the sweep still tries to match the callback. False after 72 h: then an operator has to look at it.',
    }),
  })
  .openapi('Callback');

export const callbackPage = z
  .object({ data: z.array(callback), nextCursor: z.string().nullable() })
  .openapi('CallbackPage', { description: 'Newest first.' });

export type CallbackView = z.infer<typeof callback>;
