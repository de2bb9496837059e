import fc from 'fast-check';
import { afterAll, beforeAll, expect, test } from 'vitest';
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
const runs = Number(NODROP_MODEL_RUNS ?? 200);
const seed =
  NODROP_MODEL_SEED === undefined ? Math.floor(Math.random() * 2 ** 31) : Number(NODROP_MODEL_SEED);
/** A server's memory and database are let go after so many cases. */
const CASES_A_WORLD = 250;
/** Cases that the server itself spoiled may be this part of all. */
const SPOILED_AT_MOST = 0.05;
const SHRINKS_AT_MOST = 60;
const PROGRESS_EVERY = 50;

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

async function runCase(
  given: Given,
  opening: readonly Step[],
  steps: Iterable<fc.AsyncCommand<Model, Case, true>>,
): Promise<void> {
  const order = new Case(world, given);
  await order.begin();
  const setup = async () => {
    const model: Model = { asked: false };
    for (const step of opening) await step.run(model, order);
    return { model, real: order };
  };
  await fc.asyncModelRun(setup, steps);
  const facts = await order.heal(given.decides);
  expect([...order.wrong, ...checkPromises(facts)]).toEqual([]);
}

test('whatever happens, both ledgers agree and every cent is accounted for', async () => {
  const again = `NODROP_MODEL_SEED=${seed} npm run test:model`;
  console.log(`model: ${runs} cases from seed ${seed}; the same again: ${again}`);
  const startedAt = Date.now();
  let [cases, spoiled] = [0, 0];
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
      if (cases % PROGRESS_EVERY === 0) {
        console.log(`model: ${cases} of ${runs} cases in ${Math.round((Date.now() - startedAt) / 1000)} s`);
      }
      try {
        await runCase(given, opening, steps);
      } catch (error) {
        if (!(error instanceof ServerFault)) {
          // Whatever it left behind is not the next case's.
          await anotherWorld();
          throw error;
        }
        spoiled += 1;
        console.log(`model: a case was spoiled by the test server, ${error.message}`);
        await anotherWorld();
        if (spoiled > Math.max(3, runs * SPOILED_AT_MOST)) throw error;
      }
    },
  );
  await fc.assert(property, {
    seed,
    numRuns: runs,
    ...(NODROP_MODEL_PATH === undefined ? {} : { path: NODROP_MODEL_PATH }),
    reporter: (result) => {
      console.log(
        `model: ${cases} cases in ${Math.round((Date.now() - startedAt) / 1000)} s, ${spoiled} spoiled`,
      );
      if (!result.failed) return;
      const path = `NODROP_MODEL_PATH='${result.counterexamplePath}'`;
      const replay = /replayPath="([^"]*)"/.exec(String(result.counterexample?.[2]))?.[1];
      throw new Error(
        `Broken after ${result.numRuns} cases and ${result.numShrinks} shrinks. The same again:\n` +
          `  NODROP_MODEL_SEED=${seed} ${path} NODROP_MODEL_REPLAY='${replay}' npm run test:model\n` +
          `${JSON.stringify(result.counterexample?.[0])}\n${result.counterexample?.[1].join('\n')}\n` +
          `${result.counterexample?.[2]}\n${result.errorInstance instanceof Error ? result.errorInstance.message : ''}`,
        { cause: result.errorInstance },
      );
    },
  });
}, 7_200_000);

async function anotherWorld(): Promise<void> {
  await world.stop();
  world = await startWorld();
}
