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

/** `prisma/` of this work tree. */
export const prismaDir = fileURLToPath(new URL('../../prisma', import.meta.url));

/** Any number that no other advisory lock of ours uses. */
const MIGRATION_LOCK = 0x6e6f6472;
/** The engine's own lock, on the connection that runs the scripts. */
const ENGINE_LOCK = 72707369;
/** SQLSTATE of a relation that exists already. */
const EXISTS = '42P07';
/** SQLSTATEs of a lock time-out and a deadlock. */
const GAVE_WAY = new Set(['55P03', '40P01']);
const ASK_FOR_TURN_EVERY_MS = 200;

/** For how long migrations wait for locks, and how often they give way to those who hold them. */
export interface Patience {
  /**
   * A statement's wait for a lock, in ms. A write that comes after it waits behind it for as long: shorter than the
   * time-outs of the ledger's client, and longer than `deadlock_timeout` (1 s), after which PostgreSQL ends an autovacuum
   * that is in the way.
   */
  readonly lockTimeoutMs: number;
  /**
   * The same for `CONCURRENTLY`, in ms: no write waits behind it, and what it has built is lost when it gives up. It
   * waits for all transactions that are older than itself.
   */
  readonly concurrentLockTimeoutMs: number;
  readonly attempts: number;
  /** After each attempt one step more up to ten, in ms: those who were kept waiting get on meanwhile. */
  readonly pauseStepMs: number;
}

/** About 6 min, and 35 min for an index. */
export const PATIENCE: Patience = {
  lockTimeoutMs: 2_000,
  concurrentLockTimeoutMs: 60_000,
  attempts: 30,
  pauseStepMs: 1_000,
};
const LONGEST_PAUSE_STEPS = 10;

export interface MigrateOptions {
  readonly patience?: Patience;
  /** Gets a line when it takes longer. */
  readonly say?: (line: string) => void;
}

/**
 * Brings the database up to the migrations in `prisma/migrations`, by Prisma's own engine: its `_prisma_migrations`
 * table is what `prisma migrate deploy` expects. Several processes may do it at once; all return when it is done.
 * A migration that does not get its locks is rolled back and tried again; what an earlier process left half done, or a
 * failed `CREATE INDEX CONCURRENTLY` left INVALID, is removed and done again. A script that is a transaction commits
 * together with its record.
 * @returns the names of the migrations applied by this call.
 * @throws StackError when the database does not answer, a migration fails, or does not get its locks.
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
    await waitForTurn(client, say);
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
 * A migration's script as it is sent: one that is a transaction records its end within it. Else a process that is killed
 * between the script and its record would leave a migration that cannot be applied again. The engine opened the record
 * just before, and `undoUnfinished` closed older ones. When it is not open any more, another process has taken the
 * migration over, and this script must leave nothing.
 * The engine runs other scripts as well, to make its table for example.
 */
function withRecord(script: string, { migrationDirectories }: MigrationList): string {
  // Two migrations may have the same script; one of them is open.
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
 * One process at a time. It asks again and again: while it waited inside of PostgreSQL for the lock, it would be an
 * open transaction that the `CREATE INDEX CONCURRENTLY` of the lock's holder waits for.
 * PostgreSQL goes on with the script of a killed process. That connection has the engine's lock, and its end is waited
 * for as well: what it leaves is not known before.
 */
async function waitForTurn(client: Connection, say: (line: string) => void): Promise<void> {
  const wait = async (sql: string, lock: number) => {
    for (let said = false; ; said = true) {
      const { rows } = await client.query(`select ${sql}($1) as mine`, [lock]);
      if (rows[0]?.mine === true) return;
      if (!said) say('Waiting for another process that applies the migrations ...');
      await sleep(ASK_FOR_TURN_EVERY_MS);
    }
  };
  await wait('pg_try_advisory_lock', MIGRATION_LOCK);
  // Given back at once: the engine takes it itself.
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
      await remakeInvalid(client, migrationsList, say);
      await engine.applyMigrations({ migrationsList, filters: NO_FILTER });
      return;
    } catch (error) {
      const failure = error instanceof pg.DatabaseError ? error : script.failure;
      const gaveWay = GAVE_WAY.has(failure?.code ?? '');
      const open = (await recordsOf(client)).find(isUnfinished)?.name;
      const holder = gaveWay ? await oldestTransaction(client) : '';
      // Also at the end: an INVALID index costs every write, and `prisma migrate deploy` refuses a failed record. What
      // cannot be undone now is undone by the next attempt, or the next start.
      await undoUnfinished(client, engine, migrationsList).catch(() => {});
      const records = await recordsOf(client);
      // The index was there, and has been taken for the migration's.
      if (failure?.code === EXISTS && records.some((it) => it.name === open && isApplied(it))) continue;
      const left = open === undefined ? '' : await whatIsLeft(client, scriptOf(migrationsList, open));
      if (!gaveWay && failure !== undefined && open !== undefined) {
        const { message, detail } = failure;
        throw new StackError(
          `The database's migrations cannot be applied: ${open}: ${message}${detail === undefined ? '' : ` (${detail})`}. ${left} Mend the cause, then start again.${ofAnotherVersion(records, migrationsList)}`,
          { cause: error },
        );
      }
      if (!gaveWay) throw error;
      const what = open === undefined ? 'A migration' : `The migration ${open}`;
      if (attempt >= attempts) {
        throw new StackError(
          `${what} did not get its locks in ${attempts} attempts${holder}: end that transaction or wait for its end, then start again. ${left}`.trimEnd(),
        );
      }
      say(`${what} gives way to those who hold its locks (attempt ${attempt} of ${attempts})${holder}.`);
      await sleep(pauseStepMs * Math.min(attempt, LONGEST_PAUSE_STEPS));
    }
  }
}

