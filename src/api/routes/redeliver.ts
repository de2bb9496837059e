import { Refusal } from '../../domain/refusal.ts';
import { requestRedelivery } from '../../ledger/deliveries.ts';
import { iso } from '../../ledger/event-data.ts';
import { findDeliveryWithLog } from '../../ledger/event-feed.ts';
import { REDELIVERED_A_REQUEST, requestRedeliveries } from '../../ledger/redelivery.ts';
import { TemporalUnavailable } from '../../temporal/payment-workflows.ts';
import type { Api } from '../api-deps.ts';
import { SIGNAL_WITHIN_MS } from '../deadlines.ts';
import { type Endpoint, endpoint } from '../endpoint/endpoint.ts';
import { z } from '../http/zod.ts';
import { presentDelivery } from '../payments/present.ts';
import { presentationFor } from '../payments/presentation.ts';
import { delivery, newRedelivery, redelivery } from '../schemas/event.ts';

/** The format of delivery ids. nodrop does not query the database for an id in another format. */
const DELIVERY_ID = /^dlv_[0-9A-Za-z]{1,28}$/;

/** `POST /v1/deliveries/{id}/redeliver`: delivers the event again under the same delivery id. */
export function redeliverRoute(api: Api): Endpoint {
  const { db, workflows, deliveryWorkflows, now } = api;
  return endpoint({
    method: 'post',
    path: '/v1/deliveries/{id}/redeliver',
    operationId: 'redeliver',
    tag: 'Events',
    summary: 'Deliver an event again, now',
    description:
      'Sends the same event with the same `webhook-id` and the same bytes. A `pending` delivery is attempted now instead of ' +
      'at its next time. For a settled delivery, the call and its answer are logged, and nothing else changes. A superseded ' +
      'delivery is refused: its event is no longer true.',
    auth: 'key',
    params: z.object({ id: z.string() }),
    answers: {
      202: { description: 'The delivery in its current state; the event is sent at once.', schema: delivery },
    },
    refusals: ['delivery_not_found', 'delivery_superseded', 'temporal_unavailable'],
    async handle({ response, access: { caller }, params: { id } }) {
      const none = () => new Refusal('delivery_not_found', `There is no delivery ${id}.`);
      if (!DELIVERY_ID.test(id)) throw none();
      const { delivery: wanted, payment } = await requestRedelivery(
        db,
        caller.merchantId,
        id,
        `the ${caller.role}`,
        now(),
      );
      if (wanted.toldByPayment) await workflows.wake(payment, SIGNAL_WITHIN_MS);
      else await deliveryWorkflows.redeliver(wanted, SIGNAL_WITHIN_MS);
      const row = await findDeliveryWithLog(db, id);
      if (row === null) throw none();
      response.status(202).json(presentDelivery(row, presentationFor(api, caller)));
    },
  });
}

/** `POST /v1/deliveries/redeliver`: redelivers many events, selected by the status of their deliveries. */
export function redeliverManyRoute({ db, deliveryWorkflows, now }: Api): Endpoint {
  return endpoint({
    method: 'post',
    path: '/v1/deliveries/redeliver',
    operationId: 'redeliverMany',
    tag: 'Events',
    summary: 'Deliver many events again',
    description:
      `Sends the oldest ${REDELIVERED_A_REQUEST} of the merchant's deliveries with this status again, each with its own ` +
      '`webhook-id` and the same bytes: first one, then 2, 4 ... at a time while the order service answers. If they are ' +
      'requested again before they are sent, each is sent once. While the order service fails, the rest waits until it answers again.',
    auth: 'key',
    body: newRedelivery,
    bodyExamples: {
      waiting: { summary: 'All pending deliveries', value: { status: 'pending' } },
      lost: {
        summary: 'The shop was restored from a backup',
        value: { status: 'delivered', since: '2026-11-21T10:00:00.000Z' },
      },
    },
    answers: { 202: { description: 'Accepted: nodrop starts to send them.', schema: redelivery } },
    refusals: [],
    async handle({ response, access: { caller }, body: { status, since } }) {
      const { merchantId, role } = caller;
      const { count, nextSince } = await requestRedeliveries(
        db,
        merchantId,
        status,
        since ?? new Date(0),
        `the ${role}`,
        now(),
      );
      try {
        if (count > 0) await deliveryWorkflows.redeliverWaiting(merchantId, SIGNAL_WITHIN_MS);
      } catch (error) {
        // The ledger already contains the requested redelivery. So if this process cannot start the redelivery now, the
        // sweep starts it later.
        if (!(error instanceof TemporalUnavailable)) throw error;
      }
      response.status(202).json({ count, nextSince: iso(nextSince) });
    },
  });
}
