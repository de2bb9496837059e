import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';

/**
 * Tests wait as long as a watched state still changes. So a slow machine makes a test slow, but does not make
 * it fail. If a test is stuck, it fails, and the message says what did not change.
 */

/** A state that is watched. While it changes, the system is still making progress. */
export interface Watched {
  readonly name: string;
  /** The state as JSON. It must not contain anything that changes forever, such as a count of polls. */
  look(): Promise<unknown>;
  /** The processes that change the state. While one of them is stopped, `eventually` does not give up. */
  pids?(): readonly (number | undefined)[];
}

const LOOK_EVERY_MS = 50;
/** The condition is cheap to read, so it is checked often. The watched states are read much less often. */
const LOOKS_A_SURVEY = 20;
/**
 * This many checks take longer than every delay of nodrop that a test waits for, such as retries, polls and the sweep.
 */
const NO_CHANGE_MS = 300_000;

/**
 * The timeout for operations that hang, in tests that do not test timeouts. No other operation takes this long on any
 * machine.
 */
export const NET_MS = 1_200_000;

/**
 * Measures how many ms this process runs from now on, without the time in which it is frozen or waits for the CPU. Used
 * to check that a result comes well before a timeout.
 */
export function runningTime(): () => number {
  let looks = 0;
  setInterval(() => {
    looks += 1;
  }, LOOK_EVERY_MS).unref();
  return () => looks * LOOK_EVERY_MS;
}

/** The API answers every request within this time, with a result or an error. */
export const API_BUDGET_MS = 8_000;

/**
 * Runs an operation that may reach a time limit of nodrop on a slow machine. An outcome that comes from the limit
 * proves nothing, so the operation is run again. Any other outcome is returned.
 * @param limitMs the shortest time limit of nodrop that applies to the operation
 * @param ranOut returns true if the outcome can come from a time limit
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
/** Timers and the clock may round times differently. */
const CLOCKS_DIFFER_MS = 50;

const watched = new Set<Watched>();

/** @returns a function that stops watching */
export function watch(it: Watched): () => void {
  watched.add(it);
  return () => void watched.delete(it);
}

/**
 * Calls `condition` until it returns something other than undefined or false. An assertion error means "not
 * yet". Any other error fails the test.
 * @param noChangeMs the time without a change of a watched state after which this function gives up. It is counted
 * in checks of 50 ms. A slow check is also one check. Checks are not counted while a watched process is stopped.
 * @throws Error with the last state
 */
export async function eventually<T>(
  condition: () => Promise<T | undefined | false> | T | undefined | false,
  noChangeMs = NO_CHANGE_MS,
): Promise<T> {
  let atRest = 0;
  let before = '';
  for (let look = 1; ; look++) {
    const { value, failure } = await lookAt(condition);
    if (failure === undefined && value !== undefined && value !== false) return value;
    if (!isAnyStopped()) atRest += 1;
    const isOver = atRest * LOOK_EVERY_MS >= noChangeMs;
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

/** The watched states, one per line. */
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

/** True if a signal has stopped the process. Works only where /proc exists. */
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
  const at = state === '' ? 'No state is watched here.' : `The watched states did not change:\n${state}`;
  return `Not met, and nothing changed during ${looks} looks: ${condition}\nLast seen: ${seen}\n${at}`;
}
