import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';

/**
 * How tests wait: for as long as something still moves. A slow machine makes a test slow, and never red; what is stuck
 * turns it red all the same, and says what did not move.
 */

/** Something whose changes show that the system still moves towards what a test waits for. */
export interface Watched {
  readonly name: string;
  /** Its state as JSON can hold it. What repeats without end, such as a poll, does not belong into it. */
  look(): Promise<unknown>;
  /** The processes that work on it: while one of them is stopped, nothing is expected of it. */
  pids?(): readonly (number | undefined)[];
}

const LOOK_EVERY_MS = 50;
/** The condition is cheap to look at; everything that is watched is looked at this much more rarely. */
const LOOKS_A_SURVEY = 20;
/** As looks, longer than any wait of the product that tests wait for: retries, polls, a sweep. */
const AT_REST_MS = 300_000;

/** Longer than anything takes on any machine: a net for what hangs, for time-outs that no test is about. */
export const NET_MS = 1_200_000;

/**
 * Measures how long this process has run from now on, in ms: time in which it was frozen, or waited for the machine,
 * does not count. For what must come well before a time-out.
 */
export function runningTime(): () => number {
  let looks = 0;
  setInterval(() => {
    looks += 1;
  }, LOOK_EVERY_MS).unref();
  return () => looks * LOOK_EVERY_MS;
}

/** The API answers within this, whatever has come of what it was asked. */
export const API_BUDGET_MS = 8_000;

/**
 * Does something whose outcome on a slow machine is decided by a time limit of the product: one that ran out of time
 * says nothing, and it is done again. What comes before the limit counts at once.
 * @param limitMs no limit of the product on the way is shorter
 * @param ranOut whether the outcome can be that of a limit
 */
export async function unlessOutOfTime<T>(
  limitMs: number,
  attempt: () => Promise<T>,
  ranOut: (outcome: T) => boolean,
): Promise<T> {
  for (;;) {
    const began = performance.now();
    const outcome = await attempt();
    if (!ranOut(outcome) || performance.now() - began < limitMs - CLOCKS_DIFFER_MS) return outcome;
  }
}
/** A timer and this clock may round differently. */
const CLOCKS_DIFFER_MS = 50;

const watched = new Set<Watched>();

/** @returns a function that ends the watch. */
export function watch(it: Watched): () => void {
  watched.add(it);
  return () => void watched.delete(it);
}

/**
 * Looks until `condition` gives something else than undefined or false. One that throws an assertion's error is not
 * met yet; any other error is the test's.
 *
 * @param atRestMs how long nothing that is watched may change before it is given up, counted in looks of 50 ms: a look
 * that took longer counts no more than any other, and none counts while a watched process is stopped.
 * @throws Error that says what was last seen.
 */
export async function eventually<T>(
  condition: () => Promise<T | undefined | false> | T | undefined | false,
  atRestMs = AT_REST_MS,
): Promise<T> {
  let atRest = 0;
  let before = '';
  for (let look = 1; ; look++) {
    const { value, failure } = await lookAt(condition);
    if (failure === undefined && value !== undefined && value !== false) return value;
    if (!isAnyStopped()) atRest += 1;
    const isOver = atRest * LOOK_EVERY_MS >= atRestMs;
    if (isOver || look % LOOKS_A_SURVEY === 0) {
      const now = await survey();
      if (now !== before) atRest = 0;
      else if (isOver)
        throw new Error(complaint(condition, atRest, failure ?? value, now), { cause: failure });
      before = now;
    }
    await sleep(LOOK_EVERY_MS);
  }
}

async function lookAt<T>(condition: () => Promise<T> | T): Promise<{ value?: T; failure?: Error }> {
  try {
    return { value: await condition() };
  } catch (error) {
    if (error instanceof Error && error.name === 'AssertionError') return { failure: error };
    throw error;
  }
}

/** What is watched, as it is now: a line each. */
async function survey(): Promise<string> {
  const lines = [...watched].map(async ({ name, look }) => {
    const state = await look().catch((error: unknown) => `cannot be seen: ${error}`);
    return `  ${name}: ${JSON.stringify(state)}`;
  });
  return (await Promise.all(lines)).join('\n');
}

function isAnyStopped(): boolean {
  return [...watched].some(({ pids }) => pids?.().some((pid) => pid !== undefined && isStopped(pid)));
}

/** True for a process that a signal has stopped; only where there is /proc. */
function isStopped(pid: number): boolean {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    return stat.slice(stat.lastIndexOf(')') + 2).startsWith('T');
  } catch {
    return false;
  }
}

function complaint(condition: () => unknown, looks: number, last: unknown, state: string): string {
  const seen = last instanceof Error ? last.message : String(last);
  const at = state === '' ? 'Nothing is watched here.' : `What was watched did not change:\n${state}`;
  return `Not so, and nothing moved during ${looks} looks: ${condition}\nLast seen: ${seen}\n${at}`;
}
