import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { Changes } from '../../src/api/changes.ts';
import { eventually, queryOnce, useDatabase } from '../support/stack.ts';

// Many who wait at one process, and the one connection that tells them: they do not all ask the database at once.

/** The longest that anybody goes without looking while nobody listens, in ms. */
const LOOKS_WITHIN_MS = 3_000;
/** Somebody who listens reads again by himself at the latest after so long, and not before that, in ms. */
const READS_AGAIN_WITHIN_MS = 15_000;
const READS_AGAIN_AFTER_MS = 8_000;
const quiet = { info: () => {}, warn: () => {} };

const { databaseUrl } = useDatabase();
let changes: Changes;
/** When each waiter has looked, in ms of the clock. */
let looks: number[][];
let answers: Promise<unknown>[];

beforeEach(() => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'Date'] });
  // As even as chance is on the whole, and the same each time.
  let calls = 0;
  vi.spyOn(Math, 'random').mockImplementation(() => (++calls * 0.618_034) % 1);
});
afterEach(async () => {
  await changes.close();
  await Promise.all(answers);
  vi.useRealTimers();
  vi.restoreAllMocks();
});

/** As many who wait for something that does not happen; each has looked once. */
async function concurrency(size: number): Promise<void> {
  looks = Array.from({ length: size }, () => []);
  const wait = (mine: number[], n: number) =>
    changes.until(`payment/${n % 10}`, {
      read: async () => mine.push(Date.now()),
      done: () => false,
      timeoutMs: 600_000,
    });
  answers = looks.map(wait);
  await vi.advanceTimersByTimeAsync(0);
  expect(looks.every(({ length }) => length === 1)).toBe(true);
}

/** Since then, how many looks there were in each tenth of a second. */
function perTenth(since: number): number[] {
  const counts: number[] = [];
  for (const at of looks.flat()) {
    const tenth = Math.floor((at - since) / 100);
    if (at > since) counts[tenth] = (counts[tenth] ?? 0) + 1;
  }
  return Array.from(counts, (count) => count ?? 0);
}

test('who listens and is notified of nothing reads again every 15 s at least, and not all at one moment', async () => {
  changes = new Changes(databaseUrl, quiet);
  changes.start();
  await eventually(() => changes.listening);
  await vi.advanceTimersByTimeAsync(LOOKS_WITHIN_MS);
  await concurrency(500);
  const began = Date.now();
  await vi.advanceTimersByTimeAsync(READS_AGAIN_AFTER_MS);
  expect(looks.flat()).toHaveLength(500);
  await vi.advanceTimersByTimeAsync(READS_AGAIN_WITHIN_MS - READS_AGAIN_AFTER_MS);
  expect(looks.every(({ length }) => length === 2)).toBe(true);
  expect(Math.max(...perTenth(began))).toBeLessThanOrEqual(25);
  await vi.advanceTimersByTimeAsync(READS_AGAIN_WITHIN_MS);
  expect(looks.every(({ length }) => length >= 3)).toBe(true);
});

describe('when the connection that listens is lost', () => {
  test('all look for themselves, one a millisecond, and again when it is back', async () => {
    changes = new Changes(databaseUrl, quiet);
    changes.start();
    await eventually(() => changes.listening);
    // What the beginning told everybody is over.
    await vi.advanceTimersByTimeAsync(LOOKS_WITHIN_MS);
    await concurrency(500);
    const began = Date.now();
    const lost = queryOnce(
      databaseUrl,
      "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'nodrop-changes' and datname = current_database()",
    );
    await eventually(() => !changes.listening);
    await lost;
    // The clock of the waiters stands still meanwhile: both times fall together.
    await eventually(() => changes.listening);
    expect(looks.flat()).toHaveLength(500);
    await vi.advanceTimersByTimeAsync(LOOKS_WITHIN_MS);
    expect(looks.every(({ length }) => length > 1)).toBe(true);
    const counts = perTenth(began);
    expect(counts).toHaveLength(5);
    // Twice each, in half a second.
    for (const count of counts) expect(count).toBeLessThanOrEqual(250);
    // Listening again, nobody looks without a reason for a while.
    const total = looks.flat().length;
    await vi.advanceTimersByTimeAsync(READS_AGAIN_AFTER_MS);
    expect(looks.flat()).toHaveLength(total);
  });

  test('and does not come back: all go on looking every two seconds or so, at no common moment', async () => {
    // Nobody has begun to listen.
    changes = new Changes(databaseUrl, quiet);
    await concurrency(200);
    const began = Date.now();
    await vi.advanceTimersByTimeAsync(10 * LOOKS_WITHIN_MS);
    for (const mine of looks) {
      const gaps = mine.slice(1).map((at, index) => at - (mine[index] ?? 0));
      expect(Math.max(...gaps)).toBeLessThanOrEqual(LOOKS_WITHIN_MS);
      expect(mine.length).toBeLessThanOrEqual(31);
    }
    // Also not after the first two seconds, which began for all at once.
    expect(Math.max(...perTenth(began))).toBeLessThanOrEqual(20);
  });
});
