import express, { type Express } from 'express';
import { Refusal } from '../../domain/refusal.ts';
import { isLoopback, isLoopbackHost } from '../../loopback.ts';
import { boundRequests } from '../../request-bounds.ts';
import { BODY_LIMIT } from '../http/body.ts';
import { createErrorHandler } from '../http/problems.ts';
import { giveRequestId } from '../http/request-log.ts';
import type { Metrics } from '../metrics.ts';
import type { Details } from './details.ts';

/**
 * Creates the admin listener's app. It requires no key, because only operators' machines may reach it.
 * @param host the address it listens on. If this is a loopback address, the app accepts only requests with a loopback
 * `Host` header. Otherwise a web page could point its own host name at this machine and read the answers (DNS
 * rebinding).
 */
export function createAdminApp(
  { registry }: Pick<Metrics, 'registry'>,
  readDetails: () => Promise<Details>,
  publicUrl: string,
  host: string,
): Express {
  const app = express();
  app.disable('x-powered-by');
  app.use((request, response, next) => {
    request.id = giveRequestId(request, response);
    next();
  });
  app.use(boundRequests(BODY_LIMIT));
  app.use((request, _response, next) => {
    if (isLoopback(host) && !isLoopbackHost(request.headers.host)) {
      throw new Refusal('misdirected_request', 'Use localhost or a loopback address as the host name.');
    }
    next();
  });
  app.get('/healthz', (_request, response) => {
    response.json({ status: 'ok' });
  });
  app.get('/metrics', async (_request, response) => {
    response.type(registry.contentType).send(await registry.metrics());
  });
  app.get('/details', async (_request, response) => {
    response.set('Cache-Control', 'no-store').json(await readDetails());
  });
  app.use((request) => {
    throw new Refusal('not_found', `Nothing exists at ${request.path}.`);
  });
  app.use(createErrorHandler(publicUrl));
  return app;
}
