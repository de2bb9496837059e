import { connect } from 'node:net';
import { fileURLToPath } from 'node:url';
import type { ProcessSpec } from './supervisor.ts';
import { tsxLoader } from './tsx.ts';

/**
 * One of our own programs as a child process.
 * @param entry its path inside `src`.
 */
export function program(name: string, entry: string, probe: ProcessSpec['probe']): ProcessSpec {
  return {
    name,
    command: [
      process.execPath,
      ...['--import', tsxLoader()],
      fileURLToPath(new URL('./child.ts', import.meta.url)),
      fileURLToPath(new URL(`../${entry}`, import.meta.url)),
    ],
    output: 'console',
    isOurs: true,
    stopSignal: 'SIGTERM',
    probe,
  };
}

/** True when the address answers an HTTP GET with a 2xx. */
export async function answers(url: string): Promise<boolean> {
  try {
    return (await fetch(url, { signal: AbortSignal.timeout(2000) })).ok;
  } catch {
    return false;
  }
}

/** True when something listens on the loopback port. */
export function listens(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1');
    const answer = (listening: boolean) => {
      socket.destroy();
      resolve(listening);
    };
    socket.once('connect', () => answer(true)).once('error', () => answer(false));
  });
}
