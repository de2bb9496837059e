import { ConfigError, loadConfig } from '../config.ts';
import { createLogger } from '../log.ts';
import { STOP_WITHIN_MS } from './deadlines.ts';
import { startApi } from './start.ts';

/** The API process: starts, logs where it listens, and stops cleanly on SIGTERM and SIGINT. */

async function main(): Promise<void> {
  const config = loadConfig();
  const log = createLogger('api', config.logLevel);
  const api = await startApi(config, log, fail);
  log.info({ url: api.url, docs: `${api.url}/docs`, admin: api.adminUrl }, 'API listening');

  let stopping = false;
  const stop = (signal: NodeJS.Signals) => {
    if (stopping) return;
    stopping = true;
    log.info(`${signal}: stopping`);
    setTimeout(() => process.exit(0), STOP_WITHIN_MS).unref();
    api.close().then(() => process.exit(0), fail);
  };
  process.on('SIGTERM', stop);
  process.on('SIGINT', stop);
}

function fail(error: unknown): void {
  console.error(error instanceof ConfigError ? error.message : error);
  process.exit(1);
}

main().catch(fail);
