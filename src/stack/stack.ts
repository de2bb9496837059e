import { configuredAccounts } from '../channels/configured.ts';
import type { Config } from '../config.ts';
import { DEVELOPMENT_MERCHANT } from '../domain/names.ts';
import { storeConfigured } from '../ledger/channel-accounts.ts';
import { createLedgerClient } from '../ledger/client.ts';
import { ensureMerchant } from '../ledger/merchants.ts';
import { requireSecret, WrongSecret } from '../ledger/secret-fingerprint.ts';
import { applyMigrations } from './migrate.ts';
import { startPostgres } from './postgres-server.ts';
import type { Supervisor } from './supervisor.ts';
import { startTemporal } from './temporal-server.ts';
import { findTemporalCli } from './tools.ts';

/**
 * Starts what of PostgreSQL and Temporal is embedded, and brings the database up to the migrations, also when it is
 * one of your own. Resolves when both answer.
 * @param onWrongSecret called when the database has another NODROP_SECRET; it throws unless the servers are to stay up.
 * @throws StackError when something is missing or in the way, WrongSecret by default; the caller then stops the
 * supervisor.
 */
export async function startStack(
  supervisor: Supervisor,
  config: Config,
  onWrongSecret: (error: WrongSecret) => void = refuse,
): Promise<void> {
  const { home, stack } = config;
  const cli = config.embeddedTemporal ? await findTemporalCli(stack) : undefined;
  const database = async () => {
    if (config.embeddedDatabase) await startPostgres(supervisor, home, stack.postgresPort);
    await applyMigrations(config.databaseUrl);
    await setUp(config, onWrongSecret);
  };
  const temporal = async () => {
    if (cli === undefined) return;
    await startTemporal(supervisor, home, { port: stack.temporalPort, uiPort: stack.temporalUiPort }, cli);
  };
  // Settled, so that nothing is still starting when the caller handles a failure.
  for (const result of await Promise.allSettled([database(), temporal()])) {
    if (result.status === 'rejected') throw result.reason;
  }
}

function refuse(error: WrongSecret): never {
  throw error;
}

/**
 * Compares NODROP_SECRET with the database's. The embedded database gets the merchant that the development key speaks
 * for, and the simulator's accounts get their credentials, unless the secrets differ: nothing is written then.
 */
async function setUp(config: Config, onWrongSecret: (error: WrongSecret) => void): Promise<void> {
  const db = createLedgerClient(config.databaseUrl);
  try {
    await requireSecret(db, config);
    const configured = configuredAccounts(config);
    if (config.embeddedDatabase)
      await ensureMerchant(
        db,
        DEVELOPMENT_MERCHANT,
        configured.map(({ channel }) => channel),
      );
    await storeConfigured(db, configured, config.secret, new Date());
  } catch (error) {
    if (!(error instanceof WrongSecret)) throw error;
    onWrongSecret(error);
  } finally {
    await db.$disconnect();
  }
}
