import { existsSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestProject } from 'vitest/node';
import { applyMigrations } from '../../src/stack/migrate.ts';
import { freePort } from '../../src/stack/ports.ts';
import { startPostgres } from '../../src/stack/postgres.ts';
import { Supervisor, supervisorOf } from '../../src/stack/supervisor.ts';
import { findTemporalCli, findTestServer } from '../../src/stack/tools.ts';
import { HOME_PREFIX, queryOnce, TEMPLATE, temporaryHome, toolSettings } from './stack.ts';

declare module 'vitest' {
  interface ProvidedContext {
    /** The server of this run, without a database's name. */
    postgresUrl: string;
  }
}

/** One embedded PostgreSQL for the whole run, with a migrated template that every test file clones. */
export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  await removeLeftHomes();
  const home = temporaryHome();
  const supervisor = await Supervisor.claim(home);
  const teardown = async () => {
    await supervisor.stop();
    rmSync(home, { recursive: true, force: true });
  };
  try {
    const port = await freePort();
    await startPostgres(supervisor, home, port);
    const postgresUrl = `postgresql://nodrop:nodrop@127.0.0.1:${port}`;
    await queryOnce(`${postgresUrl}/postgres`, `create database ${TEMPLATE}`);
    await applyMigrations(`${postgresUrl}/${TEMPLATE}`);
    project.provide('postgresUrl', postgresUrl);
    // Obtained once and in sight, and not by several test files at once. Only the files that need one fail without.
    for (const find of [findTemporalCli, findTestServer]) {
      await find(toolSettings()).catch((error: Error) => console.error(error.message));
    }
  } catch (error) {
    await teardown();
    throw error;
  }
  return teardown;
}

/** What runs that were killed left behind: their servers are stopped, their data removed. */
async function removeLeftHomes() {
  for (const name of readdirSync(tmpdir())) {
    const home = join(tmpdir(), name);
    if (!name.startsWith(HOME_PREFIX) || !existsSync(join(home, 'supervisor.json'))) continue;
    if (supervisorOf(home) !== undefined) continue;
    const supervisor = await Supervisor.claim(home);
    await supervisor.stop();
    rmSync(home, { recursive: true, force: true });
  }
}
