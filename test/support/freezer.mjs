import { setTimeout as sleep } from 'node:timers/promises';

/**
 * `freezer.mjs PID SECONDS` freezes the process PID for this many seconds of each minute. It ends when that process
 * ends or when its own stdin is closed. Before it ends, it lets the process PID run again.
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
