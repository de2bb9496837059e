import { randomUUID } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { TestWorkflowEnvironment } from '@temporalio/testing';
import { afterAll, afterEach, beforeAll, beforeEach, inject, type ProvidedContext } from 'vitest';
import { createLedgerClient, type LedgerClient } from '../../src/ledger/client.ts';
import { Connection } from '../../src/ledger/connection.ts';
import { freePort as anyFreePort } from '../../src/stack/ports.ts';
import { Supervisor } from '../../src/stack/supervisor.ts';
import { startTemporal as startTemporalServer } from '../../src/stack/temporal-server.ts';
import { KEYWORD, SEARCH_ATTRIBUTES } from '../../src/temporal/search-attributes.ts';
import { startEnvironment } from './own-server.ts';
import { NET_MS, type Watched, watch } from './progress.ts';

export { eventually } from './progress.ts';

/**
 * Finds a free port. No other running test file gets the same port, because each vitest worker has its own
 * range of ports.
 */
export async function freePort(): Promise<number> {
  const worker = Number(process.env.VITEST_POOL_ID) % PORT_CLASSES;
  for (;;) {
    const port = await anyFreePort();
    if (port % PORT_CLASSES === worker) return port;
  }
}
/** This number is at least the number of vitest workers. */
const PORT_CLASSES = 8;

/**
 * The prefix of the tests' temporary data folders. If a run is killed, the next run finds its folders by this
 * prefix and removes them.
 */
export const HOME_PREFIX = 'nodrop-test-';

/** The migrated database from which `freshDatabase` makes copies. */
export const TEMPLATE = 'nodrop_template';

/** The supervisor of the processes in a data folder. The processes may take any time to start. */
export const supervise = (home: string): Promise<Supervisor> => Supervisor.claim(home, console.error, NET_MS);

/** Creates a new data folder under the system's temporary folder. */
export function temporaryHome(): string {
  return mkdtempSync(join(tmpdir(), HOME_PREFIX));
}

/** A tool with its path, or the reason why the tests do not have the tool. */
export type Tool = { readonly path: string } | { readonly missing: string };

/** The path of the `temporal` program. @throws when this machine does not have it */
export const temporalCli = (): string => pathOf(provided('temporalCli'));

/**
 * A value that global-setup.ts provides.
 * @throws in a test file that is declared to need no server
 */
function provided<Name extends 'postgresUrl' | 'temporalCli' | 'testServer'>(
  name: Name,
): ProvidedContext[Name] {
  const value: ProvidedContext[Name] | undefined = inject(name);
  if (value === undefined)
    throw new Error('This file needs a server: exclude it from PURE in vitest.config.ts.');
  return value;
}

function pathOf(tool: Tool): string {
  if ('missing' in tool) throw new Error(tool.missing);
  return tool.path;
}

/** Runs one statement on its own connection. */
export async function queryOnce(url: string, sql: string): Promise<Record<string, unknown>[]> {
  const client = new Connection({ connectionString: url });
  await client.connect();
  try {
    return (await client.query(sql)).rows;
  } finally {
    await client.end();
  }
}

/**
 * Ends this many connections to the database as they appear, whatever they are doing. Stops early when `isOver`
 * returns true.
 * @param name if given, only connections with this application name are ended
 */
export async function endConnections(
  url: string,
  count: number,
  isOver: () => boolean,
  name?: string,
): Promise<void> {
  const client = new Connection({ connectionString: url });
  await client.connect();
  try {
    for (let ended = 0; ended < count && !isOver(); ) {
      const { rowCount } = await client.query(
        `select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database()
           and pid <> pg_backend_pid() and ($1::text is null or application_name = $1)`,
        [name],
      );
      ended += rowCount ?? 0;
    }
  } finally {
    await client.end();
  }
}

/** Sets the time zone for connections that do not set one. */
export async function setTimeZone(url: string, zone: string): Promise<void> {
  await queryOnce(url, `ALTER DATABASE ${new URL(url).pathname.slice(1)} SET timezone = '${zone}'`);
}

export interface FreshDatabase {
  readonly url: string;
  /** Drops the database even if connections to it are open. */
  drop(): Promise<void>;
}

/**
 * Creates a database with all migrations and no rows. For a test that needs a second database besides the database of
 * its file.
 */
export async function freshDatabase(): Promise<FreshDatabase> {
  return await created(newDatabase(`template ${TEMPLATE}`));
}

/** Creates an empty database. */
export async function emptyDatabase(): Promise<FreshDatabase> {
  return await created(newDatabase(''));
}

interface NewDatabase extends FreshDatabase {
  create(): Promise<void>;
}

/** A database that will be created later. */
function newDatabase(options: string): NewDatabase {
  const server = provided('postgresUrl');
  const name = `test_${randomUUID().replaceAll('-', '')}`;
  const run = async (sql: string) => void (await queryOnce(`${server}/postgres`, sql));
  return {
    url: `${server}/${name}`,
    create: () => run(`create database ${name} ${options}`),
    drop: () => run(`drop database ${name} with (force)`),
  };
}

async function created(database: NewDatabase): Promise<FreshDatabase> {
  await database.create();
  return database;
}

export interface UsedDatabase {
  readonly databaseUrl: string;
  readonly db: LedgerClient;
  /**
   * Creates another client, as a second process would.
   * @param name its application name
   */
  connect(name?: string): LedgerClient;
}

