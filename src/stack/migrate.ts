import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { MigrationList } from '@prisma/schema-engine-wasm/schema_engine_bg';
import { Connection } from '../ledger/connection.ts';
import { reason, StackError } from './errors.ts';
import { NO_FILTER, withSchemaEngine } from './schema-engine.ts';

/** `prisma/` of this work tree. */
export const prismaDir = fileURLToPath(new URL('../../prisma', import.meta.url));

/** Any number that no other advisory lock of ours uses. */
const MIGRATION_LOCK = 0x6e6f6472;

/**
 * Brings the database up to the migrations in `prisma/migrations`, by Prisma's own engine: its `_prisma_migrations`
 * table is what `prisma migrate deploy` expects. Several processes may do it at once; all return when it is done.
 * @returns the names of the migrations applied by this call.
 * @throws StackError when the database does not answer or a migration fails.
 */
export async function applyMigrations(databaseUrl: string, dir = prismaDir): Promise<readonly string[]> {
  const lock = new Connection({ connectionString: databaseUrl, connectionTimeoutMillis: 10_000 });
  try {
    await lock.connect();
  } catch (error) {
    throw new StackError(
      `The database does not answer (${reason(error)}): start it (npm run stack), or check DATABASE_URL.`,
    );
  }
  try {
    await lock.query('select pg_advisory_lock($1)', [MIGRATION_LOCK]);
    return await withSchemaEngine(databaseUrl, async (engine) => {
      for (const migrationName of await interruptedMigrations(lock)) {
        await engine.markMigrationRolledBack({ migrationName });
      }
      const done = await engine.applyMigrations({ migrationsList: readMigrations(dir), filters: NO_FILTER });
      return done.appliedMigrationNames;
    });
  } catch (error) {
    throw new StackError(`The database's migrations cannot be applied: ${engineReason(error)}`, {
      cause: error,
    });
  } finally {
    await lock.end();
  }
}

/**
 * Migrations whose process was killed in the middle. A script is one transaction, so nothing of it is there and it can
 * run again; under our lock nobody is still running it. (One that failed has a log, and waits for a hand.)
 */
async function interruptedMigrations(client: Connection): Promise<readonly string[]> {
  const { rows: tables } = await client.query("select to_regclass('_prisma_migrations') as name");
  if (tables[0]?.name === null) return [];
  const { rows } = await client.query<{ migration_name: string }>(
    'select migration_name from _prisma_migrations where finished_at is null and rolled_back_at is null and logs is null',
  );
  return rows.map((row) => row.migration_name);
}

/** The engine's message in one line, without its trace. */
function engineReason(error: unknown): string {
  const message = error instanceof Error ? error.message : String(error);
  return (
    message
      .split(/\n\s+0: /, 1)[0]
      ?.trim()
      .split(/\s*\n\s*/)
      .join(': ') ?? ''
  );
}

/** The migrations as the engine wants them, oldest first. */
export function readMigrations(dir = prismaDir): MigrationList {
  const baseDir = join(dir, 'migrations');
  const names = readdirSync(baseDir, { withFileTypes: true })
    .filter((entry) => entry.isDirectory())
    .map(({ name }) => name)
    .sort();
  return {
    baseDir,
    lockfile: {
      path: 'migration_lock.toml',
      content: readFileSync(join(baseDir, 'migration_lock.toml'), 'utf8'),
    },
    migrationDirectories: names.map((name) => ({
      path: name,
      migrationFile: {
        path: 'migration.sql',
        content: { tag: 'ok', value: readFileSync(join(baseDir, name, 'migration.sql'), 'utf8') },
      },
    })),
    shadowDbInitScript: '',
  };
}
