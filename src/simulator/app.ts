import { once } from 'node:events';
import { type AddressInfo, isIPv6 } from 'node:net';
import express, { type NextFunction, type Request, type Response } from 'express';
import type { Logger } from 'pino';
import { signer } from '../channels/simulator/protocol.ts';
import { boundRequests, createBoundedServer } from '../request-bounds.ts';
import { channelSide } from './channel-side.ts';
import { controlSide } from './control-side.ts';
import { MAX_BODY_BYTES, SimulatorError, sendError, toSimulatorError } from './errors.ts';
import { Dice } from './faults.ts';
import { CALLBACK_RETRY_MS, Notifier } from './notifier.ts';
import { payerSide } from './payer-side.ts';
import { Store } from './store.ts';
import { Trades } from './trades.ts';

export interface SimulatorOptions {
  /** Signing secret (`whsec_...`) by account name. */
  readonly secrets: Readonly<Record<string, string>>;
  /** The folder of the durable ledger; one simulator at a time. */
  readonly folder: string;
  readonly host: string;
  /** 0 takes any free port. */
  readonly port: number;
  readonly logger: Logger;
  /**
   * Where payers reach the wallet, without a trailing slash.
   * @default the address listened on
   */
  readonly publicUrl?: string;
  /**
   * The waits between a callback's attempts, in milliseconds; after the last one it is given up.
   * @default WeChat Pay's
   */
  readonly callbackRetryMs?: readonly number[];
}

export interface Simulator {
  /** The address listened on, without a trailing slash. */
  readonly url: string;
  /** Finishes what is under way, leaves the rest to the next start, and flushes the ledger. */
  close(): Promise<void>;
}

/** A request still unanswered after this is cut off by `close()`. */
const CLOSE_WITHIN_MS = 10_000;

/**
 * Starts a simulator.
 * @throws Error `EADDRINUSE` when the port is taken; another when the ledger is damaged or a secret malformed.
 */
export async function startSimulator(options: SimulatorOptions): Promise<Simulator> {
  // Requests that come while the ledger is being read wait for it.
  const server = createBoundedServer((req, res) => void opened.then(({ app }) => app(req, res)));
  // Longer than a client keeps its connection: one that is closed in the moment in which it is used is a lost request.
  server.keepAliveTimeout = 65_000;
  server.listen(options.port, options.host);
  await once(server, 'listening');
  const { address, port } = server.address() as AddressInfo;
  const url = `http://${isIPv6(address) ? `[${address}]` : address}:${port}`;
  // Only with the port held: opening replaces the journal, which a running simulator is writing to.
  const opened = open(options, options.publicUrl ?? url);
  const { store, trades, notifier, held } = await opened.catch((error: unknown) => {
    server.close();
    throw error;
  });
  trades.start();
  notifier.start();

  return {
    url,
    async close() {
      const closed = once(server, 'close');
      server.close();
      for (const res of held) res.destroy();
      // Connections kept alive fall idle one by one while their last answers go out.
      const sweep = setInterval(() => server.closeIdleConnections(), 50);
      const deadline = setTimeout(() => server.closeAllConnections(), CLOSE_WITHIN_MS);
      try {
        await closed;
      } finally {
        clearInterval(sweep);
        clearTimeout(deadline);
      }
      trades.stop();
      await notifier.stop();
      await store.close();
    },
  };
}

/** Reads the ledger and puts the three sides together on top of it. */
async function open(options: SimulatorOptions, publicUrl: string) {
  const { logger } = options;
  const signers = new Map(Object.entries(options.secrets).map(([name, secret]) => [name, signer(secret)]));
  const store = await Store.open(options.folder);
  const dice = new Dice(() => store.faults.seed);
  const notifier = new Notifier(store, dice, signers, options.callbackRetryMs ?? CALLBACK_RETRY_MS, logger);
  const trades = new Trades(store, notifier);
  const held = new Set<Response>();

  const app = express();
  app.disable('x-powered-by');
  app.disable('etag');
  app.use((req, res, next) => {
    const startedAt = performance.now();
    const { method, path } = req;
    res.on('close', () => {
      const ms = Math.round(performance.now() - startedAt);
      logger.debug({ method, path, status: res.statusCode, finished: res.writableFinished, ms }, 'request');
    });
    next();
  });
  app.use(boundRequests(MAX_BODY_BYTES));
  app.use('/v1', channelSide({ store, trades, dice, signers, logger, publicUrl, held }));
  app.use('/pay', payerSide({ store, trades, logger, publicUrl }));
  app.use('/_control', controlSide({ store, notifier, dice, logger }));
  app.use((_req, res) => sendError(res, new SimulatorError(404, 'NOT_FOUND', 'There is nothing here.')));
  app.use((error: unknown, _req: Request, res: Response, _next: NextFunction) => {
    sendError(res, toSimulatorError(error, logger));
  });
  return { app, store, trades, notifier, held };
}
