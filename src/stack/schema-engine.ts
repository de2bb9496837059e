import { randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { PrismaPg } from '@prisma/adapter-pg';
import {
  bindMigrationAwareSqlAdapterFactory,
  ColumnTypeEnum,
  DriverAdapterError,
  type SqlResultSet,
} from '@prisma/driver-adapter-utils';
import * as engine from '@prisma/schema-engine-wasm/schema_engine_bg';
import pg from 'pg';
import { ConnectionPool } from '../ledger/connection.ts';

/** A filter that excludes nothing, because the schema manages all tables and enums. */
export const NO_FILTER = { externalTables: [], externalEnums: [] };

/**
 * The part of the global `WebAssembly` that this file uses. Node's types do not have it, because it belongs to the
 * types of the DOM.
 */
interface WebAssemblyApi {
  Module: new (code: Uint8Array) => object;
  Instance: new (module: object, imports: object) => { exports: { __wbindgen_start(): void } };
}

let loaded = false;

/**
 * Loads the engine. The engine's JavaScript is made for bundlers, so on Node 20 its WebAssembly module must be
 * instantiated explicitly.
 */
function load() {
  if (loaded) return;
  const script = createRequire(import.meta.url).resolve('@prisma/schema-engine-wasm/schema_engine_bg');
  const { WebAssembly } = globalThis as unknown as { WebAssembly: WebAssemblyApi };
  const module = new WebAssembly.Module(readFileSync(script.replace(/\.js$/, '.wasm')));
  const { exports } = new WebAssembly.Instance(module, {
    './schema_engine_bg.js': { ...engine, ...looseTimers() },
  });
  engine.__wbg_set_wasm(exports);
  exports.__wbindgen_start();
  loaded = true;
}

/**
 * Lets the process exit although the engine leaves a timer of 10 s running. This timer limits how long the engine waits
 * for a lock. While the engine works, its connections keep the process alive. The name of the import that starts the
 * timer contains a number that changes with the engine's version.
 */
function looseTimers() {
  const timers = Object.entries(engine).filter(([name]) => name.startsWith('__wbg_setTimeout_'));
  return Object.fromEntries(
    timers.map(([name, start]) => [
      name,
      (...args: unknown[]) => (start as (...args: unknown[]) => NodeJS.Timeout)(...args).unref(),
    ]),
  );
}

/** Runs `use` with Prisma's schema engine on the database, and closes its connections. */
export async function withSchemaEngine<T>(
  databaseUrl: string,
  use: (engine: engine.SchemaEngine) => Promise<T>,
  runner = PLAIN,
): Promise<T> {
  load();
  const factory = new WholeScriptsFactory(databaseUrl, runner);
  const adapter = bindMigrationAwareSqlAdapterFactory(factory);
  try {
    const opened = await engine.SchemaEngine.new({ datamodels: undefined }, () => {}, adapter);
    try {
      return await use(opened);
    } finally {
      opened.free();
    }
  } finally {
    await factory.close();
  }
}

/** PostgreSQL's type ids of "char" and text. */
const CHAR_TYPE = 18;
const TEXT_TYPE = 25;
/**
 * Prefix that marks a column name while the result passes through the adapter. A name in SQL cannot contain this
 * character.
 */
const CHAR_MARK = '\0';

/**
 * The engine reads system catalogs, which have columns of type "char", and the adapter rejects that type. This pool
 * changes the type of such columns to text and marks their names. `restoreCharColumns` restores the type and the name.
 */
class CatalogPool extends ConnectionPool {
  override query = (async (...args: Parameters<pg.Pool['query']>) => {
    const result = await (super.query(...args) as unknown as Promise<pg.QueryResult | pg.QueryResult[]>);
    for (const field of [result].flat().flatMap(({ fields }) => fields)) {
      if (field.dataTypeID !== CHAR_TYPE) continue;
      field.dataTypeID = TEXT_TYPE;
      field.name = CHAR_MARK + field.name;
    }
    return result;
    // The pool's other overloads, which are for callbacks and cursors, are left out, because the adapter does not use
    // them.
  }) as pg.Pool['query'];

  readonly #open = new Set<pg.PoolClient>();

  constructor(config: pg.PoolConfig) {
    super(config);
    this.on('connect', (client) => this.#open.add(client));
    this.on('remove', (client) => this.#open.delete(client));
  }

  /**
   * Ends the pool and waits until its connections are closed. `end` does not wait for them, and PostgreSQL drops a
   * database only after its connections are closed.
   */
  async close(): Promise<void> {
    await this.end();
    // `once` of node:events is not used, because it would reject if the pool reported an error of an idle connection.
    while (this.#open.size > 0) await new Promise((resolve) => this.once('remove', resolve));
  }
}

function restoreCharColumns({ columnNames, columnTypes, ...rest }: SqlResultSet): SqlResultSet {
  const isChar = columnNames.map((name) => name.startsWith(CHAR_MARK));
  return {
    ...rest,
    columnNames: columnNames.map((name) => name.replace(CHAR_MARK, '')),
    columnTypes: columnTypes.map((type, index) => (isChar[index] ? ColumnTypeEnum.Character : type)),
  };
}

/** Functions that are called when a script of a migration runs. */
export interface ScriptRunner {
  /** @returns the SQL that is sent instead of the engine's script. */
  toSend(script: string): string;
  /** Lock timeout for statements of this script, in ms; 0 means no timeout. */
  lockTimeoutMs(script: string): number;
  /** Called with PostgreSQL's error when a script fails. The engine's own error omits most of it. */
  failed(error: pg.DatabaseError): void;
}

const PLAIN: ScriptRunner = { toSend: (script) => script, lockTimeoutMs: () => 0, failed: () => {} };

type Adapter = Awaited<ReturnType<PrismaPg['connect']>>;

/**
 * The standard adapter splits scripts at every semicolon and runs the parts one by one. This breaks function bodies,
 * and a failure leaves a half-applied migration. The adapter of this class sends a script as a whole, as Prisma's
 * binary does. PostgreSQL then runs the script as one transaction. A script with a single statement runs outside a
 * transaction block, which `CREATE INDEX CONCURRENTLY` and `COMMIT` in a `DO` block need. The standard adapter also
 * cannot drop shadow databases, because it holds connections to them. `close` drops them here.
 */
class WholeScriptsFactory extends PrismaPg {
  readonly #url: string;
  readonly #pool: CatalogPool;
  readonly #runner: ScriptRunner;
  readonly #shadows: { readonly name: string; readonly pool: CatalogPool }[] = [];

  constructor(url: string, runner: ScriptRunner) {
    // The pool has only one connection. On a second connection, the engine would wait for the advisory lock that its
    // first connection holds.
    const pool = new CatalogPool({ connectionString: url, connectionTimeoutMillis: 10_000, max: 1 });
    super(pool);
    this.#url = url;
    this.#pool = pool;
    this.#runner = runner;
  }

  override async connect(): Promise<Adapter> {
    return adapt(await super.connect(), this.#pool, this.#runner);
  }

  /** Creates the scratch database in which the engine applies the migrations to compare their result. */
  override async connectToShadowDb(): Promise<Adapter> {
    const name = `nodrop_shadow_${randomUUID().replaceAll('-', '')}`;
    await this.#pool.query(`create database ${name}`);
    const url = new URL(this.#url);
    url.pathname = `/${name}`;
    const pool = new CatalogPool({ connectionString: url.href });
    this.#shadows.push({ name, pool });
    return adapt(await new PrismaPg(pool).connect(), pool, PLAIN);
  }

  async close(): Promise<void> {
    try {
      for (const { name, pool } of this.#shadows) {
        await pool.close();
        await this.#pool.query(`drop database ${name}`);
      }
    } finally {
      await this.#pool.close();
    }
  }
}

function adapt(adapter: Adapter, pool: pg.Pool, runner: ScriptRunner): Adapter {
  const queryRaw = adapter.queryRaw.bind(adapter);
  adapter.queryRaw = async (query) => restoreCharColumns(await queryRaw(query));
  adapter.executeScript = async (script) => {
    const client = await pool.connect();
    try {
      // The setting and the script are sent separately. In one script, CREATE INDEX CONCURRENTLY would run in a
      // transaction block, which PostgreSQL refuses.
      await client.query(`set lock_timeout = ${runner.lockTimeoutMs(script)}`);
      await client.query(runner.toSend(script));
    } catch (error) {
      if (!(error instanceof pg.DatabaseError)) throw error;
      runner.failed(error);
      const { code = '', severity = 'ERROR', message, detail, column, hint } = error;
      throw new DriverAdapterError({ kind: 'postgres', code, severity, message, detail, column, hint });
    } finally {
      client.release();
    }
  };
  return adapter;
}
