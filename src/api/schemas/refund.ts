import { z } from '../http/zod.ts';
import {
  amount,
  currency,
  cursor,
  INT64,
  idempotencyKey,
  limit,
  READABLE_RULE,
  readableText,
  time,
} from './common.ts';
import { refundReason, refundStatus } from './sets.ts';

/** Schemas of refunds, for requests and answers. */

export const newRefund = z
  .strictObject({
    amount: amount.optional().openapi({
      description: 'Minor units. Default: everything that is left of the payment.',
      example: 500,
    }),
    note: readableText(500)
      .optional()
      .openapi({
        description: `A note, returned with the refund. ${READABLE_RULE}`,
        example: 'One ticket returned',
      }),
  })
  .openapi('NewRefund');

export const refundHeaders = z.object({
  'Idempotency-Key': idempotencyKey.openapi({
    description:
      'Makes the request repeatable. A key is unique within the merchant and never expires. The refund `id`, which is also ' +
      'its number at the channel, is derived from the key and the amount: if the database has lost the refund, send the ' +
      'same key and amount again, and the new refund has the same `id`.',
    example: 'refund-order-1001-1',
  }),
});

export const refundListQuery = z.strictObject({ limit: limit(100, 20), cursor });

export const refund = z
  .object({
    id: z.string().openapi({ example: 're_0fcfbb582518ab7af008c2b704a6' }),
    paymentId: z.string().openapi({ example: 'pay_01JD7Z7C8Q6W4Y9V5T3R1P0N2M' }),
    amount: z
      .int()
      .min(0)
      .openapi({
        ...INT64,
        description:
          'Minor units. Once the refund has succeeded: the amount that the channel refunded, at most the amount received for the payment.',
        example: 500,
      }),
    askedAmount: amount.nullable().openapi({
      description: 'The requested amount, if the channel refunded a different amount; otherwise null.',
      example: null,
    }),
    currency,
    status: refundStatus.open,
    reason: refundReason.open,
    note: z.string().nullable(),
    failure: z
      .string()
      .nullable()
      .openapi({
        description:
          'Why the refund has not succeeded: the channel refused it (for good or for now), waits for a person to act, ' +
          'reversed it after it had succeeded, or gave no readable answer.',
      }),
    replacedBy: z
      .string()
      .nullable()
      .openapi({
        description:
          'The id of the refund that replaces this one. This refund is `failed` because part of the money had already ' +
          'been refunded at the channel; nodrop refunds the rest automatically under the new id. The new refund may be ' +
          'replaced too. While another refund of the payment is processing, this field may stay null until that refund settles.',
        example: null,
      }),
    channelRefundId: z.string().nullable().openapi({
      description:
        "The channel's own id of the refund, set as soon as the channel reports it, also while the refund is processing.",
    }),
    createdAt: time,
    settledAt: time.nullable().openapi({ description: 'When the refund succeeded or failed for good.' }),
    temporalUrl: z
      .string()
      .nullable()
      .openapi({ description: 'The workflow in the Temporal Web UI. Only for operators.' }),
  })
  .openapi('Refund');

export const refundPage = z
  .object({ data: z.array(refund), nextCursor: z.string().nullable() })
  .openapi('RefundPage', { description: 'Newest first.' });

export type RefundView = z.infer<typeof refund>;
