// node dist/stack/migrate-main.js: waits for the database at DATABASE_URL and applies the migrations. Run it once per
// deployment, before API and workers start.
import { setTimeout as sleep } from 'node:timers/promises';
import { ConfigError, embeddedHome, loadConfig } from '../config.ts';
import { createLedgerClient } from '../ledger/client.ts';
import { Connection } from '../ledger/connection.ts';
import { isDatabaseUnavailable } from '../ledger/database-errors.ts';
import { requireSecret } from '../ledger/secret-fingerprint.ts';
import { exitWith, reason } from './errors.ts';
import { applyMigrations } from './migrate.ts';

/**
 * How long the command waits for the database. This is enough for a PostgreSQL that is starting or recovering from a
 * crash.
 */
const PATIENCE_MS = 60_000;
const ASK_EVERY_MS = 1_000;
const SAY_EVERY_MS = 10_000;

/**
 * Waits until the database answers, at most for PATIENCE_MS. Returns immediately after an error that waiting cannot
 * fix.
 */
async function waitForDatabase(connectionString: string): Promise<void> {
  const started = Date.now();
  let said = Number.NEGATIVE_INFINITY;
  for (;;) {
    const client = new Connection({ connectionString, connectionTimeoutMillis: 5_000 });
    try {
      await client.connect();
      return;
    } catch (error) {
      const now = Date.now();
      // The command waits only while the database is unavailable. `applyMigrations` reports all other errors, such as a
      // wrong password or a missing database.
      if (!isDatabaseUnavailable(error) || now - started >= PATIENCE_MS) return;
      if (now - said >= SAY_EVERY_MS) {
        said = now;
        const seconds = Math.round((now - started) / 1000);
        console.error(`Waiting for the database (${seconds} s of ${PATIENCE_MS / 1000}): ${reason(error)}`);
      }
      await sleep(ASK_EVERY_MS);
    } finally {
      await client.end().catch(() => {});
    }
  }
}

try {
  if (embeddedHome() !== undefined) {
    throw new ConfigError(
      'DATABASE_URL is missing: the embedded database gets its migrations by npm run stack.',
    );
  }
  const config = loadConfig();
  const { databaseUrl } = config;
  await waitForDatabase(databaseUrl);
  const applied = await applyMigrations(databaseUrl);
  console.log(
    applied.length === 0 ? 'The database is up to date.' : `Migrations applied: ${applied.join(', ')}.`,
  );
  // The secret is checked here, so that a deployment with a wrong secret stops before it replaces the running
  // processes.
  const db = createLedgerClient(databaseUrl);
  await requireSecret(db, config).finally(() => db.$disconnect());
} catch (error) {
  exitWith(error);
}
