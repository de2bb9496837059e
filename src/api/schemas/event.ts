import { DELIVERY_OUTCOMES, type EventType, REDELIVERABLE_STATUSES } from '../../domain/event.ts';
import { z } from '../http/zod.ts';
import { cursor, limit, time, wait } from './common.ts';
import { order } from './order.ts';
import { payment } from './payment.ts';
import { refund } from './refund.ts';
import { deliveryStatus, eventType, openSet } from './sets.ts';

/** Schemas of events, their deliveries to the order service, and the event feed. */

/**
 * The schema of a payment in an event. The schema has no fields that depend on the caller, such as the next action,
 * tokens and links for operators. It does not contain the progress of refunds either, because refunds have their own
 * events.
 */
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
  .openapi('EventPayment', { description: 'The payment at the time of the event.' });

const eventOrder = order
  .omit({ payments: true })
  .openapi('EventOrder', { description: 'The order at the time of the event.' });

const eventRefund = refund
  .omit({ temporalUrl: true })
  .openapi('EventRefund', { description: 'The refund at the time of the event.' });

const paymentEventData = z
  .object({
    payment: eventPayment,
    order: eventOrder,
    version: z.int().min(1).openapi({
      description:
        'Increases with every event of the payment. Events may arrive out of order. Each has the whole state of its payment, so ignore an event that is older than one you have processed.',
      example: 1,
    }),
  })
  .openapi('PaymentEventData');

const refundEventData = paymentEventData.extend({ refund: eventRefund }).openapi('RefundEventData');

/** The schema of the body of a webhook of this event type. */
export const eventOf = (type: EventType) =>
  z.object({
    type: z.literal(type),
    timestamp: time.openapi({ description: 'When it happened.' }),
    test: z.boolean().optional().openapi({
      description:
        'True for an event that the command `merchants test-event` sends. No real payment belongs to it: verify it, answer 200, and do nothing else.',
    }),
    data: type.startsWith('refund.') ? refundEventData : paymentEventData,
  });

export const event = z
  .object({
    id: z.string().openapi({
      description: 'Equals the header `webhook-id` of its deliveries.',
      example: 'evt_01JD7Z7C8Q6W4Y9V5T3R1P0N2M',
    }),
    type: eventType.open,
    timestamp: time.openapi({ description: 'When it happened.' }),
    data: paymentEventData
      .extend({ refund: eventRefund.optional().openapi({ description: 'Only in events of a refund.' }) })
      .openapi('EventData'),
  })
  .openapi('Event');

export const eventQuery = z.strictObject({
  after: z.string().max(200).optional().openapi({
    description: 'The `nextCursor` of the previous answer. Opaque. Default: start at the oldest event kept.',
  }),
  limit: limit(500, 100),
  wait,
});

export const eventPage = z
  .object({
    data: z.array(event),
    nextCursor: z.string().openapi({
      description:
        'Send it as `after` in the next request. Always given, also if there are no new events: store it.',
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
        '`pending`: deliveries that wait for their next attempt are attempted now. `delivered`, `conflict`, `gone`: settled ' +
        'deliveries with this status are sent once more; nodrop logs the calls, and nothing else changes.',
      example: 'pending',
    }),
    since: z.iso
      .datetime({ offset: true })
      .transform((given) => new Date(Math.max(0, Date.parse(given))))
      .optional()
      .openapi({
        type: 'string',
        format: 'date-time',
        description: 'Only events of this time or later. Default: all events kept.',
        example: '2026-11-21T10:00:00.000Z',
      }),
  })
  .openapi('NewRedelivery');

export const redelivery = z
  .object({
    count: z.int().min(0).openapi({
      description:
        'How many deliveries are sent again. Includes those that an earlier request asked for and that are not sent yet.',
      example: 3,
    }),
    nextSince: time.nullable().openapi({
      description:
        'If there are more deliveries than one request covers: send the next request with this `since`. Null: there are no more.',
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
    attempts: z.int().openapi({ description: 'Number of delivery attempts so far.' }),
    firstAttemptAt: time.nullable(),
    nextAttemptAt: time
      .nullable()
      .openapi({ description: 'Time of the next attempt while the delivery is `pending`. Null: now.' }),
    settledAt: time.nullable().openapi({
      description:
        'When the order service accepted or refused the event for good, or the event was superseded.',
    }),
    log: z
      .array(
        z.object({
          at: time,
          outcome: openSet('DeliveryOutcome', DELIVERY_OUTCOMES).open,
          statusCode: z.int().nullable().openapi({ description: 'Null if there was no answer.' }),
          detail: z.string().openapi({ example: 'It answered 500.' }),
          answer: z
            .string()
            .nullable()
            .openapi({
              description:
                'The start of the body of an answer that counts as a failure: at most 512 characters, without control ' +
                'characters and secrets. Null if the answer has no body or accepts the event.',
              example: '{"code":"order_unknown"}',
            }),
          durationMs: z.int(),
        }),
      )
      .openapi({ description: 'The last 20 calls, newest first.' }),
    temporalUrl: z.string().nullable().openapi({
      description: 'The workflow that delivers the event, in the Temporal Web UI. Only for operators.',
    }),
  })
  .openapi('Delivery', { description: 'The delivery of one event to the order service.' });

export const deliveryPage = z
  .object({ data: z.array(delivery), nextCursor: z.string().nullable() })
  .openapi('DeliveryPage', { description: 'Newest first.' });

export type EventView = z.infer<typeof event>;
export type DeliveryView = z.infer<typeof delivery>;
