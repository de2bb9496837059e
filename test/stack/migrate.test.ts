// Migrations apply once, however often and by however many processes; the schema and the migrations agree.
import { execFile } from 'node:child_process';
import { cpSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { applyMigrations, prismaDir, readMigrations } from '../../src/stack/migrate.ts';
import { createMigration, schemaDrift } from '../../src/stack/schema-drift.ts';
import { tsxLoader } from '../../src/stack/tsx.ts';
import { emptyDatabase, type FreshDatabase, queryOnce, temporaryHome } from '../support/stack.ts';

const all = readMigrations().migrationDirectories.map(({ path }) => path);
let database: FreshDatabase;
/** A copy of `prisma/` to change. */
let dir: string;

beforeEach(async () => {
  database = await emptyDatabase();
  dir = temporaryHome();
  cpSync(prismaDir, dir, { recursive: true });
});

afterEach(async () => {
  await database.drop();
  rmSync(dir, { recursive: true, force: true });
});

function addMigration(name: string, sql: string): void {
  mkdirSync(join(dir, 'migrations', name));
  writeFileSync(join(dir, 'migrations', name, 'migration.sql'), sql);
}

test('the second time there is nothing to apply', async () => {
  expect(await applyMigrations(database.url)).toEqual(all);
  expect(await applyMigrations(database.url)).toEqual([]);
});

test('a process that applied them has nothing left that keeps it running', async () => {
  const module = fileURLToPath(new URL('../../src/stack/migrate.ts', import.meta.url));
  const script = `
    const { applyMigrations } = await import(${JSON.stringify(module)});
    const applied = await applyMigrations(${JSON.stringify(database.url)});
    const left = process.getActiveResourcesInfo().filter((name) => name === 'Timeout' || name === 'TCPSocketWrap');
    console.log(JSON.stringify({ applied, left }));`;
  const args = ['--import', tsxLoader(), '--input-type=module', '--eval', script];
  const { stdout } = await promisify(execFile)(process.execPath, args);
  expect(JSON.parse(stdout)).toEqual({ applied: all, left: [] });
});

test('of several at once exactly one applies each migration', async () => {
  const applied = await Promise.all([1, 2, 3, 4].map(() => applyMigrations(database.url)));
  expect(applied.flat()).toEqual(all);
  const rows = await queryOnce(database.url, 'select migration_name, finished_at from _prisma_migrations');
  expect(rows.map((row) => row.migration_name)).toEqual(all);
  expect(rows.every((row) => row.finished_at !== null)).toBe(true);
});

test('schema.prisma says what the migrations make', async () => {
  expect(await schemaDrift(database.url)).toBe('');
});

test('a changed schema becomes a migration, after which they agree again', async () => {
  writeFileSync(
    join(dir, 'schema.prisma'),
    'datasource db {\n provider = "postgresql"\n}\nmodel toy {\n id Int @id\n}\n',
  );
  for (const name of all) rmSync(join(dir, 'migrations', name), { recursive: true, force: true });
  expect(await createMigration(database.url, 'toy', dir)).toMatch(/\d{14}_toy\/migration\.sql$/);
  expect(await createMigration(database.url, 'toy', dir)).toBeUndefined();
  await applyMigrations(database.url, dir);
  await queryOnce(database.url, 'insert into toy values (1)');
});

test('a failing migration leaves nothing of itself and is named in the sentence', async () => {
  addMigration('99990101000000_broken', 'create table half (id int); select 1/0;');
  await expect(applyMigrations(database.url, dir)).rejects.toThrow(
    /migrations cannot be applied.*division by zero/,
  );
  await expect(queryOnce(database.url, 'select * from half')).rejects.toThrow('does not exist');
});

test('a migration whose process was killed is applied by the next start', async () => {
  await applyMigrations(database.url);
  addMigration('99990101000000_next', 'create table next (id int);');
  // What the engine leaves when it is killed before the script's transaction ends.
  await queryOnce(
    database.url,
    "insert into _prisma_migrations (id, checksum, migration_name, started_at) values ('x', 'x', '99990101000000_next', now())",
  );
  expect(await applyMigrations(database.url, dir)).toEqual(['99990101000000_next']);
  await queryOnce(database.url, 'select * from next');
});
