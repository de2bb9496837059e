// What migrations may do to tables that are in use; and that those of this project keep to it.
import { expect, test } from 'vitest';
import { readMigrations } from '../../src/stack/migrate.ts';
import { brokenRules, concurrentIndex, RULES_SINCE, statementsOf } from '../../src/stack/migration-rules.ts';

const migrations = readMigrations().migrationDirectories.map(({ path, migrationFile: { content } }) => ({
  path,
  sql: content.tag === 'ok' ? content.value : '',
}));

test('every migration keeps the rules since they hold', () => {
  expect(migrations.map(({ path }) => path)).toContain(RULES_SINCE);
  const broken = migrations
    .filter(({ path }) => path > RULES_SINCE)
    .flatMap(({ path, sql }) => brokenRules(sql).map((fault) => `${path}: ${fault}`));
  expect(broken).toEqual([]);
});

test('the rules find what the migrations before them did', () => {
  const ofBusy = migrations.find(({ path }) => path === RULES_SINCE)?.sql ?? '';
  expect(brokenRules(ofBusy)).toEqual([
    expect.stringContaining('CREATE INDEX "payments_workflow_busy_idx" ON "payments"'),
  ]);
  const first = migrations[0]?.sql ?? '';
  expect(brokenRules(first)).toEqual([]);
});

test('a script is cut at the ends of its statements alone', () => {
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
    'a new table in any way',
    'CREATE TABLE "t" ("a" INT); CREATE INDEX "i" ON "t"("a"); ALTER TABLE "t" ADD CONSTRAINT "c" CHECK (a > 0);',
  ],
  [
    'a column',
    'ALTER TABLE "payments" ADD COLUMN "a" INT, ADD COLUMN "b" JSONB NOT NULL DEFAULT \'{}\', ADD COLUMN "c" TEXT[] DEFAULT ARRAY[]::TEXT[];',
  ],
  [
    'a check that is not valid yet',
    'ALTER TABLE "payments" DROP CONSTRAINT "c", ADD CONSTRAINT "c" CHECK (a IN (1, 2)) NOT VALID;',
  ],
  [
    'a foreign key that is not valid yet',
    'ALTER TABLE "payments" ADD CONSTRAINT "c" FOREIGN KEY ("a", "b") REFERENCES "t"("a", "b") ON DELETE SET NULL NOT VALID;',
  ],
  [
    'checks that become valid',
    'ALTER TABLE "payments" VALIDATE CONSTRAINT "c"; ALTER TABLE "orders" VALIDATE CONSTRAINT "d";',
  ],
  [
    'an index of its own',
    '-- For a list.\nCREATE UNIQUE INDEX CONCURRENTLY "i" ON "payments"("a") WHERE a IS NOT NULL;',
  ],
  ['an index that becomes a constraint', 'ALTER TABLE "payments" ADD CONSTRAINT "c" UNIQUE USING INDEX "i";'],
  ['rows alone', 'UPDATE "payments" SET a = 1; DELETE FROM "orders" WHERE a = 2;'],
  [
    'a trigger',
    'CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN UPDATE t SET a = 1; END $$; CREATE TRIGGER g AFTER UPDATE ON payments FOR EACH ROW EXECUTE FUNCTION f();',
  ],
])('%s is allowed', (_what, sql) => {
  expect(brokenRules(sql)).toEqual([]);
});

test.each([
  ['CREATE INDEX "i" ON "payments"("a");', /make it CONCURRENTLY/],
  [
    'CREATE TABLE "t" ("a" INT); CREATE UNIQUE INDEX "i" ON "public"."payments" ("a");',
    /make it CONCURRENTLY/,
  ],
  [
    'ALTER TABLE "payments" ADD COLUMN "a" INT; CREATE INDEX CONCURRENTLY "i" ON "payments"("a");',
    /one statement/,
  ],
  ['SET lock_timeout = 1; DROP INDEX CONCURRENTLY "i";', /one statement/],
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
])('%s is found', (sql, fault) => {
  expect(brokenRules(sql).join('\n')).toMatch(fault);
});

test.each([
  ['-- Why.\nCREATE UNIQUE INDEX CONCURRENTLY "i_idx" ON "payments"("a");\n', 'i_idx'],
  ['CREATE INDEX "i_idx" ON "payments"("a");', undefined],
  ['', undefined],
])('the index of %j is %j', (sql, index) => {
  expect(concurrentIndex(sql)).toBe(index);
});
