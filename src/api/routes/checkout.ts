import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import express, { type Express } from 'express';
import { currencyExponents } from '../../domain/money.ts';
import { NEVER_SCHEMES } from '../../domain/return-scheme.ts';
import { isDatabaseUnavailable } from '../../ledger/database-errors.ts';
import { findPaymentOfPayer } from '../../ledger/queries.ts';
import type { Api } from '../api-deps.ts';
import { browserOf, type Methods } from '../checkout/browsers.js';
import { formModules, formOf, policyWith } from '../checkout/forms.ts';
import type { PaymentForPayer } from '../checkout/nodrop.js';
import { languageOf, leaveSlash, pageParameter, sendPage } from '../checkout/send-page.ts';
import {
  type ChannelFacts,
  type ChannelTitles,
  checkoutPage,
  nothingPage,
  type Opened,
} from '../checkout/shell.ts';
import { type TokenAccess, tokenAccess } from '../endpoint/auth.ts';
import { type Endpoint, endpoint } from '../endpoint/endpoint.ts';
import { asset } from '../http/asset.ts';
import { z } from '../http/zod.ts';
import { findPaymentByToken } from '../payments/read-payment.ts';
import { presentToPayer } from '../payments/read-payment-view.ts';

/**
 * The cashier page of a payment. With a token in the URL, the page shows what the payer may see. Without a token, the
 * page is the same for every payment id.
 */
export function checkoutRoute(api: Api): Endpoint {
  /**
   * Reads the payment that the token opens. The result is null if the token opens no payment, and `unknown` if the
   * database cannot be reached.
   */
  async function open(
    id: string,
    access: TokenAccess,
    { mayHavePaid, browser }: Pick<Opened, 'mayHavePaid' | 'browser'>,
  ): Promise<Opened | 'unknown' | null> {
    try {
      const row = await findPaymentByToken(api, access, id, () => findPaymentOfPayer(api.db, id));
      if (row === null) return null;
      // The cashier page does not need `checkoutUrl`, because that is the page's own URL.
      const payment = { ...presentToPayer(api, row, access.token), checkoutUrl: null } as PaymentForPayer;
      const form = formOf(api.channels, payment);
      return {
        ...(form === undefined ? {} : { form }),
        payment,
        // The subject that the channel shows to the payer. Each attempt has its own subject and amount.
        subject: row.subject ?? row.order.subject ?? '',
        now: api.now(),
        mayHavePaid,
        browser,
      };
    } catch (error) {
      // nodrop sends the page even while the database is unreachable. The page then says that it retries.
      if (isDatabaseUnavailable(error)) return 'unknown';
      throw error;
    }
  }

  return endpoint({
    method: 'get',
    path: '/checkout/{id}',
    operationId: 'getCheckout',
    tag: 'Channels and payers',
    summary: 'The cashier page',
    description:
      'A page for the payer, in English or Chinese. It shows the amount, the ways to pay, and the live state of the payment. ' +
      'Its script removes the token from the URL and keeps it for the tab, whose later requests may come without a token. The ' +
      "URL has the token again while a wallet's app has to open the page in another browser. Without JavaScript, or in a " +
      'browser that cannot run the script, the page shows the same state and reloads itself.',
    auth: 'none',
    params: z.object({ id: z.string() }),
    // The schema allows unknown query parameters, because apps and sites add parameters to links.
    query: z.object({
      token: pageParameter.openapi({ description: "The payment's client token." }),
      returned: pageParameter.openapi({ description: 'Present if the payer returns from the wallet.' }),
      lang: pageParameter.openapi({
        description: 'The language of the page, `en` or `zh`. Default: the language of the browser.',
      }),
    }),
    answers: {
      200: { description: 'The page.', mediaType: 'text/html' },
      308: { description: 'Redirects to the same URL without the slash at its end.' },
      404: {
        description: 'A page that says that the token does not open a payment.',
        mediaType: 'text/html',
      },
    },
    refusals: ['too_many_requests'],
    async handle({ request, response, params: { id }, query: { token, returned } }) {
      if (leaveSlash(request, response, id)) return;
      const opened =
        token === undefined
          ? 'no token'
          : await open(id, tokenAccess(token, request), {
              mayHavePaid: returned !== undefined,
              browser: browserOf(request.get('user-agent') ?? ''),
            });
      if (opened === null) sendPage(response, 404, nothingPage(languageOf(request), 'assets'));
      else {
        const form = typeof opened === 'string' ? undefined : opened.form;
        const policy = form === undefined ? undefined : policyWith(form);
        const page = checkoutPage(languageOf(request), opened, factsOf(api.channels));
        sendPage(response, 200, page, policy);
      }
    },
  });
}

