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
      '`accept`: the money that is left pays the order; the channel is queried first for that amount. `refund`: the money is refunded. `retry`: failed calls are ' +
      'retried, also a refund that the channel refused. `dismiss`: clears the attention; refused while money must be refunded or waits for a decision. Exception: if money waits for a ' +
      'decision, and the channel reports that it was refunded, but not how much, `dismiss` records that none of it is left.',
  }),
  note: readableText(500).openapi({
    description: `The reason for the decision. Kept on the timeline. ${READABLE_RULE}`,
  }),
});

/** `POST /v1/payments/{id}/resolve`: records the decision of an operator about a payment that needs attention. */
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
      'For operators. The decision and its note are kept on the timeline. Before `accept` of money that waits for a decision, ' +
      'nodrop queries the channel, because part of the money may have been refunded meanwhile. If the channel does not ' +
      'answer, the request is refused with 504.',
    auth: 'operator',
    params: z.object({ id: z.string() }),
    body: resolution,
    bodyExamples: {
      accept: {
        summary: 'Accept the money',
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
      // The payment's workflow has ended. If a refund was made directly at the channel and its callback was lost, only
      // this query detects the refund.
      if (action === 'accept' && row.orderUpdate === 'review') await requireAnswer(api, row);
      const decided = await resolvePayment(db, row.merchantId, id, action, note, api.now());
      // The ledger already contains the refunds due. If a refund workflow cannot be started now, the sweep starts it.
      for (const { payment, ...refund } of decided.refunds)
        await notifyWorkflows.startRefund(refund, payment, request.log as Api['log']);
      if (action === 'retry') {
        await workflows.wake(decided.payment, SIGNAL_WITHIN_MS);
        for (const delivery of await findPendingDeliveries(db, id))
          await deliveryWorkflows.wake(delivery, SIGNAL_WITHIN_MS);
      } else if (action !== 'dismiss' || row.orderUpdate === 'review') {
        // The operator's decision is already stored. If Temporal cannot be reached now, the sweep delivers the events
        // and wakes the workflow.
        await startDeliveries(api, id);
        if (row.orderUpdate === 'pending' || decided.payment.orderUpdate === 'pending')
          await workflows.wake(decided.payment, SIGNAL_WITHIN_MS).catch(() => undefined);
      }
      await Promise.all(decided.cancelled.map(notifyWorkflows.cancel));
      response.json(presentPayment(await readPayment(access, id), presentationFor(api, access.caller)));
    },
  });
}
