import { setTimeout as sleep } from 'node:timers/promises';

/**
 * `freezer.mjs PID SECONDS`: stops a process for so many seconds of each minute. Ends with the process, or when its own
 * input is closed; it never leaves the process stopped.
 */
const [pid, seconds] = process.argv.slice(2).map(Number);
const over = new AbortController();
process.stdin.on('close', () => over.abort()).resume();

function tell(signal) {
  try {
    process.kill(pid, signal);
  } catch {
    over.abort();
  }
}

try {
  for (;;) {
    await sleep((60 - seconds) * 1000, undefined, { signal: over.signal });
    tell('SIGSTOP');
    await sleep(seconds * 1000, undefined, { signal: over.signal });
    tell('SIGCONT');
  }
} catch {
  tell('SIGCONT');
}
