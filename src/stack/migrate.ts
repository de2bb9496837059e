import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import type { MigrationList, SchemaEngine } from '@prisma/schema-engine-wasm/schema_engine_bg';
import pg from 'pg';
import { Connection } from '../ledger/connection.ts';
import { reason, StackError } from './errors.ts';
import {
  type ConcurrentIndex,
  concurrentIndex,
  droppedIndex,
  isConcurrent,
  runsOutsideTransaction,
} from './migration-rules.ts';
import { NO_FILTER, type ScriptRunner, withSchemaEngine } from './schema-engine.ts';

/** The folder `prisma/` of this work tree. */
export const prismaDir = fileURLToPath(new URL('../../prisma', import.meta.url));

/**
 * Key of nodrop's advisory lock for migrations. The number is arbitrary, but no other advisory lock of nodrop uses it.
 */
const MIGRATION_LOCK = 0x6e6f6472;
/** Key of the advisory lock of Prisma's engine. The engine takes the lock on the connection that runs the scripts. */
const ENGINE_LOCK = 72707369;
/** The SQLSTATE of the error that a relation (a table or an index) already exists. */
const EXISTS = '42P07';
/** The SQLSTATEs of a lock timeout and of a deadlock. */
const LOCK_FAILURES = new Set(['55P03', '40P01']);
const TRY_LOCK_EVERY_MS = 200;

/** How long migrations wait for locks, and how many times they are retried after a lock timeout or deadlock. */
export interface Patience {
  /**
   * How long a statement waits for a lock, in ms. While the statement waits, the writes of other connections wait
   * behind it. So this time must be shorter than the timeouts of the ledger's client. This time must also be longer
   * than `deadlock_timeout` (1 s), because PostgreSQL then cancels an autovacuum that blocks the statement.
   */
  readonly lockTimeoutMs: number;
  /**
   * How long a `CONCURRENTLY` statement waits for a lock, in ms. The statement waits for all older transactions, but no
   * write waits behind it. If the wait times out, the index that the statement has built is lost.
   */
  readonly concurrentLockTimeoutMs: number;
  readonly attempts: number;
  /**
   * The first pause between two attempts, in ms. Each further pause is longer by this time, up to ten times the first
   * pause. During the pause, waiting transactions can proceed.
   */
  readonly pauseStepMs: number;
}

/** With these values, a migration retries for about 6 min in total, and a `CONCURRENTLY` statement for about 35 min. */
export const PATIENCE: Patience = {
  lockTimeoutMs: 2_000,
  concurrentLockTimeoutMs: 60_000,
  attempts: 30,
  pauseStepMs: 1_000,
};
const LONGEST_PAUSE_STEPS = 10;

export interface MigrateOptions {
  readonly patience?: Patience;
  /** Called with a line of text when migrations wait, or when an index is rebuilt. */
  readonly say?: (line: string) => void;
}

/**
 * Applies the migrations in `prisma/migrations` with Prisma's own engine. So the table `_prisma_migrations` has the
 * content that `prisma migrate deploy` expects. Several processes may call this function concurrently. Each call
 * returns when the migrations are applied. A migration that does not get its locks is rolled back and retried. If an
 * earlier process left a migration unfinished, the function undoes that migration and applies it again. If a failed
 * `CREATE INDEX CONCURRENTLY` left an INVALID index, the function drops the index and builds it again. A script that is
 * a transaction commits together with its record.
 * @returns the names of the migrations that this call applied.
 * @throws StackError when the database does not answer, or a migration fails or does not get its locks.
 */
export async function applyMigrations(
  databaseUrl: string,
  dir = prismaDir,
  { patience = PATIENCE, say = console.error }: MigrateOptions = {},
): Promise<readonly string[]> {
  const client = new Connection({ connectionString: databaseUrl, connectionTimeoutMillis: 10_000 });
  try {
    await client.connect();
  } catch (error) {
    throw new StackError(
      `The database does not answer (${reason(error)}): start it (npm run stack), or check DATABASE_URL.`,
    );
  }
  try {
    await waitForOthers(client, say);
    const before = new Set((await recordsOf(client)).filter(isApplied).map(({ name }) => name));
    const script: { failure?: pg.DatabaseError | undefined } = {};
    const migrationsList = readMigrations(dir);
    const runner: ScriptRunner = {
      toSend: (sql) => withRecord(sql, migrationsList),
      lockTimeoutMs: (sql) => (isConcurrent(sql) ? patience.concurrentLockTimeoutMs : patience.lockTimeoutMs),
      failed: (error) => {
        script.failure = error;
      },
    };
    await client.query(`set lock_timeout = ${patience.concurrentLockTimeoutMs}`);
    await withSchemaEngine(
      databaseUrl,
      (engine) => applyPatiently(client, engine, migrationsList, patience, script, say),
      runner,
    );
    const after = (await recordsOf(client)).filter(isApplied).map(({ name }) => name);
    return after.filter((name) => !before.has(name));
  } catch (error) {
    if (error instanceof StackError) throw error;
    throw new StackError(`The database's migrations cannot be applied: ${engineReason(error)}`, {
      cause: error,
    });
  } finally {
    await client.end();
  }
}

