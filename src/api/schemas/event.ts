import { DELIVERY_OUTCOMES, type EventType, REDELIVERABLE_STATUSES } from '../../domain/event.ts';
import { z } from '../http/zod.ts';
import { cursor, limit, time, wait } from './common.ts';
import { order } from './order.ts';
import { payment } from './payment.ts';
import { refund } from './refund.ts';
import { deliveryStatus, eventType, openSet } from './sets.ts';

/** What merchants are told: events, on their way to the order service and in the feed. */

/** Without what depends on the caller: the payer's next action, tokens, links for operators. How far a
 * refund is its own events tell. */
const eventPayment = payment
  .omit({
    adopted: true,
    refundReason: true,
    refundStatus: true,
    nextAction: true,
    payUrl: true,
    checkoutUrl: true,
    clientToken: true,
    payer: true,
    returnUrl: true,
    disputes: true,
    temporalUrl: true,
  })
  .openapi('EventPayment', { description: 'The payment as it was.' });

const eventOrder = order
  .omit({ payments: true })
  .openapi('EventOrder', { description: 'The order as it was.' });

const eventRefund = refund
  .omit({ temporalUrl: true })
  .openapi('EventRefund', { description: 'The refund as it was.' });

const paymentEventData = z
  .object({
    payment: eventPayment,
    order: eventOrder,
    version: z.int().min(1).openapi({
      description:
        'Grows with every event of the payment. Events may overtake each other. Each carries the whole state of its payment, so what is older than one you know is never news.',
      example: 1,
    }),
  })
  .openapi('PaymentEventData');

const refundEventData = paymentEventData.extend({ refund: eventRefund }).openapi('RefundEventData');

/** The body of a webhook of this type. */
export const eventOf = (type: EventType) =>
  z.object({
    type: z.literal(type),
    timestamp: time.openapi({ description: 'When it happened.' }),
    test: z.boolean().optional().openapi({
      description:
        'True of an event that `merchants test-event` sends: it is about nothing. Verify it, answer 200, and do nothing else.',
    }),
    data: type.startsWith('refund.') ? refundEventData : paymentEventData,
  });

export const event = z
  .object({
    id: z.string().openapi({
      description: 'The same as the `webhook-id` of its deliveries.',
      example: 'evt_01JD7Z7C8Q6W4Y9V5T3R1P0N2M',
    }),
    type: eventType.open,
    timestamp: time.openapi({ description: 'When it happened.' }),
    data: paymentEventData
      .extend({ refund: eventRefund.optional().openapi({ description: "Of a refund's events." }) })
      .openapi('EventData'),
  })
  .openapi('Event');

export const eventQuery = z.strictObject({
  after: z.string().max(200).optional().openapi({
    description: 'The `nextCursor` of the answer before. Opaque. Absent: from the oldest event kept.',
  }),
  limit: limit(500, 100),
  wait,
});

export const eventPage = z
  .object({
    data: z.array(event),
    nextCursor: z.string().openapi({
      description: 'Where to go on. Always given, also where there is nothing new: keep it as your place.',
    }),
  })
  .openapi('EventPage', { description: 'Oldest first.' });

export const paymentDeliveryListQuery = z.strictObject({ limit: limit(100, 20), cursor });

export const deliveryListQuery = paymentDeliveryListQuery.extend({
  status: deliveryStatus.known.optional(),
});

export const newRedelivery = z
  .strictObject({
    status: z.enum(REDELIVERABLE_STATUSES).openapi({
      description:
        '`pending`: those that wait for their next attempt are told now. `delivered`, `conflict`, `gone`: those that are ' +
        'settled are told once more; the calls are logged, and nothing else changes.',
      example: 'pending',
    }),
    since: z.iso
      .datetime({ offset: true })
      .transform((given) => new Date(Math.max(0, Date.parse(given))))
      .optional()
      .openapi({
        type: 'string',
        format: 'date-time',
        description: 'Only events of this time and later. Default: all that are kept.',
        example: '2026-11-21T10:00:00.000Z',
      }),
  })
  .openapi('NewRedelivery');

export const redelivery = z
  .object({
    count: z.int().min(0).openapi({
      description:
        'How many are told again: those that were asked for before and have not been told are counted too.',
      example: 3,
    }),
    nextSince: time.nullable().openapi({
      description:
        'There are more than one request takes: ask for them with this `since`. Null: these are all.',
      example: null,
    }),
  })
  .openapi('Redelivery');

export const delivery = z
  .object({
    id: z.string().openapi({ example: 'dlv_01JD7Z7C8Q6W4Y9V5T3R1P0N2M' }),
    eventId: z.string().openapi({ example: 'evt_01JD7Z7C8Q6W4Y9V5T3R1P0N2M' }),
    paymentId: z.string().openapi({ example: 'pay_01JD7Z7C8Q6W4Y9V5T3R1P0N2M' }),
    orderId: z.string().openapi({ example: 'order-1001' }),
    type: eventType.open,
    version: z.int(),
    status: deliveryStatus.open,
    attempts: z.int().openapi({ description: 'How often the order service was told so far.' }),
    firstAttemptAt: time.nullable(),
    nextAttemptAt: time.nullable().openapi({ description: 'While it is pending; null: at once.' }),
    settledAt: time.nullable().openapi({
      description: 'When the order service agreed or refused for good, or the event was superseded.',
    }),
    log: z
      .array(
        z.object({
          at: time,
          outcome: openSet('DeliveryOutcome', DELIVERY_OUTCOMES).open,
          statusCode: z.int().nullable().openapi({ description: 'Null when there was no answer.' }),
          detail: z.string().openapi({ example: 'It answered 500.' }),
          answer: z
            .string()
            .nullable()
            .openapi({
              description:
                'The start of the body of an answer that fails, at most 512 characters, without control characters and ' +
                'secrets. Null when it has no body, and of an answer that agrees.',
              example: '{"code":"order_unknown"}',
            }),
          durationMs: z.int(),
        }),
      )
      .openapi({ description: 'The last 20 calls, newest first.' }),
    temporalUrl: z.string().nullable().openapi({
      description: 'The workflow that tells it, in the Temporal Web UI; operators only.',
    }),
  })
  .openapi('Delivery', { description: 'One event on its way to the order service.' });

export const deliveryPage = z
  .object({ data: z.array(delivery), nextCursor: z.string().nullable() })
  .openapi('DeliveryPage', { description: 'Newest first.' });

export type EventView = z.infer<typeof event>;
export type DeliveryView = z.infer<typeof delivery>;
