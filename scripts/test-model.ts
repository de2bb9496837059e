import { spawnSync } from 'node:child_process';
import { obtainTools, SERVERS } from './tools.ts';

/**
 * `npm run test:model`: the model of test/model with thousands of cases. `NODROP_MODEL_RUNS` says how many,
 * `NODROP_MODEL_SEED` which; with what a failed run prints it does the same again. With `NODROP_MODEL_FREEZE=30` the
 * process with workers, API and simulator is frozen for 30 s of each minute, which changes no verdict.
 */
const missing = await obtainTools(SERVERS);
// The SDK ends workflow code that takes 5 s, as it does in a frozen process, and Node may die of that; not when debugged.
const debugged = process.env.NODROP_MODEL_FREEZE === undefined ? {} : { TEMPORAL_DEBUG: '1' };
const env = { NODROP_MODEL_RUNS: '3000', ...debugged, ...process.env };
// Its lines are its progress.
const args = ['node_modules/vitest/vitest.mjs', 'run', 'test/model', '--disable-console-intercept'];
process.exitCode =
  missing.length > 0 ? 1 : (spawnSync(process.execPath, args, { stdio: 'inherit', env }).status ?? 1);
