import fc from 'fast-check';
import { afterAll, test } from 'vitest';
import { LATE_PAYMENTS } from '../../src/domain/decision.ts';
import { freezeEachMinute } from '../support/freeze.ts';
import { Case, type CaseOptions } from './case.ts';
import { type Model, OPENING, STEPS, type Step } from './commands.ts';
import { checkPromises } from './promises.ts';
import { ServerFault, startWorld, type World } from './world.ts';

/**
 * Tests promises P1 to P5 with random sequences of everything that can happen to an order. Workflows, ledger,
 * API and simulator are real. `npm run test:model` runs thousands of cases, and prints what is needed to
 * reproduce a failed case.
 */

const { NODROP_MODEL_RUNS, NODROP_MODEL_SEED, NODROP_MODEL_PATH, NODROP_MODEL_REPLAY, NODROP_MODEL_FREEZE } =
  process.env;
const anySeed = Math.floor(Math.random() * 2 ** 31);

interface Plan {
  readonly seed: number;
  readonly runs: number;
}

/**
 * Distributes the requested cases over two lanes, which run at the same time. In a run that reproduces a failure, there
 * is only one lane.
 */
function planOf(seed: number, runs: number): readonly (readonly Plan[])[] {
  if (NODROP_MODEL_PATH !== undefined) return [[{ seed, runs }]];
  const first = Math.ceil(runs / 2);
  return [[{ seed, runs: first }], [{ seed: seed + 1, runs: runs - first }]];
}

/**
 * The number of cases for each seed, in two lanes. Each lane has its own world, so that one lane computes while
 * the other waits. Some seeds are the same in every run, and one is new.
 */
const LANES =
  NODROP_MODEL_RUNS === undefined && NODROP_MODEL_SEED === undefined
    ? [
        [
          { seed: 1, runs: 50 },
          { seed: 2, runs: 50 },
        ],
        [
          { seed: 3, runs: 50 },
          { seed: anySeed, runs: 50 },
        ],
      ]
    : planOf(Number(NODROP_MODEL_SEED ?? anySeed), Number(NODROP_MODEL_RUNS ?? 200));
/** After this many cases a world is stopped. This frees the memory and the database of its server. */
const CASES_A_WORLD = 250;
/** If a bug of the server spoils a case, the case is run again. After this many runs, the case has failed. */
const TRIES = 3;
const SHRINKS_AT_MOST = 60;
const PROGRESS_EVERY = 25;

type CaseOf = readonly [
  given: CaseOptions,
  opening: readonly Step[],
  steps: Iterable<fc.AsyncCommand<Model, Case, true>>,
];

/** @returns the violations at the end of the case */
async function runCase(world: World, ...[given, opening, steps]: CaseOf): Promise<string[]> {
  await world.begin();
  const order = new Case(world, given);
  const setup = async () => {
    const model: Model = { asked: false };
    for (const step of opening) await step.run(model, order);
    return { model, real: order };
  };
  await fc.asyncModelRun(setup, steps);
  const facts = await order.heal();
  return [...order.wrong, ...checkPromises(facts)];
}

// The freezer stops only this process, which contains the workers, the API and the simulator. The servers that they use
// keep running.
if (NODROP_MODEL_FREEZE !== undefined) afterAll(freezeEachMinute(process.pid, Number(NODROP_MODEL_FREEZE)));

let starting: Promise<unknown> = Promise.resolve();

/** Worlds start one after another, because each start uses the whole machine. */
async function startNextWorld(): Promise<World> {
  const next = starting.then(startWorld, startWorld);
  starting = next;
  return await next;
}

/** Runs cases one after another in the world of their lane. */
class Lane {
  #world: World | undefined;
  #cases = 0;
  #spoiled = 0;

  async stop(): Promise<void> {
    const world = this.#world;
    this.#world = undefined;
    await world?.stop();
  }

