import { connect } from 'node:net';
import { fileURLToPath } from 'node:url';
import { tsxLoader } from '../tsx.ts';
import type { ProcessSpec } from './supervisor.ts';

/**
 * V8 lets the heap grow by a factor that grows with its limit: with the default limit of several GB, it is three times as
 * large as what is in use. What is in use is bounded, and far below.
 */
const HEAP_LIMIT_MIB = 768;

/**
 * One of our own programs as a child process.
 * @param entry its path inside `src`.
 */
export function program(name: string, entry: string, probe: ProcessSpec['probe']): ProcessSpec {
  return {
    name,
    command: [
      process.execPath,
      // On the command line it would beat a limit of the user's own.
      ...(/--max[-_]old[-_]space[-_]size/.test(process.env.NODE_OPTIONS ?? '')
        ? []
        : [`--max-old-space-size=${HEAP_LIMIT_MIB}`]),
      ...['--import', tsxLoader()],
      fileURLToPath(new URL('./supervised-child.ts', import.meta.url)),
      fileURLToPath(new URL(`../${entry}`, import.meta.url)),
    ],
    // Two arenas instead of eight a core: glibc keeps in each what it was once given, and the worker has many threads. A
    // value of the user's own comes first.
    env: { MALLOC_ARENA_MAX: '2', ...process.env },
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

/** True when something listens on the port, of the loopback address unless another one is said. */
export function listens(port: number, host = '127.0.0.1'): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, host);
    const answer = (listening: boolean) => {
      socket.destroy();
      resolve(listening);
    };
    socket.once('connect', () => answer(true)).once('error', () => answer(false));
  });
}
