import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { Changes } from '../../src/api/changes.ts';
import { eventually, queryOnce, useDatabase } from '../support/stack.ts';

// Tests that the waiting requests of one process do not all read the database at the same time. The requests share one
// listening connection.

/** The longest time between two reads of a waiting request while the connection is lost, in ms. */
const LOOKS_WITHIN_MS = 3_000;
/**
 * While the connection listens, a waiting request makes its next read at the latest READS_AGAIN_WITHIN_MS and at the
 * earliest READS_AGAIN_AFTER_MS after its previous read.
 */
const READS_AGAIN_WITHIN_MS = 15_000;
const READS_AGAIN_AFTER_MS = 8_000;
const quiet = { info: () => {}, warn: () => {} };

const { databaseUrl } = useDatabase();
let changes: Changes;
/** For each waiting request, the times at which it read, in ms. */
let looks: number[][];
let answers: Promise<unknown>[];

beforeEach(() => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'Date'] });
  // Random numbers are replaced by evenly distributed numbers that are the same in each run.
  let calls = 0;
  vi.spyOn(Math, 'random').mockImplementation(() => (++calls * 0.618_034) % 1);
});
afterEach(async () => {
  await changes.close();
  await Promise.all(answers);
  vi.useRealTimers();
  vi.restoreAllMocks();
});

/** Starts `count` requests that wait for a change that never happens. Each request reads once at its start. */
async function startWaiting(size: number): Promise<void> {
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

/** The number of reads in each tenth of a second after the given time. */
function perTenth(since: number): number[] {
  const counts: number[] = [];
  for (const at of looks.flat()) {
    const tenth = Math.floor((at - since) / 100);
    if (at > since) counts[tenth] = (counts[tenth] ?? 0) + 1;
  }
  return Array.from(counts, (count) => count ?? 0);
}

test('without notifications, every waiting request reads the database again within 15 s, and the reads are spread over time', async () => {
  changes = new Changes(databaseUrl, quiet);
  changes.start();
  await eventually(() => changes.listening);
  await vi.advanceTimersByTimeAsync(LOOKS_WITHIN_MS);
  await startWaiting(500);
  const began = Date.now();
  await vi.advanceTimersByTimeAsync(READS_AGAIN_AFTER_MS);
  expect(looks.flat()).toHaveLength(500);
  await vi.advanceTimersByTimeAsync(READS_AGAIN_WITHIN_MS - READS_AGAIN_AFTER_MS);
  expect(looks.every(({ length }) => length === 2)).toBe(true);
  expect(Math.max(...perTenth(began))).toBeLessThanOrEqual(25);
  await vi.advanceTimersByTimeAsync(READS_AGAIN_WITHIN_MS);
  expect(looks.every(({ length }) => length >= 3)).toBe(true);
});

describe('the loss of the connection that listens for notifications', () => {
  test('all waiting requests read the database again, one request per millisecond, and once more when the connection is restored', async () => {
    changes = new Changes(databaseUrl, quiet);
    changes.start();
    await eventually(() => changes.listening);
    // Lets the requests finish the reads that follow the start of listening.
    await vi.advanceTimersByTimeAsync(LOOKS_WITHIN_MS);
    await startWaiting(500);
    const began = Date.now();
    const lost = queryOnce(
      databaseUrl,
      "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'nodrop-changes' and datname = current_database()",
    );
    await eventually(() => !changes.listening);
    await lost;
    // The clock stands still until the connection listens again, so no time passes for the waiting requests.
    await eventually(() => changes.listening);
    expect(looks.flat()).toHaveLength(500);
    await vi.advanceTimersByTimeAsync(LOOKS_WITHIN_MS);
    expect(looks.every(({ length }) => length > 1)).toBe(true);
    const counts = perTenth(began);
    expect(counts).toHaveLength(5);
    // Each of the 500 requests reads twice within half a second, so a tenth of a second has 200 reads on average.
    for (const count of counts) expect(count).toBeLessThanOrEqual(250);
    // The connection listens and nothing changes, so no request reads again within READS_AGAIN_AFTER_MS.
    const total = looks.flat().length;
    await vi.advanceTimersByTimeAsync(READS_AGAIN_AFTER_MS);
    expect(looks.flat()).toHaveLength(total);
  });

  test('if the connection stays lost, each waiting request reads about every two seconds, and the reads are spread over time', async () => {
    // The connection never listens in this test.
    changes = new Changes(databaseUrl, quiet);
    await startWaiting(200);
    const began = Date.now();
    await vi.advanceTimersByTimeAsync(10 * LOOKS_WITHIN_MS);
    for (const mine of looks) {
      const gaps = mine.slice(1).map((at, index) => at - (mine[index] ?? 0));
      expect(Math.max(...gaps)).toBeLessThanOrEqual(LOOKS_WITHIN_MS);
      expect(mine.length).toBeLessThanOrEqual(31);
    }
    // All requests began at the same moment, but their reads are spread over time.
    expect(Math.max(...perTenth(began))).toBeLessThanOrEqual(20);
  });
});
