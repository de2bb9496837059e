// Migrations apply once, however often and by however many processes; the schema and the migrations agree.
import { execFile } from 'node:child_process';
import { cpSync, mkdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { Connection } from '../../src/ledger/connection.ts';
import { applyMigrations, prismaDir, readMigrations } from '../../src/stack/migrate.ts';
import { createMigration, schemaDrift } from '../../src/stack/schema-drift.ts';
import { tsxLoader } from '../../src/stack/tsx.ts';
import { emptyDatabase, eventually, type FreshDatabase, queryOnce, temporaryHome } from '../support/stack.ts';

const all = readMigrations().migrationDirectories.map(({ path }) => path);
let database: FreshDatabase;
/** A copy of `prisma/` to change. */
let dir: string;
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

async function connect(): Promise<Connection> {
  const connection = new Connection({ connectionString: database.url });
  await connection.connect();
  connections.push(connection);
  return connection;
}

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
  const rows = await queryOnce(
    database.url,
    'select migration_name, finished_at from _prisma_migrations order by migration_name',
  );
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
  const { files, broken } = await createMigration(database.url, 'toy', dir);
  expect(files).toEqual([expect.stringMatching(/\d{14}_toy\/migration\.sql$/)]);
  expect(broken).toEqual([]);
  expect((await createMigration(database.url, 'toy', dir)).files).toEqual([]);
  await applyMigrations(database.url, dir);
  await queryOnce(database.url, 'insert into toy values (1)');
});

