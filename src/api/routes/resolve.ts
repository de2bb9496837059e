import { findPendingDeliveries } from '../../ledger/deliveries.ts';
import { RESOLUTIONS, resolvePayment } from '../../ledger/operator-decision.ts';
import { startDeliveries } from '../../temporal/start-deliveries.ts';
import type { Api } from '../api-deps.ts';
import { SIGNAL_WITHIN_MS } from '../deadlines.ts';
import { type Endpoint, endpoint } from '../endpoint/endpoint.ts';
import { z } from '../http/zod.ts';
import { requireAnswer } from '../payments/ask-channel.ts';
import { createNotifyWorkflows } from '../payments/notify-workflows.ts';
import { presentPayment } from '../payments/present.ts';
import { presentationFor } from '../payments/presentation.ts';
import { createReadPayment } from '../payments/read-payment.ts';
import { READABLE_RULE, readableText } from '../schemas/common.ts';
import { payment } from '../schemas/payment.ts';

const resolution = z.strictObject({
  action: z.enum(RESOLUTIONS).openapi({
    description:
      'accept: the money that is left pays the order all the same; the channel is asked first how much that is. refund: it goes back. retry: what failed is tried ' +
      'again, a refund that the channel refused too. dismiss: seen; refused while money is here that must go back, or that waits for a decision. Where the channel says that ' +
      'money that waits for one has gone back, and not how much: nothing of it is left, which is recorded.',
  }),
  note: readableText(500).openapi({ description: `Why. Kept on the timeline. ${READABLE_RULE}` }),
});

/** `POST /v1/payments/{id}/resolve`: what an operator decides about a payment that needs attention. */
export function resolveRoute(api: Api): Endpoint {
  const { db, workflows, deliveryWorkflows } = api;
  const readPayment = createReadPayment(api);
  const notifyWorkflows = createNotifyWorkflows(api);
  return endpoint({
    method: 'post',
    path: '/v1/payments/{id}/resolve',
    operationId: 'resolvePayment',
    tag: 'Payments',
    summary: 'Decide about a payment that needs attention',
    description:
      'For operators. The decision and its note are on the timeline. Before money that waits for a decision is ' +
      'accepted the channel is asked, as part of it may have gone back meanwhile; 504 while it is silent.',
    auth: 'operator',
    params: z.object({ id: z.string() }),
    body: resolution,
    bodyExamples: {
      accept: {
        summary: 'Take the money',
        value: { action: 'accept', note: 'The difference is a bank fee.' },
      },
    },
    answers: { 200: { description: 'Decided.', schema: payment } },
    refusals: [
      'payment_not_found',
      'forbidden',
      'not_resolvable',
      'channel_unreachable',
      'temporal_unavailable',
    ],
    async handle({ request, response, access, params: { id }, body: { action, note } }) {
      const row = await readPayment(access, id);
      // Nobody watches it any more: a refund made at the channel whose callback got lost is found by this alone.
      if (action === 'accept' && row.orderUpdate === 'review') await requireAnswer(api, row);
      const decided = await resolvePayment(db, row.merchantId, id, action, note, api.now());
      // Owed already, whatever Temporal says next.
      for (const { payment, ...refund } of decided.refunds)
        await notifyWorkflows.startRefund(refund, payment, request.log as Api['log']);
      if (action === 'retry') {
        await workflows.wake(decided.payment, SIGNAL_WITHIN_MS);
        for (const delivery of await findPendingDeliveries(db, id))
          await deliveryWorkflows.wake(delivery, SIGNAL_WITHIN_MS);
      } else if (action !== 'dismiss' || row.orderUpdate === 'review') {
        // Decided, though Temporal may be away: what is not told here is the sweep's.
        await startDeliveries(api, id);
        if (row.orderUpdate === 'pending' || decided.payment.orderUpdate === 'pending')
          await workflows.wake(decided.payment, SIGNAL_WITHIN_MS).catch(() => undefined);
      }
      await Promise.all(decided.cancelled.map(notifyWorkflows.cancel));
      response.json(presentPayment(await readPayment(access, id), presentationFor(api, access.caller)));
    },
  });
}
