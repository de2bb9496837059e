import fc from 'fast-check';
import { afterAll, beforeAll, test } from 'vitest';
import { LATE_PAYMENTS } from '../../src/domain/decision.ts';
import { Case } from './case.ts';
import { type Model, OPENING, STEPS, type Step } from './commands.ts';
import { checkPromises } from './promises.ts';
import { ServerFault, startWorld, type World } from './world.ts';

/**
 * The promises under random interleavings of everything that can happen to an order, on the real workflows, ledger,
 * API and simulator. `npm run test:model` runs thousands of cases; what it prints reproduces a failed one.
 */

const { NODROP_MODEL_RUNS, NODROP_MODEL_SEED, NODROP_MODEL_PATH, NODROP_MODEL_REPLAY } = process.env;
const anySeed = Math.floor(Math.random() * 2 ** 31);
/** Cases from each seed: some that every run has, and some that no run had before. */
const PLAN: readonly { seed: number; runs: number }[] =
  NODROP_MODEL_RUNS === undefined && NODROP_MODEL_SEED === undefined
    ? [
        { seed: 1, runs: 50 },
        { seed: 2, runs: 50 },
        { seed: 3, runs: 50 },
        { seed: anySeed, runs: 50 },
      ]
    : [{ seed: Number(NODROP_MODEL_SEED ?? anySeed), runs: Number(NODROP_MODEL_RUNS ?? 200) }];
/** A server's memory and database are let go after so many cases. */
const CASES_A_WORLD = 250;
/** A case that the server itself broke is run so often before it counts as broken. */
const TRIES = 3;
const SHRINKS_AT_MOST = 60;
const PROGRESS_EVERY = 25;

let world: World;
beforeAll(async () => {
  world = await startWorld();
});
afterAll(async () => {
  await world?.stop();
});

interface Given {
  readonly latePayment: (typeof LATE_PAYMENTS)[number];
  /** Of the order. */
  readonly expiresInSeconds: number | null;
  /** What the channel makes of a payment that it still has in process at the end. */
  readonly decides: 'success' | 'declined';
}

/** @returns what is wrong with it in the end. */
async function runCase(
  given: Given,
  opening: readonly Step[],
  steps: Iterable<fc.AsyncCommand<Model, Case, true>>,
): Promise<string[]> {
  const order = new Case(world, given);
  await order.begin();
  const setup = async () => {
    const model: Model = { asked: false };
    for (const step of opening) await step.run(model, order);
    return { model, real: order };
  };
  await fc.asyncModelRun(setup, steps);
  const facts = await order.heal(given.decides);
  return [...order.wrong, ...checkPromises(facts)];
}

let [cases, spoiled] = [0, 0];

/** Each case gets its verdict: one that the server spoiled is run again from its beginning, on a new server. */
async function judge(...[given, opening, steps]: Parameters<typeof runCase>): Promise<void> {
  for (let nthTry = 1; ; nthTry++) {
    try {
      const wrong = await runCase(given, opening, steps);
      if (wrong.length === 0) return;
      throw new Error(wrong.join('\n'));
    } catch (error) {
      // Whatever it left behind is not the next case's.
      await anotherWorld();
      if (!(error instanceof ServerFault) || nthTry === TRIES) throw error;
      spoiled += 1;
      console.log(`model: the test server spoiled case ${cases}, which is run again: ${error.message}`);
    }
  }
}

test.each(PLAN)(
  'whatever happens, both ledgers agree and every cent is accounted for: $runs cases from seed $seed',
  async ({ seed, runs }) => {
    console.log(`model: ${runs} cases from seed ${seed}`);
    const startedAt = Date.now();
    const inSeconds = () => `${Math.round((Date.now() - startedAt) / 1000)} s`;
    [cases, spoiled] = [0, 0];
    let isBroken = false;
    const property = fc.asyncProperty(
      fc.record<Given>({
        latePayment: fc.constantFrom(...LATE_PAYMENTS),
        expiresInSeconds: fc.constantFrom(null, null, 3600),
        decides: fc.constantFrom('success', 'declined'),
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
      async (given, opening, steps) => {
        cases += 1;
        if (cases % CASES_A_WORLD === 0) await anotherWorld();
        try {
          await judge(given, opening, steps);
        } catch (error) {
          if (!isBroken) console.log(`model: case ${cases} is broken, looking for a shorter one: ${error}`);
          isBroken = true;
          throw error;
        }
        if (cases % PROGRESS_EVERY === 0 && !isBroken)
          console.log(`model: ${cases} of ${runs} cases in ${inSeconds()}, ${spoiled} run again`);
      },
    );
    await fc.assert(property, {
      seed,
      numRuns: runs,
      ...(NODROP_MODEL_PATH === undefined ? {} : { path: NODROP_MODEL_PATH }),
      reporter: (result) => {
        console.log(`model: ${cases} cases from seed ${seed} in ${inSeconds()}, ${spoiled} run again`);
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
  },
  7_200_000,
);

async function anotherWorld(): Promise<void> {
  await world.stop();
  world = await startWorld();
}
