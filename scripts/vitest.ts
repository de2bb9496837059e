import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import { stripVTControlCharacters } from 'node:util';

/** The result of a test run. */
export interface Outcome {
  readonly passed: number;
  readonly failed: number;
  /** Number of skipped tests by file. */
  readonly skipped: ReadonlyMap<string, number>;
  /** One text for each failed test, with its file, its name and its first error. */
  readonly failures: readonly string[];
}

/** The parts of vitest's JSON report that are read here. */
interface Report {
  readonly numPassedTests: number;
  readonly testResults: readonly {
    readonly name: string;
    readonly status: string;
    readonly message: string;
    readonly assertionResults: readonly {
      readonly status: string;
      readonly fullName: string;
      readonly failureMessages?: readonly string[];
    }[];
  }[];
}

/** The number of lines of an error that are printed at the end. The whole error is in the output of its test. */
const ERROR_LINES = 12;

/** Values of `status` in vitest's report for tests that did not run. */
const SKIPPED = new Set(['skipped', 'pending', 'todo']);

function failuresOf(report: Report): readonly string[] {
  return report.testResults
    .filter(({ status }) => status === 'failed')
    .flatMap(({ name, message, assertionResults }) => {
      const tests = assertionResults
        .filter(({ status }) => status === 'failed')
        .map(({ fullName, failureMessages = [] }) => ({
          title: ` > ${fullName}`,
          error: failureMessages[0] ?? '',
        }));
      // A file that cannot be loaded has an error but no failed test.
      const failed = tests.length > 0 ? tests : [{ title: '', error: message }];
      return failed.map(({ title, error }) => {
        const lines = stripVTControlCharacters(error).split('\n').slice(0, ERROR_LINES);
        return [`${relative('.', name)}${title}`, ...lines.map((line) => `  ${line}`)].join('\n');
      });
    });
}

function skippedOf(report: Report): ReadonlyMap<string, number> {
  const counts = report.testResults.map(({ name, assertionResults }) => {
    const skipped = assertionResults.filter(({ status }) => SKIPPED.has(status));
    return [relative('.', name), skipped.length] as const;
  });
  return new Map(counts.filter(([, count]) => count > 0));
}

/**
 * Runs vitest in the foreground with a given Node.
 * @param node the path of the Node program.
 * @param args arguments after `vitest run`.
 */
export function runVitest(node: string, args: readonly string[]): Outcome {
  const report = join(tmpdir(), `nodrop-vitest-${process.pid}.json`);
  const vitest = ['node_modules/vitest/vitest.mjs', 'run', '--reporter=default', '--reporter=json'];
  const { status } = spawnSync(node, [...vitest, `--outputFile.json=${report}`, ...args], {
    stdio: 'inherit',
  });
  // vitest may fail although no test failed. Such a run is reported as one failure.
  const atLeast = status === 0 ? 0 : 1;
  const unnamed = atLeast === 0 ? [] : [`vitest ended with exit code ${status}; its output is above`];
  if (!existsSync(report)) return { passed: 0, failed: atLeast, skipped: new Map(), failures: unnamed };
  const result = JSON.parse(readFileSync(report, 'utf8')) as Report;
  rmSync(report);
  const failures = failuresOf(result);
  return {
    passed: result.numPassedTests,
    failed: Math.max(failures.length, atLeast),
    skipped: skippedOf(result),
    failures: failures.length > 0 ? failures : unnamed,
  };
}

/** Prints failed and skipped tests, and then the totals as `N passed, N failed`. Sets the exit code. */
export function printSum(outcomes: readonly Outcome[]): void {
  const sum = (of: 'passed' | 'failed') => outcomes.reduce((total, { [of]: number }) => total + number, 0);
  // Failed and skipped tests are printed last, because logs are mostly read from their end, and some viewers show only
  // the end.
  const failures = outcomes.flatMap((outcome) => outcome.failures);
  if (failures.length > 0) console.log(`\nfailed:\n${failures.join('\n')}`);
  const skipped = outcomes.flatMap((outcome) => [...outcome.skipped]);
  if (skipped.length > 0) {
    console.log(`\nskipped:\n${skipped.map(([file, count]) => `${file}: ${count}`).join('\n')}`);
  }
  console.log(`\n${sum('passed')} passed, ${sum('failed')} failed`);
  process.exitCode = sum('failed') === 0 ? 0 : 1;
}
