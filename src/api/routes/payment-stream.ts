import type { Response } from 'express';
import { Refusal } from '../../domain/refusal.ts';
import { isDatabaseUnavailable } from '../../ledger/database-errors.ts';
import type { Payment } from '../../ledger/rows.ts';
import type { Api } from '../api-deps.ts';
import { paymentKey } from '../changes.ts';
import { type Access, tokenEndsAt } from '../endpoint/auth.ts';
import { type Endpoint, endpoint } from '../endpoint/endpoint.ts';
import { clientAddress } from '../http/client-address.ts';
import { abortedOnDisconnect } from '../http/client-gone.ts';
import { EventStream, stateId } from '../http/event-stream.ts';
import type { StreamSlot } from '../http/stream-slots.ts';
import { z } from '../http/zod.ts';
import { createReadPaymentView } from '../payments/read-payment-view.ts';

const EXAMPLE = `event: payment
id: 3q2-7wAAAAAAAAAAAAAAAA
data: {"id":"pay_01JD7Z7C8Q6W4Y9V5T3R1P0N2M","status":"paying",...}

`;

/** `GET /v1/payments/{id}/events`: streams the current state of a payment, and then the state after each change. */
export function paymentEventsRoute(api: Api): Endpoint {
  const { changes, metrics, streams, streamSlots, now } = api;
  const readPaymentView = createReadPaymentView(api);
  const slots = new WeakMap<Response, StreamSlot>();

  /**
   * Returns the maximum duration of an event stream in ms. A stream with a client token ends at the latest when the
   * token expires.
   */
  const lifetime = (access: Access, row: Payment): number =>
    access.kind === 'key'
      ? streams.lifetimeMs
      : Math.min(streams.lifetimeMs, tokenEndsAt(row) - now().getTime());

  return endpoint({
    method: 'get',
    path: '/v1/payments/{id}/events',
    operationId: 'streamPayment',
    tag: 'Payments',
    summary: "Watch a payment's changes",
    description:
      'Server-Sent Events: `event: payment` has the whole state as JSON in `data`: first the current state, then the state ' +
      'after every change. It is a `Payment` for a key and a `PaymentForPayer` for a client token. Intermediate states may be ' +
      'skipped, but never the last one. A payer also gets the effect of other attempts of the order (`orderState`). While that ' +
      'is `undecided`, the stream stays open, also if the payment has ended without money. A comment (`:`) every 15 s keeps the connection alive. The stream ends after a final state ' +
      "(see `GET /v1/payments/{id}`), at the client token's expiry, and at other times. Reconnect with the `id` " +
      'of the last event as `Last-Event-ID`; a state that you already have is not sent again.',
    auth: 'key or token',
    cors: true,
    params: z.object({ id: z.string() }),
    headers: z.object({
      'last-event-id': z.string().optional().openapi({
        description: 'The `id` of the last event that the reader received.',
      }),
    }),
    answers: {
      200: {
        description: 'The stream.',
        schema: z.string().openapi({ example: EXAMPLE }),
        mediaType: 'text/event-stream',
      },
      204: {
        description:
          'The payment is final, and `Last-Event-ID` is the id of its final state, so no more events follow.',
      },
    },
    refusals: ['payment_not_found', 'too_many_readers'],
    async admit(request, response) {
      const slot = await streamSlots.enter(clientAddress(request), abortedOnDisconnect(response));
      slots.set(response, slot);
      if (response.closed) slot.leave();
      else response.once('close', slot.leave);
    },
    async handle({ request, response, access, params: { id } }) {
      const signal = abortedOnDisconnect(response);
      const slot = slots.get(response);
      const first = await readPaymentView(access, id);
      const key = paymentKey(id);
      const lastEventId = request.get('last-event-id');
      if (first.isFinal() && stateId(JSON.stringify(first.view())) === lastEventId) {
        return void response.status(204).end();
      }
      if (request.method === 'HEAD') return void response.type('text/event-stream').end();
      slot?.countFor(first.row.merchantId);
      if (!changes.hasRoom(key))
        throw new Refusal(
          'too_many_readers',
          'Too many requests wait for this payment or in this process. Get the payment without `wait` meanwhile.',
        );

      response.locals.streams = true;
      metrics.readerCame();
      let last = first;
      const push = () => stream.push('payment', last.view());
      // Each heartbeat also sends the state if it has changed. For example, a next action can expire without a change
      // in the database.
      const stream = new EventStream(response, lastEventId, streams, push);
      try {
        const states = changes.follow(key, {
          read: () => readPaymentView(access, id).finally(() => slot?.opened()),
          timeoutMs: lifetime(access, first.row),
          signal,
          survives: isDatabaseUnavailable,
        });
        for await (const seen of states) {
          last = seen;
          push();
          await stream.drained();
          if (seen.isFinal()) break;
        }
      } catch (error) {
        // The reader reconnects and gets the error as the answer to its new request. A Refusal, for example because of
        // an expired token, is not logged.
        if (!(error instanceof Refusal)) request.log.error({ err: error }, 'an event stream ended early');
      } finally {
        metrics.readerWent();
        await stream.end();
      }
    },
  });
}