/**
 * Appends a statement to a script that is a transaction. The statement marks the migration's record as finished, so the
 * script and this update commit together. Otherwise, if the process were killed between the script and the update, the
 * migration could not be applied again. The engine has already created the unfinished record, and `undoUnfinished` has
 * closed older records. If the record is no longer unfinished, another process has taken over the migration. In that
 * case, the script fails and changes nothing. A script that belongs to no migration, for example for the engine's own
 * table, is sent unchanged.
 */
function withRecord(script: string, { migrationDirectories }: MigrationList): string {
  // Several migrations may have the same script, but only one of them has an unfinished record.
  const names = migrationDirectories
    .filter(({ migrationFile: { content } }) => content.tag === 'ok' && content.value === script)
    .map(({ path }) => pg.escapeLiteral(path));
  if (names.length === 0 || runsOutsideTransaction(script)) return script;
  return `${script}
;
DO $record$ BEGIN
  UPDATE _prisma_migrations SET finished_at = now()
    WHERE migration_name IN (${names.join(', ')}) AND finished_at IS NULL AND rolled_back_at IS NULL;
  IF NOT FOUND THEN RAISE EXCEPTION 'another process applies this migration'; END IF;
END $record$`;
}

/**
 * Waits until no other process applies migrations. The function polls for nodrop's lock and does not wait inside
 * PostgreSQL. A wait inside PostgreSQL is an open transaction, and a `CREATE INDEX CONCURRENTLY` of the lock's holder
 * would wait for that transaction. After that, the function polls for the lock of Prisma's engine. If a process was
 * killed, PostgreSQL may still run its script, and the connection of that script holds the engine's lock. While the
 * script runs, its result is unknown.
 */
async function waitForOthers(client: Connection, say: (line: string) => void): Promise<void> {
  const wait = async (sql: string, lock: number) => {
    for (let said = false; ; said = true) {
      const { rows } = await client.query(`select ${sql}($1) as mine`, [lock]);
      if (rows[0]?.mine === true) return;
      if (!said) say('Waiting for another process that applies the migrations ...');
      await sleep(TRY_LOCK_EVERY_MS);
    }
  };
  await wait('pg_try_advisory_lock', MIGRATION_LOCK);
  // This lock belongs to the statement's transaction, so PostgreSQL releases it immediately. The engine takes the lock
  // itself later.
  await wait('pg_try_advisory_xact_lock', ENGINE_LOCK);
}

async function applyPatiently(
  client: Connection,
  engine: SchemaEngine,
  migrationsList: MigrationList,
  { attempts, pauseStepMs }: Patience,
  script: { failure?: pg.DatabaseError | undefined },
  say: (line: string) => void,
): Promise<void> {
  for (let attempt = 1; ; attempt += 1) {
    script.failure = undefined;
    try {
      await undoUnfinished(client, engine, migrationsList);
      await rebuildInvalid(client, migrationsList, say);
      await engine.applyMigrations({ migrationsList, filters: NO_FILTER });
      return;
    } catch (error) {
      const failure = error instanceof pg.DatabaseError ? error : script.failure;
      const lostLock = LOCK_FAILURES.has(failure?.code ?? '');
      const open = (await recordsOf(client)).find(isUnfinished)?.name;
      const holder = lostLock ? await oldestTransaction(client) : '';
      // Clean up after the last attempt as well. An INVALID index slows down every write, and `prisma migrate deploy`
      // rejects a failed record. If the clean-up fails, the next attempt or the next start repeats it.
      await undoUnfinished(client, engine, migrationsList).catch(() => {});
      const records = await recordsOf(client);
      // The script failed because its index already exists. `undoUnfinished` has checked the index and recorded the
      // migration as applied.
      if (failure?.code === EXISTS && records.some((it) => it.name === open && isApplied(it))) continue;
      const left = open === undefined ? '' : await whatIsLeft(client, scriptOf(migrationsList, open));
      if (!lostLock && failure !== undefined && open !== undefined) {
        const { message, detail } = failure;
        throw new StackError(
          `The database's migrations cannot be applied: ${open}: ${message}${detail === undefined ? '' : ` (${detail})`}. ${left} Fix the cause, then start again.${ofAnotherVersion(records, migrationsList)}`,
          { cause: error },
        );
      }
      if (!lostLock) throw error;
      const what = open === undefined ? 'A migration' : `The migration ${open}`;
      if (attempt >= attempts) {
        throw new StackError(
          `${what} did not get its locks in ${attempts} attempts${holder}. End that transaction or wait for its end, then start again. ${left}`.trimEnd(),
        );
      }
      say(
        `${what} could not get its locks and will be retried (attempt ${attempt} of ${attempts})${holder}.`,
      );
      await sleep(pauseStepMs * Math.min(attempt, LONGEST_PAUSE_STEPS));
    }
  }
}

