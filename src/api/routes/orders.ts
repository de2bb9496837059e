import { isCurrentCurrency } from '../../domain/money.ts';
import { defaultSubject } from '../../domain/payment.ts';
import { Refusal } from '../../domain/refusal.ts';
import type { LedgerClient } from '../../ledger/client.ts';
import { createOrder, type NewOrder } from '../../ledger/new-payment.ts';
import { isSettled } from '../../ledger/orders.ts';
import { findOrder, listOrders } from '../../ledger/queries.ts';
import type { Api } from '../api-deps.ts';
import { orderKey } from '../changes.ts';
import { type Endpoint, endpoint } from '../endpoint/endpoint.ts';
import { clientAddress } from '../http/client-address.ts';
import { abortedOnDisconnect } from '../http/client-gone.ts';
import { nextCursor, readCursor } from '../http/cursor.ts';
import { z } from '../http/zod.ts';
import { presentOrder } from '../payments/present.ts';
import { presentationFor } from '../payments/presentation.ts';
import { createReadOrder } from '../payments/read-order.ts';
import { requireExpiry } from '../payments/require-expiry.ts';
import { newOrder } from '../schemas/new-order.ts';
import { order, orderListQuery, orderPage, orderQuery } from '../schemas/order.ts';

/** Fills in defaults for the fields that the request does not have. So equal requests always describe equal orders. */
export function toNewOrder(given: z.output<typeof newOrder>): NewOrder {
  return {
    id: given.id,
    amount: given.amount,
    currency: given.currency,
    subject: given.subject ?? defaultSubject(given.id),
    metadata: given.metadata,
    expiresInSeconds: given.expiresInSeconds,
  };
}

/**
 * Refuses a new order in a currency that is not in use. An existing order keeps its currency, even after the currency
 * was withdrawn. So nodrop still accepts a repeated request for such an order.
 * @param path the path of the currency in the request.
 * @throws Refusal `invalid_request`
 */
export async function requireCurrentCurrency(
  db: LedgerClient,
  merchantId: string,
  { id, currency }: Pick<NewOrder, 'id' | 'currency'>,
  path: string,
): Promise<void> {
  if (isCurrentCurrency(currency) || (await findOrder(db, merchantId, id)) !== null) return;
  const message = `must be a currency in use today: ${currency} was withdrawn, or is a funds code`;
  throw new Refusal('invalid_request', `${path}: ${message}.`, { errors: [{ path, message }] });
}

export function orderRoutes(api: Api): Endpoint[] {
  const { db, config, now, changes } = api;
  const readOrder = createReadOrder(api);

  return [
    endpoint({
      method: 'post',
      path: '/v1/orders',
      operationId: 'createOrder',
      tag: 'Orders',
      summary: 'Create an order',
      description:
        'If the same order exists, the answer is 200 with its current state. If an order with the same id but different ' +
        'content exists, the request is refused, and `errors` names the fields that differ. `expiresInSeconds` counts from ' +
        'the first request and is not compared.',
      auth: 'key',
      body: newOrder,
      bodyExamples: {
        order: {
          summary: 'An order of CNY 10.50',
          value: { id: 'order-1001', amount: 1050, currency: 'CNY', subject: 'Two tickets' },
        },
      },
      answers: {
        201: { description: 'Created.', schema: order },
        200: { description: 'The order existed already.', schema: order },
      },
      refusals: ['order_exists'],
      async handle({ answer, access: { caller }, body }) {
        requireExpiry(config.mode, { expiresInSeconds: body.expiresInSeconds });
        await requireCurrentCurrency(db, caller.merchantId, body, 'currency');
        const { order: row, created } = await createOrder(db, caller.merchantId, toNewOrder(body), now());
        const found = await readOrder(caller.merchantId, row.id);
        await answer(created ? 201 : 200, presentOrder(found, presentationFor(api, caller)));
      },
      async replay(id, { caller }) {
        return presentOrder(await readOrder(caller.merchantId, id), presentationFor(api, caller));
      },
    }),

    endpoint({
      method: 'get',
      path: '/v1/orders/{id}',
      operationId: 'getOrder',
      tag: 'Orders',
      summary: 'Get an order',
      description:
        'With `wait`, the answer comes as soon as the order is paid or no longer accepts payments, or after that many seconds.',
      auth: 'key',
      params: z.object({ id: z.string() }),
      query: orderQuery,
      answers: { 200: { description: 'The order.', schema: order } },
      refusals: ['order_not_found'],
      async handle({ request, response, access: { caller }, params: { id }, query: { wait } }) {
        const row = await changes.until(orderKey(caller.merchantId, id), {
          read: () => readOrder(caller.merchantId, id),
          done: isSettled,
          timeoutMs: (wait ?? 0) * 1000,
          signal: abortedOnDisconnect(response),
          for: { address: clientAddress(request), merchantId: caller.merchantId },
        });
        response.json(presentOrder(row, presentationFor(api, caller)));
      },
    }),

    endpoint({
      method: 'get',
      path: '/v1/orders',
      operationId: 'listOrders',
      tag: 'Orders',
      summary: 'List orders',
      auth: 'key',
      query: orderListQuery,
      answers: { 200: { description: 'A page of orders, newest first.', schema: orderPage } },
      refusals: [],
      async handle({ response, access: { caller }, query: { status, limit, cursor } }) {
        const rows = await listOrders(
          db,
          caller.merchantId,
          { status },
          { limit, after: readCursor(cursor, 'orders') },
        );
        const viewer = presentationFor(api, caller);
        response.json({
          data: rows.map((row) => presentOrder(row, viewer)),
          nextCursor: nextCursor(rows, limit, 'orders'),
        });
      },
    }),
  ];
}
