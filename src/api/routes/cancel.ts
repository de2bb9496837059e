import { Refusal } from '../../domain/refusal.ts';
import { isLive } from '../../domain/states.ts';
import { cancelOrder, isSettled } from '../../ledger/orders.ts';
import { requestCancel } from '../../ledger/payments.ts';
import type { Api } from '../api-deps.ts';
import { orderKey, paymentKey } from '../changes.ts';
import { ANSWER_WITHIN_MS } from '../deadlines.ts';
import { type Endpoint, endpoint } from '../endpoint/endpoint.ts';
import { clientAddress } from '../http/client-address.ts';
import { abortedOnDisconnect } from '../http/client-gone.ts';
import { z } from '../http/zod.ts';
import { createNotifyWorkflows } from '../payments/notify-workflows.ts';
import { presentOrder, presentPayment } from '../payments/present.ts';
import { presentationFor } from '../payments/presentation.ts';
import { createReadOrder } from '../payments/read-order.ts';
import { createReadPayment } from '../payments/read-payment.ts';
import { order } from '../schemas/order.ts';
import { payment } from '../schemas/payment.ts';

/**
 * Routes that cancel payments and orders. nodrop first stores that the cancellation is requested. A paid payment stays
 * paid.
 */
export function cancelRoutes(api: Api): Endpoint[] {
  const { db, changes, now } = api;
  const readPayment = createReadPayment(api);
  const readOrder = createReadOrder(api);
  const notifyWorkflows = createNotifyWorkflows(api);

  return [
    endpoint({
      method: 'post',
      path: '/v1/payments/{id}/cancel',
      operationId: 'cancelPayment',
      tag: 'Payments',
      summary: 'Cancel a payment',
      description:
        'nodrop queries the channel and then closes the trade there. If the payer has paid, the payment stays paid. A payment ' +
        'that has already ended unpaid is returned unchanged.',
      auth: 'key',
      params: z.object({ id: z.string() }),
      answers: {
        200: { description: 'The payment has ended unpaid.', schema: payment },
        202: { description: 'Cancellation requested; the channel has not answered yet.', schema: payment },
      },
      refusals: ['payment_not_found', 'payment_already_paid'],
      async handle({ request, response, access, params: { id }, startedAt }) {
        const row = await readPayment(access, id);
        if (isLive(row.status)) {
          await requestCancel(db, id, 'the merchant', now());
          await notifyWorkflows.cancel(row);
        }
        const ended = await changes.until(paymentKey(id), {
          read: () => readPayment(access, id),
          done: ({ status }) => !isLive(status),
          timeoutMs: ANSWER_WITHIN_MS - (Date.now() - startedAt),
          signal: abortedOnDisconnect(response),
          for: { address: clientAddress(request), merchantId: row.merchantId },
        });
        if (ended.status === 'succeeded') {
          throw new Refusal(
            'payment_already_paid',
            `Payment ${id} was paid: the channel has received the money.`,
          );
        }
        response
          .status(isLive(ended.status) ? 202 : 200)
          .json(presentPayment(ended, presentationFor(api, access.caller)));
      },
    }),

    endpoint({
      method: 'post',
      path: '/v1/orders/{id}/cancel',
      operationId: 'cancelOrder',
      tag: 'Orders',
      summary: 'Cancel an order',
      description:
        'The order accepts no new payment. Its live payments end first, and then the order is cancelled.',
      auth: 'key',
      params: z.object({ id: z.string() }),
      answers: {
        200: { description: 'The order has ended and accepts no more payments.', schema: order },
        202: {
          description: 'Cancellation requested; a payment of the order has not ended yet.',
          schema: order,
        },
      },
      refusals: ['order_not_found', 'order_already_paid'],
      async handle({ request, response, access: { caller }, params: { id }, startedAt }) {
        await readOrder(caller.merchantId, id);
        const { live } = await cancelOrder(db, caller.merchantId, id, now());
        await Promise.all(live.map(notifyWorkflows.cancel));
        const row = await changes.until(orderKey(caller.merchantId, id), {
          read: () => readOrder(caller.merchantId, id),
          done: isSettled,
          timeoutMs: ANSWER_WITHIN_MS - (Date.now() - startedAt),
          signal: abortedOnDisconnect(response),
          for: { address: clientAddress(request), merchantId: caller.merchantId },
        });
        if (row.status === 'succeeded' || row.status === 'refunded') {
          throw new Refusal('order_already_paid', `Order ${id} was paid by payment ${row.paidPaymentId}.`);
        }
        response.status(isSettled(row) ? 200 : 202).json(presentOrder(row, presentationFor(api, caller)));
      },
    }),
  ];
}
