import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, expect, test } from 'vitest';

/** Tests .ci/run with a stand-in for npm that records its arguments and environment. */

const root = fileURLToPath(new URL('..', import.meta.url));
/** Environment variables that name the folders in which programs keep their caches and settings. */
const CACHES = [
  'HOME',
  'XDG_CACHE_HOME',
  'XDG_DATA_HOME',
  'npm_config_cache',
  'GOPATH',
  'GOMODCACHE',
  'GOCACHE',
];

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'nodrop-ci-test-'));
  for (const name of ['bin', 'home/.m2', 'home/.config/pip', 'temporary'])
    mkdirSync(join(folder, name), { recursive: true });
  writeFileSync(join(folder, 'home', '.m2', 'settings.xml'), '<settings/>');
  writeFileSync(join(folder, 'home', '.config', 'pip', 'pip.conf'), '[global]');
});
afterEach(() => {
  rmSync(folder, { recursive: true, force: true });
});

function program(name: string, script: string) {
  writeFileSync(join(folder, 'bin', name), `#!/bin/sh\n${script}\n`, { mode: 0o755 });
}

/** Runs .ci/run with this script in place of `npm test`. */
function ci(script: string, args: readonly string[] = [], settings: Record<string, string> = {}) {
  program('go', `echo ${folder}/goenv`);
  program(
    'npm',
    `if [ "$1" = config ]; then echo ${folder}/npmrc; exit; fi
echo "$@" >${folder}/arguments
env -0 >${folder}/environment
[ ! -e "$HOME/.m2/settings.xml" ] || cp "$HOME/.m2/settings.xml" ${folder}/settings.xml
[ ! -e "$HOME/.config/pip/pip.conf" ] || cp "$HOME/.config/pip/pip.conf" ${folder}/pip.conf
ls -A "$HOME" >${folder}/listing
${script}`,
  );
  const env = {
    ...process.env,
    PATH: `${join(folder, 'bin')}:${process.env.PATH}`,
    HOME: join(folder, 'home'),
    TMPDIR: join(folder, 'temporary'),
    NODROP_TEMPORAL_CLI: '/usr/bin/true',
    ...settings,
  };
  const { status, stdout } = spawnSync('bash', [join(root, '.ci', 'run'), ...args], {
    env,
    encoding: 'utf8',
  });
  const read = (name: string) => readFileSync(join(folder, name), 'utf8');
  const environment = Object.fromEntries(
    read('environment')
      .split('\0')
      .map((line) => line.split(/=(.*)/s).slice(0, 2)),
  ) as Record<string, string>;
  return { status, lines: stdout.trimEnd().split('\n'), environment, read };
}

test('.ci/run starts with empty caches, uses the settings of this machine, and leaves no file', () => {
  const { status, lines, environment, read } = ci('echo "7 passed, 0 failed"');
  const temporary = join(folder, 'temporary');
  for (const name of CACHES) expect(environment[name], name).toMatch(new RegExp(`^${temporary}/`));
  expect(environment.MAVEN_OPTS).toMatch(new RegExp(`-Dmaven.repo.local=${temporary}/`));
  expect(read('listing').trim()).toBe('.config\n.m2');
  expect(environment).toMatchObject({
    npm_config_userconfig: join(folder, 'npmrc'),
    GOENV: join(folder, 'goenv'),
  });
  expect(read('settings.xml')).toBe('<settings/>');
  expect(read('pip.conf')).toBe('[global]');
  expect(environment.NODROP_TEMPORAL_CLI).toBeUndefined();
  expect(read('arguments').trim()).toBe('test --');
  expect(lines.at(-1)).toBe('7 passed, 0 failed');
  expect(status).toBe(0);
  expect(readdirSync(temporary)).toEqual([]);
});