/**
 * Gives the tests of this file or `describe` a migrated database without rows, and clients of its ledger. Hooks that
 * are registered later can use the database. The database is dropped after the teardown of these hooks.
 * @param options.perTest each test gets its own database, so each test must read the fields of the result again
 */
export function useDatabase({ perTest = false } = {}): UsedDatabase {
  const used = {} as { -readonly [Field in keyof UsedDatabase]: UsedDatabase[Field] };
  let database: NewDatabase;
  let clients: LedgerClient[];
  // A client connects at its first query, so it can be created before its database.
  const prepare = () => {
    database = newDatabase(`template ${TEMPLATE}`);
    clients = [];
    used.databaseUrl = database.url;
    used.connect = (name) => {
      const client = createLedgerClient(used.databaseUrl, name);
      clients.push(client);
      return client;
    };
    used.db = used.connect();
  };
  prepare();
  const [before, after] = perTest ? [beforeEach, afterEach] : [beforeAll, afterAll];
  before(async () => await database.create());
  after(async () => {
    await Promise.all(clients.map((client) => client.$disconnect()));
    await database.drop();
    if (perTest) prepare();
  });
  return used;
}

export interface TestTemporal {
  /** host:port */
  readonly address: string;
  readonly namespace: string;
  readonly uiUrl: string;
  stop(): Promise<void>;
}

/**
 * Starts Temporal's development server with nodrop's settings and search attributes, on free ports and a temporary
 * file.
 */
export async function startTemporal(): Promise<TestTemporal> {
  const home = temporaryHome();
  const supervisor = await supervise(home);
  const stop = async () => {
    await supervisor.stop();
    rmSync(home, { recursive: true, force: true });
  };
  try {
    const [port, uiPort] = [await freePort(), await freePort()];
    await startTemporalServer(supervisor, home, { port, uiPort }, temporalCli());
    return { address: `127.0.0.1:${port}`, namespace: 'default', uiUrl: `http://127.0.0.1:${uiPort}`, stop };
  } catch (error) {
    await stop();
    throw error;
  }
}

/**
 * Starts the time-skipping server with nodrop's search attributes. Each test file starts its own server, and
 * calls `teardown()` at its end.
 */
export async function timeSkippingEnvironment(
  launcher = pathOf(provided('testServer')),
): Promise<TestWorkflowEnvironment> {
  const port = await freePort();
  const environment = await startEnvironment([launcher, String(port)], port, (address) =>
    // biome-ignore lint/complexity/useLiteralKeys: private. No public function connects and also skips time.
    TestWorkflowEnvironment['create']({
      server: { type: 'existing' },
      address,
      supportsTimeSkipping: true,
    }),
  );
  await addSearchAttributes(environment);
  return environment;
}

/**
 * Starts the development server with a limit of history events. Above the limit, the server suggests
 * continue-as-new.
 */
export async function soonRenewingEnvironment(events: number): Promise<TestWorkflowEnvironment> {
  return await realEnvironment([
    '--dynamic-config-value',
    `limit.historyCount.suggestContinueAsNew=${events}`,
  ]);
}

/** Starts the development server with additional arguments. */
export async function realEnvironment(extraArgs: string[] = []): Promise<TestWorkflowEnvironment> {
  const port = await freePort();
  const environment = await startEnvironment(
    [
      temporalCli(),
      ...['server', 'start-dev', '--ip', '127.0.0.1', '--port', String(port), '--headless'],
      ...['--log-level', 'error', ...extraArgs],
    ],
    port,
    (address) => TestWorkflowEnvironment.createFromExistingServer({ address }),
  );
  await addSearchAttributes(environment);
  return environment;
}

/** The time-skipping server can add search attributes, but cannot list the existing ones. */
async function addSearchAttributes({ connection, namespace }: TestWorkflowEnvironment): Promise<void> {
  await connection.operatorService.addSearchAttributes({
    namespace: namespace ?? 'default',
    searchAttributes: Object.fromEntries(SEARCH_ATTRIBUTES.map((name) => [name, KEYWORD])),
  });
}

/** Counts rows by their state. The progress of polls is not part of the state. */
const LEDGER_STATE = `
  select what, count(*)::int as rows from (
    select concat_ws(' ', 'order', status) as what from orders
    union all select concat_ws(' ', 'payment', status, order_update, channel_state, attention,
      'received', received_amount, 'refunded', refunded_amount) from payments
    union all select concat_ws(' ', 'refund', status) from refunds
    union all select concat_ws(' ', 'callback', case when delivered_at is not null then 'delivered' end) from callbacks
    union all select concat_ws(' ', 'delivery', status) from deliveries
    union all select 'attempt of a delivery' from delivery_attempts
    union all select 'line of a timeline' from timeline
  ) as ledger group by what order by what`;

/**
 * As long as this ledger changes, `eventually` continues to wait.
 * @returns a function that stops watching the ledger
 */
export function watchLedger(url: string, pids?: Watched['pids']): () => void {
  return watch({
    name: 'ledger',
    look: async () =>
      Object.fromEntries((await queryOnce(url, LEDGER_STATE)).map(({ what, rows }) => [what, rows])),
    ...(pids === undefined ? {} : { pids }),
  });
}
