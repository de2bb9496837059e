import type { Api } from '../api-deps.ts';
import { type Endpoint, endpoint } from '../endpoint/endpoint.ts';
import { z } from '../http/zod.ts';
import { isFresh, requireAnswer } from '../payments/ask-channel.ts';
import { createGiveHint } from '../payments/give-hint.ts';
import { presentPayment } from '../payments/present.ts';
import { presentationFor } from '../payments/presentation.ts';
import { createReadPayment } from '../payments/read-payment.ts';
import { payment } from '../schemas/payment.ts';

/** What can be done about a payment. */
export function paymentActionRoutes(api: Api): Endpoint[] {
  const readPayment = createReadPayment(api);
  const giveHint = createGiveHint(api);

  return [
    endpoint({
      method: 'post',
      path: '/v1/payments/{id}/query',
      operationId: 'queryPayment',
      tag: 'Payments',
      summary: 'Ask the channel now',
      description:
        "One query at once, besides the schedule; the payment in the answer has the channel's word. Requests at the " +
        'same time share one query, and an answer of the channel that is less than 1 s old is not asked for again.',
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
        'The channel is asked at once, and then every few seconds for a minute. At most one hint in 10 s counts, ' +
        'so it may be given freely: when the page becomes visible again, when the payer presses "I have paid".',
      auth: 'key or token',
      cors: true,
      params: z.object({ id: z.string() }),
      answers: { 202: { description: 'Accepted: the channel is asked soon.', schema: z.object({}) } },
      refusals: ['payment_not_found', 'temporal_unavailable'],
      async handle({ response, access, params: { id } }) {
        const row = await readPayment(access, id);
        await giveHint(row, access.kind === 'token' ? 'the payer' : 'the merchant');
        response.status(202).json({});
      },
    }),
  ];
}
