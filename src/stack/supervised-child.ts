// node child.ts ENTRY
//
// Runs one of nodrop's programs under a supervisor, and ends the program if the supervisor dies.
import { pathToFileURL } from 'node:url';

/** How long a clean stop may take. After this time, the process exits anyway. */
const PATIENCE_MS = 15_000;

process.on('disconnect', () => {
  setTimeout(() => process.exit(1), PATIENCE_MS).unref();
  process.kill(process.pid, 'SIGTERM');
});
// The IPC channel to the supervisor must not keep this process alive after the program has ended.
process.channel?.unref();

process.argv.splice(1, 1);
await import(pathToFileURL(process.argv[1] ?? '').href);
