import { describe, expect, test } from 'vitest';
import { applyMigrations, readMigrations } from '../../src/stack/migrate.ts';
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

// Tests migrations of tables that are in use. They wait only briefly for locks, and continue after an
// interruption.

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

describe('a migration that does not get its lock', () => {
  test('is tried again until it succeeds, and lets waiting writers continue after each attempt', async () => {
    await applyMigrations(database.url);
    addMigration('99990101000000_next', 'alter table payments add column next int;');
    // An open read transaction, such as that of a backup, blocks an ALTER TABLE. It does not block writers.
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
    // Between any two attempts of the migration, writes succeeded although the reader still held its lock.
    for (const [index, { line, writes: count }] of said.entries()) {
      expect(line).toMatch(
        /^The migration 99990101000000_next could not get its locks .*\(attempt \d+ of Infinity\); the oldest transaction belongs to process \d+, open for \d+ s\.$/,
      );
      if (index > 0) expect(count).toBeGreaterThan(said[index - 1]?.writes ?? 0);
    }
    await reader.query('commit');
    expect(await migrated).toEqual(['99990101000000_next']);
    expect((await recordsOf('99990101000000_next')).slice(-2)).toEqual(['rolled back', 'applied']);
    await queryOnce(database.url, 'select next from payments');
  });

  test('fails after its last attempt without changing the database, and is applied by the next start', async () => {
    await applyMigrations(database.url);
    addMigration('99990101000000_next', 'alter table payments add column next int;');
    const reader = await connect();
    await reader.query('begin');
    await reader.query('select count(*) from payments');
    await expect(applyMigrations(database.url, dir, { patience: BRIEF, say: () => {} })).rejects.toThrow(
      /^The migration 99990101000000_next did not get its locks in 3 attempts; the oldest transaction belongs to process \d+, open for \d+ s\. End that transaction .* Nothing of this migration is in the database\.$/,
    );
    expect(await recordsOf('99990101000000_next')).toEqual(['rolled back', 'rolled back', 'rolled back']);
    await reader.query('commit');
    expect(await applyMigrations(database.url, dir)).toEqual(['99990101000000_next']);
  });
});

