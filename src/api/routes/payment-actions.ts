import type { Api } from '../api-deps.ts';
import { type Endpoint, endpoint } from '../endpoint/endpoint.ts';
import { z } from '../http/zod.ts';
import { isFresh, requireAnswer } from '../payments/ask-channel.ts';
import { createGiveHint } from '../payments/give-hint.ts';
import { presentPayment } from '../payments/present.ts';
import { presentationFor } from '../payments/presentation.ts';
import { createReadPayment } from '../payments/read-payment.ts';
import { payment } from '../schemas/payment.ts';

/** Routes that make nodrop query the channel of a payment, immediately or soon. */
export function paymentActionRoutes(api: Api): Endpoint[] {
  const readPayment = createReadPayment(api);
  const giveHint = createGiveHint(api);

  return [
    endpoint({
      method: 'post',
      path: '/v1/payments/{id}/query',
      operationId: 'queryPayment',
      tag: 'Payments',
      summary: 'Query the channel now',
      description:
        'Sends one query to the channel at once, in addition to the schedule, and returns the payment with its result. ' +
        'Concurrent requests share one query. If the last answer of the channel is less than 1 s old, no query is sent.',
      auth: 'key',
      params: z.object({ id: z.string() }),
      answers: { 200: { description: 'The channel answered.', schema: payment } },
      refusals: ['payment_not_found', 'channel_unreachable', 'temporal_unavailable'],
      async handle({ response, access, params: { id } }) {
        const row = await readPayment(access, id);
        if (!isFresh(row, api.now())) await requireAnswer(api, row);
        response.json(presentPayment(await readPayment(access, id), presentationFor(api, access.caller)));
      },
    }),

    endpoint({
      method: 'post',
      path: '/v1/payments/{id}/hint',
      operationId: 'hintPayment',
      tag: 'Payments',
      summary: 'The payer may have paid',
      description:
        'nodrop queries the channel at once, and then every few seconds for a minute. At most one hint in 10 s has an effect, ' +
        'so clients may send hints freely: when the page becomes visible again, or when the payer presses "I have paid".',
      auth: 'key or token',
      cors: true,
      params: z.object({ id: z.string() }),
      answers: { 202: { description: 'Accepted: nodrop queries the channel soon.', schema: z.object({}) } },
      refusals: ['payment_not_found', 'temporal_unavailable'],
      async handle({ response, access, params: { id } }) {
        const row = await readPayment(access, id);
        await giveHint(row, access.kind === 'token' ? 'the payer' : 'the merchant');
        response.status(202).json({});
      },
    }),
  ];
}