test('after a failed run the exit code is kept, the summary is the last line, and even read-only files are removed', () => {
  const left =
    'mkdir -p "$GOMODCACHE/module" && touch "$GOMODCACHE/module/file" && chmod -R a-w "$GOMODCACHE"';
  const { status, lines } = ci(`${left}; echo "3 passed, 2 failed"; echo "npm error" >&2; exit 3`);
  expect(lines.slice(-2)).toEqual(['npm error', '3 passed, 2 failed']);
  expect(lines.filter((line) => line.includes('passed'))).toHaveLength(1);
  expect(status).toBe(3);
  expect(readdirSync(join(folder, 'temporary'))).toEqual([]);
});

test('a run that ends before its first test is reported as failed', () => {
  const { status, lines } = ci('exit 1');
  expect(lines.at(-1)).toBe('0 passed, 1 failed');
  expect(status).toBe(1);
});

test('a run that is killed after it printed its summary is reported as failed', () => {
  const { status, lines } = ci('echo "9 passed, 0 failed"; kill -9 $$');
  expect(lines.at(-1)).toBe('0 passed, 1 failed');
  expect(status).toBe(137);
});

test('if a folder cannot be removed because a process still writes to it, the exit code does not change', () => {
  program('chmod', 'exit 1');
  const { status, lines } = ci('echo "5 passed, 0 failed"');
  expect(lines.at(-1)).toBe('5 passed, 0 failed');
  expect(status).toBe(0);
});

test('a run with --warm uses the caches of this machine', () => {
  const { environment, read } = ci('echo "1 passed, 0 failed"', ['--warm', 'test/domain']);
  expect(environment.HOME).toBe(join(folder, 'home'));
  for (const name of ['MAVEN_OPTS', 'XDG_CACHE_HOME', 'GOMODCACHE']) {
    expect(environment[name]).toBe(process.env[name]);
  }
  expect(read('arguments').trim()).toBe('test -- test/domain');
});

test('before the summary, each failed or skipped test is listed with its file and error, and so is each file that does not load', () => {
  mkdirSync(join(folder, 'tests'));
  writeFileSync(
    join(folder, 'tests', 'sum.test.ts'),
    "describe('sums', () => { test('one and one', () => expect(1 + 1).toBe(3)); test('none', () => {}); });",
  );
  writeFileSync(
    join(folder, 'tests', 'left-out.test.ts'),
    "describe.skipIf(true)('all', () => { test('one', () => {}); test('two', () => {}); }); test('three', ({ skip }) => skip());",
  );
  writeFileSync(join(folder, 'tests', 'broken.test.ts'), "throw new Error('no such thing');");
  const script = `import { printSum, runVitest } from './scripts/vitest.ts';
printSum([runVitest(process.execPath, ['--root', '${join(folder, 'tests')}', '--globals'])]);`;
  const { status, stdout } = spawnSync(
    process.execPath,
    ['--import', 'tsx', '--input-type=module', '-e', script],
    {
      cwd: root,
      encoding: 'utf8',
    },
  );
  const [, failures = ''] = stdout.split('\nfailed:\n');
  expect(failures).toMatch(/sum\.test\.ts > sums one and one\n {2}AssertionError: expected 2 to be 3/);
  expect(failures).toMatch(/broken\.test\.ts\n {2}no such thing/);
  expect(failures).toMatch(/\nskipped:\n.*left-out\.test\.ts: 3\n\n1 passed, 2 failed\n$/);
  expect(status).toBe(1);
});

test('if a run is killed before .ci/run waits for it, the run is reported as failed', () => {
  // This function replaces the builtin `jobs`, which .ci/run calls before it waits. The function returns when the
  // tests' processes have ended.
  const jobs = `() { builtin jobs -p >${folder}/group; while kill -0 -- "-$(cat ${folder}/group)" 2>/dev/null; do :; done
cat ${folder}/group; }`;
  const { status, lines } = ci('echo "9 passed, 0 failed"; kill -9 $$', [], { 'BASH_FUNC_jobs%%': jobs });
  expect(lines.at(-1)).toBe('0 passed, 1 failed');
  expect(status).toBe(137);
});