test('what a change needs of tables in use becomes migrations that keep the rules, and applies', async () => {
  const toy = 'model toy {\n id Int @id\n n Int?\n';
  const schema = (models: string) =>
    writeFileSync(join(dir, 'schema.prisma'), `datasource db {\n provider = "postgresql"\n}\n${models}`);
  for (const name of all) rmSync(join(dir, 'migrations', name), { recursive: true, force: true });
  schema(`${toy}}`);
  const before = await createMigration(database.url, 'before', dir);
  // As if it were of long ago: the new ones are made within the same second.
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

/** Short waits for tests in which a migration has to give way. */
const BRIEF = { lockTimeoutMs: 200, concurrentLockTimeoutMs: 200, attempts: 3, pauseStepMs: 10 };
const INDEX = '99990101000000_index';
const CREATE_INDEX = 'CREATE INDEX CONCURRENTLY "toy_n_idx" ON "toy"("n");';

async function toyTable(rows = 'select 1 where false'): Promise<void> {
  await applyMigrations(database.url);
  await queryOnce(database.url, `create table toy as select n from (${rows}) as rows (n)`);
}

const validIndexes = async () =>
  (
    await queryOnce(
      database.url,
      "select relname, indisvalid from pg_index join pg_class on oid = indexrelid where relname like 'toy_%'",
    )
  ).map(({ relname, indisvalid }) => `${relname} ${indisvalid ? 'valid' : 'INVALID'}`);

const recordsOf = async (name: string) =>
  (
    await queryOnce(
      database.url,
      `select finished_at, rolled_back_at from _prisma_migrations where migration_name = '${name}' order by started_at`,
    )
  ).map((row) =>
    row.rolled_back_at !== null ? 'rolled back' : row.finished_at !== null ? 'applied' : 'unfinished',
  );

describe('a migration whose lock others hold', () => {
  test('gives way again and again, lets the writers behind it through each time, and succeeds', async () => {
    await applyMigrations(database.url);
    addMigration('99990101000000_next', 'alter table payments add column next int;');
    // As a backup does for hours: it keeps no writer waiting, but an ALTER TABLE.
    const reader = await connect();
    await reader.query('begin');
    await reader.query('select count(*) from payments');

    const said: { line: string; writes: number }[] = [];
    let writes = 0;
    const migrated = applyMigrations(database.url, dir, {
      patience: { ...BRIEF, attempts: Number.POSITIVE_INFINITY },
      say: (line) => said.push({ line, writes }),
    });
    const writer = await connect();
    let writing = true;
    const written = (async () => {
      while (writing) {
        await writer.query("update payments set metadata = '{}' where id = 'none'");
        writes += 1;
      }
    })();
    await eventually(() => said.length >= 4);
    writing = false;
    await written;
    // Writers got on between any two attempts, while the reader still held its lock.
    for (const [index, { line, writes: count }] of said.entries()) {
      expect(line).toMatch(
        /^The migration 99990101000000_next gives way .*\(attempt \d+ of Infinity\); the oldest transaction is of process \d+, open for \d+ s\.$/,
      );
      if (index > 0) expect(count).toBeGreaterThan(said[index - 1]?.writes ?? 0);
    }
    await reader.query('commit');
    expect(await migrated).toEqual(['99990101000000_next']);
    expect((await recordsOf('99990101000000_next')).slice(-2)).toEqual(['rolled back', 'applied']);
    await queryOnce(database.url, 'select next from payments');
  });

  test('is given up after its attempts with a sentence, leaves nothing, and the next start applies it', async () => {
    await applyMigrations(database.url);
    addMigration('99990101000000_next', 'alter table payments add column next int;');
    const reader = await connect();
    await reader.query('begin');
    await reader.query('select count(*) from payments');
    await expect(applyMigrations(database.url, dir, { patience: BRIEF, say: () => {} })).rejects.toThrow(
      /^The migration 99990101000000_next did not get its locks in 3 attempts; the oldest transaction is of process \d+, open for \d+ s: end that transaction .* Nothing of the migration is in the database\.$/,
    );
    expect(await recordsOf('99990101000000_next')).toEqual(['rolled back', 'rolled back', 'rolled back']);
    await reader.query('commit');
    expect(await applyMigrations(database.url, dir)).toEqual(['99990101000000_next']);
  });
});

describe('an index made CONCURRENTLY', () => {
  test('is made while writers hold the table, and by several processes at once', async () => {
    await toyTable();
    addMigration(INDEX, CREATE_INDEX);
    const writer = await connect();
    await writer.query('begin');
    await writer.query('insert into toy values (1)');
    const applied = Promise.all([1, 2, 3].map(() => applyMigrations(database.url, dir, { say: () => {} })));
    // It waits for the writer, and nobody waits for it.
    await eventually(async () => (await validIndexes()).includes('toy_n_idx INVALID'));
    await queryOnce(database.url, 'insert into toy values (2)');
    await writer.query('commit');
    expect((await applied).flat()).toEqual([INDEX]);
    expect(await validIndexes()).toEqual(['toy_n_idx valid']);
  });

  test('is removed and made again when it did not get its locks', async () => {
    await toyTable();
    addMigration(INDEX, CREATE_INDEX);
    const writer = await connect();
    await writer.query('begin');
    await writer.query('insert into toy values (1)');
    const said: string[] = [];
    const migrated = applyMigrations(database.url, dir, {
      patience: { ...BRIEF, attempts: Number.POSITIVE_INFINITY },
      say: (line) => said.push(line),
    });
    await eventually(() => said.length >= 2);
    await writer.query('commit');
    expect(await migrated).toEqual([INDEX]);
    expect(await validIndexes()).toEqual(['toy_n_idx valid']);
  });

  test('leaves no INVALID index when its rows refuse it, and is made when they are mended', async () => {
    await toyTable('values (1), (1)');
    addMigration(INDEX, CREATE_INDEX.replace('INDEX', 'UNIQUE INDEX'));
    await expect(applyMigrations(database.url, dir)).rejects.toThrow(
      /migrations cannot be applied: 99990101000000_index: could not create unique index .*\(Key \(n\)=\(1\) is duplicated\.\)\. Nothing of this migration is in the database: mend the cause, then start again\.$/,
    );
    expect(await validIndexes()).toEqual([]);
    await queryOnce(database.url, 'delete from toy');
    expect(await applyMigrations(database.url, dir)).toEqual([INDEX]);
    expect(await validIndexes()).toEqual(['toy_n_idx valid']);
  });

  test.each([
    ['was killed in the middle', 'INVALID', null, ['rolled back', 'applied']],
    ['was killed before its record', 'valid', null, ['rolled back', 'applied']],
    ['failed by another program', 'INVALID', 'some error', ['rolled back', 'applied']],
  ])('is healed by the next start when the process that made it %s', async (_what, state, logs, records) => {
    await toyTable('values (1)');
    addMigration(INDEX, CREATE_INDEX);
    await queryOnce(database.url, CREATE_INDEX);
    await setValid(state === 'valid');
    await queryOnce(
      database.url,
      `insert into _prisma_migrations (id, checksum, migration_name, started_at, logs)
         values ('x', 'x', '${INDEX}', now(), ${logs === null ? 'null' : `'${logs}'`})`,
    );
    await applyMigrations(database.url, dir);
    expect(await recordsOf(INDEX)).toEqual(records);
    expect(await validIndexes()).toEqual(['toy_n_idx valid']);
  });

  test('is made again when it is INVALID though its migration is on record as applied', async () => {
    await toyTable('values (1)');
    addMigration(INDEX, CREATE_INDEX);
    await applyMigrations(database.url, dir);
    await setValid(false);
    const said: string[] = [];
    expect(await applyMigrations(database.url, dir, { say: (line) => said.push(line) })).toEqual([]);
    expect(said).toEqual(['The index toy_n_idx is INVALID: it is made again.']);
    expect(await validIndexes()).toEqual(['toy_n_idx valid']);
  });

  /** What an interrupted build leaves. */
  const setValid = (valid: boolean) =>
    queryOnce(
      database.url,
      `update pg_index set indisvalid = ${valid} where indexrelid = 'toy_n_idx'::regclass`,
    );
});

test('a migration that failed is applied by the next start once its cause is mended', async () => {
  await applyMigrations(database.url);
  addMigration('99990101000000_next', 'create table next as select 1 / n as it from toy;');
  await expect(applyMigrations(database.url, dir)).rejects.toThrow(
    /99990101000000_next: relation "toy" does not exist\. Nothing of this/,
  );
  await queryOnce(database.url, 'create table toy as select 1 as n');
  // As `prisma migrate deploy` leaves one.
  await queryOnce(
    database.url,
    "update _prisma_migrations set rolled_back_at = null where migration_name = '99990101000000_next'",
  );
  expect(await applyMigrations(database.url, dir)).toEqual(['99990101000000_next']);
});
