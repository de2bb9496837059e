import { spawnSync } from 'node:child_process';
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, expect, test } from 'vitest';

/**
 * Tests that scripts/check-compose.mjs accepts the repository's files, and reports each kind of mistake that it checks.
 */

const root = fileURLToPath(new URL('../..', import.meta.url));
const script = join(root, 'scripts', 'check-compose.mjs');
/**
 * The script must not install anything during this test. `npm test` has already installed docker-compose and reported
 * this.
 */
const env = { ...process.env, NODROP_INSTALL: 'no' };
const folders: string[] = [];

afterEach(() => {
  for (const folder of folders.splice(0)) rmSync(folder, { recursive: true });
});

/** Runs the script on a copy of the repository in which one file is changed. */
function check(file: string, from: string | RegExp, to: string) {
  const folder = mkdtempSync(join(tmpdir(), 'nodrop-compose-'));
  folders.push(folder);
  const [top = '', ...below] = file.split('/');
  for (const name of readdirSync(root)) {
    if (name === top && below.length > 0) {
      cpSync(join(root, top), join(folder, top), { recursive: true });
      rmSync(join(folder, file));
    } else if (name !== top && name !== '.git') symlinkSync(join(root, name), join(folder, name));
  }
  const text = readFileSync(join(root, file), 'utf8');
  const changed = text.replace(from, to);
  expect(changed).not.toBe(text);
  writeFileSync(join(folder, file), changed);
  return spawnSync(process.execPath, [script, folder], { env, encoding: 'utf8' });
}

test('the check of the deployment accepts the repository’s docker-compose.yml and Dockerfile', () => {
  const { status, stdout, stderr } = spawnSync(process.execPath, [script], { env, encoding: 'utf8' });
  expect(stderr).not.toMatch(/docker-compose\.yml:|Dockerfile:/);
  expect(stdout).toContain('are in order');
  expect(status).toBe(0);
});

test.each([
  ['not YAML', 'services:\n', 'services: [\n', /not YAML/],
  ['an unknown key', '  init: true', '  intit: true', /unknown key intit/],
  [
    'an image without a fixed version',
    'temporalio/server:1.29.7',
    'temporalio/server:latest',
    /fixed version/,
  ],
  [
    'no health check',
    /test: \[CMD, node, deploy\/health.mjs, worker\]/,
    'disable: true',
    /worker runs on and has no/,
  ],
  ['an invalid duration', 'interval: 30s', 'interval: 30', /has the duration 30\./],
  ['a default secret', '${NODROP_SECRET:?', '${NODROP_SECRET:-', /secret in NODROP_SECRET/],
  [
    'a literal password',
    /nodrop:\$\{NODROP_DB_PASSWORD[^}]*\}@/,
    'nodrop:nodrop@',
    /literal password in DATABASE_URL/,
  ],
  [
    'an unknown setting',
    'NODROP_LOG_LEVEL: ',
    'NODROP_LOGLEVEL: ',
    /NODROP_LOGLEVEL, which src\/config.ts does not/,
  ],
  [
    'the API’s port published beyond loopback',
    /"[^"\n]*:(?=\$\{PUBLISH_API)/,
    '"',
    /beyond loopback by default/,
  ],
  [
    'the Web UI published beyond loopback',
    /"127.0.0.1(?=:\$\{PUBLISH_UI)/,
    '"0.0.0.0',
    /temporal-ui publishes .* beyond loopback\./,
  ],
  [
    'a dependency that does not exist',
    'temporal-schema: { cond',
    'temporal-scheme: { cond',
    /temporal-scheme, which does not/,
  ],
  [
    'a program that does not exist',
    'dist/worker/main.js',
    'dist/worker/mian.js',
    /mian.js, which has no source/,
  ],
  [
    'a missing file',
    './deploy/postgres/init.sql:',
    './deploy/postgres/start.sql:',
    /start.sql, which does not exist/,
  ],
  ['capabilities', 'cap_drop: [ALL]', 'cap_drop: []', /temporal-ui keeps capabilities/],
  ['an added capability', 'mem_limit: 1g', 'cap_add: [CHOWN]', /api adds capabilities/],
  ['a writable file system', 'read_only: true', 'read_only: false', /postgres has a writable file system/],
  ['no memory limit', 'mem_limit: 512m', 'mem_limit: all', /temporal-ui may take all memory/],
  ['no process limit', 'pids_limit: 512', 'pids_limit: 0', /worker may start any number of processes/],
  [
    'two services that build the image',
    '    mem_limit: 1g',
    '    build: .',
    /api builds the image, but only migrate may build it/,
  ],
  ['no service that builds the image', '    build: .\n', '', /migrate does not build the image/],
  ['an image that may be pulled', 'pull_policy: never', 'pull_policy: missing', /worker may pull an image/],
  ['a fixed number of workers', /\$\{WORKERS:-1\}/, '1', /worker has a fixed number of containers/],
  [
    'a --scale option in a command',
    'compose up -d --build --wait\n',
    'compose up -d --scale worker=3\n',
    /docker-compose.yml has a command with --scale/,
  ],
  ['a default for NODROP_MODE', '${NODROP_MODE:?', '${NODROP_MODE:-', /worker has a default for NODROP_MODE/],
])('docker-compose.yml with %s fails the check', (_what, from, to, message) => {
  const { status, stderr } = check('docker-compose.yml', from, to);
  expect(stderr).toMatch(message);
  expect(status).toBe(1);
});

test.each([
  ['no profile for the simulator', '#COMPOSE_PROFILES=simulator\n', '', /does not set the profile simulator/],
  [
    'a --profile option in a command',
    '# The simulator, ',
    '# docker compose --profile simulator up: ',
    /\.env\.example has a command with --profile/,
  ],
  ['an unexplained setting', '#WORKERS=3\n', '', /does not explain WORKERS/],
])('deploy/.env.example with %s fails the check', (_what, from, to, message) => {
  const { status, stderr } = check('deploy/.env.example', from, to);
  expect(stderr).toMatch(message);
  expect(status).toBe(1);
});

test.each([
  ['an image without a fixed version', /node:[\d.]+-/, 'node:', /not a fixed version/],
  ['root as its user', 'USER node', 'USER root', /runs as root/],
  [
    'a file that .dockerignore keeps out',
    'COPY src ./src',
    'COPY test ./test',
    /test is excluded by \.dockerignore/,
  ],
  [
    'no workflow bundle',
    / \\\n +&& node dist\/worker\/bundle-main\.js/,
    '',
    /no step creates the workflow bundle/,
  ],
  ['no limit of malloc arenas', ' MALLOC_ARENA_MAX=2', '', /does not set MALLOC_ARENA_MAX=2/],
  ['an unknown stage', '--from=build', '--from=bulid', /names no earlier stage/],
])('a Dockerfile with %s fails the check', (_what, from, to, message) => {
  const { status, stderr } = check('Dockerfile', from, to);
  expect(stderr).toMatch(message);
  expect(status).toBe(1);
});
