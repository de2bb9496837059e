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

/** No table or enum is managed outside the schema. */
export const NO_FILTER = { externalTables: [], externalEnums: [] };

/** What is used of the global of this name, which Node's types leave to the DOM's. */
interface WebAssemblyApi {
  Module: new (code: Uint8Array) => object;
  Instance: new (module: object, imports: object) => { exports: { __wbindgen_start(): void } };
}

let loaded = false;

/** The engine comes as WebAssembly made for bundlers; Node 20 has to be handed the module. */
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
 * The engine bounds its wait for a lock by a timer of 10 s and leaves it behind, which kept the process running after its
 * work. While the engine works, its connections do that. The number in the import's name changes with its versions.
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

/** PostgreSQL's numbers for the types "char" and text. */
const CHAR_TYPE = 18;
const TEXT_TYPE = 25;
/** Put before a column's name on its way through the adapter; no SQL name can hold it. */
const CHAR_MARK = '\0';

/**
 * The system catalogs, which the engine reads, hold "char" columns, a type the adapter refuses. They pass it as marked
 * text; `restoreCharColumns` makes them what the engine expects.
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
    // The other overloads, for callbacks and cursors, are not used by the adapter.
  }) as pg.Pool['query'];
}

function restoreCharColumns({ columnNames, columnTypes, ...rest }: SqlResultSet): SqlResultSet {
  const isChar = columnNames.map((name) => name.startsWith(CHAR_MARK));
  return {
    ...rest,
    columnNames: columnNames.map((name) => name.replace(CHAR_MARK, '')),
    columnTypes: columnTypes.map((type, index) => (isChar[index] ? ColumnTypeEnum.Character : type)),
  };
}

/** How the scripts of migrations are run. */
export interface ScriptRunner {
  /** What is sent for a script of the engine's. */
  toSend(script: string): string;
  /** How long a statement of this script may wait for a lock, in ms; 0 is without end. */
  lockTimeoutMs(script: string): number;
  /** Gets what PostgreSQL said when a script failed: the engine's error leaves out the most of it. */
  failed(error: pg.DatabaseError): void;
}

const PLAIN: ScriptRunner = { toSend: (script) => script, lockTimeoutMs: () => 0, failed: () => {} };

type Adapter = Awaited<ReturnType<PrismaPg['connect']>>;

/**
 * The plain adapter cuts scripts at every semicolon and runs the pieces one by one, which breaks functions and leaves
 * half a migration behind a failure. Sent whole, as Prisma's own binary does, a script is one transaction; a script of one
 * statement is that statement outside of any transaction block, which `CREATE INDEX CONCURRENTLY` and `COMMIT` in a `DO`
 * need.
 * It also fails to drop shadow databases, because it holds connections to them; ours are dropped at the end.
 */
class WholeScriptsFactory extends PrismaPg {
  readonly #url: string;
  readonly #pool: pg.Pool;
  readonly #runner: ScriptRunner;
  readonly #shadows: { readonly name: string; readonly pool: pg.Pool }[] = [];

  constructor(url: string, runner: ScriptRunner) {
    // One connection: on another one the engine would wait for the advisory lock that it took itself before.
    const pool = new CatalogPool({ connectionString: url, connectionTimeoutMillis: 10_000, max: 1 });
    super(pool);
    this.#url = url;
    this.#pool = pool;
    this.#runner = runner;
  }

  override async connect(): Promise<Adapter> {
    return adapt(await super.connect(), this.#pool, this.#runner);
  }

  /** The engine's scratch database, to see what the migrations make. */
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
    for (const { name, pool } of this.#shadows) {
      await pool.end();
      await this.#pool.query(`drop database ${name}`);
    }
    await this.#pool.end();
  }
}

function adapt(adapter: Adapter, pool: pg.Pool, runner: ScriptRunner): Adapter {
  const queryRaw = adapter.queryRaw.bind(adapter);
  adapter.queryRaw = async (query) => restoreCharColumns(await queryRaw(query));
  adapter.executeScript = async (script) => {
    const client = await pool.connect();
    try {
      // By itself: in one script with it, CREATE INDEX CONCURRENTLY would be in a transaction block.
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
