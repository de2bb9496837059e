import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Client, Connection } from '@temporalio/client';
import { configuredAccounts } from '../src/channels/configured.ts';
import type { Config } from '../src/config.ts';
import { storeConfigured } from '../src/ledger/channel-accounts.ts';
import { createLedgerClient, type LedgerClient } from '../src/ledger/client.ts';
import { createApiKey, ensureMerchant } from '../src/ledger/merchants.ts';
import { loadStackConfig } from '../src/stack/embedded-secrets.ts';
import { applyMigrations } from '../src/stack/migrate.ts';
import { freePort } from '../src/stack/ports.ts';
import { startPostgres } from '../src/stack/postgres-server.ts';
import { startStack } from '../src/stack/stack.ts';
import { startPrograms } from '../src/stack/start-programs.ts';
import { Supervisor } from '../src/stack/supervisor.ts';
import { atEnd } from './ending.ts';
import { APPLICATION_NAME } from './statement-log.ts';

const PORTS = [
  'PORT',
  'NODROP_ADMIN_PORT',
  'NODROP_SIMULATOR_PORT',
  'NODROP_POSTGRES_PORT',
  'NODROP_TEMPORAL_PORT',
  'NODROP_TEMPORAL_UI_PORT',
];
/**
 * How long a process may take to start. The usual limit of one minute is too short here, because processes start slowly
 * on a loaded machine.
 */
const START_PATIENCE_MS = 300_000;

/** A service whose parts are separate processes on free ports, with a data folder that is removed at the end. */
export interface Service {
  readonly config: Config;
  readonly supervisor: Supervisor;
  /** The bench's own database pool. Its application name differs from the names of nodrop's pools. */
  readonly db: LedgerClient;
  readonly temporal: Client;
}

export interface BenchMerchant {
  readonly id: string;
  readonly name: string;
  readonly key: string;
}

async function claim(env: Readonly<Record<string, string>>) {
  const home = mkdtempSync(join(tmpdir(), 'nodrop-bench-'));
  const ports: Record<string, string> = {};
  for (const name of PORTS) ports[name] = String(await freePort());
  // Child processes of the supervisor inherit this environment.
  for (const name of Object.keys(process.env)) {
    const isKept = name === 'NODROP_TEMPORAL_CLI';
    if (!isKept && /^(NODROP_|TEMPORAL_|DATABASE_URL$|PORT$)/.test(name)) delete process.env[name];
  }
  Object.assign(process.env, { NODROP_HOME: home, NODROP_LOG_LEVEL: 'warn', ...ports, ...env });
  const config = loadStackConfig();
  const supervisor = await Supervisor.claim(home, console.error, START_PATIENCE_MS);
  atEnd(async () => {
    await supervisor.stop();
    rmSync(home, { recursive: true, force: true });
  });
  return { config, supervisor };
}

function ledgerOf(config: Config): LedgerClient {
  const db = createLedgerClient(config.databaseUrl, APPLICATION_NAME);
  atEnd(() => db.$disconnect());
  return db;
}

/**
 * Starts PostgreSQL, Temporal, simulator, API and worker.
 * @param env settings of all processes; the user's settings are ignored, so that every run is the same
 */
export async function startService(env: Readonly<Record<string, string>> = {}): Promise<Service> {
  console.log('Starting PostgreSQL, Temporal, the simulator, the API and a worker ...');
  const { config, supervisor } = await claim(env);
  await startStack(supervisor, config);
  await startPrograms(supervisor, config, 'log');
  const connection = Connection.lazy({ address: config.temporal.address });
  atEnd(() => connection.close());
  const temporal = new Client({ connection, namespace: config.temporal.namespace });
  return { config, supervisor, db: ledgerOf(config), temporal };
}

/** Starts only PostgreSQL, with all migrations. */
export async function startDatabase(): Promise<Omit<Service, 'temporal'>> {
  console.log('Starting PostgreSQL ...');
  const { config, supervisor } = await claim({});
  await startPostgres(supervisor, config.home, config.stack.postgresPort);
  await applyMigrations(config.databaseUrl);
  return { config, supervisor, db: ledgerOf(config) };
}

/** Creates a merchant that has an account at every channel and an API key. */
export async function makeMerchant(
  { config, db }: Pick<Service, 'config' | 'db'>,
  name: string,
): Promise<BenchMerchant> {
  const configured = configuredAccounts(config);
  const { merchant } = await ensureMerchant(
    db,
    name,
    configured.map(({ channel }) => channel),
  );
  await storeConfigured(db, configured, config.secret, new Date());
  return { id: merchant.id, name, key: (await createApiKey(db, merchant.id, 'merchant')).key };
}
