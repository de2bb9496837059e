// Tests that each migration is applied once, even if several processes start together, and that the migrations
// agree with schema.prisma.
import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { renameSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { expect, test } from 'vitest';
import { applyMigrations, prismaDir, readMigrations } from '../../src/stack/migrate.ts';
import { createMigration, schemaDrift } from '../../src/stack/schema-drift.ts';
import { tsxLoader } from '../../src/tsx.ts';
import { eventually, queryOnce } from '../support/stack.ts';
import {
  addMigration,
  BRIEF,
  connect,
  database,
  dir,
  recordsOf,
  waitingForLocks,
} from './migrate-support.ts';

const all = readMigrations().migrationDirectories.map(({ path }) => path);

test('a second run of the migrations applies nothing', async () => {
  expect(await applyMigrations(database.url)).toEqual(all);
  expect(await applyMigrations(database.url)).toEqual([]);
});

test.each([
  { name: 'applyMigrations', file: 'migrate.ts', call: 'applyMigrations(url)', result: all },
  {
    name: 'withSchemaEngine',
    file: 'schema-engine.ts',
    call: "withSchemaEngine(url, async () => 'done')",
    result: 'done',
  },
])('$name leaves no timer or socket that keeps the process running', async ({ name, file, call, result }) => {
  const module = fileURLToPath(new URL(`../../src/stack/${file}`, import.meta.url));
  const script = `
    const { ${name} } = await import(${JSON.stringify(module)});
    const url = ${JSON.stringify(database.url)};
    const result = await ${call};
    const left = process.getActiveResourcesInfo().filter((name) => name === 'Timeout' || name === 'TCPSocketWrap');
    console.log(JSON.stringify({ result, left }));`;
  const args = ['--import', tsxLoader(), '--input-type=module', '--eval', script];
  const { stdout } = await promisify(execFile)(process.execPath, args);
  expect(JSON.parse(stdout)).toEqual({ result, left: [] });
});

test('if several processes apply migrations concurrently, each migration is applied by exactly one of them', async () => {
  const applied = await Promise.all([1, 2, 3, 4].map(() => applyMigrations(database.url)));
  expect(applied.flat()).toEqual(all);
  const rows = await queryOnce(
    database.url,
    'select migration_name, finished_at from _prisma_migrations order by migration_name',
  );
  expect(rows.map((row) => row.migration_name)).toEqual(all);
  expect(rows.every((row) => row.finished_at !== null)).toBe(true);
});

test('the migrations create the same schema as schema.prisma', async () => {
  expect(await schemaDrift(database.url)).toBe('');
});

test('createMigration writes a migration for a changed schema, and the migrations then create exactly that schema', async () => {
  writeFileSync(
    join(dir, 'schema.prisma'),
    'datasource db {\n provider = "postgresql"\n}\nmodel toy {\n id Int @id\n}\n',
  );
  for (const name of all) rmSync(join(dir, 'migrations', name), { recursive: true, force: true });
  const { files, broken } = await createMigration(database.url, 'toy', dir);
  expect(files).toEqual([expect.stringMatching(/\d{14}_toy\/migration\.sql$/)]);
  expect(broken).toEqual([]);
  expect((await createMigration(database.url, 'toy', dir)).files).toEqual([]);
  await applyMigrations(database.url, dir);
  await queryOnce(database.url, 'insert into toy values (1)');
});

test('if one change concerns several tables in use, createMigration splits it into migrations that keep the rules and can be applied', async () => {
  const toy = 'model toy {\n id Int @id\n n Int?\n';
  const schema = (models: string) =>
    writeFileSync(join(dir, 'schema.prisma'), `datasource db {\n provider = "postgresql"\n}\n${models}`);
  for (const name of all) rmSync(join(dir, 'migrations', name), { recursive: true, force: true });
  schema(`${toy}}`);
  const before = await createMigration(database.url, 'before', dir);
  // The migration's name gets an old timestamp, because the next migrations are created within the same second.
  renameSync(dirname(before.files[0] ?? ''), join(dir, 'migrations', '20200101000000_before'));
  schema(`${toy} m Int?\n parent other? @relation(fields: [m], references: [k])\n @@index([n])\n}
    model other {\n id Int @id\n k Int @unique\n toys toy[]\n}`);
  const { files, broken } = await createMigration(database.url, 'next', dir);
  expect(files.map((file) => file.replace(/.*\/\d{14}_(.*)\/migration\.sql$/, '$1'))).toEqual([
    'next',
    'next_toy_n_idx',
    'next_foreign_keys',
    'next_validated',
  ]);
  expect(broken).toEqual([]);
  await applyMigrations(database.url, dir);
  expect(await schemaDrift(database.url, dir)).toBe('');
  const keys = await queryOnce(
    database.url,
    "select conname, convalidated from pg_constraint where contype = 'f'",
  );
  expect(keys).toEqual([{ conname: 'toy_m_fkey', convalidated: true }]);
  const indexes = await queryOnce(
    database.url,
    "select indisvalid from pg_index where indexrelid = 'toy_n_idx'::regclass",
  );
  expect(indexes).toEqual([{ indisvalid: true }]);
});

test('a failing migration does not change the database, and its error is reported', async () => {
  addMigration('99990101000000_broken', 'create table half (id int); select 1/0;');
  await expect(applyMigrations(database.url, dir)).rejects.toThrow(
    /migrations cannot be applied.*division by zero/,
  );
  await expect(queryOnce(database.url, 'select * from half')).rejects.toThrow('does not exist');
});

test('if the process that applies a migration is killed, the next start applies the migration', async () => {
  await applyMigrations(database.url);
  addMigration('99990101000000_next', 'create table next (id int);');
  // A process that is killed before its script's transaction commits leaves this open record.
  await queryOnce(
    database.url,
    "insert into _prisma_migrations (id, checksum, migration_name, started_at) values ('x', 'x', '99990101000000_next', now())",
  );
  expect(await applyMigrations(database.url, dir)).toEqual(['99990101000000_next']);
  await queryOnce(database.url, 'select * from next');
});

test("if the connection ends after a migration's script has run but before the migration is recorded, the migration is not applied again", async () => {
  await applyMigrations(database.url);
  addMigration('99990101000000_next', 'create table next (id int) -- No semicolon, and a comment at the end');
  // This trigger ends the connection when the engine updates the step counter, which happens after the script
  // has committed.
  await queryOnce(
    database.url,
    `create function end_connection() returns trigger language plpgsql as
       $$ begin perform pg_terminate_backend(pg_backend_pid()); return new; end $$;
     create trigger end_connection before update of applied_steps_count on _prisma_migrations
       for each row execute function end_connection();`,
  );
  await expect(applyMigrations(database.url, dir)).rejects.toThrow(/migrations cannot be applied/);
  await queryOnce(database.url, 'drop function end_connection cascade');
  await queryOnce(database.url, 'select * from next');
  expect(await applyMigrations(database.url, dir)).toEqual([]);
  expect(await recordsOf('99990101000000_next')).toEqual(['applied']);
  expect(await schemaDrift(database.url, prismaDir)).toBe('');
});

test("if a migration's process is killed and its script continues, the next start waits for the script and does not apply it again", async () => {
  await applyMigrations(database.url);
  const LOCK = 4711;
  addMigration(
    '99990101000000_next',
    `create table next (id int); select pg_advisory_xact_lock(${LOCK}); insert into next values (1);`,
  );
  const holder = await connect();
  await holder.query(`select pg_advisory_lock(${LOCK})`);
  const module = fileURLToPath(new URL('../../src/stack/migrate.ts', import.meta.url));
  const patience = { ...BRIEF, lockTimeoutMs: 0 };
  const script = `
    const { applyMigrations } = await import(${JSON.stringify(module)});
    await applyMigrations(...${JSON.stringify([database.url, dir, { patience }])});`;
  const child = spawn(process.execPath, ['--import', tsxLoader(), '--input-type=module', '--eval', script], {
    stdio: 'inherit',
  });
  const exited = once(child, 'exit');
  await eventually(async () => (await waitingForLocks()) === 1);
  child.kill('SIGKILL');
  await exited;

  // The process is killed, but PostgreSQL continues to run its script.
  const said: string[] = [];
  const migrated = applyMigrations(database.url, dir, { patience: BRIEF, say: (line) => said.push(line) });
  await Promise.race([migrated, eventually(() => said.length > 0)]);
  expect(said).toEqual(['Waiting for another process that applies the migrations ...']);
  expect(await waitingForLocks()).toBe(1);
  await holder.query(`select pg_advisory_unlock(${LOCK})`);
  expect(await migrated).toEqual([]);
  expect(await recordsOf('99990101000000_next')).toEqual(['applied']);
  expect(await queryOnce(database.url, 'select * from next')).toEqual([{ id: 1 }]);
});

test('recording a migration as applied does not change the records of other migrations, and two migrations may have the same script', async () => {
  await applyMigrations(database.url);
  const script = "update _prisma_migrations set finished_at = null where migration_name like '%_ledger'";
  addMigration('99990101000000_next', script);
  addMigration('99990101000001_same', script);
  await applyMigrations(database.url, dir);
  expect(await recordsOf(all[0] ?? '')).toEqual(['unfinished']);
  expect(await recordsOf('99990101000000_next')).toEqual(['applied']);
  expect(await recordsOf('99990101000001_same')).toEqual(['applied']);
});

test('if an unreleased commit has migrated the database, the error refers to the documentation', async () => {
  await applyMigrations(database.url);
  await queryOnce(
    database.url,
    "update _prisma_migrations set migration_name = '20261126161000_renamed' where migration_name like '%_refund_replaced'",
  );
  await expect(applyMigrations(database.url)).rejects.toThrow(
    /20261126161001_refund_replaced: .*20261126161000_renamed.*"Upgrades" in docs\/operations\.md/,
  );
});

test('a migration’s script commits nothing if another process has marked the migration as rolled back', async () => {
  await applyMigrations(database.url);
  // This migration closes its own record. Another process would close the record if it considered this process dead.
  addMigration(
    '99990101000000_next',
    'create table next (id int); update _prisma_migrations set rolled_back_at = now() where finished_at is null;',
  );
  await expect(applyMigrations(database.url, dir)).rejects.toThrow(
    /99990101000000_next: another process applies this migration\. Nothing of this migration is in the database/,
  );
  await expect(queryOnce(database.url, 'select * from next')).rejects.toThrow('does not exist');
});

test('a failed migration is applied by the next start once its cause is fixed', async () => {
  await applyMigrations(database.url);
  addMigration('99990101000000_next', 'create table next as select 1 / n as it from toy;');
  await expect(applyMigrations(database.url, dir)).rejects.toThrow(
    /99990101000000_next: relation "toy" does not exist\. Nothing of this/,
  );
  await queryOnce(database.url, 'create table toy as select 1 as n');
  // After a failure, `prisma migrate deploy` leaves a record that is neither finished nor rolled back.
  await queryOnce(
    database.url,
    "update _prisma_migrations set rolled_back_at = null where migration_name = '99990101000000_next'",
  );
  expect(await applyMigrations(database.url, dir)).toEqual(['99990101000000_next']);
});
