import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import express, { type Express } from 'express';
import { currencyExponents } from '../../domain/money.ts';
import { NEVER_SCHEMES } from '../../domain/return-scheme.ts';
import type { Payment } from '../../ledger/rows.ts';
import { isDatabaseUnavailable } from '../../ledger/unavailable.ts';
import { findOrder } from '../../ledger/views.ts';
import { languageOf, leaveSlash, pageParameter, sendPage } from '../checkout/send-page.ts';
import { checkoutPage, nothingPage, type ShellFacts } from '../checkout/shell.ts';
import type { Api } from '../deps.ts';
import { type TokenAccess, tokenAccess } from '../endpoint/auth.ts';
import { type Endpoint, endpoint } from '../endpoint/endpoint.ts';
import { z } from '../http/zod.ts';
import { backUrl } from '../payments/back-url.ts';
import { lookUpOpened, lookUpPayment } from '../payments/visible-payment.ts';

/** The cashier page: a shell that says nothing but whether its token opens something; the script does the rest. */
export function checkoutRoute(api: Api): Endpoint {
  /** What the token opens: null for nothing, undefined when that cannot be found out now. */
  async function open(id: string, access: TokenAccess): Promise<ShellFacts | null | undefined> {
    try {
      const payment = await lookUpOpened(api, access, id, () => lookUpPayment(api, id));
      return payment === null ? null : await factsOf(payment);
    } catch (error) {
      // The page comes all the same, and shows that it goes on trying.
      if (isDatabaseUnavailable(error)) return undefined;
      throw error;
    }
  }

  async function factsOf(payment: Payment): Promise<ShellFacts> {
    const { merchantId, orderId, subject } = payment;
    return {
      // As at the channel, beside the amount of this attempt.
      subject: subject ?? (await findOrder(api.db, merchantId, orderId))?.subject ?? '',
      returnUrl: backUrl(payment),
    };
  }

  return endpoint({
    method: 'get',
    path: '/checkout/{id}',
    operationId: 'getCheckout',
    tag: 'Channels and payers',
    summary: 'The cashier page',
    description:
      'For the payer, in English or Chinese: what is to be paid, the ways to pay, and live what came of it. Its ' +
      'script takes the token out of the address and keeps it for its tab, which may then ask without one.',
    auth: 'none',
    params: z.object({ id: z.string() }),
    // Not strict: links grow parameters on their way.
    query: z.object({
      token: pageParameter.openapi({ description: "The payment's client token." }),
      returned: pageParameter.openapi({ description: 'Given when the payer comes back from the wallet.' }),
    }),
    answers: {
      200: { description: 'The page.', mediaType: 'text/html' },
      308: { description: 'To the same address without the slash at its end.' },
      404: { description: 'A page that says that the token opens nothing.', mediaType: 'text/html' },
    },
    refusals: ['too_many_requests'],
    async handle({ request, response, params: { id }, query: { token } }) {
      if (leaveSlash(request, response, id)) return;
      const facts = token === undefined ? undefined : await open(id, tokenAccess(token, request));
      if (facts === null) sendPage(response, 404, nothingPage(languageOf(request), 'assets'));
      else sendPage(response, 200, checkoutPage(languageOf(request), facts));
    },
  });
}

const fromHere = (path: string) => fileURLToPath(new URL(path, import.meta.url));

/** The files of the page by their addresses; the client library and the QR codes' are the packages' own files. */
const FILES: Readonly<Record<string, string>> = {
  ...Object.fromEntries(
    ['page.css', 'page.js', 'screen.js', 'session.js', 'money.js', 'messages.js', 'icon.svg'].map((name) => [
      name,
      fromHere(`../checkout/${name}`),
    ]),
  ),
  'nodrop.js': fromHere('../../../clients/js/index.js'),
  'uqr.js': join(dirname(createRequire(import.meta.url).resolve('uqr')), 'index.mjs'),
};

export function serveCheckoutAssets(app: Express): void {
  const assets = express.Router();
  for (const [name, path] of Object.entries(FILES)) {
    // Asked about each time: files of two versions do not fit together.
    const options = { headers: { 'Cache-Control': 'no-cache' }, cacheControl: false };
    assets.get(`/${name}`, (_request, response) =>
      response.type(name.split('.').pop() ?? '').sendFile(path, options),
    );
  }
  // What the domain has, so that the page decides by the same lists.
  const lists = {
    'currencies.js': `export const EXPONENTS = ${JSON.stringify(currencyExponents())};\n`,
    'schemes.js': `export const NEVER_SCHEMES = ${JSON.stringify(NEVER_SCHEMES)};\n`,
  };
  for (const [name, list] of Object.entries(lists)) {
    assets.get(`/${name}`, (_request, response) => {
      response.set('Cache-Control', 'no-cache').type('js').send(list);
    });
  }
  app.use('/checkout/assets', assets);
}
