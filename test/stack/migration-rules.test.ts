// Tests the rules for migrations of tables in use, and checks that this project's migrations follow them.
import { expect, test } from 'vitest';
import { readMigrations } from '../../src/stack/migrate.ts';
import {
  brokenRules,
  concurrentIndex,
  RULES_SINCE,
  runsOutsideTransaction,
  splitByRules,
  statementsOf,
} from '../../src/stack/migration-rules.ts';

const migrations = readMigrations().migrationDirectories.map(({ path, migrationFile: { content } }) => ({
  path,
  sql: content.tag === 'ok' ? content.value : '',
}));

test('every migration that is newer than RULES_SINCE follows the rules', () => {
  expect(migrations.map(({ path }) => path)).toContain(RULES_SINCE);
  const broken = migrations
    .filter(({ path }) => path > RULES_SINCE)
    .flatMap(({ path, sql }) => brokenRules(sql).map((fault) => `${path}: ${fault}`));
  expect(broken).toEqual([]);
});

test('the rules report a violation in the migration RULES_SINCE, and none in the first migration, whose tables are new', () => {
  const ofBusy = migrations.find(({ path }) => path === RULES_SINCE)?.sql ?? '';
  expect(brokenRules(ofBusy)).toEqual([
    expect.stringContaining('CREATE INDEX "payments_workflow_busy_idx" ON "payments"'),
  ]);
  const first = migrations[0]?.sql ?? '';
  expect(brokenRules(first)).toEqual([]);
});

test('a script is split at the ends of statements, and never inside a comment, a literal or the body of a function', () => {
  const sql = `-- one; comment's
    SELECT ';', "a;b" /* ; */ FROM t;
    CREATE FUNCTION f() RETURNS int LANGUAGE sql AS $$ SELECT 1; SELECT '$' $$;;
    DO $body$ BEGIN END; $body$;`;
  expect(statementsOf(sql).map(({ bare }) => bare)).toEqual([
    `SELECT '', "a;b" FROM t`,
    "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS ''",
    "DO ''",
  ]);
});

test.each([
  [
    'any change of a new table',
    'CREATE TABLE "t" ("a" INT); CREATE INDEX "i" ON "t"("a"); ALTER TABLE "t" ADD CONSTRAINT "c" CHECK (a > 0);',
  ],
  [
    'a new column',
    'ALTER TABLE "payments" ADD COLUMN "a" INT, ADD COLUMN "b" JSONB NOT NULL DEFAULT \'{}\', ADD COLUMN "c" TEXT[] DEFAULT ARRAY[]::TEXT[];',
  ],
  [
    'a new column whose default is a constant or the time of the migration',
    `ALTER TABLE "payments" ADD COLUMN "a" TEXT NOT NULL DEFAULT 'it''s'::character varying(9), ADD b INT DEFAULT -1 NOT NULL,
       ADD COLUMN "c" TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP, ADD COLUMN "d" TIMESTAMPTZ(3) DEFAULT now(),
       ADD COLUMN "e" BOOLEAN NOT NULL DEFAULT false, ADD COLUMN "f" TEXT[] DEFAULT ARRAY['a', 'b'];`,
  ],
  [
    'a volatile default for future rows',
    'ALTER TABLE "payments" ALTER COLUMN "a" SET DEFAULT gen_random_uuid();',
  ],
  [
    'a NOT VALID check',
    'ALTER TABLE "payments" DROP CONSTRAINT "c", ADD CONSTRAINT "c" CHECK (a IN (1, 2)) NOT VALID;',
  ],
  [
    'a NOT VALID foreign key',
    'ALTER TABLE "payments" ADD CONSTRAINT "c" FOREIGN KEY ("a", "b") REFERENCES "t"("a", "b") ON DELETE SET NULL NOT VALID;',
  ],
  [
    'validating checks',
    'ALTER TABLE "payments" VALIDATE CONSTRAINT "c"; ALTER TABLE "orders" VALIDATE CONSTRAINT "d";',
  ],
  [
    'a CONCURRENTLY created index in its own migration',
    '-- For a list.\nCREATE UNIQUE INDEX CONCURRENTLY "i" ON "payments"("a") WHERE a IS NOT NULL;',
  ],
  [
    'a constraint that uses an existing index',
    'ALTER TABLE "payments" ADD CONSTRAINT "c" UNIQUE USING INDEX "i";',
  ],
  [
    'a single foreign key, although it locks two tables',
    'ALTER TABLE "payments" ADD CONSTRAINT "c" FOREIGN KEY ("a") REFERENCES "orders"("id") NOT VALID;',
  ],
  [
    'a new table that refers to one in use and to new ones',
    'CREATE TABLE t (a INT REFERENCES payments); CREATE TABLE u (b INT); ALTER TABLE u ADD FOREIGN KEY (b) REFERENCES t(a);',
  ],
  [
    'updating rows in batches that commit',
    '-- Idempotent: it fills only empty rows.\nDO $$ BEGIN UPDATE "payments" SET a = 1; COMMIT; END $$;',
  ],
  ['dropping an index', 'DROP INDEX "i";'],
  ['dropping an index CONCURRENTLY', 'DROP INDEX CONCURRENTLY IF EXISTS "i";'],
  ['changing only rows', 'UPDATE "payments" SET a = 1; DELETE FROM "orders" WHERE a = 2;'],
  [
    'a new trigger',
    'CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN UPDATE t SET a = 1; END $$; CREATE TRIGGER g AFTER UPDATE ON payments FOR EACH ROW EXECUTE FUNCTION f();',
  ],
])('the rules for migrations allow %s', (_what, sql) => {
  expect(brokenRules(sql)).toEqual([]);
});