/** What a migration that failed has left in the database, in a sentence. */
async function whatIsLeft(client: Connection, script: string): Promise<string> {
  const nothing = 'Nothing of this migration is in the database.';
  if (!runsOutsideTransaction(script)) return nothing;
  const dropped = droppedIndex(script);
  if (dropped !== undefined) {
    const state = await indexState(client, dropped).catch(() => 'unknown');
    if (state === 'valid') return nothing;
    if (state === 'missing') return `The index ${dropped} is not in the database any more.`;
    return `The index ${dropped} ${state === 'invalid' ? 'is' : 'may be'} INVALID, until the next start drops it.`;
  }
  const index = concurrentIndex(script);
  if (index === undefined) return 'What it had committed stays in the database, and the next start goes on.';
  const { name } = index;
  const state = await indexState(client, name).catch(() => 'unknown');
  if (state === 'missing') return nothing;
  if (state === 'valid') {
    return `The valid index ${name} in the database is not known to be what this migration makes: when nothing else needs it, run DROP INDEX CONCURRENTLY "${name}".`;
  }
  return `Its INVALID index ${name} ${state === 'invalid' ? 'is' : 'may be'} still in the database, until the next start removes it.`;
}

/** Whom a migration most likely waits for, as a part of a sentence. */
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
  return `; the oldest transaction is of process ${pid}${name === '' ? '' : ` (${name})`}, open for ${seconds} s`;
}

/** A row of Prisma's table. */
interface MigrationRecord {
  readonly name: string;
  readonly finished: boolean;
  readonly rolledBack: boolean;
}

const isApplied = ({ finished, rolledBack }: MigrationRecord) => finished && !rolledBack;
/** What explains the failure of a migration on a database that an unreleased commit made, as a sentence; or nothing. */
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
 * Migrations that failed, or whose process was killed in the middle. A script is a transaction, of which nothing is there
 * unless its record is finished; or a `CREATE INDEX CONCURRENTLY`, which leaves its index; or one statement that can run
 * again (migration-rules.ts). So it can run again. A valid index that is what the script makes is taken for the
 * migration's: its process or its connection ended before the record, or another release's migrate closed the record.
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
    // Not by the engine, which reads the record before: a script that is still running may finish it in between.
    await client.query(
      `update _prisma_migrations set rolled_back_at = now()
        where migration_name = $1 and finished_at is null and rolled_back_at is null`,
      [name],
    );
  }
}

/**
 * Whether the index is what the script makes. PostgreSQL writes the script's definition as it writes the index's when it
 * has made the same on an empty copy of the table, which hides the table in this transaction.
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
 * INVALID indexes of migrations that are recorded as applied, by `prisma migrate resolve --applied` for example; not those
 * that a migration drops next.
 */
async function remakeInvalid(
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
    say(`The index ${index} is INVALID: it is made again.`);
    // Not dropped first: without an index nobody would see that one is missing when this is interrupted, too.
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

/** The engine's message in one line, without its trace. */
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

/** The migrations as the engine wants them, oldest first. */
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
