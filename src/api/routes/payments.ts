import { listPayments, listTimeline } from '../../ledger/views.ts';
import { paymentKey } from '../changes.ts';
import type { Api } from '../deps.ts';
import { type Endpoint, endpoint } from '../endpoint/endpoint.ts';
import { clientAddress } from '../http/client-address.ts';
import { goneSignal } from '../http/client-gone.ts';
import { nextCursor, nextTimelineCursor, readCursor, readTimelineCursor } from '../http/cursor.ts';
import { z } from '../http/zod.ts';
import { createSeePayment, type Seen } from '../payments/see-payment.ts';
import { viewerOf } from '../payments/viewer.ts';
import { isPayable, paymentView, timelineView } from '../payments/views.ts';
import { createVisiblePayment } from '../payments/visible-payment.ts';
import {
  payerPayment,
  payment,
  paymentListQuery,
  paymentPage,
  paymentQuery,
  timelinePage,
  timelineQuery,
} from '../schemas/payment.ts';

/** Reading payments. */
export function paymentRoutes(api: Api): Endpoint[] {
  const { db, now, changes } = api;
  const visiblePayment = createVisiblePayment(api);
  const seePayment = createSeePayment(api);

  return [
    endpoint({
      method: 'get',
      path: '/v1/payments/{id}',
      operationId: 'getPayment',
      tag: 'Payments',
      summary: 'Get a payment',
      description:
        'With `wait`: as soon as it is final or its next action appears, or after that many seconds. ' +
        'A client token sees what concerns the payer.',
      auth: 'key or token',
      cors: true,
      params: z.object({ id: z.string() }),
      query: paymentQuery,
      answers: { 200: { description: 'The payment.', schema: z.union([payment, payerPayment]) } },
      refusals: ['payment_not_found'],
      async handle({ request, response, access, params: { id }, query: { wait = 0 } }) {
        // Whose payment a token opens is in its row.
        const merchantOf = async () =>
          access.kind === 'key' ? access.caller.merchantId : (await seePayment(access, id)).row.merchantId;
        const { view } = await changes.until(paymentKey(id), {
          read: () => seePayment(access, id),
          done: untilNews(now),
          timeoutMs: wait * 1000,
          signal: goneSignal(response),
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
        const viewer = viewerOf(api, caller);
        response.json({
          data: rows.map((row) => paymentView(row, viewer)),
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
        'Every callback, query, transition and manual action, in words. Queries that are answered the same are one ' +
        'entry, once another answer comes.',
      auth: 'key',
      params: z.object({ id: z.string() }),
      query: timelineQuery,
      answers: { 200: { description: 'What happened, oldest first.', schema: timelinePage } },
      refusals: ['payment_not_found'],
      async handle({ response, access, params: { id }, query: { limit, cursor } }) {
        await visiblePayment(access, id);
        const rows = await listTimeline(db, id, { limit, after: readTimelineCursor(cursor) });
        response.json({ data: rows.map(timelineView), nextCursor: nextTimelineCursor(rows, limit) });
      },
    }),
  ];
}

/** Ends a wait when the payment is final, or when a next action appears that was not there at first. */
function untilNews(now: () => Date): (seen: Seen) => boolean {
  let payableAtFirst: boolean | undefined;
  return ({ row, isFinal }) => {
    const payable = isPayable(row, now());
    payableAtFirst ??= payable;
    return isFinal() || (payable && !payableAtFirst);
  };
}
