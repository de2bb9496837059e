import { BlockList, isIPv6 } from 'node:net';
import express, { type NextFunction, type Request, type Response, Router } from 'express';
import type { Logger } from 'pino';
import { MAX_BODY_BYTES, SimulatorError, sendError, toSimulatorError } from './errors.ts';
import { type Dice, mergeFaults } from './faults.ts';
import type { Notifier } from './notifier.ts';
import type { Store } from './store.ts';
import { ledgerView } from './view.ts';

const loopback = new BlockList();
loopback.addSubnet('127.0.0.0', 8, 'ipv4');
loopback.addAddress('::1', 'ipv6');

export interface ControlSideOptions {
  readonly store: Store;
  readonly notifier: Notifier;
  readonly dice: Dice;
  readonly logger: Logger;
}

/** What tests and demos use, under `/_control`: the faults, and the ground truth. */
export function controlSide({ store, notifier, dice, logger }: ControlSideOptions): Router {
  const router = Router();
  router.use((req, _res, next) => {
    if (!isLocal(req)) {
      throw new SimulatorError(403, 'NOT_LOCAL', 'The control side answers direct calls on loopback only.');
    }
    next();
  });

  router.get('/faults', async (_req, res) => {
    await store.durable();
    res.json(store.faults);
  });

  router.put('/faults', express.json({ type: () => true, limit: MAX_BODY_BYTES }), async (req, res) => {
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

/**
 * True for a direct call from this machine. The Host keeps out pages that rebind a name to loopback, Origin
 * keeps out every other page, and the forwarding headers show a proxy that would lend callers its address.
 */
function isLocal(req: Request): boolean {
  const names = Object.keys(req.headers);
  if (names.some((name) => name === 'origin' || name === 'forwarded' || name.startsWith('x-forwarded-'))) {
    return false;
  }
  return isLoopback(req.socket.remoteAddress ?? '') && isLoopback(hostname(req.headers.host ?? ''));
}

function isLoopback(host: string): boolean {
  return host === 'localhost' || loopback.check(host, isIPv6(host) ? 'ipv6' : 'ipv4');
}

/** A Host header without its port and brackets. */
function hostname(host: string): string {
  return host.replace(/:\d+$/, '').replace(/^\[(.*)\]$/, '$1');
}