/** @returns a sentence about what a failed migration has left in the database. */
async function whatIsLeft(client: Connection, script: string): Promise<string> {
  const nothing = 'Nothing of this migration is in the database.';
  if (!runsOutsideTransaction(script)) return nothing;
  const dropped = droppedIndex(script);
  if (dropped !== undefined) {
    const state = await indexState(client, dropped).catch(() => 'unknown');
    if (state === 'valid') return nothing;
    if (state === 'missing') return `The index ${dropped} is no longer in the database.`;
    return `The index ${dropped} ${state === 'invalid' ? 'is' : 'may be'} INVALID until the next start drops it.`;
  }
  const index = concurrentIndex(script);
  if (index === undefined)
    return 'The changes that it had committed stay in the database, and the next start continues.';
  const { name } = index;
  const state = await indexState(client, name).catch(() => 'unknown');
  if (state === 'missing') return nothing;
  if (state === 'valid') {
    return `The database has a valid index ${name} that may differ from the one that this migration creates: if nothing else needs it, run DROP INDEX CONCURRENTLY "${name}".`;
  }
  return `Its INVALID index ${name} ${state === 'invalid' ? 'is' : 'may be'} still in the database until the next start removes it.`;
}

/**
 * Describes the oldest open transaction, as a part of a sentence. Most likely, this transaction holds the lock that a
 * migration needs.
 */
async function oldestTransaction(client: Connection): Promise<string> {
  const { rows } = await client.query<{ pid: number; application_name: string; seconds: string }>(
    `select pid, coalesce(application_name, '') as application_name,
            floor(extract(epoch from clock_timestamp() - xact_start)) as seconds
       from pg_stat_activity
      where datname = current_database() and pid <> pg_backend_pid() and xact_start is not null
      order by xact_start limit 1`,
  );
  const [oldest] = rows;
  if (oldest === undefined) return '';
  const { pid, application_name: name, seconds } = oldest;
  return `; the oldest transaction belongs to process ${pid}${name === '' ? '' : ` (${name})`}, open for ${seconds} s`;
}

/** A row of Prisma's table `_prisma_migrations`. */
interface MigrationRecord {
  readonly name: string;
  readonly finished: boolean;
  readonly rolledBack: boolean;
}

const isApplied = ({ finished, rolledBack }: MigrationRecord) => finished && !rolledBack;
/**
 * Explains a possible cause of a failed migration. An unreleased commit has migrated this database, and the migrations
 * of that commit may conflict with the failed migration.
 */
function ofAnotherVersion(
  records: readonly MigrationRecord[],
  { migrationDirectories }: MigrationList,
): string {
  const strange = records.find(
    (it) => isApplied(it) && !migrationDirectories.some(({ path }) => path === it.name),
  );
  if (strange === undefined) return '';
  return ` The database has a migration that this version does not have (${strange.name}): see "Upgrades" in docs/operations.md.`;
}
const isUnfinished = ({ finished, rolledBack }: MigrationRecord) => !finished && !rolledBack;

async function recordsOf(client: Connection): Promise<readonly MigrationRecord[]> {
  const { rows: tables } = await client.query("select to_regclass('_prisma_migrations') as name");
  if (tables[0]?.name === null) return [];
  const { rows } = await client.query<MigrationRecord>(
    `select migration_name as name, finished_at is not null as finished, rolled_back_at is not null as "rolledBack"
       from _prisma_migrations order by started_at, migration_name`,
  );
  return rows;
}

const scriptOf = ({ migrationDirectories }: MigrationList, name: string): string => {
  const content = migrationDirectories.find(({ path }) => path === name)?.migrationFile.content;
  return content?.tag === 'ok' ? content.value : '';
};

/**
 * Resets migrations that failed or whose process was killed, so that they can run again. There are three kinds of
 * scripts. A script that is a transaction leaves no changes if its record is unfinished. A `CREATE INDEX CONCURRENTLY`
 * may leave its index. Any other single statement may safely run twice (migration-rules.ts). If the index is valid and
 * equals the index that the script creates, the migration is recorded as applied. This happens if the process or its
 * connection ended before it finished the record, or if a migration process of another release closed the record.
 */
