import express, { type Express } from 'express';
import { Refusal } from '../domain/refusal.ts';
import type { Details } from './details.ts';
import type { Metrics } from './metrics.ts';
import { createErrorHandler } from './problems.ts';
import { giveRequestId } from './request-log.ts';

/** The admin listener: for operators' machines alone, so it asks for no key. */
export function createAdminApp(
  { registry }: Pick<Metrics, 'registry'>,
  readDetails: () => Promise<Details>,
  publicUrl: string,
): Express {
  const app = express();
  app.disable('x-powered-by');
  app.use((request, response, next) => {
    request.id = giveRequestId(request, response);
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
