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

/** Refunds as they come in and go out. */

export const newRefund = z
  .strictObject({
    amount: amount
      .optional()
      .openapi({ description: 'Minor units. Default: all that is left of the payment.', example: 500 }),
    note: readableText(500)
      .optional()
      .openapi({
        description: `For those who read the refund later. ${READABLE_RULE}`,
        example: 'One ticket returned',
      }),
  })
  .openapi('NewRefund');

export const refundHeaders = z.object({
  'Idempotency-Key': idempotencyKey.openapi({
    description:
      'Makes the request repeatable; unique for ever within the merchant. The refund has the same `id`, its number at ' +
      'the channel, also after the database has lost it: send the same key and the same amount again.',
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
          'Minor units. Once it has succeeded: what the channel gave back, at most what came in for the payment.',
        example: 500,
      }),
    askedAmount: amount.nullable().openapi({
      description: 'What was asked for, when the channel gave back another amount.',
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
          'Why the channel refused it, for good or for now, waits for a person, took it back after it had succeeded, or ' +
          'gave no readable answer.',
      }),
    replacedBy: z
      .string()
      .nullable()
      .openapi({
        description:
          'The refund that goes out in its place: this one is `failed`, as part of the money had gone back at the ' +
          'channel, and the rest goes back under another number without being asked for. That one may be replaced too. ' +
          'While another refund of the payment is in process, this may be set only once that one settles.',
        example: null,
      }),
    channelRefundId: z.string().nullable().openapi({
      description: "The channel's own id, as soon as it has told it, while it is in process too.",
    }),
    createdAt: time,
    settledAt: time.nullable().openapi({ description: 'When it succeeded or failed for good.' }),
    temporalUrl: z
      .string()
      .nullable()
      .openapi({ description: 'The workflow in the Temporal Web UI; operators only.' }),
  })
  .openapi('Refund');

export const refundPage = z
  .object({ data: z.array(refund), nextCursor: z.string().nullable() })
  .openapi('RefundPage', { description: 'Newest first.' });

export type RefundView = z.infer<typeof refund>;
