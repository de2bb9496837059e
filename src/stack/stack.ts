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
 * Starts the embedded servers: PostgreSQL, Temporal or both. Applies the migrations, also to an external database.
 * Resolves when both servers answer.
 * @param onWrongSecret called when the database was written with another NODROP_SECRET. By default it throws
 * WrongSecret. If it returns, the servers stay up.
 * @throws StackError when a server cannot start, or WrongSecret. The caller must then stop the supervisor.
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
  // Waits for both servers, even if one of them fails. So no server is still starting when the caller handles the
  // failure.
  for (const result of await Promise.allSettled([database(), temporal()])) {
    if (result.status === 'rejected') throw result.reason;
  }
}

function refuse(error: WrongSecret): never {
  throw error;
}

/**
 * Compares NODROP_SECRET with the database's secret. If they agree, creates the merchant of the development key on the
 * embedded database, and stores the credentials of the simulator's accounts. If they differ, writes nothing.
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
