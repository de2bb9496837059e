import { join } from 'node:path';
import { pino } from 'pino';
import { ConfigError, loadSimulatorConfig } from '../config.ts';
import { startSimulator } from './app.ts';

/** The simulator as a process: starts, logs its address, and stops cleanly on SIGTERM and SIGINT. */
async function main(): Promise<void> {
  const config = loadSimulatorConfig();
  const { host, port, url, secrets } = config.simulator;
  if (Object.keys(secrets).length === 0) {
    throw new ConfigError('NODROP_SIMULATOR_SECRET is missing: without it the simulator has no account.');
  }
  const logger = pino({ name: 'simulator', level: config.logLevel });
  const folder = join(config.home, 'simulator');
  const simulator = await startSimulator({ secrets, folder, host, port, logger, publicUrl: url }).catch(
    (error: NodeJS.ErrnoException) => {
      if (error.code !== 'EADDRINUSE') throw error;
      throw new ConfigError(`Port ${port} on ${host} is taken: set NODROP_SIMULATOR_PORT to a free one.`);
    },
  );
  logger.info(`simulator listening on ${simulator.url}`);

  let stopping = false;
  const stop = (signal: NodeJS.Signals) => {
    if (stopping) return;
    stopping = true;
    logger.info(`${signal}: stopping`);
    simulator.close().then(
      () => process.exit(0),
      (error: unknown) => fail(error),
    );
  };
  process.on('SIGTERM', stop);
  process.on('SIGINT', stop);
}

function fail(error: unknown): void {
  process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`);
  process.exit(1);
}

main().catch(fail);
