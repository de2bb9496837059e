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
  /** The signing secret (`whsec_...`) of each account, by account name. */
  readonly secrets: Readonly<Record<string, string>>;
  /** The folder of the durable ledger. Only one simulator may use it at a time. */
  readonly folder: string;
  readonly host: string;
  /** The port to listen on. 0 takes any free port. */
  readonly port: number;
  readonly logger: Logger;
  /**
   * The wallet's public base URL, without a trailing slash.
   * @default the address that the simulator listens on
   */
  readonly publicUrl?: string;
  /**
   * The waits between delivery attempts of a callback, in milliseconds. After the last attempt the simulator gives up.
   * @default the waits of WeChat Pay
   */
  readonly callbackRetryMs?: readonly number[];
}

export interface Simulator {
  /** The address that the simulator listens on, without a trailing slash. */
  readonly url: string;
  /** Finishes the requests in progress and flushes the ledger. Scheduled work continues after the next start. */
  close(): Promise<void>;
}

/** After this time, `close()` ends requests that have no answer yet. */
const CLOSE_WITHIN_MS = 10_000;

/**
 * Starts a simulator.
 * @throws Error `EADDRINUSE` if the port is taken; another Error if the ledger is damaged or a secret is malformed.
 */
export async function startSimulator(options: SimulatorOptions): Promise<Simulator> {
  // A request that arrives before the ledger has been read waits for the ledger.
  const server = createBoundedServer((req, res) => void opened.then(({ app }) => app(req, res)));
  // The server keeps idle connections open longer than clients do. A request is lost if its connection closes just when
  // the client uses it.
  server.keepAliveTimeout = 65_000;
  server.listen(options.port, options.host);
  await once(server, 'listening');
  const { address, port } = server.address() as AddressInfo;
  const url = `http://${isIPv6(address) ? `[${address}]` : address}:${port}`;
  // The ledger is opened only after the port is bound. Opening replaces the journal, so it must not happen while
  // another simulator is running and writes to the journal.
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
      // Connections that are kept open become idle one by one, when their last answers have been sent.
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

/** Reads the ledger, and creates the interfaces for merchants, payers and tests. */
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
