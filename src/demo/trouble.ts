import { setTimeout as sleep } from 'node:timers/promises';
import type { Supervisor } from '../stack/supervisor.ts';

/** How long after a payment its callback is sent. */
export const CALLBACK_DELAY_MS = 2_000;

/** The faults of the simulator during the demo, in the format of `PUT /_control/faults`. */
export const FAULTS = {
  callback: {
    dropRate: 0.3,
    delayMs: CALLBACK_DELAY_MS,
    duplicates: 1,
    corruptSignatureRate: 0.05,
    wrongAmountRate: 0.02,
    outOfOrder: true,
  },
  create: { errorRate: 0.02, timeoutAfterAcceptRate: 0.005 },
  query: { errorRate: 0.05, garbageRate: 0.03 },
  // A close has no effect, so a payer whose page is still open can pay a closed trade.
  close: { errorRate: 0.1, ineffectiveRate: 1 },
  refund: { errorRate: 0.2 },
} as const;

/**
 * A fault that a double applies to the next request of one kind. With `silent`, the double executes the request, but
 * does not answer it.
 */
export interface RequestFault {
  readonly of: 'create' | 'query' | 'close' | 'refund';
  readonly how: 'error' | 'nonsense' | 'silent';
}

/** The interval of query faults, in seconds. In each interval, one query fails or gets an invalid answer. */
export const QUERY_FAULT_EVERY = 4;

/**
 * The request faults of a double in one second of the run, counted from 0. Each kind of request has at most one fault
 * in that second.
 */
export const requestFaults = (second: number): readonly RequestFault[] => [
  ...every<RequestFault>(second, QUERY_FAULT_EVERY, 0, {
    of: 'query',
    how: second % (2 * QUERY_FAULT_EVERY) === 0 ? 'error' : 'nonsense',
  }),
  ...every<RequestFault>(second, 5, 2, { of: 'refund', how: 'error' }),
  ...every<RequestFault>(second, 5, 4, { of: 'close', how: 'error' }),
  ...every<RequestFault>(second, 20, 6, { of: 'create', how: 'silent' }),
];

const every = <T>(second: number, period: number, from: number, what: T): readonly T[] =>
  second % period === from ? [what] : [];

/** A nodrop process that the demo killed with SIGKILL. */
export interface Killed {
  readonly name: string;
  readonly pid: number;
  /** Time between the arrival of the first payer and the kill. */
  readonly afterMs: number;
  /** Time from the kill until the replacement of the killed process worked. Undefined if it never worked. */
  backAfterMs: number | undefined;
}

export interface Kill {
  readonly name: 'worker' | 'api';
  readonly afterMs: number;
  /** True if the supervisor has replaced the killed process and the replacement works. */
  readonly isBack: (killedAt: number, pid: number) => Promise<boolean>;
}

const LOOK_EVERY_MS = 100;

/**
 * Kills each process with SIGKILL at the planned time, and waits until its replacement works.
 * @param say gets a line for each kill and for each replacement that works.
 */
export async function killProcesses(
  supervisor: Supervisor,
  kills: readonly Kill[],
  say: (line: string) => void,
  signal: AbortSignal,
): Promise<readonly Killed[]> {
  const startedAt = Date.now();
  const done: Killed[] = [];
  const work = kills.map(async ({ name, afterMs, isBack }) => {
    await sleep(afterMs, undefined, { signal });
    const pid = supervisor.pidOf(name);
    if (pid === undefined) return;
    process.kill(pid, 'SIGKILL');
    const killedAt = Date.now();
    const killed: Killed = { name, pid, afterMs: killedAt - startedAt, backAfterMs: undefined };
    done.push(killed);
    say(`kill -9 ${pid}: the ${title(name)} is dead. Payers continue to pay.`);
    for (;;) {
      await sleep(LOOK_EVERY_MS, undefined, { signal });
      const next = supervisor.pidOf(name);
      if (next !== undefined && next !== pid && (await isBack(killedAt, next))) break;
    }
    killed.backAfterMs = Date.now() - killedAt;
    const seconds = (killed.backAfterMs / 1000).toFixed(1);
    say(`The ${title(name)} works again after ${seconds} s (process ${supervisor.pidOf(name)}).`);
  });
  await Promise.all(work).catch((error) => {
    if (!signal.aborted) throw error;
  });
  return done;
}

export const title = (name: string) => (name === 'api' ? 'API' : name);
