import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { SchemasContainer } from '@prisma/schema-engine-wasm/schema_engine_bg';
import { prismaDir, readMigrations } from './migrate.ts';
import { brokenRules, splitByRules } from './migration-rules.ts';
import { NO_FILTER, withSchemaEngine } from './schema-engine.ts';

/**
 * What would have to be migrated for the migrations to make what `schema.prisma` says, as SQL; empty when they agree.
 * Checks, triggers and functions are beyond Prisma and not compared.
 * @param databaseUrl of a server on which a temporary database may be made.
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

/** What `createMigration` wrote. */
export interface CreatedMigrations {
  /** The paths of the new files, in the order in which they are applied. */
  readonly files: readonly string[];
  /** Where they break the rules of migration-rules.ts all the same: for a person to mend. */
  readonly broken: readonly string[];
}

/**
 * Writes the migrations from the present ones to `schema.prisma`, so that they keep the rules where Prisma's SQL can be
 * made to: an index of an existing table, and the check of the rows for a foreign key, have migrations of their own.
 * @returns no files when there is nothing to migrate.
 */
export async function createMigration(
  databaseUrl: string,
  name: string,
  dir = prismaDir,
): Promise<CreatedMigrations> {
  const sql = await schemaDrift(databaseUrl, dir);
  // The engine's own createMigration cannot make a scratch database as WebAssembly; the difference is the same SQL.
  const migrations = sql === '' ? [] : splitByRules(sql);
  const now = Date.now();
  const files = migrations.map((migration, index) => {
    // Applied in the order of their names.
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
