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
 * The admin listener: for operators' machines alone, so it asks for no key.
 * @param host what it listens on. On loopback only calls to a loopback name are taken: a page elsewhere can give its
 *   own name this machine's address, and would read the answers.
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
      throw new Refusal('misdirected_request', 'Ask for localhost or an address of this machine.');
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
    throw new Refusal('not_found', `There is nothing at ${request.path}.`);
  });
  app.use(createErrorHandler(publicUrl));
  return app;
}