const titlesOf = (channels: Api['channels']): ChannelTitles =>
  Object.fromEntries([...channels.values()].map(({ declaration: { name, title } }) => [name, title]));

/** The methods that declare in which browsers a payer can pay, by channel and method name. */
const methodsOf = (channels: Api['channels']): Methods =>
  Object.fromEntries(
    [...channels.values()].map(({ declaration: { name, methods } }) => [
      name,
      Object.fromEntries(
        methods.flatMap(({ name, action, paidIn }) =>
          paidIn === undefined ? [] : [[name, { action, paidIn }] as const],
        ),
      ),
    ]),
  );

const factsOf = (channels: Api['channels']): ChannelFacts => ({
  titles: titlesOf(channels),
  methods: methodsOf(channels),
});

const fromHere = (path: string) => readFileSync(new URL(path, import.meta.url));

/**
 * The files of the page by name, with the client library and the QR code library. The process reads them once at the
 * start. So all served files have the same version, even while an upgrade replaces the files on disk.
 */
const FILES: Readonly<Record<string, string | Buffer>> = {
  ...Object.fromEntries(
    [
      'page.css',
      'page.js',
      'browsers.js',
      'without.js',
      'screen.js',
      'session.js',
      'money.js',
      'messages.js',
      'qr.js',
      'icon.svg',
    ].map((name) => [name, fromHere(`../checkout/${name}`)]),
  ),
  'nodrop.js': fromHere('../../../clients/js/index.js'),
  'uqr.js': readFileSync(join(dirname(createRequire(import.meta.url).resolve('uqr')), 'index.mjs')),
  // These modules are generated from lists of the domain, so that the page and the service use the same values.
  'currencies.js': `export const EXPONENTS = ${JSON.stringify(currencyExponents())};\n`,
  'schemes.js': `export const NEVER_SCHEMES = ${JSON.stringify(NEVER_SCHEMES)};\n`,
};

/** Browsers revalidate these files at each use (`no-cache`), because files of two versions do not work together. */
const ASSETS = Object.entries(FILES).map(
  ([name, content]) => [name, asset(name, content, 'no-cache')] as const,
);

/** Serves the page's files. @param channels the channels whose titles, methods and forms the files contain */
export function serveCheckoutAssets(app: Express, channels: Api['channels']): void {
  const assets = express.Router();
  const titles = `export const TITLES = ${JSON.stringify(titlesOf(channels))};\n`;
  assets.get('/titles.js', asset('titles.js', titles, 'no-cache'));
  const methods = `export const METHODS = ${JSON.stringify(methodsOf(channels))};\n`;
  assets.get('/methods.js', asset('methods.js', methods, 'no-cache'));
  for (const [name, send] of ASSETS) assets.get(`/${name}`, send);
  for (const [name, content] of formModules(channels))
    assets.get(`/${name}`, asset(name, content, 'no-cache'));
  app.use('/checkout/assets', assets);
  // Browsers request this URL if a page names no icon.
  app.get('/favicon.ico', asset('icon.svg', FILES['icon.svg'] ?? '', 'public, max-age=3600'));
}
