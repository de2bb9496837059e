import { listPayments, listTimeline } from '../../ledger/queries.ts';
import type { Api } from '../api-deps.ts';
import { paymentKey } from '../changes.ts';
import { type Endpoint, endpoint } from '../endpoint/endpoint.ts';
import { clientAddress } from '../http/client-address.ts';
import { abortedOnDisconnect } from '../http/client-gone.ts';
import { nextCursor, nextTimelineCursor, readCursor, readTimelineCursor } from '../http/cursor.ts';
import { z } from '../http/zod.ts';
import { isPayable, presentPayment, presentTimelineEntry } from '../payments/present.ts';
import { presentationFor } from '../payments/presentation.ts';
import { createReadPayment } from '../payments/read-payment.ts';
import { createReadPaymentView, type ReadPayment } from '../payments/read-payment-view.ts';
import {
  payerPayment,
  payment,
  paymentListQuery,
  paymentPage,
  paymentQuery,
  timelinePage,
  timelineQuery,
} from '../schemas/payment.ts';

/** Routes that read payments. */
export function paymentRoutes(api: Api): Endpoint[] {
  const { db, now, changes } = api;
  const readPayment = createReadPayment(api);
  const readPaymentView = createReadPaymentView(api);

  return [
    endpoint({
      method: 'get',
      path: '/v1/payments/{id}',
      operationId: 'getPayment',
      tag: 'Payments',
      summary: 'Get a payment',
      description:
        'With `wait`, the answer comes as soon as the payment is final or its next action appears, or after that many seconds. ' +
        'With a client token, the answer has only the fields for the payer.',
      auth: 'key or token',
      cors: true,
      params: z.object({ id: z.string() }),
      query: paymentQuery,
      answers: { 200: { description: 'The payment.', schema: z.union([payment, payerPayment]) } },
      refusals: ['payment_not_found'],
      async handle({ request, response, access, params: { id }, query: { wait = 0 } }) {
        // A request with a client token does not name the merchant, so nodrop reads the merchant from the payment's
        // row.
        const merchantOf = async () =>
          access.kind === 'key'
            ? access.caller.merchantId
            : (await readPaymentView(access, id)).row.merchantId;
        const { view } = await changes.until(paymentKey(id), {
          read: () => readPaymentView(access, id),
          done: isDoneWaiting(now),
          timeoutMs: wait * 1000,
          signal: abortedOnDisconnect(response),
          for: wait === 0 ? undefined : { address: clientAddress(request), merchantId: await merchantOf() },
        });
        response.json(view());
      },
    }),

    endpoint({
      method: 'get',
      path: '/v1/payments',
      operationId: 'listPayments',
      tag: 'Payments',
      summary: 'List payments',
      auth: 'key',
      query: paymentListQuery,
      answers: { 200: { description: 'A page of payments, newest first.', schema: paymentPage } },
      refusals: [],
      async handle({ response, access: { caller }, query: { limit, cursor, attention, ...filter } }) {
        const rows = await listPayments(
          db,
          caller.merchantId,
          { ...filter, attention: attention === 'true' },
          { limit, after: readCursor(cursor, 'payments') },
        );
        const viewer = presentationFor(api, caller);
        response.json({
          data: rows.map((row) => presentPayment(row, viewer)),
          nextCursor: nextCursor(rows, limit, 'payments'),
        });
      },
    }),

    endpoint({
      method: 'get',
      path: '/v1/payments/{id}/timeline',
      operationId: 'getTimeline',
      tag: 'Payments',
      summary: "A payment's timeline",
      description:
        'Every callback, query, transition and manual action, in words. Consecutive queries with the same answer become one ' +
        'entry once a different answer comes.',
      auth: 'key',
      params: z.object({ id: z.string() }),
      query: timelineQuery,
      answers: { 200: { description: 'What happened, oldest first.', schema: timelinePage } },
      refusals: ['payment_not_found'],
      async handle({ response, access, params: { id }, query: { limit, cursor } }) {
        await readPayment(access, id);
        const rows = await listTimeline(db, id, { limit, after: readTimelineCursor(cursor) });
        response.json({ data: rows.map(presentTimelineEntry), nextCursor: nextTimelineCursor(rows, limit) });
      },
    }),
  ];
}

/**
 * @returns a function that decides whether a request can stop waiting for this payment. The request can stop when the
 * payment is final. It can also stop when the payment gets a next action, if it had none at first.
 */
function isDoneWaiting(now: () => Date): (seen: ReadPayment) => boolean {
  let payableAtFirst: boolean | undefined;
  return ({ row, isFinal }) => {
    const payable = isPayable(row, now());
    payableAtFirst ??= payable;
    return isFinal() || (payable && !payableAtFirst);
  };
}
