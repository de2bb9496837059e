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
      'Another amount first ends the live attempts: each is asked about and closed at its channel. One whose channel ' +
      'is silent or still decides, or whose money waits for a decision, refuses it with 409 `attempt_unresolved`: ' +
      'repeat the request after `Retry-After`. Money that comes in later for an attempt at the old amount pays ' +
      'nothing by itself and waits for a decision (`review`, `amount_mismatch`). Subject, metadata and expiry end no ' +
      'attempt. An expiry in the past, or before a live attempt ends, is 422 `invalid_request`, with the least value. ' +
      'Of an order that was written again after a loss only the amount changes until it is created again with its ' +
      'content. An order that is paid, being cancelled or over does not change; what holds already may be repeated.',
    auth: 'key',
    params: z.object({ id: z.string() }),
    body: orderChange,
    bodyExamples: {
      amount: { summary: 'Another amount', value: { amount: 1250, subject: 'Three tickets' } },
    },
    answers: { 200: { description: 'The order as it is now.', schema: order } },
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
