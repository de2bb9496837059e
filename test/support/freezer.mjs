import { setTimeout as sleep } from 'node:timers/promises';

/**
 * `freezer.mjs PID SECONDS`: stops a process for this many seconds of each minute. Ends with that process, or when
 * stdin is closed, and never leaves the process stopped.
 */
const [pid, seconds] = process.argv.slice(2).map(Number);
const over = new AbortController();
process.stdin.on('close', () => over.abort()).resume();

function send(signal) {
  try {
    process.kill(pid, signal);
  } catch {
    over.abort();
  }
}

try {
  for (;;) {
    await sleep((60 - seconds) * 1000, undefined, { signal: over.signal });
    send('SIGSTOP');
    await sleep(seconds * 1000, undefined, { signal: over.signal });
    send('SIGCONT');
  }
} catch {
  send('SIGCONT');
}
