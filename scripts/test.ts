import { spawnSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { runSlice } from './slice.ts';
import { obtainTools, SERVERS, type Tool } from './tools.ts';
import { printSum, runVitest } from './vitest.ts';

/**
 * `npm test` runs everything that CI runs: lint and format, types, the check for stale generated files, all tests, and
 * a slice of the tests on other versions of Node. The tests include the replay of committed histories and the check of
 * docker-compose.yml. The last line is `N passed, N failed`. If there are arguments, as in `npm test -- test/domain`,
 * they are passed to vitest, and the slice does not run.
 */

const checks: readonly (readonly [string, string, readonly string[]])[] = [
  ['lint and format', 'node_modules/.bin/biome', ['ci', '--error-on-warnings', '.']],
  ['types', 'node_modules/.bin/tsc', ['--noEmit']],
  ['types of what browsers run', 'node_modules/.bin/tsc', ['-p', 'tsconfig.browser.json']],
  ['types of the client', 'node_modules/.bin/tsc', ['-p', 'clients/js', '--noEmit']],
  ['generated files', process.execPath, ['--import', 'tsx', 'scripts/generate-docs.ts', '--check']],
];

/**
 * Returns the test files that vitest selects for these arguments. Returns all test files if an argument is an option or
 * no file matches.
 */
function chosenFiles(args: readonly string[]): readonly string[] {
  const all = readdirSync('test', { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.test.ts'))
    .map((name) => `test/${name}`);
  if (args.some((arg) => arg.startsWith('-'))) return all;
  const chosen = all.filter((file) => args.some((arg) => file.includes(arg)));
  return chosen.length === 0 ? all : chosen;
}

function toolsFor(args: readonly string[]): readonly Tool[] {
  const files = chosenFiles(args);
  const some = (start: string) => files.some((file) => file.startsWith(start));
  return [
    ...(files.every((file) => file.startsWith('test/domain/')) ? [] : SERVERS),
    ...(some('test/browser/') ? (['chromium'] as const) : []),
    ...(some('test/clients/generated.') ? (['generators'] as const) : []),
    ...(some('test/deploy/compose.') ? (['docker-compose'] as const) : []),
    ...(some('test/deploy/proxy.') ? (['caddy'] as const) : []),
    ...(some('test/channels/alipay/') || some('test/system/demo.') ? (['python-alipay-sdk'] as const) : []),
    ...(some('test/channels/stripe/') ? (['stripe-servers'] as const) : []),
    ...(some('test/channels/wechatpay/') || some('test/system/demo.') ? (['wechatpayv3'] as const) : []),
    ...(args.length === 0 ? (['nodes'] as const) : []),
  ];
}

const args = process.argv.slice(2);
// The tools are installed while the checks run. The checks do not need the tools, and the installation mostly waits for
// the network.
const obtaining = obtainTools(toolsFor(args));
const failures: string[] = [];
for (const [name, command, options] of checks) {
  console.log(`\n${name}:`);
  if (spawnSync(command, options, { stdio: 'inherit' }).status !== 0) failures.push(name);
}
const passed = checks.length - failures.length;
failures.push(...(await obtaining));

console.log('\ntests:');
const tests = [runVitest(process.execPath, args), ...(args.length === 0 ? runSlice() : [])];
printSum([{ passed, failed: failures.length, skipped: new Map(), failures }, ...tests]);
