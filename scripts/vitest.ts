import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** Numbers of tests. */
export interface Counts {
  readonly passed: number;
  readonly failed: number;
  readonly skipped: number;
}

/**
 * Runs vitest in the foreground on a Node.
 * @param node the path of the program.
 * @param args as after `vitest run`.
 */
export function runVitest(node: string, args: readonly string[]): Counts {
  const report = join(tmpdir(), `nodrop-vitest-${process.pid}.json`);
  const vitest = ['node_modules/vitest/vitest.mjs', 'run', '--reporter=default', '--reporter=json'];
  const { status } = spawnSync(node, [...vitest, `--outputFile.json=${report}`, ...args], {
    stdio: 'inherit',
  });
  // What fails without a failed test fails all the same.
  const atLeast = status === 0 ? 0 : 1;
  if (!existsSync(report)) return { passed: 0, failed: atLeast, skipped: 0 };
  const { numPassedTests, numFailedTests, numFailedTestSuites, numPendingTests, numTodoTests } = JSON.parse(
    readFileSync(report, 'utf8'),
  );
  rmSync(report);
  // A file that cannot even be loaded has no failed test of its own.
  const failed = numFailedTests > 0 ? numFailedTests : numFailedTestSuites;
  return {
    passed: numPassedTests,
    failed: Math.max(failed, atLeast),
    skipped: numPendingTests + numTodoTests,
  };
}

/** Prints the sum in the form `N passed, N failed`, and sets the exit code by it. */
export function printSum(counts: readonly Counts[]): void {
  const sum = (of: keyof Counts) => counts.reduce((total, { [of]: number }) => total + number, 0);
  if (sum('skipped') > 0) console.log(`\n${sum('skipped')} skipped`);
  console.log(`\n${sum('passed')} passed, ${sum('failed')} failed`);
  process.exitCode = sum('failed') === 0 ? 0 : 1;
}
