import express, { type Express } from 'express';
import type { Metrics } from './metrics.ts';

/** The admin listener: for operators' machines alone, so it asks for no key. */
export function createAdminApp({ registry }: Pick<Metrics, 'registry'>): Express {
  const app = express();
  app.disable('x-powered-by');
  app.get('/healthz', (_request, response) => {
    response.json({ status: 'ok' });
  });
  app.get('/metrics', async (_request, response) => {
    response.type(registry.contentType).send(await registry.metrics());
  });
  return app;
}
