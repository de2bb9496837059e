// Tests that nodrop reports each startup problem in exactly one sentence, which says how to fix the problem. The
// process exits with code 1.
import { chmodSync, mkdirSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { newPlace, removePlace, type StackPlace, StackProgram } from './program.ts';

let place: StackPlace;

beforeEach(async () => {
  place = await newPlace();
});

afterEach(() => {
  removePlace(place);
});

/**
 * Runs the stack until it exits with code 1.
 * @returns the single line that it prints
 */
async function sentence(env: NodeJS.ProcessEnv): Promise<string> {
  const program = new StackProgram({ ...place.env, ...env });
  expect(await program.exit).toBe(1);
  return program.output;
}

test.each([
  ['PostgreSQL', 'NODROP_POSTGRES_PORT'],
  ['Temporal', 'NODROP_TEMPORAL_PORT'],
  ["Temporal's Web UI", 'NODROP_TEMPORAL_UI_PORT'],
])('an occupied port of %s is reported', async (what, setting) => {
  const server = createServer();
  const port = Number(place.env[setting]);
  await new Promise<void>((resolve) => server.listen(port, '127.0.0.1', resolve));
  try {
    expect(await sentence({})).toBe(
      `Port ${port} for ${what} is taken by another program: stop that program or set ${setting} to a free port.\n`,
    );
  } finally {
    server.close();
  }
});

test('a data folder that cannot be created is reported', async () => {
  // File modes do not restrict root. So for root, the path of the data folder leads through a file, where even root
  // cannot create a folder.
  const blocked = join(place.home, 'blocked');
  if (process.getuid?.() === 0) writeFileSync(blocked, '');
  else mkdirSync(blocked, { mode: 0o500 });
  expect(await sentence({ NODROP_HOME: join(blocked, 'data') })).toMatch(/^NODROP_HOME .*\.\n$/);
});

test('a data folder that has become read-only is reported', async () => {
  const logs = join(place.home, 'logs');
  if (process.getuid?.() === 0) writeFileSync(logs, '');
  else chmodSync(place.home, 0o500);
  expect(await sentence({ NODROP_SECRET: 'x'.repeat(32) })).toMatch(/^.*NODROP_HOME.*\.\n$/);
  chmodSync(place.home, 0o700);
});

test('a Temporal server is reported as missing if it can be neither downloaded nor built', async () => {
  const output = await sentence({
    PATH: join(place.home, 'nothing'),
    XDG_CACHE_HOME: join(place.home, 'cache'),
    NODROP_TEMPORAL_CLI: '',
    // No proxy listens at this address, so downloads fail immediately on every machine.
    HTTPS_PROXY: 'http://127.0.0.1:1',
  });
  expect(output.trim().split('\n').at(-1)).toMatch(
    /^The Temporal server could be neither found.*Go.*NODROP_TEMPORAL_CLI.*\.$/,
  );
});

test('a Temporal server that is configured but does not run is reported', async () => {
  expect(await sentence({ NODROP_TEMPORAL_CLI: '/nowhere/temporal' })).toMatch(
    /^NODROP_TEMPORAL_CLI is .*\.\n$/,
  );
});
