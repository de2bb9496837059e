import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect, onTestFinished, test } from 'vitest';
import { eventually, unlessOutOfTime, watch } from './progress.ts';

// Tests how long `eventually` waits. `eventually` counts its checks of the condition, and not the time that the checks
// take.

const NO_CHANGE_MS = 2_000;

test('`eventually` waits much longer while something changes than while nothing changes', async () => {
  let looks = 0;
  let moves = 0;
  onTestFinished(watch({ name: 'moving', look: async () => ++moves }));
  await eventually(() => ++looks > (3 * NO_CHANGE_MS) / 50, NO_CHANGE_MS);
  expect(moves).toBeGreaterThan(1);
});

test('`eventually` gives up when nothing has changed for some time, and the message shows the last state', async () => {
  onTestFinished(watch({ name: 'ledger', look: async () => ({ 'order paying': 1 }) }));
  const asserts = eventually(() => {
    expect('paying').toBe('succeeded');
    return true;
  }, NO_CHANGE_MS);
  await expect(asserts).rejects.toThrow(
    /nothing changed during \d+ looks.*expected 'paying' to be 'succeeded'.*ledger: {"order paying":1}/s,
  );
});

test('`eventually` makes enough checks before it gives up, even if each check is slow', async () => {
  let looks = 0;
  const slow = eventually(async () => {
    looks += 1;
    await sleep(200);
    return false;
  }, NO_CHANGE_MS);
  await expect(slow).rejects.toThrow('No state is watched here');
  expect(looks).toBeGreaterThanOrEqual(NO_CHANGE_MS / 50);
});

test('`eventually` continues to wait while a watched process is stopped', async () => {
  const child = spawn(process.execPath, ['-e', 'setInterval(() => {}, 1000)']);
  onTestFinished(() => void child.kill('SIGKILL'));
  await once(child, 'spawn');
  child.kill('SIGSTOP');
  onTestFinished(watch({ name: 'worker', look: async () => 'waiting', pids: () => [child.pid] }));
  let looks = 0;
  await eventually(() => ++looks > (3 * NO_CHANGE_MS) / 50, NO_CHANGE_MS);
  child.kill('SIGCONT');
  await expect(eventually(() => false, NO_CHANGE_MS)).rejects.toThrow('nothing changed');
});

test('`eventually` immediately throws an error that is not a failed assertion', async () => {
  const broken = eventually(() => {
    throw new TypeError('nothing to read');
  });
  await expect(broken).rejects.toThrow('nothing to read');
});

test('`unlessOutOfTime` accepts an outcome that arrives before the time limit, and repeats the attempt if the time limit may have caused the outcome', async () => {
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
