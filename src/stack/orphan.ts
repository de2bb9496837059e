// Loaded into our own programs when a supervisor runs them: ends them when it dies without having stopped them.

/** Longer than a clean stop takes. */
const PATIENCE_MS = 15_000;

process.on('disconnect', () => {
  setTimeout(() => process.exit(1), PATIENCE_MS).unref();
  process.kill(process.pid, 'SIGTERM');
});
// Listening must not keep a program alive that has nothing else to do.
process.channel?.unref();
