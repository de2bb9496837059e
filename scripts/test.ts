import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { CHROMIUM_PATHS, findChromium } from '../test/support/chromium.ts';

/**
 * `npm test`, everything CI runs: lint and format, types, stale generated files, then all tests (among them the
 * replay of committed histories and the check of docker-compose.yml). Ends in `N passed, N failed`, and
 * `N skipped` when there are some.
 * Arguments go to vitest: `npm test -- test/domain`.
 */

const checks: readonly (readonly [string, string, readonly string[]])[] = [
  ['lint and format', 'node_modules/.bin/biome', ['ci', '--error-on-warnings', '.']],
  ['types', 'node_modules/.bin/tsc', ['--noEmit']],
  ['types of what browsers run', 'node_modules/.bin/tsc', ['-p', 'tsconfig.browser.json']],
  ['generated files', process.execPath, ['--import', 'tsx', 'scripts/generate-docs.ts', '--check']],
];

function run(command: string, args: readonly string[]): boolean {
  return spawnSync(command, args, { stdio: 'inherit' }).status === 0;
}

/**
 * The browser tests need a browser; where we may, it is installed, elsewhere it is said.
 * @returns false when there is none: then they are left out, and what they hold is not tested.
 */
function ensureChromium(): boolean {
  if (findChromium() !== undefined) return true;
  if (process.getuid?.() === 0 && existsSync('/usr/bin/apt-get')) {
    console.log('Installing Chromium for the browser tests ...');
    if (run('apt-get', ['update', '-q']) && run('apt-get', ['install', '-y', '-q', 'chromium'])) {
      return findChromium() !== undefined;
    }
  }
  return false;
}

let passed = 0;
let failed = 0;
let skipped = 0;
for (const [name, command, args] of checks) {
  console.log(`\n${name}:`);
  if (run(command, args)) passed += 1;
  else {
    failed += 1;
    console.error(`${name}: failed`);
  }
}

const hasBrowser = ensureChromium();
const report = join(tmpdir(), `nodrop-vitest-${process.pid}.json`);
const tests = run(process.execPath, [
  'node_modules/vitest/vitest.mjs',
  'run',
  '--reporter=default',
  '--reporter=json',
  `--outputFile.json=${report}`,
  ...process.argv.slice(2),
]);
if (existsSync(report)) {
  const { numPassedTests, numFailedTests, numFailedTestSuites, numPendingTests, numTodoTests } = JSON.parse(
    readFileSync(report, 'utf8'),
  );
  passed += numPassedTests;
  skipped = numPendingTests + numTodoTests;
  // A file that cannot even be loaded has no failed test of its own.
  failed += numFailedTests > 0 ? numFailedTests : numFailedTestSuites;
  rmSync(report);
}
if (!tests && failed === 0) failed = 1;
if (!hasBrowser) {
  failed += 1;
  console.error(
    '\nThere is no Chromium, so the browser tests did not run, which counts as a failure: install it ' +
      `(apt-get install chromium, as root, or any at ${CHROMIUM_PATHS.join(', ')}) and run npm test again.`,
  );
}

console.log(`\n${passed} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ''}`);
process.exitCode = failed === 0 ? 0 : 1;
