// node scripts/run.mjs scripts/replay.ts FILE
//
// Replays the history of one workflow with the current workflow code. The file is a history from test/histories, or one
// from `temporal workflow show --output json` or the Temporal Web UI. Start it with `node --inspect-brk` to stop at
// `debugger;` statements and breakpoints in src/workflows. Exits with 1 if the code deviates from the history.
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { DefaultLogger, Runtime, Worker } from '@temporalio/worker';
import { DeterminismViolationError } from '@temporalio/workflow';

const [file] = process.argv.slice(2);
if (file === undefined) {
  console.error('The history file is missing: npm run replay -- FILE');
  process.exit(1);
}
Runtime.install({ logger: new DefaultLogger('WARN') });
const history: unknown = JSON.parse(readFileSync(file, 'utf8'));
try {
  await Worker.runReplayHistory(
    {
      // The workflow code is bundled here, because a debugger needs complete source maps. The built bundle does not
      // have them.
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
