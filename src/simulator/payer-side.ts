import express, { type NextFunction, type Request, type Response, Router } from 'express';
import helmet from 'helmet';
import type { Logger } from 'pino';
import { z } from 'zod';
import { isLoopbackHost } from '../loopback.ts';
import { readBody } from '../request-bounds.ts';
import { MAX_BODY_BYTES, parseInput, SimulatorError, sendError, toSimulatorError } from './errors.ts';
import type { Store } from './store.ts';
import type { Trades } from './trades.ts';
import { ICON, type Language, refusalPage, STYLE_HASH, walletPage } from './wallet-page.ts';

/**
 * The payer's decision. Without a body or a result, the payment succeeds. The schema rejects unknown fields. For
 * example, `curl -d '{"result":"declined"}'` sends a form with one odd field, and such a request must not pay.
 */
const paySchema = z.strictObject({
  result: z.enum(['success', 'declined', 'processing']).default('success'),
});

const FORM = 'application/x-www-form-urlencoded';

export interface PayerSideOptions {
  readonly store: Store;
  readonly trades: Trades;
  readonly logger: Logger;
  /** The wallet's public base URL. */
  readonly publicUrl: string;
}

/** The pages for the payer's browser, under `/pay`. */
export function payerSide(options: PayerSideOptions): Router {
  const { store, trades, logger } = options;
  const router = Router();
  router.use(
    helmet({
      contentSecurityPolicy: {
        useDefaults: false,
        directives: {
          defaultSrc: ["'none'"],
          styleSrc: [STYLE_HASH],
          imgSrc: ["'self'"],
          formAction: ["'self'"],
          baseUri: ["'none'"],
          frameAncestors: ["'none'"],
        },
      },
      // The wallet sends no HSTS header. It uses plain HTTP on a host that other local programs share, and HSTS would
      // make these programs unreachable.
      strictTransportSecurity: false,
      // The policy must not be `no-referrer`. With `no-referrer`, browsers send `Origin: null` with the page's own
      // form.
      referrerPolicy: { policy: 'same-origin' },
    }),
  );
  router.use((_req, res, next) => {
    res.set('cache-control', 'no-store').vary('Accept-Language');
    next();
  });

  router.get('/icon.svg', (_req, res) => {
    res.set('cache-control', 'public, max-age=3600').type('svg').send(ICON);
  });
  router.get('/:no', async (req, res) => {
    const trade = trades.find(req.params.no);
    await store.durable();
    res.send(walletPage(trade, languageOf(req)));
  });

  const json = express.json({ limit: MAX_BODY_BYTES });
  const form = express.urlencoded({ limit: MAX_BODY_BYTES, extended: false });
  router.post(
    '/:no',
    (req, _res, next) => {
      refuseForeignOrigin(req, options.publicUrl);
      refuseUnknownType(req);
      next();
    },
    readBody((req, res, next) => (req.is(FORM) ? form : json)(req, res, next), MAX_BODY_BYTES),
    async (req: Request<{ no: string }>, res) => {
      const { result } = parseInput(paySchema, req.body ?? {});
      const { outTradeNo, state } = trades.pay(req.params.no, result);
      await store.durable();
      // A browser returns to the wallet page, which links to the shop. Redirecting to the shop would require
      // `form-action` to allow every address that the shop redirects to.
      if (isPage(req)) res.redirect(303, req.originalUrl);
      else res.json({ outTradeNo, state });
    },
  );

  router.use(async (error: unknown, req: Request, res: Response, _next: NextFunction) => {
    const refusal = toSimulatorError(error, logger);
    if (refusal.status < 500) await store.durable();
    if (isPage(req) && refusal.status === 409) res.redirect(303, req.originalUrl);
    else if (req.method === 'GET') res.status(refusal.status).send(refusalPage(refusal, languageOf(req)));
    else sendError(res, refusal);
  });
  return router;
}

/**
 * Returns the language of the wallet page, chosen as on the cashier page: the payer's choice, or else the browser's
 * preference. The page's form keeps the choice in its address.
 */
function languageOf(req: Request): Language {
  const { lang } = req.query;
  if (lang === 'en' || lang === 'zh') return lang;
  return req.acceptsLanguages('en', 'zh') === 'zh' ? 'zh' : 'en';
}

/**
 * True if a browser has sent the wallet page's own form. False for a program that sends a form, because the program
 * needs an answer and not a page.
 */
function isPage(req: Request): boolean {
  return Boolean(req.is(FORM)) && req.accepts('json', 'html') === 'html';
}

/**
 * Refuses a body that no parser reads. Without this check, the simulator would treat such a body as empty, and an empty
 * body pays.
 * @throws SimulatorError 415
 */
function refuseUnknownType(req: Request): void {
  const isEmpty = req.get('transfer-encoding') === undefined && Number(req.get('content-length') ?? 0) === 0;
  if (isEmpty || req.is(['application/json', FORM])) return;
  throw new SimulatorError(415, 'PARAM_ERROR', `Send application/json or ${FORM}.`);
}

/**
 * Refuses a POST from any page except the wallet's own page. A browser names the page's origin in a POST.
 * @throws SimulatorError 403
 */
function refuseForeignOrigin(req: Request, publicUrl: string): void {
  const [origin, host] = [req.get('origin'), req.get('host')];
  const ours = new URL(publicUrl);
  if (origin === undefined || origin === ours.origin) return;
  // Accepts only the wallet's configured host name and loopback names. Any other name could belong to a foreign site
  // that points it to this host.
  if (origin === `http://${host}` && (isLoopbackHost(host) || host === ours.host)) return;
  throw new SimulatorError(403, 'FOREIGN_ORIGIN', 'Payments come from the wallet page only.');
}