test.each([
  ['CREATE INDEX "i" ON "payments"("a");', /create it CONCURRENTLY/],
  [
    'CREATE TABLE "t" ("a" INT); CREATE UNIQUE INDEX "i" ON "public"."payments" ("a");',
    /create it CONCURRENTLY/,
  ],
  [
    'ALTER TABLE "payments" ADD COLUMN "a" INT; CREATE INDEX CONCURRENTLY "i" ON "payments"("a");',
    /only statement/,
  ],
  ['SET lock_timeout = 1; DROP INDEX CONCURRENTLY "i";', /only statement/],
  ['DROP INDEX CONCURRENTLY "i";', /add IF EXISTS/],
  ['REINDEX INDEX CONCURRENTLY "i";', /REINDEX.*drop the old one/],
  ['CREATE INDEX CONCURRENTLY IF NOT EXISTS "i" ON "payments"("a");', /INVALID/],
  ['ALTER TABLE "payments" ADD CONSTRAINT "c" CHECK (a IN (1, 2));', /NOT VALID/],
  [
    'ALTER TABLE "payments" ADD CONSTRAINT "c" CHECK (a > 0) NOT VALID, ADD CONSTRAINT "d" CHECK (b > 0);',
    /"d".*NOT VALID/,
  ],
  ['ALTER TABLE payments ADD CHECK (a > 0);', /NOT VALID/],
  ['ALTER TABLE "payments" ADD CONSTRAINT "c" FOREIGN KEY ("a") REFERENCES "t"("a");', /NOT VALID/],
  [
    'ALTER TABLE "payments" ADD CONSTRAINT "c" CHECK (a > 0) NOT VALID; ALTER TABLE "payments" VALIDATE CONSTRAINT "c";',
    /nothing else/,
  ],
  ['ALTER TABLE "payments" ADD CONSTRAINT "c" UNIQUE ("a");', /USING INDEX/],
  ['ALTER TABLE "payments" ADD COLUMN "a" TEXT REFERENCES "t"("a");', /its constraint NOT VALID/],
  ['ALTER TABLE "payments" ADD COLUMN "a" BIGSERIAL;', /writes every row/],
  ['ALTER TABLE "payments" ALTER COLUMN "a" SET DATA TYPE BIGINT;', /writes every row/],
  ['ALTER TABLE "payments" ALTER COLUMN "a" SET NOT NULL;', /reads every row/],
  ['ALTER TABLE "payments" ADD COLUMN "a" INT; UPDATE "payments" SET a = 1;', /UPDATE.*of its own/],
  [
    'CREATE TRIGGER g BEFORE INSERT OR UPDATE OF a ON payments FOR EACH ROW EXECUTE FUNCTION f(); DO $$ BEGIN END $$;',
    /DO.*of its own/,
  ],
  ['BEGIN; UPDATE "payments" SET a = 1; COMMIT;', /one transaction/],
  ['ALTER TABLE "payments" ADD COLUMN "a" UUID NOT NULL DEFAULT gen_random_uuid();', /writes every row/],
  ['ALTER TABLE "payments" ADD COLUMN "a" TIMESTAMPTZ DEFAULT clock_timestamp();', /writes every row/],
  ['ALTER TABLE "payments" ADD "a" FLOAT DEFAULT 1 + random();', /writes every row/],
  ['ALTER TABLE "payments" ADD "a" TEXT DEFAULT (gen_random_uuid())::text;', /writes every row/],
  ['ALTER TABLE "payments" ADD "a" TEXT[] DEFAULT ARRAY[f()];', /writes every row/],
  ['REINDEX TABLE "payments";', /REINDEX.*CONCURRENTLY/],
  ['CLUSTER "payments" USING "payments_pkey";', /blocks reads and writes/],
  ['VACUUM FULL "payments";', /blocks reads and writes/],
  ['VACUUM (ANALYZE, FULL) "payments";', /blocks reads and writes/],
  ['LOCK TABLE "payments" IN SHARE MODE;', /LOCK/],
  [
    'ALTER TABLE "payments" ADD COLUMN "a" INT; ALTER TABLE "public"."orders" ADD COLUMN "a" INT;',
    /payments, orders.*one table in use/,
  ],
  [
    'ALTER TABLE "payments" ADD COLUMN "a" INT; CREATE TRIGGER g AFTER UPDATE ON orders FOR EACH ROW EXECUTE FUNCTION f();',
    /payments, orders/,
  ],
  ['DROP TRIGGER g ON orders; DROP TABLE IF EXISTS "events", "refunds" CASCADE;', /orders, events, refunds/],
  ['ALTER TABLE "payments" ADD COLUMN "a" INT; DROP INDEX IF EXISTS "i";', /payments, the table of i/],
  [
    'ALTER TABLE "payments" ADD COLUMN "a" INT, ADD CONSTRAINT "c" FOREIGN KEY ("a") REFERENCES "orders"("id") NOT VALID;',
    /payments, orders/,
  ],
  ['CREATE TABLE t (a INT REFERENCES payments, b INT REFERENCES "orders"("id"));', /payments, orders/],
  ['DO $$ BEGIN UPDATE t SET a = 1; COMMIT; END $$;', /Idempotent/],
  ['-- Idempotent.\nDO $$ BEGIN COMMIT; END $$; UPDATE "payments" SET a = 1;', /COMMIT.*only statement/],
])('the rules for migrations report a violation in %s', (sql, fault) => {
  expect(brokenRules(sql).join('\n')).toMatch(fault);
});

