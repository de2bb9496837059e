import { existsSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestProject } from 'vitest/node';
import { StackError } from '../../src/stack/errors.ts';
import { applyMigrations } from '../../src/stack/migrate.ts';
import { freePort } from '../../src/stack/ports.ts';
import { startPostgres } from '../../src/stack/postgres-server.ts';
import { supervisorOf } from '../../src/stack/supervisor.ts';
import { lookUpTemporalCli, lookUpTestServer } from '../../src/stack/tools.ts';
import { HOME_PREFIX, queryOnce, supervise, TEMPLATE, type Tool, temporaryHome } from './stack.ts';
import { toolSettings } from './tool-settings.ts';

declare module 'vitest' {
  interface ProvidedContext {
    /** The address of this run's PostgreSQL server, without a database name. */
    postgresUrl: string;
    temporalCli: Tool;
    testServer: Tool;
  }
}

/** Starts one embedded PostgreSQL for the whole run, with a migrated template database that every test file clones. */
export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  await removeLeftHomes();
  const home = temporaryHome();
  const supervisor = await supervise(home);
  const teardown = async () => {
    await supervisor.stop();
    rmSync(home, { recursive: true, force: true });
  };
  try {
    console.log('Starting PostgreSQL for the tests ...');
    const port = await freePort();
    await startPostgres(supervisor, home, port);
    const postgresUrl = `postgresql://nodrop:nodrop@127.0.0.1:${port}`;
    await queryOnce(`${postgresUrl}/postgres`, `create database ${TEMPLATE}`);
    await applyMigrations(`${postgresUrl}/${TEMPLATE}`);
    project.provide('postgresUrl', postgresUrl);
    // If a tool is missing, only the test files that need it fail.
    const tools = toolSettings();
    project.provide(
      'temporalCli',
      lookUp('Temporal server', () => lookUpTemporalCli(tools)),
    );
    project.provide(
      'testServer',
      lookUp('time-skipping test server', () => lookUpTestServer(tools)),
    );
  } catch (error) {
    await teardown();
    throw error;
  }
  return teardown;
}

/** Finds a tool that `npm test` has downloaded before vitest started. */
function lookUp(what: string, find: () => string | undefined): Tool {
  try {
    const path = find();
    if (path !== undefined) return { path };
    return { missing: `The ${what} is not on this machine: npm test obtains it, and then runs the tests.` };
  } catch (error) {
    if (error instanceof StackError) return { missing: error.message };
    throw error;
  }
}

/** Stops the servers of earlier runs that were killed, and removes their data. */
async function removeLeftHomes() {
  for (const name of readdirSync(tmpdir())) {
    const home = join(tmpdir(), name);
    if (!name.startsWith(HOME_PREFIX) || !existsSync(join(home, 'supervisor.json'))) continue;
    if (supervisorOf(home) !== undefined) continue;
    const supervisor = await supervise(home);
    await supervisor.stop();
    rmSync(home, { recursive: true, force: true });
  }
}
