import { changeOrder } from '../../ledger/change-order.ts';
import type { Api } from '../api-deps.ts';
import { type Endpoint, endpoint } from '../endpoint/endpoint.ts';
import { z } from '../http/zod.ts';
import { presentOrder } from '../payments/present.ts';
import { presentationFor } from '../payments/presentation.ts';
import { createReadOrder } from '../payments/read-order.ts';
import { requireExpiry } from '../payments/require-expiry.ts';
import { onceOthersAreSettled } from '../payments/settle-other-attempts.ts';
import { orderChange } from '../schemas/new-order.ts';
import { order } from '../schemas/order.ts';

/** `PATCH /v1/orders/{id}`. */
export function changeOrderRoute(api: Api): Endpoint {
  const readOrder = createReadOrder(api);

  return endpoint({
    method: 'patch',
    path: '/v1/orders/{id}',
    operationId: 'changeOrder',
    tag: 'Orders',
    summary: 'Change an order',
    description:
      'A new amount first ends the live attempts: nodrop queries each one and closes it at its channel. If the channel of an ' +
      'attempt does not answer or has not decided, or if its money waits for a decision, the answer is 409 `attempt_unresolved`: ' +
      'repeat the request after `Retry-After`. Money that arrives later for an attempt with the old amount does not pay the ' +
      'order automatically and waits for a decision (`review`, `amount_mismatch`). A change of subject, metadata or expiry ends ' +
      'no attempt. An expiry in the past, or before a live attempt ends, is refused with 422 `invalid_request`, which names the ' +
      'smallest value. An order that was restored after a data loss can only change its amount, until it is created again with ' +
      'its content. An order that is paid, being cancelled or ended cannot change; a request that changes nothing is accepted.',
    auth: 'key',
    params: z.object({ id: z.string() }),
    body: orderChange,
    bodyExamples: {
      amount: { summary: 'A new amount', value: { amount: 1250, subject: 'Three tickets' } },
    },
    answers: { 200: { description: 'The changed order.', schema: order } },
    refusals: ['order_not_found', 'order_already_paid', 'order_not_payable', 'attempt_unresolved'],
    async handle({ response, access: { caller }, params: { id }, body, startedAt }) {
      requireExpiry(api.config.mode, { expiresInSeconds: body.expiresInSeconds });
      await readOrder(caller.merchantId, id);
      await onceOthersAreSettled(api, startedAt, 'a change of the amount of its order', (askedAttempts) =>
        changeOrder(api.db, caller.merchantId, id, body, askedAttempts, api.now()),
      );
      response.json(presentOrder(await readOrder(caller.merchantId, id), presentationFor(api, caller)));
    },
  });
}
