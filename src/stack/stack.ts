import type { Config } from '../config.ts';
import { applyMigrations } from './migrate.ts';
import { startPostgres } from './postgres.ts';
import type { Supervisor } from './supervisor.ts';
import { startTemporal } from './temporal.ts';
import { findTemporalCli } from './tools.ts';

/**
 * Starts what of PostgreSQL and Temporal is embedded, and brings the database up to the migrations, also when it is
 * one of your own. Resolves when both answer.
 * @throws StackError when something is missing or in the way; the caller then stops the supervisor.
 */
export async function startStack(supervisor: Supervisor, config: Config): Promise<void> {
  const { home, stack } = config;
  const cli = config.embeddedTemporal ? await findTemporalCli(stack) : undefined;
  const database = async () => {
    if (config.embeddedDatabase) await startPostgres(supervisor, home, stack.postgresPort);
    await applyMigrations(config.databaseUrl);
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
