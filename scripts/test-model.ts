import { spawnSync } from 'node:child_process';
import { obtainTools, SERVERS } from './tools.ts';

/**
 * `npm run test:model`: runs the model test in test/model with thousands of cases. `NODROP_MODEL_RUNS` is the number of
 * cases and `NODROP_MODEL_SEED` selects them. A failed run prints both values, so that it can be repeated. With
 * `NODROP_MODEL_FREEZE=30`, the process with workers, API and simulator is frozen for 30 s of each minute. The test
 * must also pass with this setting.
 */
const missing = await obtainTools(SERVERS);
// The SDK terminates workflow code that runs for 5 s. The SDK counts the time of a freeze too, and the termination may
// crash Node. TEMPORAL_DEBUG turns this limit off.
const debugged = process.env.NODROP_MODEL_FREEZE === undefined ? {} : { TEMPORAL_DEBUG: '1' };
const env = { NODROP_MODEL_RUNS: '3000', ...debugged, ...process.env };
// The lines that the test prints are its progress, so vitest must not capture them.
const args = ['node_modules/vitest/vitest.mjs', 'run', 'test/model', '--disable-console-intercept'];
process.exitCode =
  missing.length > 0 ? 1 : (spawnSync(process.execPath, args, { stdio: 'inherit', env }).status ?? 1);
