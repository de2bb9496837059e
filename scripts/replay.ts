// node scripts/run.mjs scripts/replay.ts FILE
//
// Replays the history of one workflow with today's workflow code: a history of test/histories, or one that `temporal
// workflow show --output json` or the Temporal Web UI has downloaded. Start it with `node --inspect-brk` to stop at
// `debugger;` statements and breakpoints in src/workflows. Exit code 1 when the code would do something else than the
// history says.
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { DefaultLogger, Runtime, Worker } from '@temporalio/worker';
import { DeterminismViolationError } from '@temporalio/workflow';

const [file] = process.argv.slice(2);
if (file === undefined) {
  console.error('A history is missing: npm run replay -- FILE');
  process.exit(1);
}
Runtime.install({ logger: new DefaultLogger('WARN') });
const history: unknown = JSON.parse(readFileSync(file, 'utf8'));
try {
  await Worker.runReplayHistory(
    {
      // Bundled here, because a debugger needs whole source maps.
      workflowsPath: fileURLToPath(new URL('../src/workflows/index.ts', import.meta.url)),
    },
    history,
  );
  console.log(`${file} replays.`);
} catch (error) {
  if (!(error instanceof DeterminismViolationError)) throw error;
  console.error(`${file} does not replay: ${error.message}`);
  process.exitCode = 1;
}
