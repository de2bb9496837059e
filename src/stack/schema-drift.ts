import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { SchemasContainer } from '@prisma/schema-engine-wasm/schema_engine_bg';
import { prismaDir, readMigrations } from './migrate.ts';
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

/**
 * Writes the migration from the present migrations to `schema.prisma`.
 * @returns the path of the new file, or undefined when there is nothing to migrate.
 */
export async function createMigration(
  databaseUrl: string,
  name: string,
  dir = prismaDir,
): Promise<string | undefined> {
  const sql = await schemaDrift(databaseUrl, dir);
  if (sql === '') return undefined;
  // The engine's own createMigration cannot make a scratch database as WebAssembly; the difference is the same SQL.
  const timestamp = new Date().toISOString().replace(/\D/g, '').slice(0, 14);
  const folder = join(dir, 'migrations', `${timestamp}_${name}`);
  mkdirSync(folder);
  const file = join(folder, 'migration.sql');
  writeFileSync(file, sql);
  return file;
}

function readSchema(dir: string): SchemasContainer {
  const path = join(dir, 'schema.prisma');
  return { files: [{ path, content: readFileSync(path, 'utf8') }] };
}
