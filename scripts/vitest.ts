import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import { stripVTControlCharacters } from 'node:util';

/** How a run of tests ended. */
export interface Outcome {
  readonly passed: number;
  readonly failed: number;
  /** The files with skipped tests, and how many of theirs. */
  readonly skipped: ReadonlyMap<string, number>;
  /** A text for each test that failed: where, which, and the first error. */
  readonly failures: readonly string[];
}

/** Of vitest's JSON report, what is read here. */
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

/** An error is enough by its first lines: the whole one stands where the test ran. */
const ERROR_LINES = 12;

/** In the words of the report. */
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
      // A file that cannot even be loaded has no failed test of its own.
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
 * Runs vitest in the foreground on a Node.
 * @param node the path of the program.
 * @param args as after `vitest run`.
 */
export function runVitest(node: string, args: readonly string[]): Outcome {
  const report = join(tmpdir(), `nodrop-vitest-${process.pid}.json`);
  const vitest = ['node_modules/vitest/vitest.mjs', 'run', '--reporter=default', '--reporter=json'];
  const { status } = spawnSync(node, [...vitest, `--outputFile.json=${report}`, ...args], {
    stdio: 'inherit',
  });
  // What fails without a failed test fails all the same.
  const atLeast = status === 0 ? 0 : 1;
  const unnamed = atLeast === 0 ? [] : [`vitest ended with exit code ${status}; its own words are above`];
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

/** Prints what failed and what was skipped, then the sum in the form `N passed, N failed`, and sets the exit code by it. */
export function printSum(outcomes: readonly Outcome[]): void {
  const sum = (of: 'passed' | 'failed') => outcomes.reduce((total, { [of]: number }) => total + number, 0);
  // Last, because a log is mostly read from its end, and some show no more than that.
  const failures = outcomes.flatMap((outcome) => outcome.failures);
  if (failures.length > 0) console.log(`\nfailed:\n${failures.join('\n')}`);
  const skipped = outcomes.flatMap((outcome) => [...outcome.skipped]);
  if (skipped.length > 0) {
    console.log(`\nskipped:\n${skipped.map(([file, count]) => `${file}: ${count}`).join('\n')}`);
  }
  console.log(`\n${sum('passed')} passed, ${sum('failed')} failed`);
  process.exitCode = sum('failed') === 0 ? 0 : 1;
}
