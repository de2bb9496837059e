import { changeOrder, type OrderChange } from '../../ledger/change-order.ts';
import { UnaskedAttempts } from '../../ledger/intake.ts';
import { ANSWER_WITHIN_MS } from '../deadlines.ts';
import type { Api } from '../deps.ts';
import { type Endpoint, endpoint } from '../endpoint/endpoint.ts';
import { z } from '../http/zod.ts';
import { resolveOtherAttempts } from '../payments/resolve-other-attempts.ts';
import { viewerOf } from '../payments/viewer.ts';
import { orderView } from '../payments/views.ts';
import { createVisibleOrder } from '../payments/visible-order.ts';
import { orderChange } from '../schemas/new-order.ts';
import { order } from '../schemas/order.ts';

/** `PATCH /v1/orders/{id}`. */
export function changeOrderRoute(api: Api): Endpoint {
  const visibleOrder = createVisibleOrder(api);

  /** Changes the order, once the live attempts that stand in the way have been asked about and closed. */
  async function change(merchantId: string, id: string, given: OrderChange, startedAt: number) {
    const askedAttempts = new Set<string>();
    for (;;) {
      try {
        return await changeOrder(api.db, merchantId, id, given, askedAttempts, api.now());
      } catch (error) {
        if (!(error instanceof UnaskedAttempts)) throw error;
        const left = () => ANSWER_WITHIN_MS - (Date.now() - startedAt);
        await resolveOtherAttempts(api, error.attempts, left, 'a change of the amount of its order');
        for (const attempt of error.attempts) askedAttempts.add(attempt.id);
      }
    }
  }

  return endpoint({
    method: 'patch',
    path: '/v1/orders/{id}',
    operationId: 'changeOrder',
    tag: 'Orders',
    summary: 'Change an order',
    description:
      'Another amount first ends the live attempts: each is asked about and closed at its channel. One whose channel ' +
      'is silent or still decides, or whose money waits for a decision, refuses it with 409 `attempt_unresolved`: ' +
      'repeat the request after `Retry-After`. Money that comes in later for an attempt at the old amount pays ' +
      'nothing by itself and waits for a decision (`review`, `amount_mismatch`). Subject, metadata and expiry end no ' +
      'attempt. An order that is paid, being cancelled or over does not change; what holds already may be repeated.',
    auth: 'key',
    params: z.object({ id: z.string() }),
    body: orderChange,
    bodyExamples: {
      amount: { summary: 'Another amount', value: { amount: 1250, subject: 'Three tickets' } },
    },
    answers: { 200: { description: 'The order as it is now.', schema: order } },
    refusals: ['order_not_found', 'order_already_paid', 'order_not_payable', 'attempt_unresolved'],
    async handle({ response, access: { caller }, params: { id }, body, startedAt }) {
      await visibleOrder(caller.merchantId, id);
      await change(caller.merchantId, id, body, startedAt);
      response.json(orderView(await visibleOrder(caller.merchantId, id), viewerOf(api, caller)));
    },
  });
}
