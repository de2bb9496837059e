import { connect } from 'node:net';
import { fileURLToPath } from 'node:url';
import { tsxLoader } from '../tsx.ts';
import type { ProcessSpec } from './supervisor.ts';

/**
 * V8 lets the heap grow in proportion to its limit. With the default limit of several GB, the heap would become three
 * times as large as the memory in use. nodrop's programs use far less memory than the limit set here.
 */
const HEAP_LIMIT_MIB = 768;

/**
 * Specifies a child process that runs one of nodrop's programs.
 * @param entry the program's path inside `src`.
 */
export function program(name: string, entry: string, probe: ProcessSpec['probe']): ProcessSpec {
  return {
    name,
    command: [
      process.execPath,
      // The limit is left out if the user has set one in NODE_OPTIONS, because the command line would override it.
      ...(/--max[-_]old[-_]space[-_]size/.test(process.env.NODE_OPTIONS ?? '')
        ? []
        : [`--max-old-space-size=${HEAP_LIMIT_MIB}`]),
      ...['--import', tsxLoader()],
      fileURLToPath(new URL('./supervised-child.ts', import.meta.url)),
      fileURLToPath(new URL(`../${entry}`, import.meta.url)),
    ],
    // Limits malloc to two arenas instead of eight per core, because the worker has many threads and glibc seldom
    // returns an arena's memory. A value in the user's environment takes precedence.
    env: { MALLOC_ARENA_MAX: '2', ...process.env },
    output: 'console',
    isOurs: true,
    stopSignal: 'SIGTERM',
    probe,
  };
}

/** True when the address answers an HTTP GET request with a 2xx status. */
export async function answers(url: string): Promise<boolean> {
  try {
    return (await fetch(url, { signal: AbortSignal.timeout(2000) })).ok;
  } catch {
    return false;
  }
}

/** True when a program listens on the port. The default host is the loopback address. */
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
