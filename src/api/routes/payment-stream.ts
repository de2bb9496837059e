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

/** `GET /v1/payments/{id}/events`: whoever watches a payment sees its state, and each change as it is made. */
export function paymentEventsRoute(api: Api): Endpoint {
  const { changes, metrics, streams, streamSlots, now } = api;
  const readPaymentView = createReadPaymentView(api);
  const places = new WeakMap<Response, StreamSlot>();

  /** In ms: a token opens nothing after its end, also not a stream that began before. */
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
      'Server-Sent Events: `event: payment` with the whole state as JSON in `data`, the current one first and then ' +
      'after every change: a `Payment` for a key, a `PaymentForPayer` for a client token. States in between may be left out, ' +
      'the last one never is. A payer also gets what other attempts of the order mean to them (`orderState`), while ' +
      'that is `undecided` also after the payment has ended without money. Comments (`:`) keep the connection alive every 15 s. The stream ends after a final state ' +
      "(see `GET /v1/payments/{id}`), at the client token's end, and now and then besides: come again with the `id` " +
      'of the last event as `Last-Event-ID`, and what you have is not sent again.',
    auth: 'key or token',
    cors: true,
    params: z.object({ id: z.string() }),
    headers: z.object({
      'last-event-id': z.string().optional().openapi({
        description: 'The `id` of the last event that was read.',
      }),
    }),
    answers: {
      200: {
        description: 'The stream.',
        schema: z.string().openapi({ example: EXAMPLE }),
        mediaType: 'text/event-stream',
      },
      204: { description: 'The payment is final and `Last-Event-ID` is its state: nothing more will come.' },
    },
    refusals: ['payment_not_found', 'too_many_readers'],
    async admit(request, response) {
      const place = await streamSlots.enter(clientAddress(request), abortedOnDisconnect(response));
      places.set(response, place);
      if (response.closed) place.leave();
      else response.once('close', place.leave);
    },
    async handle({ request, response, access, params: { id } }) {
      const signal = abortedOnDisconnect(response);
      const place = places.get(response);
      const first = await readPaymentView(access, id);
      const key = paymentKey(id);
      const lastEventId = request.get('last-event-id');
      if (first.isFinal() && stateId(JSON.stringify(first.view())) === lastEventId) {
        return void response.status(204).end();
      }
      if (request.method === 'HEAD') return void response.type('text/event-stream').end();
      place?.countFor(first.row.merchantId);
      if (!changes.hasRoom(key)) throw new Refusal('too_many_readers', 'Ask with `wait` meanwhile.');

      response.locals.streams = true;
      metrics.readerCame();
      let last = first;
      const push = () => stream.push('payment', last.view());
      // The next action ends by time, without a change.
      const stream = new EventStream(response, lastEventId, streams, push);
      try {
        const states = changes.follow(key, {
          read: () => readPaymentView(access, id).finally(() => place?.opened()),
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
        // The reader comes again, and is then told why. A token's end is no fault.
        if (!(error instanceof Refusal)) request.log.error({ err: error }, 'an event stream ended early');
      } finally {
        metrics.readerWent();
        await stream.end();
      }
    },
  });
}