  /**
   * Runs a case until it passes or fails. If the server spoils the case, it is run again from the start on a
   * new server.
   */
  async #judge(...given: CaseOf): Promise<void> {
    for (let nthTry = 1; ; nthTry++) {
      this.#world ??= await startNextWorld();
      try {
        const wrong = await runCase(this.#world, ...given);
        if (wrong.length === 0) return;
        throw new Error(wrong.join('\n'));
      } catch (error) {
        // The next case must not see anything that is left from this case.
        await this.stop();
        if (!(error instanceof ServerFault) || nthTry === TRIES) throw error;
        this.#spoiled += 1;
        console.log(
          `model: the test server spoiled case ${this.#cases}, which is run again: ${error.message}`,
        );
      }
    }
  }

  async run({ seed, runs }: Plan): Promise<void> {
    console.log(`model: ${runs} cases from seed ${seed}`);
    const startedAt = Date.now();
    const done = (cases: string) => {
      const seconds = Math.round((Date.now() - startedAt) / 1000);
      console.log(`model: ${cases} from seed ${seed} in ${seconds} s, ${this.#spoiled} run again`);
    };
    [this.#cases, this.#spoiled] = [0, 0];
    let isBroken = false;
    const property = fc.asyncProperty(
      fc.record<CaseOptions>({
        latePayment: fc.constantFrom(...LATE_PAYMENTS),
        expiresInSeconds: fc.constantFrom(null, null, 3600),
        decides: fc.constantFrom('success', 'declined'),
        hasShop: fc.boolean(),
      }),
      OPENING,
      fc.limitShrink(
        fc.commands(STEPS, {
          maxCommands: 14,
          size: 'max',
          ...(NODROP_MODEL_REPLAY === undefined ? {} : { replayPath: NODROP_MODEL_REPLAY }),
        }),
        SHRINKS_AT_MOST,
      ),
      async (...given) => {
        this.#cases += 1;
        if (this.#cases % CASES_A_WORLD === 0) await this.stop();
        try {
          await this.#judge(...given);
        } catch (error) {
          if (!isBroken) {
            const which = `case ${this.#cases} from seed ${seed}`;
            console.log(`model: ${which} is broken, looking for a shorter one: ${error}`);
            console.log(JSON.stringify(given[0]), [...given[1], given[2]].join(', '));
          }
          isBroken = true;
          throw error;
        }
        if (this.#cases % PROGRESS_EVERY === 0 && !isBroken) done(`${this.#cases} of ${runs} cases`);
      },
    );
    await fc.assert(property, {
      seed,
      numRuns: runs,
      ...(NODROP_MODEL_PATH === undefined ? {} : { path: NODROP_MODEL_PATH }),
      reporter: (result) => {
        done(`${this.#cases} cases`);
        if (!result.failed) return;
        const { counterexample, counterexamplePath, errorInstance } = result;
        const replay = /replayPath="([^"]*)"/.exec(String(counterexample?.[2]))?.[1];
        throw new Error(
          `Broken after ${result.numRuns} cases and ${result.numShrinks} shrinks. The same again:\n` +
            `  NODROP_MODEL_SEED=${seed} NODROP_MODEL_PATH='${counterexamplePath}' NODROP_MODEL_REPLAY='${replay}' npm run test:model\n` +
            `${JSON.stringify(counterexample?.[0])}\n${counterexample?.[1].join('\n')}\n` +
            `${counterexample?.[2]}\n${errorInstance instanceof Error ? errorInstance.message : ''}`,
          { cause: errorInstance },
        );
      },
    });
  }
}

test.concurrent.each(LANES.map((plans) => ({ plans, seeds: plans.map(({ seed }) => seed).join(' and ') })))(
  "in every case, nodrop's ledger and the channel's ledger agree and every cent is accounted for: cases from seed $seeds",
  async ({ plans }) => {
    const lane = new Lane();
    try {
      for (const plan of plans) await lane.run(plan);
    } finally {
      await lane.stop();
    }
  },
  7_200_000,
);
