import { randomInt } from 'node:crypto';
import { createServer } from 'node:net';
import { reason, StackError } from './errors.ts';

/**
 * The range of ports to choose from. The range is below the ephemeral ports, because an outgoing connection could use
 * an ephemeral port before a server listens on that port.
 */
const FREE = { from: 10_000, to: 32_000 };

/** Ports that this process has already returned. The program that will use such a port may not listen on it yet. */
const given = new Set<number>();

/** @returns a loopback TCP port that no program listens on now. Each call returns a different port. */
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
 * Checks that a server can listen on `port`.
 * @param setting the environment variable that changes the port, for the error message.
 * @throws StackError when another program uses the port, or it cannot be used.
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
