import { type ChildProcess, spawn } from 'node:child_process';
import { rmSync } from 'node:fs';
import { afterAll, afterEach, beforeAll } from 'vitest';
import { freePort, temporaryHome, useDatabase } from '../support/stack.ts';
import { CHANNEL_SECRET, SECRET } from './support.ts';

/**
 * Support for the tests of processes. It runs the API and the command line, each in its own process, without Temporal.
 */

export const { databaseUrl } = useDatabase();
let home: string;
const running: ChildProcess[] = [];

beforeAll(async () => {
  home = temporaryHome();
});
afterAll(async () => {
  rmSync(home, { recursive: true, force: true });
});
afterEach(() => {
  for (const child of running.splice(0)) child.kill('SIGKILL');
});

export async function environment(change: Record<string, string> = {}) {
  const [port, admin, temporal] = await Promise.all([freePort(), freePort(), freePort()]);
  return {
    DATABASE_URL: databaseUrl,
    TEMPORAL_ADDRESS: `127.0.0.1:${temporal}`,
    NODROP_HOME: home,
    NODROP_SECRET: SECRET,
    NODROP_SIMULATOR_SECRET: CHANNEL_SECRET,
    PORT: String(port),
    NODROP_ADMIN_PORT: String(admin),
    ...change,
  };
}

export function run(entry: string, args: readonly string[], env: Record<string, string>) {
  const child = spawn(process.execPath, ['--import', 'tsx', entry, ...args], {
    env: { PATH: process.env.PATH ?? '', ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  running.push(child);
  let output = '';
  let errors = '';
  child.stdout.on('data', (data) => {
    output += data;
  });
  child.stderr.on('data', (data) => {
    errors += data;
  });
  const ended = new Promise<number | null>((resolve) => child.once('close', resolve));
  return { child, ended, output: () => output, errors: () => errors };
}

export const cli = async (args: readonly string[], change: Record<string, string> = {}) => {
  const program = run('src/cli/main.ts', args, await environment(change));
  return { code: await program.ended, output: program.output(), errors: program.errors() };
};
