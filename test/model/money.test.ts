import fc from 'fast-check';
import { afterAll, beforeAll, test } from 'vitest';
import { LATE_PAYMENTS } from '../../src/domain/decision.ts';
import { Case } from './case.ts';
import { type Model, OPENING, STEPS } from './commands.ts';
import { checkPromises } from './promises.ts';
import { startWorld, type World } from './world.ts';

const { NODROP_MODEL_SEED, NODROP_MODEL_PATH, NODROP_MODEL_REPLAY, NODROP_MODEL_RUNS } = process.env;
const seed = NODROP_MODEL_SEED === undefined ? Date.now() & 0x7fffffff : Number(NODROP_MODEL_SEED);
const runs = Number(NODROP_MODEL_RUNS ?? 200);

let world: World;
beforeAll(async () => {
  world = await startWorld();
});
afterAll(async () => {
  await world?.stop();
});

test('whatever happens, both ledgers agree and every cent is accounted for', async () => {
  console.log(`model: ${runs} runs, seed ${seed}`);
  let count = 0;
  const property = fc.asyncProperty(
    fc.record({
      latePayment: fc.constantFrom(...LATE_PAYMENTS),
      expiresInSeconds: fc.constantFrom(null, null, 3600),
      decides: fc.constantFrom('success', 'declined') as fc.Arbitrary<'success' | 'declined'>,
    }),
    OPENING,
    fc.commands(STEPS, {
      maxCommands: 14,
      size: 'max',
      ...(NODROP_MODEL_REPLAY === undefined ? {} : { replayPath: NODROP_MODEL_REPLAY }),
    }),
    async ({ decides, ...options }, opening, commands) => {
      const order = new Case(world, options);
      const t0 = performance.now();
      let error: unknown;
      let times = '';
      try {
        await order.begin();
        const setup = async () => {
          const model: Model = { asked: false };
          for (const step of opening) await step.run(model, order);
          return { model, real: order };
        };
        await fc.asyncModelRun(setup, commands);
        times += ` run ${Math.round(performance.now() - t0)}`;
        const facts = await order.heal(decides);
        const broken = [...order.wrong, ...checkPromises(facts)];
        if (broken.length > 0) throw new Error(broken.join('\n'));
      } catch (e) {
        error = e;
      }
      count += 1;
      console.log(`#${count} ${Math.round(performance.now() - t0)} ms${times} ${error === undefined ? 'ok' : `FAILED ${String(error).slice(0, 600)}`} ${world.sdkErrors.length > 0 ? JSON.stringify(world.sdkErrors.map(e=>e.slice(0,300))) : ''} ${error || performance.now() - t0 > 3000 ? JSON.stringify(options) + ' ' + opening.join(',') + ' ;; ' + String(commands) : ''}`);
      if (error !== undefined) throw error;
    },
  );
  await fc.assert(property, {
    seed,
    numRuns: runs,
    ...(NODROP_MODEL_PATH === undefined ? {} : { path: NODROP_MODEL_PATH }),
    endOnFailure: process.env.MODEL_END === '1',
  });
}, 3_600_000);
