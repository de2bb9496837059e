import { randomInt } from 'node:crypto';
import { createServer } from 'node:net';
import { reason, StackError } from './errors.ts';

/** Below every port that systems give to outgoing connections: one of those could take it before it is listened on. */
const FREE = { from: 10_000, to: 32_000 };

/** What this process has given out, and may not listen on yet. */
const given = new Set<number>();

/** A loopback TCP port that nothing listens on at this moment, and another one each time. */
export async function freePort(): Promise<number> {
  for (;;) {
    const port = randomInt(FREE.from, FREE.to);
    if (given.has(port)) continue;
    given.add(port);
    try {
      return await listenOnce(port);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EADDRINUSE') throw error;
    }
  }
}

/**
 * Makes sure that `port` can be listened on.
 * @param setting the environment variable that moves it, for the sentence.
 * @throws StackError when something else has it.
 */
export async function requireFreePort(port: number, what: string, setting: string): Promise<void> {
  try {
    await listenOnce(port);
  } catch (error) {
    throw new StackError(
      (error as NodeJS.ErrnoException).code === 'EADDRINUSE'
        ? `Port ${port} for ${what} is taken by another program: stop that program or set ${setting} to a free port.`
        : `Port ${port} for ${what} cannot be used (${reason(error)}): set ${setting} to another port.`,
    );
  }
}

/** @returns the port. */
function listenOnce(port: number): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once('error', reject);
    server.listen(port, '127.0.0.1', () => server.close(() => resolve(port)));
  });
}
