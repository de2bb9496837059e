// npm run dev: runs PostgreSQL, Temporal, the simulator, the API and a worker in the foreground. nodrop's programs
// restart when a file that they import changes, and their logs are printed in a readable form.
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';
import { runForeground } from '../src/stack/foreground.ts';
import { startStack } from '../src/stack/stack.ts';
import { requireProgramPorts, startPrograms } from '../src/stack/start-programs.ts';
import type { ProcessSpec } from '../src/stack/supervisor.ts';
import { readable } from './readable-log.ts';

const tsx = createRequire(import.meta.url).resolve('tsx/cli');
/**
 * Additional files for the watcher to watch. The worker bundles them for the workflow sandbox, but does not import all
 * of them itself.
 */
const workflows = fileURLToPath(new URL('../src/{domain,workflows}/**', import.meta.url));

await runForeground(async (supervisor, config) => {
  await requireProgramPorts(config);
  console.log('Starting PostgreSQL, Temporal, the simulator, the API and a worker ...');
  await startStack(supervisor, config);
  await startPrograms({ start: (spec) => supervisor.start(watched(spec)) }, config, 'console');
  console.log(`
  API              ${config.api.publicUrl}, for the key sk_dev_nodrop
  Temporal Web UI  ${config.temporal.uiUrl ?? 'the one of your own server'}
  Shop             npm run shop, in another terminal

Ready. A change in src restarts the programs that use the file. Ctrl-C stops everything.
`);
});

/** Runs a program under tsx's watcher. Removes the watcher's own lines from the program's log. */
function watched(spec: ProcessSpec): ProcessSpec {
  const entry = spec.command.at(-1) ?? '';
  return {
    ...spec,
    command: [process.execPath, tsx, 'watch', '--clear-screen=false', `--include=${workflows}`, entry],
    isOurs: false,
    show: (line) => readable(spec.name, line),
  };
}
