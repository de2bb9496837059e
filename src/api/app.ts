import express, { type Express, type RequestHandler } from 'express';
import helmet from 'helmet';
import { Refusal, type RefusalCode } from '../domain/refusal.ts';
import { isDatabaseUnavailable } from '../ledger/database-errors.ts';
import { boundRequests } from '../request-bounds.ts';
import type { Api, ApiDeps } from './api-deps.ts';
import { serveLanguageChoice } from './checkout/send-page.ts';
import { createAuthenticate, createFindOpening } from './endpoint/auth.ts';
import type { Endpoint } from './endpoint/endpoint.ts';
import { createRunOnce } from './endpoint/idempotency.ts';
import { allowOrigins, mount } from './endpoint/mount.ts';
import { BODY_LIMIT } from './http/body.ts';
import { STREAMS } from './http/event-stream.ts';
import { FailedLookups } from './http/failed-lookups.ts';
import { limitPipelining } from './http/listen.ts';
import { createErrorHandler } from './http/problems.ts';
import { requestLog } from './http/request-log.ts';
import { StreamSlots } from './http/stream-slots.ts';
import { createAskChannel } from './payments/ask-channel.ts';
import { Readiness } from './readiness.ts';
import { callbackRoutes } from './routes/callbacks.ts';
import { cancelRoutes } from './routes/cancel.ts';
import { changeOrderRoute } from './routes/change-order.ts';
import { checkoutRoute, serveCheckoutAssets } from './routes/checkout.ts';
import { createPaymentRoute } from './routes/create-payment.ts';
import { docsRoutes, serveDocsAssets } from './routes/docs.ts';
import { eventRoutes } from './routes/events.ts';
import { healthRoutes } from './routes/health.ts';
import { orderRoutes } from './routes/orders.ts';
import { paymentActionRoutes } from './routes/payment-actions.ts';
import { paymentEventsRoute } from './routes/payment-stream.ts';
import { paymentRoutes } from './routes/payments.ts';
import { redeliverManyRoute, redeliverRoute } from './routes/redeliver.ts';
import { refundRoutes } from './routes/refunds.ts';
import { resolveRoute } from './routes/resolve.ts';
import { returnRoute } from './routes/return.ts';
import { switchRoute } from './routes/switch.ts';
import { unmatchedCallbacksRoute } from './routes/unmatched-callbacks.ts';
import { UnverifiedCallbacks } from './unverified-callbacks.ts';

/** Every route of the API. */
export function createEndpoints(api: Api): Endpoint[] {
  const endpoints = [
    ...orderRoutes(api),
    changeOrderRoute(api),
    createPaymentRoute(api),
    ...paymentRoutes(api),
    paymentEventsRoute(api),
    ...paymentActionRoutes(api),
    switchRoute(api),
    ...cancelRoutes(api),
    resolveRoute(api),
    ...refundRoutes(api),
    ...eventRoutes(api),
    redeliverRoute(api),
    redeliverManyRoute(api),
    ...callbackRoutes(api),
    unmatchedCallbacksRoute(api),
    returnRoute(api),
    checkoutRoute(api),
    ...healthRoutes(api),
  ];
  return [...endpoints, ...docsRoutes(endpoints, api.config.api.publicUrl)];
}

/** Paths that are only served if NODROP_SECRET is the secret that the database was written with. */
const NEEDS_SECRET = ['/v1', '/callbacks', '/return', '/checkout'];
/**
 * The paths in `NEEDS_SECRET` that are pages for payers. nodrop also serves these pages while the database is
 * unreachable. The browser then reloads the page.
 */
const PAGES = /^\/(return|checkout)$/i;

/** HTTP methods that do not write to the database. */
const READS = ['GET', 'HEAD', 'OPTIONS'];
/** Codes of refusals that a fault of the database may have caused. */
const OF_DATABASE: ReadonlySet<RefusalCode> = new Set([
  'database_unavailable',
  'callback_not_stored',
  'internal_error',
]);

/** Creates the API's Express app. The app does not listen yet, and needs neither the database nor Temporal to be up. */
export function createApp(deps: ApiDeps): Express {
  const streams = deps.streams ?? STREAMS;
  const now = deps.now ?? (() => new Date());
  const api: Api = {
    ...deps,
    requireSecret: deps.requireSecret ?? (async () => {}),
    now,
    readiness: deps.readiness ?? new Readiness(deps, now),
    streams,
    askChannel: createAskChannel(deps),
    streamSlots: new StreamSlots(streams),
    configured: deps.configured ?? [],
    unverified: deps.unverified ?? new UnverifiedCallbacks(deps.db, deps.log),
    failedLookups: new FailedLookups(now, createFindOpening(deps.db, now)),
  };
  const { publicUrl } = api.config.api;
  const app = express();
  app.disable('x-powered-by');
  // The API sends no ETags, because its answers change too often for caches to be useful.
  app.set('etag', false);
  app.set('query parser', 'simple');
  app.set('trust proxy', [...api.config.api.trustedProxies]);

  app.use(limitPipelining());
  app.use(requestLog(api.log));
  app.use(measure(api));
  // Most answers are JSON data, so the default Content-Security-Policy allows nothing. HTML pages set their own policy.
  app.use(
    helmet({
      contentSecurityPolicy: {
        useDefaults: false,
        directives: { defaultSrc: ["'none'"], frameAncestors: ["'none'"] },
      },
    }),
  );
  app.use('/v1', (_request, response, next) => {
    response.set('Cache-Control', 'no-store');
    next();
  });
  const endpoints = createEndpoints(api);
  // CORS headers are set before any handler that can refuse, so that pages of other origins can read the refusal.
  allowOrigins(app, endpoints);
  app.use(boundRequests(BODY_LIMIT));
  serveDocsAssets(app);
  serveCheckoutAssets(app, api.channels);
  serveLanguageChoice(app);
  app.use(NEEDS_SECRET, async ({ baseUrl }, _response, next) => {
    try {
      await api.requireSecret();
    } catch (error) {
      if (!(PAGES.test(baseUrl) && isDatabaseUnavailable(error))) throw error;
    }
    next();
  });
  mount(app, endpoints, createAuthenticate(api), createRunOnce(api));
  app.use((request) => {
    throw new Refusal('not_found', `Nothing exists at ${request.path}: ${publicUrl}/docs lists all routes.`);
  });
  app.use(
    createErrorHandler(publicUrl, (error, request, { code }) => {
      if (OF_DATABASE.has(code) && !READS.includes(request.method)) api.readiness.writeFailed(error);
    }),
  );
  return app;
}

function measure({ metrics }: Pick<Api, 'metrics'>): RequestHandler {
  return (request, response, next) => {
    const startedAt = Date.now();
    response.locals.startedAt = startedAt;
    response.once('close', () => {
      const route = (response.locals.route as string | undefined) ?? 'none';
      // Status 499 means that the client disconnected before the answer was sent. An event stream is always measured
      // with its own status.
      const answered = response.writableFinished || response.locals.streams === true;
      const status = answered ? response.statusCode : 499;
      metrics.observeRequest(route, request.method, status, (Date.now() - startedAt) / 1000);
    });
    next();
  };
}