describe('an index created CONCURRENTLY', () => {
  test('is created while writers use the table, even if several processes apply the migration at the same time', async () => {
    await toyTable();
    addMigration(INDEX, CREATE_INDEX);
    const writer = await connect();
    await writer.query('begin');
    await writer.query('insert into toy values (1)');
    const applied = Promise.all([1, 2, 3].map(() => applyMigrations(database.url, dir, { say: () => {} })));
    // The CREATE INDEX waits for the open writer. Other writers do not wait for the CREATE INDEX.
    await eventually(async () => (await validIndexes()).includes('toy_n_idx INVALID'));
    await queryOnce(database.url, 'insert into toy values (2)');
    await writer.query('commit');
    expect((await applied).flat()).toEqual([INDEX]);
    expect(await validIndexes()).toEqual(['toy_n_idx valid']);
  });

  test('is removed and created again if its creation did not get the locks', async () => {
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

  test('is removed if rows violate it, and is created after the rows have been corrected', async () => {
    await toyTable('values (1), (1)');
    addMigration(INDEX, CREATE_INDEX.replace('INDEX', 'UNIQUE INDEX'));
    await expect(applyMigrations(database.url, dir)).rejects.toThrow(
      /migrations cannot be applied: 99990101000000_index: could not create unique index .*\(Key \(n\)=\(1\) is duplicated\.\)\. Nothing of this migration is in the database\. Fix the cause, then start again\.$/,
    );
    expect(await validIndexes()).toEqual([]);
    await queryOnce(database.url, 'delete from toy');
    expect(await applyMigrations(database.url, dir)).toEqual([INDEX]);
    expect(await validIndexes()).toEqual(['toy_n_idx valid']);
  });

  test('is reported as INVALID if it cannot be dropped, and is removed by the next start', async () => {
    await toyTable('values (1), (1)');
    addMigration(INDEX, CREATE_INDEX.replace('INDEX', 'UNIQUE INDEX'));
    await queryOnce(
      database.url,
      `create function keep_indexes() returns event_trigger language plpgsql as
         $$ begin raise exception 'no index is dropped'; end $$;
       create event trigger keep_indexes on ddl_command_start when tag in ('DROP INDEX') execute function keep_indexes();`,
    );
    const left =
      /Its INVALID index toy_n_idx is still in the database until the next start removes it\. Fix the cause, then start again\.$/;
    await expect(applyMigrations(database.url, dir)).rejects.toThrow(left);
    expect(await validIndexes()).toEqual(['toy_n_idx INVALID']);
    // The next start reports the same state, and why it cannot drop the index.
    await expect(applyMigrations(database.url, dir)).rejects.toThrow(left);
    await expect(applyMigrations(database.url, dir)).rejects.toThrow('no index is dropped');
    await queryOnce(database.url, 'drop event trigger keep_indexes');
    await queryOnce(database.url, 'delete from toy');
    expect(await applyMigrations(database.url, dir)).toEqual([INDEX]);
    expect(await validIndexes()).toEqual(['toy_n_idx valid']);
  });

  test.each([
    ['was killed before the index was complete', 'INVALID', null, ['rolled back', 'applied']],
    ['was killed before it wrote the record', 'valid', null, ['rolled back', 'applied']],
    ['was another program and failed', 'INVALID', 'some error', ['rolled back', 'applied']],
    ['lost its connection while PostgreSQL went on', 'valid', 'connection lost', ['rolled back', 'applied']],
  ])(
    'is repaired by the next start if the process that created it %s',
    async (_what, state, logs, records) => {
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
    },
  );

  test('is not created again if it already exists, and its migration is recorded as applied', async () => {
    await toyTable('values (1)');
    await queryOnce(database.url, "alter table toy add column word text default 'a;b'");
    const create = `-- A comment.\nCREATE UNIQUE INDEX CONCURRENTLY "toy_n_idx" ON "toy"("n" DESC, lower(word)) WHERE word <> 'a;b';`;
    addMigration(INDEX, create);
    await queryOnce(database.url, create);
    expect(await applyMigrations(database.url, dir)).toEqual([INDEX]);
    expect(await recordsOf(INDEX)).toEqual(['rolled back', 'applied']);
    expect(await validIndexes()).toEqual(['toy_n_idx valid']);
  });

  test.each([
    ['other columns', 'create index toy_n_idx on toy (n, (n + 1))'],
    ['another kind', 'create unique index toy_n_idx on toy (n)'],
    ['another table', 'create table other as select 1 as n; create index toy_n_idx on other (n)'],
  ])(
    'makes its migration fail if an index of the same name exists with %s, and the error says how to drop that index',
    async (_what, create) => {
      await toyTable('values (1)');
      addMigration(INDEX, CREATE_INDEX);
      await queryOnce(database.url, create);
      await expect(applyMigrations(database.url, dir)).rejects.toThrow(
        /99990101000000_index: relation "toy_n_idx" already exists\. .*run DROP INDEX CONCURRENTLY "toy_n_idx"\. Fix/,
      );
      await queryOnce(database.url, 'drop index concurrently toy_n_idx');
      expect(await applyMigrations(database.url, dir)).toEqual([INDEX]);
      expect(await validIndexes()).toEqual(['toy_n_idx valid']);
    },
  );

  test('is dropped CONCURRENTLY with the same lock timeouts, and the error of a failed drop reports the state of the index', async () => {
    await toyTable('values (1)');
    await queryOnce(database.url, 'create index toy_n_idx on toy (n)');
    addMigration(INDEX, 'DROP INDEX CONCURRENTLY IF EXISTS "toy_n_idx";');
    const writer = await connect();
    await writer.query('begin');
    await writer.query('insert into toy values (1)');
    await expect(
      applyMigrations(database.url, dir, {
        patience: { ...BRIEF, lockTimeoutMs: 0, attempts: 1 },
        say: () => {},
      }),
    ).rejects.toThrow('The index toy_n_idx is INVALID until the next start drops it.');
    await writer.query('commit');
    expect(await applyMigrations(database.url, dir)).toEqual([INDEX]);
    expect(await validIndexes()).toEqual([]);
  });

  test('is rebuilt if it is INVALID although its migration is recorded as applied', async () => {
    await toyTable('values (1)');
    addMigration(INDEX, CREATE_INDEX);
    await applyMigrations(database.url, dir);
    await setValid(false);
    const said: string[] = [];
    expect(await applyMigrations(database.url, dir, { say: (line) => said.push(line) })).toEqual([]);
    expect(said).toEqual(['The index toy_n_idx is INVALID: rebuilding it.']);
    expect(await validIndexes()).toEqual(['toy_n_idx valid']);
  });

  /** Marks the index as valid, or as INVALID like an index whose build was interrupted. */
  const setValid = (valid: boolean) =>
    queryOnce(
      database.url,
      `update pg_index set indisvalid = ${valid} where indexrelid = 'toy_n_idx'::regclass`,
    );
});

test('a migration that commits in batches keeps its finished batches if it fails, and continues at the next start', async () => {
  await toyTable('values (1), (2), (0), (4)');
  await queryOnce(database.url, 'alter table toy add column done int');
  addMigration(
    '99990101000000_batches',
    `-- Idempotent: it fills only empty rows.
     DO $$ DECLARE one int; BEGIN
       LOOP
         SELECT n INTO one FROM toy WHERE done IS NULL ORDER BY n DESC LIMIT 1;
         EXIT WHEN NOT FOUND;
         UPDATE toy SET done = 4 / one WHERE n = one AND done IS NULL;
         COMMIT;
       END LOOP;
     END $$;`,
  );
  await expect(applyMigrations(database.url, dir)).rejects.toThrow(
    /99990101000000_batches: division by zero\. The changes that it had committed stay in the database, and the next start continues\. Fix the cause, then start again\.$/,
  );
  const rows = () => queryOnce(database.url, 'select n, done from toy where done is not null order by n');
  const done = [
    { n: 1, done: 4 },
    { n: 2, done: 2 },
    { n: 4, done: 1 },
  ];
  expect(await rows()).toEqual(done);
  await queryOnce(database.url, 'update toy set n = 3 where n = 0');
  expect(await applyMigrations(database.url, dir)).toEqual(['99990101000000_batches']);
  expect((await rows()).length).toBe(4);
});

test('the migration that fills the subjects of live payments locks no other rows while it waits for a locked row', async () => {
  await applyMigrations(database.url);
  const script = readMigrations().migrationDirectories.find(({ path }) => path.endsWith('_payment_subjects'));
  const { content } = script?.migrationFile ?? {};
  addMigration('99990101000000_subjects', content?.tag === 'ok' ? content.value : '');
  await queryOnce(
    database.url,
    `set session_replication_role = replica;
     insert into orders (merchant_id, id, amount, currency, subject, status)
       select 'm', n, 1, 'CNY', 'Coffee ' || n, 'paying' from generate_series(1, 2501) n;
     insert into payments (id, merchant_id, order_id, channel, channel_account_id, method, amount, currency, status,
         client_token_hash, expires_at, ended_at)
       select 'p' || lpad(n::text, 4, '0'), 'm', n, 'simulator', 'a', 'redirect', 1, 'CNY',
              case when n <= 2500 then 'paying' else 'closed' end, n, now(), case when n <= 2500 then null else now() end
         from generate_series(1, 2501) n`,
  );
  const holder = await connect();
  await holder.query('begin');
  await holder.query("select from payments where id = 'p2500' for update");
  const filled = async () =>
    (await queryOnce(database.url, 'select count(*)::int as n from payments where subject is not null'))[0]
      ?.n;
  await expect(
    applyMigrations(database.url, dir, { patience: { ...BRIEF, attempts: 1 }, say: () => {} }),
  ).rejects.toThrow('did not get its locks');
  expect(await filled()).toBe(2499);
  // Prepares rows that show whether the next start fills empty subjects and leaves filled subjects unchanged.
  await queryOnce(
    database.url,
    `update payments set subject = 'Tea' where id = 'p0001'; update payments set subject = null where id > 'p2400' and id < 'p2500'`,
  );
  const migrated = applyMigrations(database.url, dir, { patience: { ...BRIEF, lockTimeoutMs: 0 } });
  await eventually(async () => (await waitingForLocks()) === 1);
  // While the migration waits for the row that the holder has locked, the holder can lock other rows.
  await holder.query("select from payments where id = 'p2401' for update nowait");
  expect(await filled()).toBe(2499);
  await holder.query('commit');
  expect(await migrated).toEqual(['99990101000000_subjects']);
  expect(await filled()).toBe(2500);
  expect(
    await queryOnce(
      database.url,
      "select subject from payments where id in ('p0001', 'p0002', 'p2500', 'p2501') order by id",
    ),
  ).toEqual([{ subject: 'Tea' }, { subject: 'Coffee 2' }, { subject: 'Coffee 2500' }, { subject: null }]);
});

test('the migration of superseded payments locks order, payment and delivery in the same sequence as the service', async () => {
  await applyMigrations(database.url);
  const script = readMigrations().migrationDirectories.find(({ path }) =>
    path.endsWith('_superseded_untold'),
  );
  const { content } = script?.migrationFile ?? {};
  addMigration('99990101000000_untold', content?.tag === 'ok' ? content.value : '');
  await queryOnce(
    database.url,
    `set session_replication_role = replica;
     alter table payments drop constraint payments_pending_holds_money_check;
     insert into orders (merchant_id, id, amount, currency, subject, status) values ('m', 'o', 1, 'CNY', '', 'paying');
     insert into payments (id, merchant_id, order_id, channel, channel_account_id, method, amount, currency, status,
         client_token_hash, expires_at, ended_at, settled_at, settled_by, received_amount, received_currency, paid_at,
         refunded_amount, order_update)
       values ('p', 'm', 'o', 'simulator', 'a', 'redirect', 1, 'CNY', 'succeeded', 'h', now(), now(), now(), 'query', 1,
         'CNY', now(), 1, 'pending');
     insert into events (id, merchant_id, payment_id, type, version, data) values ('e', 'm', 'p', 'payment.succeeded', 1, '{}');
     insert into deliveries (id, event_id, merchant_id, payment_id) values ('d', 'e', 'm', 'p')`,
  );
  const holder = await connect();
  await holder.query('begin');
  await holder.query('select from orders for update');
  await holder.query('select from payments for update');
  const migrated = applyMigrations(database.url, dir, { patience: { ...BRIEF, lockTimeoutMs: 0 } });
  await eventually(async () => (await waitingForLocks()) === 1);
  await holder.query('select from deliveries for update nowait');
  await holder.query('commit');
  expect(await migrated).toEqual(['99990101000000_untold']);
  expect(await queryOnce(database.url, 'select order_update from payments')).toEqual([
    { order_update: 'conflict' },
  ]);
  expect(await queryOnce(database.url, 'select status from deliveries')).toEqual([{ status: 'superseded' }]);
});