async function undoUnfinished(
  client: Connection,
  engine: SchemaEngine,
  migrationsList: MigrationList,
): Promise<void> {
  for (const { name } of (await recordsOf(client)).filter(isUnfinished)) {
    const script = scriptOf(migrationsList, name);
    const index = concurrentIndex(script);
    const state = index === undefined ? 'missing' : await indexState(client, index.name);
    if (index !== undefined && state === 'valid' && (await isMadeBy(client, index, script))) {
      await engine.markMigrationApplied({ migrationName: name, migrationsList });
      continue;
    }
    if (index !== undefined && state === 'invalid')
      await client.query(`drop index concurrently "${index.name}"`);
    // This update does not use the engine, because the engine first reads the record and then changes it. Between these
    // two steps, a running script could finish the record.
    await client.query(
      `update _prisma_migrations set rolled_back_at = now()
        where migration_name = $1 and finished_at is null and rolled_back_at is null`,
      [name],
    );
  }
}

/**
 * True if the index equals the index that the script creates. To compare both indexes in PostgreSQL's own notation, the
 * function runs the script on an empty temporary copy of the table. Within the transaction, the copy hides the real
 * table.
 */
async function isMadeBy(
  client: Connection,
  { name, table }: ConcurrentIndex,
  script: string,
): Promise<boolean> {
  const definition = async (index: string) => {
    const { rows } = await client.query<{ definition: string; table: boolean }>(
      `select pg_get_indexdef(indexrelid) as definition, indrelid = to_regclass($2) as table
         from pg_index where indexrelid = to_regclass($1)`,
      [index, `"${table}"`],
    );
    return rows[0]?.table === true ? rows[0].definition.replace(/ ON .*? USING /, ' USING ') : undefined;
  };
  const there = await definition(`"${name}"`);
  if (there === undefined) return false;
  await client.query('begin');
  try {
    await client.query(`create temporary table "${table}" (like "${table}")`);
    await client.query(script.replace(/\b(INDEX\s+)CONCURRENTLY\b/i, '$1'));
    return (await definition(`pg_temp."${name}"`)) === there;
  } catch (error) {
    if (error instanceof pg.DatabaseError) return false;
    throw error;
  } finally {
    await client.query('rollback');
  }
}

/**
 * Rebuilds INVALID indexes of migrations that are recorded as applied, for example by `prisma migrate resolve
 * --applied`. Skips indexes that a pending migration drops.
 */
async function rebuildInvalid(
  client: Connection,
  migrationsList: MigrationList,
  say: (line: string) => void,
): Promise<void> {
  const applied = (await recordsOf(client)).filter(isApplied).map(({ name }) => name);
  const dropped = migrationsList.migrationDirectories
    .filter(({ path }) => !applied.includes(path))
    .map(({ path }) => droppedIndex(scriptOf(migrationsList, path)));
  for (const migration of applied) {
    const index = concurrentIndex(scriptOf(migrationsList, migration))?.name;
    if (index === undefined || dropped.includes(index)) continue;
    if ((await indexState(client, index)) !== 'invalid') continue;
    say(`The index ${index} is INVALID: rebuilding it.`);
    // The index is not dropped first. If the rebuild is interrupted, the next start finds the INVALID index and
    // rebuilds it.
    await client.query(`drop index concurrently if exists "${index}_ccnew"`);
    await client.query(`reindex index concurrently "${index}"`);
  }
}

async function indexState(client: Connection, index: string): Promise<'valid' | 'invalid' | 'missing'> {
  const { rows } = await client.query('select indisvalid from pg_index where indexrelid = to_regclass($1)', [
    `"${index}"`,
  ]);
  if (rows[0] === undefined) return 'missing';
  return rows[0].indisvalid === true ? 'valid' : 'invalid';
}

/** The engine's error message in one line, without its stack trace. */
function engineReason(error: unknown): string {
  const message = error instanceof Error ? error.message : String(error);
  return (
    message
      .split(/\n\s+0: /, 1)[0]
      ?.trim()
      .split(/\s*\n\s*/)
      .join(': ') ?? ''
  );
}

/** Reads the migrations, oldest first, in the engine's format. */
export function readMigrations(dir = prismaDir): MigrationList {
  const baseDir = join(dir, 'migrations');
  const names = readdirSync(baseDir, { withFileTypes: true })
    .filter((entry) => entry.isDirectory())
    .map(({ name }) => name)
    .sort();
  return {
    baseDir,
    lockfile: {
      path: 'migration_lock.toml',
      content: readFileSync(join(baseDir, 'migration_lock.toml'), 'utf8'),
    },
    migrationDirectories: names.map((name) => ({
      path: name,
      migrationFile: {
        path: 'migration.sql',
        content: { tag: 'ok', value: readFileSync(join(baseDir, name, 'migration.sql'), 'utf8') },
      },
    })),
    shadowDbInitScript: '',
  };
}
