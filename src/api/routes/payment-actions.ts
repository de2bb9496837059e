import type { Payment } from '../../generated/prisma/client.ts';
import { askChannel } from '../ask-channel.ts';
import type { Api } from '../deps.ts';
import { type Endpoint, endpoint } from '../endpoint.ts';
import { createGiveHint } from '../give-hint.ts';
import { payment } from '../schemas/payment.ts';
import { viewerOf } from '../viewer.ts';
import { paymentView } from '../views.ts';
import { createVisiblePayment } from '../visible-payment.ts';
import { z } from '../zod.ts';

/** An answer this young is the channel's word: who asks in a loop must not use up what other payers' creates need. */
const FRESH_MS = 1_000;

/** What can be done about a payment. */
export function paymentActionRoutes(api: Api): Endpoint[] {
  const visiblePayment = createVisiblePayment(api);
  const giveHint = createGiveHint(api);

  const asking = new Map<string, Promise<void>>();

  /** One query at a time for each payment: who comes meanwhile shares it. @throws as `askChannel` */
  async function shareQuery(row: Payment): Promise<void> {
    const query = asking.get(row.id) ?? askChannel(api, row).finally(() => asking.delete(row.id));
    asking.set(row.id, query);
    await query;
  }

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
        const row = await visiblePayment(access, id);
        if (!isFresh(row, api.now())) await shareQuery(row);
        response.json(paymentView(await visiblePayment(access, id), viewerOf(api, access.caller)));
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
      answers: { 202: { description: 'Heard.', schema: z.object({}) } },
      refusals: ['payment_not_found', 'temporal_unavailable'],
      async handle({ response, access, params: { id } }) {
        const row = await visiblePayment(access, id);
        await giveHint(row, access.kind === 'token' ? 'the payer' : 'the merchant');
        response.status(202).json({});
      },
    }),
  ];
}

/** The last thing heard of the channel is a readable answer of just now. */
function isFresh({ channelAnsweredAt, channelErrorSince }: Payment, now: Date): boolean {
  if (channelAnsweredAt === null || channelErrorSince !== null) return false;
  // Both ways: a worker's clock that is ahead must not silence the queries for as long.
  return Math.abs(now.getTime() - channelAnsweredAt.getTime()) < FRESH_MS;
}
