import express, { type NextFunction, type Request, type Response, Router } from 'express';
import type { Logger } from 'pino';
import { isDirectLocalCall } from '../loopback.ts';
import { readBody } from '../request-bounds.ts';
import { MAX_BODY_BYTES, SimulatorError, sendError, toSimulatorError } from './errors.ts';
import { type Dice, mergeFaults } from './faults.ts';
import type { Notifier } from './notifier.ts';
import type { Store } from './store.ts';
import { ledgerView } from './view.ts';

export interface ControlSideOptions {
  readonly store: Store;
  readonly notifier: Notifier;
  readonly dice: Dice;
  readonly logger: Logger;
}

/**
 * The interface for tests and demos, under `/_control`. It sets the faults, and shows the ledger, which has the true
 * state of every trade.
 */
export function controlSide({ store, notifier, dice, logger }: ControlSideOptions): Router {
  const router = Router();
  router.use((req, _res, next) => {
    // Refuses all web pages, even pages from this machine. No page may use this interface.
    if (!isDirectLocalCall(req) || req.headers.origin !== undefined) {
      throw new SimulatorError(403, 'NOT_LOCAL', 'The control side answers direct calls on loopback only.');
    }
    next();
  });

  router.get('/faults', async (_req, res) => {
    await store.durable();
    res.json(store.faults);
  });

  const json = readBody(express.json({ type: () => true, limit: MAX_BODY_BYTES }), MAX_BODY_BYTES);
  router.put('/faults', json, async (req, res) => {
    const merged = mergeFaults(store.faults, req.body ?? {});
    if ('errors' in merged) {
      const message = merged.errors.map((error) => `${error.path || 'body'}: ${error.message}`).join('; ');
      res.status(422).json({ code: 'PARAM_ERROR', message, errors: merged.errors });
      return;
    }
    store.write(merged);
    await store.durable();
    res.json(store.faults);
  });

  router.get('/ledger', async (_req, res) => {
    const ledger = Array.from(store.trades.values(), ledgerView);
    await store.durable();
    res.json(ledger);
  });

  router.delete('/ledger', async (_req, res) => {
    store.write({ emptied: true });
    notifier.forget();
    dice.reset();
    await store.durable();
    res.status(204).end();
  });

  router.use((error: unknown, _req: Request, res: Response, _next: NextFunction) => {
    sendError(res, toSimulatorError(error, logger));
  });
  return router;
}
