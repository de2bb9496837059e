import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect, onTestFinished, test } from 'vitest';
import { eventually, unlessOutOfTime, watch } from './progress.ts';

// What `eventually` waits for, and when it gives up: counted in looks, each of which takes as long as it takes.

const AT_REST_MS = 2_000;

test('as long as something moves it waits, far longer than for something that does not', async () => {
  let looks = 0;
  let moves = 0;
  onTestFinished(watch({ name: 'moving', look: async () => ++moves }));
  await eventually(() => ++looks > (3 * AT_REST_MS) / 50, AT_REST_MS);
  expect(moves).toBeGreaterThan(1);
});

test('what has come to rest is given up, and the message says what was last seen', async () => {
  onTestFinished(watch({ name: 'ledger', look: async () => ({ 'order paying': 1 }) }));
  const asserts = eventually(() => {
    expect('paying').toBe('succeeded');
    return true;
  }, AT_REST_MS);
  await expect(asserts).rejects.toThrow(
    /nothing moved during \d+ looks.*expected 'paying' to be 'succeeded'.*ledger: {"order paying":1}/s,
  );
});

test('looks that take long are no more than others', async () => {
  let looks = 0;
  const slow = eventually(async () => {
    looks += 1;
    await sleep(200);
    return false;
  }, AT_REST_MS);
  await expect(slow).rejects.toThrow('Nothing is watched here');
  expect(looks).toBeGreaterThanOrEqual(AT_REST_MS / 50);
});

test('of a process that is stopped nothing is expected', async () => {
  const child = spawn(process.execPath, ['-e', 'setInterval(() => {}, 1000)']);
  onTestFinished(() => void child.kill('SIGKILL'));
  await once(child, 'spawn');
  child.kill('SIGSTOP');
  onTestFinished(watch({ name: 'worker', look: async () => 'waiting', pids: () => [child.pid] }));
  let looks = 0;
  await eventually(() => ++looks > (3 * AT_REST_MS) / 50, AT_REST_MS);
  child.kill('SIGCONT');
  await expect(eventually(() => false, AT_REST_MS)).rejects.toThrow('nothing moved');
});

test('an error that is no assertion is the test’s own', async () => {
  const broken = eventually(() => {
    throw new TypeError('nothing to read');
  });
  await expect(broken).rejects.toThrow('nothing to read');
});

test('what comes before a time limit counts, what the limit may have decided is done again', async () => {
  let tries = 0;
  const attempt = (ms: number, outcome: () => string) => async () => {
    tries += 1;
    await sleep(ms);
    return outcome();
  };
  const ranOut = (outcome: string) => outcome === 'unknown';
  expect(
    await unlessOutOfTime(
      60_000,
      attempt(1, () => 'unknown'),
      ranOut,
    ),
  ).toBe('unknown');
  expect(tries).toBe(1);
  const late = attempt(200, () => (tries < 3 ? 'unknown' : 'done'));
  expect(await unlessOutOfTime(200, late, ranOut)).toBe('done');
  expect(tries).toBe(3);
  expect(
    await unlessOutOfTime(
      200,
      attempt(300, () => 'refused'),
      ranOut,
    ),
  ).toBe('refused');
  expect(tries).toBe(4);
});
