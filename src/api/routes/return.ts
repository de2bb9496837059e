import { isDatabaseUnavailable } from '../../ledger/database-errors.ts';
import type { Api } from '../api-deps.ts';
import { languageOf, leaveSlash, pageParameter, sendPage } from '../checkout/send-page.ts';
import { nothingPage } from '../checkout/shell.ts';
import { tokenAccess } from '../endpoint/auth.ts';
import { type Endpoint, endpoint } from '../endpoint/endpoint.ts';
import { z } from '../http/zod.ts';
import { backUrl } from '../payments/back-url.ts';
import { createGiveHint } from '../payments/give-hint.ts';
import { findPaymentById, findPaymentByToken } from '../payments/read-payment.ts';

/** Where the wallet sends the payer: a hint, and on to the merchant or the cashier page. It says nothing of what came of the payment. */
export function returnRoute(api: Api): Endpoint {
  const giveHint = createGiveHint(api);
  return endpoint({
    method: 'get',
    path: '/return/{id}',
    operationId: 'returnFromWallet',
    tag: 'Channels and payers',
    summary: 'The payer comes back from the wallet',
    auth: 'none',
    params: z.object({ id: z.string() }),
    // Not strict: wallets add parameters of their own.
    query: z.object({ token: pageParameter }),
    answers: {
      303: {
        description:
          'On to the `returnUrl`, with `paymentId` and never a status; without one, or while nobody can say where to, to ' +
          'the cashier page.',
      },
      308: { description: 'To the same address without the slash at its end.' },
      404: { description: 'A page that says that the token opens nothing.', mediaType: 'text/html' },
    },
    refusals: ['too_many_requests'],
    async handle({ request, response, params: { id }, query: { token } }) {
      if (leaveSlash(request, response, id)) return;
      response.set({ 'Cache-Control': 'no-store', 'Referrer-Policy': 'no-referrer' });
      // Relative: wherever the payer reached this page, the cashier page is beside it.
      const cashier = `../checkout/${encodeURIComponent(id)}?token=${encodeURIComponent(token ?? '')}&returned=1`;
      const payment =
        token === undefined
          ? null
          : await findPaymentByToken(api, tokenAccess(token, request), id, () =>
              findPaymentById(api, id),
            ).catch((error: unknown) => {
              if (isDatabaseUnavailable(error)) return undefined;
              throw error;
            });
      // That page shows that it goes on trying, and gives the hint then.
      if (payment === undefined) return void response.redirect(303, cashier);
      if (payment === null) {
        return sendPage(response, 404, nothingPage(languageOf(request), '../checkout/assets'));
      }
      // A HEAD is a program's look at the address, not the payer.
      if (request.method === 'GET') {
        await giveHint(payment, 'the payer came back from the wallet').catch((error: unknown) => {
          // The schedule asks anyway; the payer goes on.
          request.log.warn({ err: error }, 'a hint was lost');
        });
      }
      response.redirect(303, backUrl(payment) ?? cashier);
    },
  });
}