test.each([
  [
    '-- Why.\nCREATE UNIQUE INDEX CONCURRENTLY "i_idx" ON "payments"("a");\n',
    { name: 'i_idx', table: 'payments' },
  ],
  ['CREATE INDEX "i_idx" ON "payments"("a");', undefined],
  ['', undefined],
])('in the script %j, the index that is created CONCURRENTLY is %j', (sql, index) => {
  expect(concurrentIndex(sql)).toEqual(index);
});

test.each([
  ['CREATE INDEX CONCURRENTLY "i" ON "payments"("a");', true],
  ['-- Why.\nDROP INDEX CONCURRENTLY "i";', true],
  ['DO $$ BEGIN COMMIT; END $$;', true],
  ['VACUUM payments;', true],
  ['DO $$ BEGIN PERFORM 1; END $$;', false],
  ['DO $$ BEGIN IF true THEN COMMIT AND CHAIN; END IF; END $$;', true],
  ["DO 'BEGIN COMMIT; END';", true],
  [`-- No COMMIT;\nDO $$ BEGIN /* COMMIT; */ RAISE 'COMMIT;'; SELECT "COMMIT"; -- COMMIT;\nEND $$;`, false],
  ['UPDATE payments SET a = 1', false],
  // PostgreSQL rejects the whole script, so none of its statements has an effect.
  ['CREATE INDEX CONCURRENTLY "i" ON "payments"("a"); SELECT 1;', false],
])('whether the script %j runs outside a transaction: %j', (sql, outside) => {
  expect(runsOutsideTransaction(sql)).toBe(outside);
});

test('generated SQL is split so that each migration locks at most one table in use', () => {
  const cut = splitByRules(`
    DROP INDEX "i";
    ALTER TABLE "orders" ADD COLUMN "a" INT;
    ALTER TABLE "payments" ADD COLUMN "a" INT;
    CREATE TABLE "t" ("id" INT);
    CREATE INDEX "j" ON "t"("id");
    ALTER TABLE "t" ADD CONSTRAINT "b" FOREIGN KEY ("id") REFERENCES "payments"("id");
    ALTER TABLE "payments" ADD CONSTRAINT "c" FOREIGN KEY ("a") REFERENCES "orders"("id");`);
  expect(cut.map(({ suffix, sql }) => [suffix, statementsOf(sql).map(({ text }) => text)])).toEqual([
    ['', ['DROP INDEX "i"']],
    ['_2', ['ALTER TABLE "orders" ADD COLUMN "a" INT']],
    [
      '_3',
      [
        'ALTER TABLE "payments" ADD COLUMN "a" INT',
        'CREATE TABLE "t" ("id" INT)',
        'CREATE INDEX "j" ON "t"("id")',
      ],
    ],
    [
      '_foreign_keys',
      ['ALTER TABLE "t" ADD CONSTRAINT "b" FOREIGN KEY ("id") REFERENCES "payments"("id") NOT VALID'],
    ],
    [
      '_foreign_keys_2',
      ['ALTER TABLE "payments" ADD CONSTRAINT "c" FOREIGN KEY ("a") REFERENCES "orders"("id") NOT VALID'],
    ],
    [
      '_validated',
      ['ALTER TABLE "t" VALIDATE CONSTRAINT "b"', 'ALTER TABLE "payments" VALIDATE CONSTRAINT "c"'],
    ],
  ]);
  expect(cut.flatMap(({ sql }) => brokenRules(sql))).toEqual([]);
});

test('generated SQL for a new table that refers to only one table in use stays one migration', () => {
  const [only, ...others] = splitByRules(`
    CREATE TABLE "t" ("id" INT);
    CREATE UNIQUE INDEX "j" ON "t"("id");
    ALTER TABLE "t" ADD CONSTRAINT "b" FOREIGN KEY ("id") REFERENCES "payments"("id");`);
  expect(others).toEqual([]);
  expect(statementsOf(only?.sql ?? '').length).toBe(3);
  expect(brokenRules(only?.sql ?? '')).toEqual([]);
});
