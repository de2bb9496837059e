import { listDeliveries, listEvents } from '../../ledger/event-feed.ts';
import type { Api } from '../api-deps.ts';
import { eventsKey } from '../changes.ts';
import { type Endpoint, endpoint } from '../endpoint/endpoint.ts';
import { clientAddress } from '../http/client-address.ts';
import { abortedOnDisconnect } from '../http/client-gone.ts';
import { feedCursor, nextCursor, readCursor, readFeedCursor } from '../http/cursor.ts';
import { z } from '../http/zod.ts';
import { presentDelivery, presentEvent } from '../payments/present.ts';
import { presentationFor } from '../payments/presentation.ts';
import { createReadPayment } from '../payments/read-payment.ts';
import {
  deliveryListQuery,
  deliveryPage,
  eventPage,
  eventQuery,
  paymentDeliveryListQuery,
} from '../schemas/event.ts';

/** Routes that read events and their deliveries. */
export function eventRoutes(api: Api): Endpoint[] {
  const { db, changes } = api;
  const readPayment = createReadPayment(api);

  return [
    endpoint({
      method: 'get',
      path: '/v1/events',
      operationId: 'listEvents',
      tag: 'Events',
      summary: 'The event feed',
      description:
        'Every event of the merchant, with or without an order service, oldest first. Events of one payment come in the order ' +
        'of `version`. Store `nextCursor` and send it as `after` in the next request: then you miss no event. Events are kept ' +
        'for 30 days. If events after your cursor have been deleted, the request is refused with `cursor_expired`. So is a ' +
        'cursor whose event is missing because the ledger was restored from an older backup. In both cases, read your orders ' +
        'or payments again and start without `after`, at the oldest event kept. With `wait`, the answer comes as soon as there ' +
        'is an event, or after that many seconds.',
      auth: 'key',
      query: eventQuery,
      answers: { 200: { description: 'The events after the cursor, oldest first.', schema: eventPage } },
      refusals: ['cursor_expired'],
      async handle({ request, response, access: { caller }, query: { after, limit, wait } }) {
        const place = readFeedCursor(after);
        const { events, next } = await changes.until(eventsKey(caller.merchantId), {
          read: () => listEvents(db, caller.merchantId, { limit, after: place }),
          done: ({ events }) => events.length > 0,
          timeoutMs: (wait ?? 0) * 1000,
          signal: abortedOnDisconnect(response),
          for: { address: clientAddress(request), merchantId: caller.merchantId },
        });
        response.json({ data: events.map(presentEvent), nextCursor: feedCursor(next) });
      },
    }),

    endpoint({
      method: 'get',
      path: '/v1/payments/{id}/deliveries',
      operationId: 'listPaymentDeliveries',
      tag: 'Events',
      summary: "A payment's deliveries to the order service",
      description:
        'The events of the payment that were sent to the order service, its answers, and the time of the next attempt.',
      auth: 'key',
      params: z.object({ id: z.string() }),
      query: paymentDeliveryListQuery,
      answers: { 200: { description: 'A page of deliveries, newest first.', schema: deliveryPage } },
      refusals: ['payment_not_found'],
      async handle({ response, access, params: { id }, query: { limit, cursor } }) {
        const payment = await readPayment(access, id);
        const page = { limit, after: readCursor(cursor, 'paymentDeliveries') };
        const rows = await listDeliveries(db, { paymentId: payment.id }, page);
        const viewer = presentationFor(api, access.caller);
        response.json({
          data: rows.map((row) => presentDelivery(row, viewer)),
          nextCursor: nextCursor(rows, limit, 'paymentDeliveries'),
        });
      },
    }),

    endpoint({
      method: 'get',
      path: '/v1/deliveries',
      operationId: 'listDeliveries',
      tag: 'Events',
      summary: 'List the deliveries to the order service',
      description:
        'All deliveries of the merchant. With `status=pending`: events that the order service has not answered yet.',
      auth: 'key',
      query: deliveryListQuery,
      answers: { 200: { description: 'A page of deliveries, newest first.', schema: deliveryPage } },
      refusals: [],
      async handle({ response, access: { caller }, query: { limit, cursor, status } }) {
        const of = { merchantId: caller.merchantId, ...(status === undefined ? {} : { status }) };
        const rows = await listDeliveries(db, of, { limit, after: readCursor(cursor, 'deliveries') });
        const viewer = presentationFor(api, caller);
        response.json({
          data: rows.map((row) => presentDelivery(row, viewer)),
          nextCursor: nextCursor(rows, limit, 'deliveries'),
        });
      },
    }),
  ];
}
