// Tests the download and build of Temporal servers, which happen before vitest starts. A failure leaves no files
// behind.
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { makeCached } from '../../src/stack/cache.ts';
import { downloadBySdk } from '../../src/stack/download.ts';
import { runVisibly } from '../../src/stack/progress.ts';
import { whileTicking } from '../../src/stack/timer.ts';

const root = fileURLToPath(new URL('../..', import.meta.url));
/** No proxy listens at this address, so every download fails immediately on every machine. */
const CLOSED = { HTTPS_PROXY: 'http://127.0.0.1:1' };
const BARE = { NODROP_TEMPORAL_CLI: '', NODROP_TEST_SERVER: '' };

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'nodrop-obtaining-'));
  vi.spyOn(console, 'error').mockImplementation(() => {});
});
afterEach(() => {
  vi.restoreAllMocks();
  vi.unstubAllEnvs();
  vi.useRealTimers();
  rmSync(folder, { recursive: true, force: true });
});

test('if a server is missing, a test file reports it, and the test run neither downloads the server nor crashes', () => {
  const args = ['node_modules/vitest/vitest.mjs', 'run', 'test/workflows/late.test.ts'];
  const env = { ...process.env, ...BARE, ...CLOSED, XDG_CACHE_HOME: folder };
  const { status, stdout, stderr } = spawnSync(process.execPath, args, { cwd: root, env, encoding: 'utf8' });
  const output = stdout + stderr;
  expect(output).toContain(
    'The time-skipping test server is not on this machine: npm test obtains it, and then runs the tests.',
  );
  expect(output).not.toMatch(/ENOENT|import\.meta|Unhandled/);
  expect(status).toBe(1);
  expect(readdirSync(folder)).toEqual([]);
});

test('if tools cannot be obtained, each of them is reported in one sentence, and the exit code is 1', () => {
  const args = ['--import', 'tsx', 'scripts/obtain-tools.ts', 'temporal', 'test-server', 'nodes'];
  const env = { ...process.env, ...BARE, ...CLOSED, XDG_CACHE_HOME: folder, PATH: folder };
  const { status, stdout, stderr } = spawnSync(process.execPath, args, { cwd: root, env, encoding: 'utf8' });
  expect(stdout + stderr).not.toMatch(/^ +at /m);
  const sentences = [
    /^The Temporal server could be neither/,
    /^The time-skipping test server could be neither/,
  ];
  const lines = stderr.trim().split('\n');
  for (const sentence of sentences) expect(lines.filter((line) => sentence.test(line))).toHaveLength(1);
  if (process.platform === 'linux') expect(stderr).toMatch(/^Node [\d.]+ could not be installed: .*\.$/m);
  expect(status).toBe(1);
  expect(readdirSync(join(folder, 'nodrop'))).toEqual([]);
});

test('if the folder of a download is removed, the download fails and the process continues', async () => {
  for (const [name, value] of Object.entries(CLOSED)) vi.stubEnv(name, value);
  const place = join(folder, 'place');
  mkdirSync(place);
  const download = downloadBySdk('test-server', 'the test server', place);
  rmSync(place, { recursive: true });
  expect(await download).toBeUndefined();
});

test('whileTicking clears its timer when its work ends or throws an error', async () => {
  vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] });
  expect(
    await whileTicking(
      1000,
      () => {},
      async () => vi.getTimerCount(),
    ),
  ).toBe(1);
  const broken = () => {
    throw new Error('broken');
  };
  await expect(whileTicking(1000, () => {}, broken)).rejects.toThrow('broken');
  expect(vi.getTimerCount()).toBe(0);
});

test('a command that cannot be started is reported as failed, and leaves no timer', async () => {
  vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] });
  expect(await runVisibly('Trying', 'a\0b', [])).toMatchObject({ ok: false });
  expect(vi.getTimerCount()).toBe(0);
});

test('two cache entries can be created at the same time', async () => {
  const make = (name: string) =>
    makeCached(folder, name, async (place) => {
      await new Promise(setImmediate);
      writeFileSync(join(place, 'made'), name);
      return join(place, 'made');
    });
  for (const path of await Promise.all([make('one'), make('two')])) expect(existsSync(path ?? '')).toBe(true);
  expect(readdirSync(folder).sort()).toEqual(['one', 'two']);
});
