import { randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import express, { type ErrorRequestHandler, type Express, type Request, type Response } from 'express';
import helmet from 'helmet';
import type { Pool } from 'pg';
import { asset } from './assets.ts';
import { refuseLargeBodies } from './bodies.ts';
import { nodropRoutes } from './events.ts';
import { type Language, MESSAGES } from './messages.ts';
import type { Nodrop } from './nodrop.ts';
import { cancelOrder, createOrder, findOrder, findRevision, keepPayment } from './orders.ts';
import { isNotice, type Notice, needsReport, orderPage, productsPage, sentencePage } from './pages.ts';
import { PRODUCTS } from './products.ts';

/**
 * How long a request of a page waits for a change of the order, and how often the shop reads the database during this
 * time.
 */
const HELD_MS = 25_000;
const EVERY_MS = 500;
/**
 * At most this many requests wait at the same time. Further requests are answered immediately, and their pages repeat
 * them.
 */
const MOST_HELD = 200;

const ORDER_ID = /^shop_[0-9a-f]{24}$/;
/** The order's id is random, so that it cannot be guessed. Anyone who knows an order's URL may see the order. */
const newOrderId = () => `shop_${randomBytes(12).toString('hex')}`;

/** @param stopping when it is aborted, all waiting requests are answered */
export function createShop(db: Pool, nodrop: Nodrop, webhookSecret: string, stopping: AbortSignal): Express {
  const app = express();
  app.disable('x-powered-by');
  app.use(security);
  app.use(refuseLargeBodies);
  app.get('/healthz', async (_request, response) => {
    await db.query('select 1');
    response.type('text').send('ok');
  });
  for (const name of ['style.css', 'order.js', 'icon.svg']) app.get(`/${name}`, asset(name));
  app.use(nodropRoutes(db, webhookSecret, nodrop));

  app.use((request, response, next) => {
    // `no-store` makes the browser show the present state also after its back button was pressed.
    response.set('Cache-Control', 'no-store').vary('Accept-Language');
    const chosen = chosenLanguage(request.query.lang);
    // A session cookie, which ends when the browser is closed.
    if (chosen !== undefined) response.cookie(LANGUAGE_COOKIE, chosen, { httpOnly: true, sameSite: 'lax' });
    next();
  });
  const form = express.urlencoded({ extended: false, limit: '4kb' });

  app.get('/', (request, response) => response.send(productsPage(languageOf(request), newOrderId)));

  app.post('/orders', form, async (request, response) => {
    const { order: id, product: productId } = request.body ?? {};
    const product = PRODUCTS.find((one) => one.id === productId);
    if (product === undefined || !ORDER_ID.test(id)) return notFound(request, response);
    // Store the order before its payment starts, so that the order exists when the payment's first event arrives.
    await createOrder(db, id, product, MESSAGES[languageOf(request)].products[product.id].name);
    await pay(id, request, response);
  });

  app.post('/orders/:id/pay', (request, response) => pay(request.params.id, request, response));

  async function pay(id: string, request: Request, response: Response): Promise<void> {
    const order = await findOrder(db, id);
    if (order === null) return notFound(request, response);
    // The page shows a paid or cancelled order, and does not start another payment.
    if (order.paidPaymentId !== null || order.cancelledAt !== null) return toOrder(response, id);
    const started = await nodrop.pay(order);
    if (typeof started === 'string') return toOrder(response, id, started);
    await keepPayment(db, id, started.paymentId);
    response.redirect(303, started.payUrl);
  }

  app.post('/orders/:id/cancel', async (request, response) => {
    const { id } = request.params;
    if ((await findRevision(db, id)) === null) return notFound(request, response);
    // Cancel the order at nodrop first. nodrop queries the channel, and refuses if a payment is under way.
    const answer = await nodrop.cancel(id);
    if (answer !== 'cancelled') return toOrder(response, id, answer);
    toOrder(response, id, (await cancelOrder(db, id)) ? undefined : 'paid');
  });

  app.get('/orders/:id', async (request, response) => {
    // The payer comes back from the wallet to this page. Coming back does not prove that the payment was made.
    const order = await findOrder(db, request.params.id);
    if (order === null) return notFound(request, response);
    const { notice } = request.query;
    const report = needsReport(order) ? await nodrop.readReport(order.id) : 'unknown';
    response.send(orderPage(languageOf(request), order, report, isNotice(notice) ? notice : undefined));
  });

  let held = 0;
  app.get('/orders/:id/revision', async (request, response) => {
    const until = Date.now() + (held < MOST_HELD ? HELD_MS : 0);
    held += 1;
    try {
      for (;;) {
        const revision = await findRevision(db, request.params.id);
        if (revision === null) return void response.status(404).json({ error: 'There is no such order.' });
        const isNewAnswer = String(revision) !== request.query.seen;
        if (isNewAnswer || Date.now() >= until || stopping.aborted || response.destroyed) {
          return void response.json({ revision });
        }
        await sleep(EVERY_MS, undefined, { signal: stopping }).catch(() => {});
      }
    } finally {
      held -= 1;
    }
  });

  app.use((request, response) => notFound(request, response));
  app.use(failed);
  return app;
}

const security = helmet({
  contentSecurityPolicy: {
    useDefaults: false,
    directives: {
      defaultSrc: ["'none'"],
      styleSrc: ["'self'"],
      scriptSrc: ["'self'"],
      connectSrc: ["'self'"],
      imgSrc: ["'self'"],
      // `form-action` allows every host with HTTPS. Browsers also apply it to the redirect that answers a form. This
      // redirect leads to the cashier page, which may be on any host.
      formAction: ["'self'", 'https:', 'http://127.0.0.1:*', 'http://localhost:*'],
      baseUri: ["'none'"],
      frameAncestors: ["'none'"],
    },
  },
  // The proxy that terminates TLS sets this header.
  strictTransportSecurity: false,
});

function toOrder(response: Response, id: string, notice?: Notice): void {
  response.redirect(303, `/orders/${id}${notice === undefined ? '' : `?notice=${notice}`}`);
}

function notFound(request: Request, response: Response): void {
  response.status(404).send(sentencePage(languageOf(request), ({ notFound }) => notFound));
}

const LANGUAGE_COOKIE = 'shop_lang';

const chosenLanguage = (value: unknown): Language | undefined =>
  value === 'en' || value === 'zh' ? value : undefined;

/**
 * The language that the customer chose on this page or earlier. Without a choice, it is the browser's preferred
 * language, as on the cashier page.
 */
function languageOf(request: Request): Language {
  const [, kept] = new RegExp(`(?:^|; )${LANGUAGE_COOKIE}=(\\w+)`).exec(request.headers.cookie ?? '') ?? [];
  const preferred = request.acceptsLanguages('en', 'zh') === 'zh' ? 'zh' : 'en';
  return chosenLanguage(request.query.lang) ?? chosenLanguage(kept) ?? preferred;
}

/**
 * Answers with a page that a person can read. The status is 4xx for a request that the shop does not understand, and
 * otherwise 503. If the request was an event, nodrop redelivers the event after a 503.
 */
const failed: ErrorRequestHandler = (error, request, response, next) => {
  if (response.headersSent) return next(error);
  const language = languageOf(request);
  const status = error.status >= 400 && error.status < 500 ? error.status : 503;
  if (status !== 503)
    return void response.status(status).send(sentencePage(language, ({ notUnderstood }) => notUnderstood));
  console.error(`${request.method} ${request.path}:`, error);
  response.status(503).send(sentencePage(language, ({ inTheWay }) => inTheWay));
};
