import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { SchemasContainer } from '@prisma/schema-engine-wasm/schema_engine_bg';
import { prismaDir, readMigrations } from './migrate.ts';
import { brokenRules, splitByRules } from './migration-rules.ts';
import { NO_FILTER, withSchemaEngine } from './schema-engine.ts';

/**
 * Compares the result of the migrations with `schema.prisma`. Prisma does not know checks, triggers and functions, so
 * they are not compared.
 * @param databaseUrl a server on which a temporary database may be created.
 * @returns the SQL that would bring the migrations to the schema; empty when they agree.
 */
export async function schemaDrift(databaseUrl: string, dir = prismaDir): Promise<string> {
  const { stdout } = await withSchemaEngine(databaseUrl, (engine) =>
    engine.diff({
      from: { tag: 'migrations', ...readMigrations(dir) },
      to: { tag: 'schemaDatamodel', ...readSchema(dir) },
      script: true,
      exitCode: null,
      filters: NO_FILTER,
    }),
  );
  const sql = stdout ?? '';
  return /^\s*(-- This is an empty migration\.\s*)?$/.test(sql) ? '' : sql;
}

/** The result of `createMigration`. */
export interface CreatedMigrations {
  /** The paths of the new migration files, in the order in which they are applied. */
  readonly files: readonly string[];
  /** Remaining violations of migration-rules.ts in these files, which a developer must fix. */
  readonly broken: readonly string[];
}

/**
 * Writes the migrations that bring the database from the present migrations to `schema.prisma`. Splits Prisma's SQL so
 * that it keeps the migration rules where possible: an index of an existing table, and the validation of a foreign key,
 * get migrations of their own.
 * @returns no files when there is nothing to migrate.
 */
export async function createMigration(
  databaseUrl: string,
  name: string,
  dir = prismaDir,
): Promise<CreatedMigrations> {
  const sql = await schemaDrift(databaseUrl, dir);
  // The engine's own createMigration cannot create a scratch database as WebAssembly. The diff yields the same SQL.
  const migrations = sql === '' ? [] : splitByRules(sql);
  const now = Date.now();
  const files = migrations.map((migration, index) => {
    // Migrations are applied in the order of their names, so each gets a later timestamp.
    const timestamp = new Date(now + index * 1000).toISOString().replace(/\D/g, '').slice(0, 14);
    const folder = join(dir, 'migrations', `${timestamp}_${name}${migration.suffix}`);
    mkdirSync(folder);
    const file = join(folder, 'migration.sql');
    writeFileSync(file, migration.sql);
    return file;
  });
  return { files, broken: migrations.flatMap((migration) => brokenRules(migration.sql)) };
}

function readSchema(dir: string): SchemasContainer {
  const path = join(dir, 'schema.prisma');
  return { files: [{ path, content: readFileSync(path, 'utf8') }] };
}
