import { cpuByPart } from './cpu.ts';

/** The work that a round of a benchmark repeats, and the processes that do this work. */
export interface Work<Part extends string> {
  /** Does the work once. */
  readonly once: () => Promise<void>;
  readonly pids: Readonly<Record<Part, number>>;
}

export interface Round<Part extends string> {
  readonly done: number;
  readonly seconds: number;
  /** CPU time that the processes of each part used during the measured time. */
  readonly cpuMs: Readonly<Record<Part, number>>;
}

/** Number of concurrent loops. Each loop starts the work again when the work has finished. */
const AT_ONCE = 16;
const WARM_UP_MS = 5_000;
const MEASURED_MS = 20_000;
const SAY_EVERY_MS = 2_000;

/** Repeats the work in AT_ONCE loops, and counts completions after a warm-up. Resolves when all work has ended. */
export async function round<Part extends string>(what: string, work: Work<Part>): Promise<Round<Part>> {
  const began = performance.now();
  let done = 0;
  let isOver = false;
  const loop = async () => {
    while (!isOver) {
      await work.once();
      done += 1;
    }
  };
  const loops = Promise.all(Array.from({ length: AT_ONCE }, loop));
  const say = setInterval(() => {
    const seconds = ((performance.now() - began) / 1000).toFixed(0);
    console.log(`  ${what}: ${seconds} s, ${done} done`);
  }, SAY_EVERY_MS);
  try {
    const mark = () => ({ at: performance.now(), done, cpu: cpuByPart(work.pids) });
    await Promise.race([loops, pause(WARM_UP_MS)]);
    const from = mark();
    await Promise.race([loops, pause(MEASURED_MS)]);
    const to = mark();
    isOver = true;
    await loops;
    const parts = Object.keys(work.pids) as Part[];
    const cpuMs = Object.fromEntries(parts.map((part) => [part, to.cpu[part] - from.cpu[part]])) as Record<
      Part,
      number
    >;
    return { done: to.done - from.done, seconds: (to.at - from.at) / 1000, cpuMs };
  } finally {
    isOver = true;
    clearInterval(say);
  }
}

const pause = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms));

export interface Rate<Part extends string> {
  readonly perSecond: number;
  /** Average CPU time in ms that one completion of the work needs, for each part and in total. */
  readonly cpuMs: Readonly<Record<Part, number>> & { readonly sum: number };
  readonly rounds: readonly number[];
}

/** Combines the results of several rounds into completions per second, and CPU time per completion. */
export function rateOf<Part extends string>(rounds: readonly Round<Part>[]): Rate<Part> {
  const done = sum(rounds.map((one) => one.done));
  const parts = Object.keys(rounds[0]?.cpuMs ?? {}) as Part[];
  const each = parts.map(
    (part) => [part, rounded(sum(rounds.map(({ cpuMs }) => cpuMs[part])) / done)] as const,
  );
  const cpuMs = Object.fromEntries(each) as Record<Part, number>;
  return {
    perSecond: rounded(done / sum(rounds.map(({ seconds }) => seconds))),
    cpuMs: { ...cpuMs, sum: rounded(sum(each.map(([, ms]) => ms))) },
    rounds: rounds.map((one) => rounded(one.done / one.seconds)),
  };
}

const sum = (numbers: readonly number[]): number => numbers.reduce((total, number) => total + number, 0);
const rounded = (number: number): number => Number(number.toFixed(1));

/** Describes a rate as a line of output. */
export function describeRate<Part extends string>({ perSecond, cpuMs }: Rate<Part>): string {
  const parts = Object.entries<number>(cpuMs).map(([part, ms]) => `${part} ${ms}`);
  return `${perSecond} a second; ms of CPU each: ${parts.join(', ')}`;
}
