import { configuredAccounts } from '../channels/configured.ts';
import { createChannels, querySchedules } from '../channels/registry.ts';
import { type Config, inUrl } from '../config.ts';
import { countDeliveries } from '../ledger/backlog.ts';
import { storeConfigured } from '../ledger/channel-accounts.ts';
import { createLedgerClient } from '../ledger/client.ts';
import { CredentialsCache } from '../ledger/credentials-cache.ts';
import { warnOfLostCommits } from '../ledger/durability.ts';
import { notificationsSent } from '../ledger/notify.ts';
import { SecretCheck } from '../ledger/secret-check.ts';
import { WrongSecret } from '../ledger/secret-fingerprint.ts';
import type { Logger } from '../log.ts';
import { DeliveryWorkflows } from '../temporal/delivery-workflows.ts';
import { PaymentWorkflows } from '../temporal/payment-workflows.ts';
import { RefundWorkflows } from '../temporal/refund-workflows.ts';
import { readSweepStatus } from '../temporal/sweep-status.ts';
import { createAdminApp } from './admin/app.ts';
import { createDetails } from './admin/details.ts';
import { createApp } from './app.ts';
import { Changes } from './changes.ts';
import { connectTemporal } from './connect-temporal.ts';
import { COUNT_WITHIN_MS, REQUEST_GIVEN_UP_MS } from './deadlines.ts';
import { type Listener, listen, stopListening } from './http/listen.ts';
import { createMetrics } from './metrics.ts';
import { Readiness } from './readiness.ts';
import { UnverifiedCallbacks } from './unverified-callbacks.ts';

export interface RunningApi {
  readonly url: string;
  readonly adminUrl: string;
  /**
   * Stops accepting requests, finishes the open requests, and closes every connection. Waiting requests are answered
   * immediately.
   */
  close(): Promise<void>;
}

/**
 * Starts the whole API. The API also starts if the database or Temporal cannot be reached, and answers 503 until they
 * can be reached.
 * @param onWrongSecret called if the database did not answer at the start, and nodrop later finds that the database was
 * written with a different NODROP_SECRET
 * @throws ConfigError if a port is in use, or if the database was written with a different NODROP_SECRET
 */
export async function startApi(
  config: Config,
  log: Logger,
  onWrongSecret: (error: unknown) => void,
): Promise<RunningApi> {
  const { publicUrl } = config.api;
  const metrics = createMetrics();
  const db = createLedgerClient(config.databaseUrl, 'nodrop-api');
  const configured = configuredAccounts(config);
  const secret = new SecretCheck(db, config, () =>
    storeConfigured(db, configured, config.secret, new Date()),
  );
  try {
    await secret.pass();
  } catch (error) {
    if (error instanceof WrongSecret) {
      await db.$disconnect();
      throw error;
    }
    log.warn({ err: error }, 'NODROP_SECRET cannot be compared with the database yet; retrying');
  }
  metrics.watchDeliveries(() => countDeliveries(db, new Date()));
  const temporal = connectTemporal(config);
  const readSweep = () => readSweepStatus(temporal.client, COUNT_WITHIN_MS, new Date());
  metrics.watchSweep(readSweep);
  const changes = new Changes(config.databaseUrl, log);
  const channels = createChannels(config, new CredentialsCache(db, config.secret));
  const { isTemporalReachable, countLost } = temporal;
  metrics.watchLostRows(countLost);
  const now = () => new Date();
  const readiness = new Readiness({ db, isTemporalReachable }, now);
  const unverified = new UnverifiedCallbacks(db, log);
  const app = createApp({
    config,
    db,
    workflows: new PaymentWorkflows(temporal.client, querySchedules(config)),
    refundWorkflows: new RefundWorkflows(temporal.client),
    deliveryWorkflows: new DeliveryWorkflows(temporal.client),
    isTemporalReachable,
    channels,
    configured,
    changes,
    log,
    metrics,
    requireSecret: () => secret.pass(),
    now,
    readiness,
    unverified,
  });

  const api = await listen(app, config.api.host, config.api.port, 'PORT', publicUrl);
  let admin: Listener;
  try {
    const readDetails = createDetails({
      config,
      db,
      readiness,
      countLost,
      channels,
      readSweepStatus: readSweep,
      now,
    });
    const adminApp = createAdminApp(metrics, readDetails, publicUrl, config.admin.host);
    admin = await listen(adminApp, config.admin.host, config.admin.port, 'NODROP_ADMIN_PORT', publicUrl);
  } catch (error) {
    await stopListening(api.server, 0);
    throw error;
  }
  changes.start();
  const stopping = new AbortController();
  secret.passInTime(stopping.signal).catch(onWrongSecret);
  void warnOfLostCommits(config, db, log, stopping.signal);
  return {
    url: `http://${inUrl(config.api.host)}:${api.port}`,
    adminUrl: `http://${inUrl(config.admin.host)}:${admin.port}`,
    async close() {
      stopping.abort();
      const stopped = Promise.all([
        stopListening(api.server, REQUEST_GIVEN_UP_MS),
        stopListening(admin.server, REQUEST_GIVEN_UP_MS),
      ]);
      await Promise.all([changes.close(), stopped]);
      await Promise.all([unverified.flush(), notificationsSent(db)]);
      await Promise.all([db.$disconnect(), temporal.close()]);
    },
  };
}
