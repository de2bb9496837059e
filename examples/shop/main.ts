import { createServer } from 'node:http';
import { createShop } from './app.ts';
import { openDatabase } from './database.ts';
import { connectNodrop } from './nodrop.ts';
import { readSettings, SettingsError } from './settings.ts';

/** The shop as a process: it starts, prints its address, and stops cleanly on SIGTERM and SIGINT. */

/** Time limit for stopping. After this time, the process exits anyway. */
const STOP_WITHIN_MS = 10_000;

async function main(): Promise<void> {
  const settings = readSettings(process.env);
  const { host, port, url } = settings;
  const db = await openDatabase(settings.databaseUrl).catch((error: Error) => {
    throw new SettingsError(`SHOP_DATABASE_URL cannot be used: ${error.message || 'it does not answer'}.`);
  });
  const stopping = new AbortController();
  const shop = createShop(db, connectNodrop(settings), settings.webhookSecret, stopping.signal);
  // Without these listeners Node would send "100 Continue" to every request. Only `refuseLargeBodies` may send it.
  const server = createServer(shop).on('checkContinue', shop).on('checkExpectation', shop);
  await new Promise<void>((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) => {
      const taken = `Port ${port} for the shop is taken by another program: stop that program or set SHOP_PORT to a free port.`;
      reject(error.code === 'EADDRINUSE' ? new SettingsError(taken) : error);
    });
    server.listen(port, host, resolve);
  });
  console.log(`shop listening on ${url}`);

  const stop = (signal: NodeJS.Signals) => {
    if (stopping.signal.aborted) return;
    console.log(`${signal}: stopping`);
    stopping.abort();
    setTimeout(() => process.exit(0), STOP_WITHIN_MS).unref();
    server.close(() => db.end().then(() => process.exit(0), fail));
    // `stopping` makes waiting requests end immediately. Their connections are closed once they are idle.
    setInterval(() => server.closeIdleConnections(), 50);
  };
  process.on('SIGTERM', stop);
  process.on('SIGINT', stop);
}

function fail(error: unknown): void {
  console.error(error instanceof SettingsError ? error.message : error);
  process.exit(1);
}

main().catch(fail);
