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

/**
 * The URL to which the wallet sends the payer after the payment. nodrop handles the request as a hint, and redirects
 * the payer to the merchant or to the cashier page. The redirect URL does not contain the state of the payment.
 */
export function returnRoute(api: Api): Endpoint {
  const giveHint = createGiveHint(api);
  return endpoint({
    method: 'get',
    path: '/return/{id}',
    operationId: 'returnFromWallet',
    tag: 'Channels and payers',
    summary: 'The payer returns from the wallet',
    auth: 'none',
    params: z.object({ id: z.string() }),
    // The schema allows unknown query parameters, because wallets add their own parameters.
    query: z.object({ token: pageParameter }),
    answers: {
      303: {
        description:
          'Redirects to the `returnUrl` with `paymentId`, never with a status. Without a `returnUrl`, or while the database ' +
          'cannot be reached, it redirects to the cashier page.',
      },
      308: { description: 'Redirects to the same URL without the slash at its end.' },
      404: {
        description: 'A page that says that the token does not open a payment.',
        mediaType: 'text/html',
      },
    },
    refusals: ['too_many_requests'],
    async handle({ request, response, params: { id }, query: { token } }) {
      if (leaveSlash(request, response, id)) return;
      response.set({ 'Cache-Control': 'no-store', 'Referrer-Policy': 'no-referrer' });
      // The redirect is relative, so that it works with every host name that the payer may have used.
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
      // The database is unreachable. nodrop redirects the payer to the cashier page, which sends the hint when the
      // database is reachable again.
      if (payment === undefined) return void response.redirect(303, cashier);
      if (payment === null) {
        return sendPage(response, 404, nothingPage(languageOf(request), '../checkout/assets'));
      }
      // A HEAD request comes from a program that checks the URL, not from the payer.
      if (request.method === 'GET') {
        await giveHint(payment, 'the payer came back from the wallet').catch((error: unknown) => {
          // A failed hint has no consequences. nodrop queries the payment on schedule anyway, and the payer is
          // redirected.
          request.log.warn({ err: error }, 'a hint could not be recorded');
        });
      }
      response.redirect(303, backUrl(payment) ?? cashier);
    },
  });
}
