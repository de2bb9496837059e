import { cpSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach } from 'vitest';
import { Connection } from '../../src/ledger/connection.ts';
import { prismaDir } from '../../src/stack/migrate.ts';
import { emptyDatabase, type FreshDatabase, queryOnce, temporaryHome } from '../support/stack.ts';

/** Support for tests of migrations. Each test gets an empty database and its own folder of migrations. */

export let database: FreshDatabase;
/** A copy of `prisma/` that a test may change. */
export let dir: string;
const connections: Connection[] = [];

beforeEach(async () => {
  database = await emptyDatabase();
  dir = temporaryHome();
  cpSync(prismaDir, dir, { recursive: true });
});

afterEach(async () => {
  for (const connection of connections.splice(0)) await connection.end();
  await database.drop();
  rmSync(dir, { recursive: true, force: true });
});

export async function connect(): Promise<Connection> {
  const connection = new Connection({ connectionString: database.url });
  await connection.connect();
  connections.push(connection);
  return connection;
}

export function addMigration(name: string, sql: string): void {
  mkdirSync(join(dir, 'migrations', name));
  writeFileSync(join(dir, 'migrations', name, 'migration.sql'), sql);
}

export const waitingForLocks = async () =>
  (
    await queryOnce(
      database.url,
      "select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'",
    )
  ).length;

/** Short timeouts, for tests in which a migration cannot get its locks. */
export const BRIEF = { lockTimeoutMs: 200, concurrentLockTimeoutMs: 200, attempts: 3, pauseStepMs: 10 };

export const recordsOf = async (name: string) =>
  (
    await queryOnce(
      database.url,
      `select finished_at, rolled_back_at from _prisma_migrations where migration_name = '${name}' order by started_at`,
    )
  ).map((row) =>
    row.rolled_back_at !== null ? 'rolled back' : row.finished_at !== null ? 'applied' : 'unfinished',
  );
