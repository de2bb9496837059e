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

/** The cashier page: without a token the same for every id, with one what the payer may see of the payment. */
export function checkoutRoute(api: Api): Endpoint {
  /** What the token opens: null for nothing, `unknown` when that cannot be found out now. */
  async function open(
    id: string,
    access: TokenAccess,
    { mayHavePaid, browser }: Pick<Opened, 'mayHavePaid' | 'browser'>,
  ): Promise<Opened | 'unknown' | null> {
    try {
      const row = await findPaymentByToken(api, access, id, () => findPaymentOfPayer(api.db, id));
      if (row === null) return null;
      // Without the address of this page, which carries the token.
      const payment = { ...presentToPayer(api, row, access.token), checkoutUrl: null } as PaymentForPayer;
      const form = formOf(api.channels, payment);
      return {
        ...(form === undefined ? {} : { form }),
        payment,
        // As at the channel, beside the amount of this attempt.
        subject: row.subject ?? row.order.subject ?? '',
        now: api.now(),
        mayHavePaid,
        browser,
      };
    } catch (error) {
      // The page comes all the same, and shows that it goes on trying.
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
      'For the payer, in English or Chinese: what is to be paid, the ways to pay, and live what came of it. Its ' +
      'script takes the token out of the address and keeps it for its tab, which may then ask without one; the address has ' +
      "it again while a wallet's app has to open the page in another browser. Without " +
      'JavaScript, and in a browser that does not run its script, the page says the same, and looks again by itself.',
    auth: 'none',
    params: z.object({ id: z.string() }),
    // Not strict: links grow parameters on their way.
    query: z.object({
      token: pageParameter.openapi({ description: "The payment's client token." }),
      returned: pageParameter.openapi({ description: 'Given when the payer comes back from the wallet.' }),
      lang: pageParameter.openapi({
        description: '`en` or `zh`: the language of the page. Without it the browser says which.',
      }),
    }),
    answers: {
      200: { description: 'The page.', mediaType: 'text/html' },
      308: { description: 'To the same address without the slash at its end.' },
      404: { description: 'A page that says that the token opens nothing.', mediaType: 'text/html' },
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

/** Of the methods that say in which browsers they are paid. */
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
 * The files of the page by their names; the client library and the QR codes' are the packages' own files. Read once:
 * what one process serves fits together, also while its files are being replaced.
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
  // What the domain has, so that the page decides by the same lists.
  'currencies.js': `export const EXPONENTS = ${JSON.stringify(currencyExponents())};\n`,
  'schemes.js': `export const NEVER_SCHEMES = ${JSON.stringify(NEVER_SCHEMES)};\n`,
};

/** Asked about each time: files of two versions do not fit together. */
const ASSETS = Object.entries(FILES).map(
  ([name, content]) => [name, asset(name, content, 'no-cache')] as const,
);

/** @param channels whose names and forms are served beside the page's own files */
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
  // Browsers ask for this one where no page names another.
  app.get('/favicon.ico', asset('icon.svg', FILES['icon.svg'] ?? '', 'public, max-age=3600'));
}
