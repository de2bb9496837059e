// npm run dev: PostgreSQL, Temporal, the simulator, the API and a worker in the foreground. What is ours starts again
// when a file that it imports changes, and its log is readable.
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';
import { runForeground } from '../src/stack/foreground.ts';
import { startStack } from '../src/stack/stack.ts';
import { requireProgramPorts, startPrograms } from '../src/stack/start-programs.ts';
import type { ProcessSpec } from '../src/stack/supervisor.ts';
import { readable } from './readable-log.ts';

const tsx = createRequire(import.meta.url).resolve('tsx/cli');
/** The worker bundles these, and does not import all of them. */
const workflows = fileURLToPath(new URL('../src/{domain,workflows}/**', import.meta.url));

await runForeground(async (supervisor, config) => {
  await requireProgramPorts(config);
  console.log('Starting PostgreSQL, Temporal, the simulator, the API and a worker ...');
  await startStack(supervisor, config);
  await startPrograms({ start: (spec) => supervisor.start(watched(spec)) }, config, 'console');
  console.log(`
  API              ${config.api.publicUrl}, for the key sk_dev_nodrop
  Temporal Web UI  ${config.temporal.uiUrl ?? 'of your own server'}
  Shop             npm run shop, in another terminal

Ready. A change in src starts what it concerns again; Ctrl-C stops everything.
`);
});

/** One of our programs under tsx's watcher, whose words are not a log. */
function watched(spec: ProcessSpec): ProcessSpec {
  const entry = spec.command.at(-1) ?? '';
  return {
    ...spec,
    command: [process.execPath, tsx, 'watch', '--clear-screen=false', `--include=${workflows}`, entry],
    isOurs: false,
    show: (line) => readable(spec.name, line),
  };
}
