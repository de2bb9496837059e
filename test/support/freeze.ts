import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';

/**
 * Freezes a process for this many seconds of each minute.
 * @returns a function that ends the freezing
 */
export function freezeEachMinute(pid: number, seconds: number): () => void {
  const freezer = fileURLToPath(new URL('./freezer.mjs', import.meta.url));
  const child = spawn(process.execPath, [freezer, String(pid), String(seconds)], {
    stdio: ['pipe', 'inherit', 'inherit'],
  });
  return () => void child.stdin.end();
}
