import { listUnmatchedCallbacks } from '../../ledger/callbacks.ts';
import type { Api } from '../api-deps.ts';
import { type Endpoint, endpoint } from '../endpoint/endpoint.ts';
import { nextCursor, readCursor } from '../http/cursor.ts';
import { presentCallback } from '../payments/present.ts';
import { callbackListQuery, callbackPage } from '../schemas/callback.ts';

/** `GET /v1/callbacks`: lists verified callbacks for payments that are not in the ledger. */
export function unmatchedCallbacksRoute({ db, now }: Pick<Api, 'db' | 'now'>): Endpoint {
  return endpoint({
    method: 'get',
    path: '/v1/callbacks',
    operationId: 'listCallbacks',
    tag: 'Channels and payers',
    summary: 'List callbacks that match no payment',
    description:
      "Verified callbacks that name no payment of the account that received them, for the accounts of the operator's merchant. " +
      'nodrop retries to match them for 72 h; older ones wait for an operator.',
    auth: 'operator',
    query: callbackListQuery,
    answers: { 200: { description: 'A page of callbacks, newest first.', schema: callbackPage } },
    refusals: [],
    async handle({ response, access: { caller }, query: { limit, cursor } }) {
      const rows = await listUnmatchedCallbacks(db, caller.merchantId, {
        limit,
        after: readCursor(cursor, 'callbacks'),
      });
      const at = now();
      response.json({
        data: rows.map((row) => presentCallback(row, at)),
        nextCursor: nextCursor(
          rows.map(({ receivedAt, id }) => ({ createdAt: receivedAt, id })),
          limit,
          'callbacks',
        ),
      });
    },
  });
}
