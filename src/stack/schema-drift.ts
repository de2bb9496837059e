import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { SchemasContainer } from '@prisma/schema-engine-wasm/schema_engine_bg';
import { prismaDir, readMigrations } from './migrate.ts';
import { brokenRules, splitByRules } from './migration-rules.ts';
import { NO_FILTER, withSchemaEngine } from './schema-engine.ts';

/**
 * Compares the result of all migrations with `schema.prisma`. Checks, triggers and functions are not compared, because
 * Prisma does not know them.
 * @param databaseUrl a server on which a temporary database may be created.
 * @returns the SQL that must be added to the migrations so that their result equals the schema, or an empty text.
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
  /** Violations of migration-rules.ts that these files still contain. A developer must fix them. */
  readonly broken: readonly string[];
}

/**
 * Compares the present migrations with `schema.prisma`, and writes the missing migrations. Splits Prisma's SQL, so that
 * the new migrations obey the migration rules where possible. Each index of an existing table gets a separate
 * migration, and so does the validation of foreign keys.
 * @returns no files when there is nothing to migrate.
 */
export async function createMigration(
  databaseUrl: string,
  name: string,
  dir = prismaDir,
): Promise<CreatedMigrations> {
  const sql = await schemaDrift(databaseUrl, dir);
  // This code uses the diff instead of the engine's createMigration, which returns the same SQL. In the WebAssembly
  // engine, createMigration cannot create a scratch database.
  const migrations = sql === '' ? [] : splitByRules(sql);
  const now = Date.now();
  const files = migrations.map((migration, index) => {
    // Each migration gets a later timestamp than the one before it, because migrations are applied in the order of
    // their names.
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
