import { spawnSync } from 'node:child_process';
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, expect, test } from 'vitest';

/**
 * Tests the installation of system packages on a machine without docker-compose. Instead of apt-get, a stand-in
 * logs the calls.
 */

const root = fileURLToPath(new URL('../..', import.meta.url));
const isRoot = process.getuid?.() === 0;

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'nodrop-install-'));
  const log = join(folder, 'log');
  writeFileSync(join(folder, 'apt-get'), `#!/bin/sh\necho "apt-get $*" >>${log}\n`, { mode: 0o755 });
});
afterEach(() => {
  rmSync(folder, { recursive: true, force: true });
});

/**
 * Runs a program.
 * @returns the lines of its output, and the calls of apt-get in their order
 */
function run(args: readonly string[], env: NodeJS.ProcessEnv) {
  const log = openSync(join(folder, 'log'), 'a');
  try {
    const { status } = spawnSync(process.execPath, args, {
      cwd: root,
      env: { ...process.env, PATH: folder, NODROP_INSTALL: '', ...env },
      stdio: ['ignore', log, log],
    });
    return { status, lines: readFileSync(join(folder, 'log'), 'utf8').trim().split('\n') };
  } finally {
    closeSync(log);
  }
}

test.skipIf(!isRoot).each([
  ['npm run check:compose', ['scripts/check-compose.mjs']],
  ['npm test', ['--import', 'tsx', 'scripts/obtain-tools.ts', 'docker-compose']],
])(
  'before %s installs software as root, it prints a warning and the setting that prevents the installation',
  (_name, args) => {
    const { status, lines } = run(args, {});
    const said = lines.findIndex((line) =>
      /^Installing into this system, as root.*docker-compose/.test(line),
    );
    const done = lines.findIndex((line) => /^apt-get (update|install)/.test(line));
    expect(lines[said]).toContain('set NODROP_INSTALL=no');
    expect(said).toBeGreaterThanOrEqual(0);
    expect(done).toBeGreaterThan(said);
    expect(lines).toContain('apt-get install -q -y --no-install-recommends docker-compose');
    expect(status).toBe(0);
  },
);

test.each([
  ['npm run check:compose', ['scripts/check-compose.mjs']],
  ['npm test', ['--import', 'tsx', 'scripts/obtain-tools.ts', 'docker-compose']],
])('%s installs nothing with NODROP_INSTALL=no', (_name, args) => {
  const { status, lines } = run(args, { NODROP_INSTALL: 'no' });
  expect(lines.filter((line) => /apt-get/.test(line))).toEqual([]);
  expect(status).toBe(0);
});

test('npm test reports why Caddy is missing, and that the tests of Caddy are skipped', () => {
  writeFileSync(join(folder, 'apt-get'), '#!/bin/sh\necho "E: No such package" >&2\nexit 100\n', {
    mode: 0o755,
  });
  const args = ['--import', 'tsx', 'scripts/obtain-tools.ts', 'caddy'];
  const { status, lines } = run(args, { XDG_CACHE_HOME: join(folder, 'cache') });
  expect(lines.at(-1)).toMatch(/no Caddy.* SKIPPED.*E: No such package$/);
  expect(status).toBe(0);
});

test.skipIf(!isRoot)(
  'if Caddy is not found and npm test runs as root, npm test updates the package lists once',
  () => {
    writeFileSync(
      join(folder, 'apt-get'),
      `#!/bin/sh
echo "apt-get $*" >>${folder}/log
case $1 in update) echo 1 >${folder}/lists ;; download) [ -e ${folder}/lists ] ;; esac
`,
      { mode: 0o755 },
    );
    const args = ['--import', 'tsx', 'scripts/obtain-tools.ts', 'caddy'];
    const { lines } = run(args, { XDG_CACHE_HOME: join(folder, 'cache') });
    expect(lines.filter((line) => /^apt-get [du]/.test(line))).toEqual([
      'apt-get download -q caddy',
      'apt-get update -q',
      'apt-get download -q caddy',
    ]);
  },
);
