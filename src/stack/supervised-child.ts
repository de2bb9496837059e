// node child.ts ENTRY
//
// Runs one of our own programs under a supervisor, and ends it when the supervisor dies without having stopped it.
import { pathToFileURL } from 'node:url';

/** Longer than a clean stop takes. */
const PATIENCE_MS = 15_000;

process.on('disconnect', () => {
  setTimeout(() => process.exit(1), PATIENCE_MS).unref();
  process.kill(process.pid, 'SIGTERM');
});
// Listening must not keep a program alive that has nothing else to do.
process.channel?.unref();

process.argv.splice(1, 1);
await import(pathToFileURL(process.argv[1] ?? '').href);
