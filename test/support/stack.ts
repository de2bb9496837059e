import { randomUUID } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { TestWorkflowEnvironment } from '@temporalio/testing';
import pg from 'pg';
import { inject } from 'vitest';
import { type Config, loadConfig } from '../../src/config.ts';
import { freePort as anyFreePort } from '../../src/stack/ports.ts';
import { KEYWORD, SEARCH_ATTRIBUTES } from '../../src/stack/search-attributes.ts';
import { Supervisor } from '../../src/stack/supervisor.ts';
import { startTemporal as startTemporalServer } from '../../src/stack/temporal.ts';
import { findTemporalCli, findTestServer } from '../../src/stack/tools.ts';

/** A free port that no other test file at work draws: each of vitest's workers has its own. */
export async function freePort(): Promise<number> {
  const worker = Number(process.env.VITEST_POOL_ID) % PORT_CLASSES;
  for (;;) {
    const port = await anyFreePort();
    if (port % PORT_CLASSES === worker) return port;
  }
}
/** More than there are workers. */
const PORT_CLASSES = 8;

/** Temporary data folders of the tests start so; the next run removes those of a killed one. */
export const HOME_PREFIX = 'nodrop-test-';

/** The migrated database that `freshDatabase` clones. */
export const TEMPLATE = 'nodrop_template';

/** A new data folder under the system's temporary folder. */
export function temporaryHome(): string {
  return mkdtempSync(join(tmpdir(), HOME_PREFIX));
}

/** Where the tools are, from the environment as every program reads it. */
export function toolSettings(): Config['stack'] {
  const home = temporaryHome();
  try {
    return loadConfig({ ...process.env, NODROP_HOME: home }).stack;
  } finally {
    rmSync(home, { recursive: true, force: true });
  }
}

/** Runs one statement on a connection of its own. */
export async function queryOnce(url: string, sql: string): Promise<Record<string, unknown>[]> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    return (await client.query(sql)).rows;
  } finally {
    await client.end();
  }
}

export interface FreshDatabase {
  readonly url: string;
  /** Removes it, whoever is still connected. */
  drop(): Promise<void>;
}

/** A database of its own with all migrations applied and no rows. */
export async function freshDatabase(): Promise<FreshDatabase> {
  return createDatabase(`template ${TEMPLATE}`);
}

/** A database of its own with nothing in it. */
export async function emptyDatabase(): Promise<FreshDatabase> {
  return createDatabase('');
}

async function createDatabase(options: string): Promise<FreshDatabase> {
  const server = inject('postgresUrl');
  const name = `test_${randomUUID().replaceAll('-', '')}`;
  await queryOnce(`${server}/postgres`, `create database ${name} ${options}`);
  return {
    url: `${server}/${name}`,
    drop: async () => {
      await queryOnce(`${server}/postgres`, `drop database ${name} with (force)`);
    },
  };
}

export interface TestTemporal {
  /** host:port */
  readonly address: string;
  readonly namespace: string;
  readonly uiUrl: string;
  stop(): Promise<void>;
}

/** The real development server with our settings and search attributes, on free ports and a temporary file. */
export async function startTemporal(): Promise<TestTemporal> {
  const home = temporaryHome();
  const supervisor = await Supervisor.claim(home);
  const stop = async () => {
    await supervisor.stop();
    rmSync(home, { recursive: true, force: true });
  };
  try {
    const [port, uiPort] = [await freePort(), await freePort()];
    await startTemporalServer(supervisor, home, { port, uiPort }, await findTemporalCli(toolSettings()));
    return { address: `127.0.0.1:${port}`, namespace: 'default', uiUrl: `http://127.0.0.1:${uiPort}`, stop };
  } catch (error) {
    await stop();
    throw error;
  }
}

/** The SDK gives a server five seconds to start, in which a Java machine may not have come to it on a busy computer. */
async function startTestServer(path: string): Promise<TestWorkflowEnvironment> {
  for (let tries = 1; ; tries += 1) {
    try {
      return await TestWorkflowEnvironment.createTimeSkipping({
        server: { executable: { type: 'existing-path', path } },
      });
    } catch (error) {
      if (tries === 10 || !/did not start within/.test(String(error))) throw error;
    }
  }
}

/** The time-skipping server with our search attributes; one per test file, and `teardown()` at its end. */
export async function timeSkippingEnvironment(): Promise<TestWorkflowEnvironment> {
  const environment = await startTestServer(await findTestServer(toolSettings()));
  await addSearchAttributes(environment);
  return environment;
}

/** The real development server, which suggests a new run after so few events. */
export async function soonRenewingEnvironment(events: number): Promise<TestWorkflowEnvironment> {
  return await realEnvironment([
    '--dynamic-config-value',
    `limit.historyCount.suggestContinueAsNew=${events}`,
  ]);
}

/** The real development server, with further arguments. */
export async function realEnvironment(extraArgs: string[] = []): Promise<TestWorkflowEnvironment> {
  const path = await findTemporalCli(toolSettings());
  const environment = await TestWorkflowEnvironment.createLocal({
    server: {
      executable: { type: 'existing-path', path },
      extraArgs,
    },
  });
  await addSearchAttributes(environment);
  return environment;
}

/** The time-skipping server knows how to add them, and not how to list them. */
async function addSearchAttributes({ connection, namespace }: TestWorkflowEnvironment): Promise<void> {
  await connection.operatorService.addSearchAttributes({
    namespace: namespace ?? 'default',
    searchAttributes: Object.fromEntries(SEARCH_ATTRIBUTES.map((name) => [name, KEYWORD])),
  });
}

/** Asks until `condition` gives something else than undefined or false, and fails when it has not in `patienceMs`. */
export async function eventually<T>(
  condition: () => Promise<T | undefined | false> | T | undefined | false,
  patienceMs = 60_000,
): Promise<T> {
  const deadline = Date.now() + patienceMs;
  for (;;) {
    const value = await condition();
    if (value !== undefined && value !== false) return value;
    if (Date.now() > deadline) throw new Error(`Still not so after ${patienceMs / 1000} s: ${condition}`);
    await sleep(50);
  }
}
