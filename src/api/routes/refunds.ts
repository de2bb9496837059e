import type { Request } from 'express';
import { methodOf } from '../../domain/channel.ts';
import { Refusal } from '../../domain/refusal.ts';
import { findRefund, listRefunds } from '../../ledger/queries.ts';
import { asksForTheRest, requestRefund } from '../../ledger/refunds.ts';
import type { Payment } from '../../ledger/rows.ts';
import type { Api } from '../api-deps.ts';
import { TRADE_ASKED_WITHIN_MS } from '../deadlines.ts';
import { type Endpoint, endpoint } from '../endpoint/endpoint.ts';
import { IDEMPOTENCY_KEY, readKey } from '../endpoint/idempotency.ts';
import { nextCursor, readCursor } from '../http/cursor.ts';
import { z } from '../http/zod.ts';
import { askBriefly } from '../payments/ask-channel.ts';
import { createNotifyWorkflows } from '../payments/notify-workflows.ts';
import { presentRefund } from '../payments/present.ts';
import { presentationFor } from '../payments/presentation.ts';
import { createReadPayment } from '../payments/read-payment.ts';
import { newRefund, refund, refundHeaders, refundListQuery, refundPage } from '../schemas/refund.ts';

/** Routes of refunds. */
export function refundRoutes(api: Api): Endpoint[] {
  const { db, now } = api;
  const readPayment = createReadPayment(api);
  const notifyWorkflows = createNotifyWorkflows(api);

  return [
    endpoint({
      method: 'post',
      path: '/v1/payments/{id}/refunds',
      operationId: 'createRefund',
      tag: 'Refunds',
      summary: 'Refund a payment',
      description:
        'Refunds all that is left of the payment, or a part of it. Once the API has answered, nodrop owes the refund and ' +
        'retries it automatically until the channel has decided: follow it with `GET /v1/refunds/{id}`. The same request with ' +
        'the same `Idempotency-Key` always returns the same refund.\n\n' +
        'Without `amount`, nodrop first queries the channel, for at most ' +
        `${TRADE_ASKED_WITHIN_MS / 1000} s, for the amount refunded there. If the channel does not answer, the ledger decides what is left. ` +
        'A partial amount must be a multiple of the step that the method of the channel declares, unless it is all that is left. ' +
        'While a dispute is open, nodrop sends no refund to the channel and refuses new ones, unless the dispute is only an inquiry.\n\n' +
        'If the channel refuses the refund because more was refunded there meanwhile, the refund is `failed`, and ' +
        '`replacedBy` names a refund of the rest that nodrop makes automatically.',
      auth: 'key',
      params: z.object({ id: z.string() }),
      headers: refundHeaders,
      body: newRefund,
      bodyExamples: {
        all: { summary: 'All that is left', value: {} },
        part: { summary: 'A part', value: { amount: 500, note: 'One ticket returned' } },
      },
      answers: {
        201: { description: 'The refund is owed, and nodrop sends it to the channel.', schema: refund },
        200: {
          description: 'The refund that the first such request created, in its current state.',
          schema: refund,
        },
      },
      refusals: [
        'idempotency_key_missing',
        'idempotency_key_reused',
        'payment_not_found',
        'not_refundable',
        'refund_exceeds_payment',
        'amount_not_supported',
      ],
      async handle({ request, response, access, params: { id }, body }) {
        const key = requireKey(request);
        const payment = await readPayment(access, id);
        const multipleOf = stepOf(api, payment);
        const asked = { amount: body.amount, note: body.note, idempotencyKey: key, multipleOf };
        // Query the channel before a refund of the whole remaining amount, because the merchant may have refunded part
        // of it directly at the channel.
        if (await asksForTheRest(db, payment, asked)) await askBriefly(api, payment);
        const { refund: row, created } = await requestRefund(db, payment.id, asked, now());
        if (row.status === 'created')
          await notifyWorkflows.startRefund(row, payment, request.log as Api['log']);
        response.status(created ? 201 : 200).json(presentRefund(row, presentationFor(api, access.caller)));
      },
    }),

    endpoint({
      method: 'get',
      path: '/v1/payments/{id}/refunds',
      operationId: 'listRefunds',
      tag: 'Refunds',
      summary: "A payment's refunds",
      description: 'Requested refunds, automatic refunds, and refunds found at the channel.',
      auth: 'key',
      params: z.object({ id: z.string() }),
      query: refundListQuery,
      answers: { 200: { description: 'A page of refunds, newest first.', schema: refundPage } },
      refusals: ['payment_not_found'],
      async handle({ response, access, params: { id }, query: { limit, cursor } }) {
        const payment = await readPayment(access, id);
        const rows = await listRefunds(db, payment.id, { limit, after: readCursor(cursor, 'refunds') });
        const viewer = presentationFor(api, access.caller);
        response.json({
          data: rows.map((row) => presentRefund(row, viewer)),
          nextCursor: nextCursor(rows, limit, 'refunds'),
        });
      },
    }),

    endpoint({
      method: 'get',
      path: '/v1/refunds/{id}',
      operationId: 'getRefund',
      tag: 'Refunds',
      summary: 'Get a refund',
      auth: 'key',
      params: z.object({ id: z.string() }),
      answers: { 200: { description: 'The refund.', schema: refund } },
      refusals: ['refund_not_found'],
      async handle({ response, access: { caller }, params: { id } }) {
        // An id in another format cannot belong to a refund, and some of these ids would cause a database error.
        const row = /^[0-9A-Za-z_]{1,32}$/.test(id) ? await findRefund(db, id) : null;
        if (row === null || row.merchantId !== caller.merchantId)
          throw new Refusal('refund_not_found', `There is no refund ${id}.`);
        response.json(presentRefund(row, presentationFor(api, caller)));
      },
    }),
  ];
}

/**
 * Refund amounts at the channel must be a multiple of this number of minor units. Undefined if every amount is
 * possible.
 */
function stepOf({ channels }: Api, { channel, method, receivedCurrency }: Payment): number | undefined {
  const adapter = channels.get(channel);
  const currencies = adapter === undefined ? undefined : methodOf(adapter.declaration, method)?.currencies;
  if (currencies === undefined || currencies === 'any' || receivedCurrency === null) return undefined;
  return currencies[receivedCurrency]?.multipleOf;
}

/** @throws Refusal `idempotency_key_missing`, `bad_request` */
function requireKey(request: Request): string {
  const key = request.get(IDEMPOTENCY_KEY) === '' ? undefined : readKey(request);
  if (key === undefined)
    throw new Refusal('idempotency_key_missing', 'Send the header Idempotency-Key: a refund requires it.');
  return key;
}
