import { setTimeout as sleep } from 'node:timers/promises';
import { Client, type Connection } from '@temporalio/client';
import { DefaultLogger, NativeConnection, Runtime } from '@temporalio/worker';
import { configuredAccounts } from '../channels/configured.ts';
import { createChannels, querySchedules } from '../channels/registry.ts';
import { type Config, ConfigError, loadConfig } from '../config.ts';
import { storeConfigured } from '../ledger/channel-accounts.ts';
import { createLedgerClient } from '../ledger/client.ts';
import { CredentialsCache } from '../ledger/credentials-cache.ts';
import { warnOfLostCommits } from '../ledger/durability.ts';
import { notificationsSent } from '../ledger/notify.ts';
import { SecretCheck } from '../ledger/secret-check.ts';
import { createLogger, type Logger } from '../log.ts';
import { OrderServiceClient } from '../order-service/client.ts';
import { DeliveryWorkflows } from '../temporal/delivery-workflows.ts';
import { PaymentWorkflows } from '../temporal/payment-workflows.ts';
import { RefundWorkflows } from '../temporal/refund-workflows.ts';
import { lazyConnection } from '../temporal-connection.ts';
import { workflowBundle } from './bundle.ts';
import { checkSetUp } from './set-up.ts';
import { createWorkers } from './workers.ts';

/**
 * The program of `npm run worker`. It runs workflows and activities until it gets SIGTERM. When it starts, it waits for
 * Temporal without a time limit.
 */
async function main(config: Config, log: Logger): Promise<void> {
  installRuntime(log);
  let stopping = false;
  const starting = new AbortController();
  let stopWorkers = () => {};
  const stop = (signal: NodeJS.Signals) => {
    if (stopping) return;
    stopping = true;
    starting.abort();
    log.info({ signal }, 'stopping: attempts under way may finish');
    stopWorkers();
  };
  process.on('SIGTERM', stop);
  process.on('SIGINT', stop);

  const db = createLedgerClient(config.databaseUrl, 'nodrop-worker');
  const storeAccounts = () => storeConfigured(db, configuredAccounts(config), config.secret, new Date());
  await new SecretCheck(db, config, storeAccounts).passInTime(starting.signal, (error) =>
    log.warn(
      `NODROP_SECRET cannot be compared with the database yet (${(error as Error).message}); trying again`,
    ),
  );
  const [bundle, connection] = await Promise.all([workflowBundle(), connect(config, log, () => stopping)]);
  if (connection === undefined) return;
  const clientConnection = lazyConnection(config.temporal.address);
  const client = new Client({
    connection: clientConnection,
    namespace: config.temporal.namespace,
  });
  const channels = createChannels(config, new CredentialsCache(db, config.secret));
  const workers = await createWorkers({
    connection,
    namespace: config.temporal.namespace,
    client,
    workflows: new PaymentWorkflows(client, querySchedules(config)),
    refundWorkflows: new RefundWorkflows(client),
    deliveryWorkflows: new DeliveryWorkflows(client),
    orderServices: new OrderServiceClient(config.orderServices),
    workflowBundle: bundle,
    db,
    channels,
    publicUrl: config.api.publicUrl,
    secret: config.secret,
    orderUnknownForMs: config.orderUnknownForMs,
    now: async () => new Date(),
  });
  stopWorkers = () => {
    for (const worker of workers) if (worker.getState() === 'RUNNING') worker.shutdown();
  };
  const keeper = new AbortController();
  void warnOfLostCommits(config, db, log, keeper.signal);
  void keepSetUp(client, clientConnection, log, keeper.signal);
  // Workers that never ran do not release their connection, so the process must exit here. This is safe, because no
  // work has begun.
  if (stopping) process.exit(0);
  log.info({ channels: [...channels.keys()] }, 'worker ready');
  await Promise.all(workers.map((worker) => worker.run()));
  keeper.abort();
  await notificationsSent(db);
  await Promise.all([connection.close(), clientConnection.close(), db.$disconnect()]);
  log.info('stopped');
}

function installRuntime(log: Logger): void {
  Runtime.install({
    // This process handles signals itself, because the SDK's runtime would stop the workers too early.
    shutdownSignals: [],
    logger: new DefaultLogger('INFO', ({ level, message, meta }) => {
      // The SDK's warning about missing workflows is expected, because the channels' workers run only activities.
      if (message.startsWith('No workflows registered')) return;
      const severity = level === 'WARN' ? 'warn' : level === 'ERROR' ? 'error' : 'debug';
      log[severity](meta ?? {}, message);
    }),
  });
}

/**
 * Connects to the Temporal server, and waits until it is reachable. Returns undefined if the process is stopped before
 * that.
 */
async function connect(
  config: Config,
  log: Logger,
  stopping: () => boolean,
): Promise<NativeConnection | undefined> {
  while (!stopping()) {
    try {
      return await NativeConnection.connect({ address: config.temporal.address });
    } catch (error) {
      log.warn(
        `Temporal at ${config.temporal.address} cannot be reached yet (${(error as Error).message}); trying again`,
      );
      await sleep(2_000);
    }
  }
  return undefined;
}

/**
 * Checks the search attributes and the Schedule now and every minute, and creates those that are missing, for example
 * in a new Temporal database. Each check also logs a warning if the sweep does not run.
 */
async function keepSetUp(
  client: Client,
  connection: Connection,
  log: Logger,
  signal: AbortSignal,
): Promise<void> {
  while (!signal.aborted) {
    try {
      await checkSetUp(client, connection, log, new Date());
    } catch (error) {
      log.warn(
        { err: error },
        'search attributes and Schedules could not be checked; trying again in a minute',
      );
    }
    await sleep(60_000, undefined, { signal }).catch(() => undefined);
  }
}

try {
  const config = loadConfig();
  const log = createLogger('worker', config.logLevel);
  await main(config, log);
  // The process must exit here. A call to an unreachable server that waits for its next retry would keep the process
  // alive for another 20 s.
  process.exit(0);
} catch (error) {
  process.stderr.write(`${error instanceof ConfigError ? error.message : (error as Error).stack}\n`);
  // The process must exit here, and setting only the exit code is not enough. The native part of the SDK would keep an
  // idle process alive, and a supervisor would not restart it.
  process.exit(1);
}
