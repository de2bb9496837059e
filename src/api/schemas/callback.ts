import { z } from '../http/zod.ts';
import { cursor, limit, time } from './common.ts';
import { openSet } from './sets.ts';

/** Callbacks as operators see them. */

export const callbackListQuery = z.strictObject({
  unmatched: z
    .literal('true')
    .openapi({ description: 'Those that match no payment; there is no other list.' }),
  limit: limit(100, 20),
  cursor,
});

export const callback = z
  .object({
    id: z.string().openapi({ example: 'cb_01JD7Z7C8Q6W4Y9V5T3R1P0N2M' }),
    channel: z.string().openapi({ example: 'simulator' }),
    channelAccountId: z.string(),
    notificationId: z.string().openapi({ description: "The channel's own id, the same on its every retry." }),
    kind: openSet('CallbackKind', ['trade', 'refund', 'dispute', 'notice']).open,
    outTradeNo: z.string().openapi({
      description:
        'The payment it names, of which this account knows nothing; empty when it has ids of the channel alone.',
    }),
    reference: z.string().nullable().openapi({ description: "The channel's own id of the trade it names." }),
    channelPaymentId: z
      .string()
      .nullable()
      .openapi({ description: "The channel's own id of what the payer paid, which it names." }),
    state: z.string().openapi({ description: 'What it says in a word.', example: 'paid' }),
    receivedAt: time,
    ageSeconds: z.int(),
    retrying: z.boolean().openapi({
      description:
        'Still tried again by the sweep; false after 72 h: then only a person can tell what it is.',
    }),
  })
  .openapi('Callback');

export const callbackPage = z
  .object({ data: z.array(callback), nextCursor: z.string().nullable() })
  .openapi('CallbackPage', { description: 'Newest first.' });

export type CallbackView = z.infer<typeof callback>;
