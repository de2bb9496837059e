import { createServer, type RequestListener, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { ConfigError } from '../config.ts';

/** Listening and stopping, the same for the API and its admin listener. */

export interface Listener {
  readonly server: Server;
  /** The port, also when 0 was asked for. */
  readonly port: number;
}

/**
 * @param setting the name of the setting that holds the port, for when it is taken
 * @throws ConfigError when the address cannot be listened on
 */
export async function listen(
  handler: RequestListener,
  host: string,
  port: number,
  setting: string,
): Promise<Listener> {
  const server = createServer(handler);
  server.headersTimeout = 15_000;
  // For receiving a request alone; above the longest wait all the same, so that no proxy need think about it.
  server.requestTimeout = 75_000;
  // Above the idle time of common load balancers, so that they close first.
  server.keepAliveTimeout = 65_000;
  await new Promise<void>((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) => reject(explain(error, host, port, setting)));
    server.listen(port, host, resolve);
  });
  return { server, port: (server.address() as AddressInfo).port };
}

function explain(error: NodeJS.ErrnoException, host: string, port: number, setting: string): Error {
  if (error.code === 'EADDRINUSE')
    return new ConfigError(`Port ${port} on ${host} is taken: set ${setting} to a free one.`);
  if (error.code === 'EACCES')
    return new ConfigError(`Port ${port} on ${host} is not allowed: set ${setting} to one above 1023.`);
  if (error.code === 'EADDRNOTAVAIL' || error.code === 'ENOTFOUND') {
    return new ConfigError(
      `${host} is no address of this machine: set ${setting.replace('PORT', 'HOST')} to one that is.`,
    );
  }
  return error;
}

/** Stops accepting, lets what is under way finish, and cuts what is left after `patienceMs`. */
export async function stopListening(server: Server, patienceMs: number): Promise<void> {
  const closed = new Promise<void>((resolve) => server.close(() => resolve()));
  // A connection that has just answered is idle, and would else be kept alive.
  const sweep = setInterval(() => server.closeIdleConnections(), 50);
  const cut = setTimeout(() => server.closeAllConnections(), patienceMs);
  await closed;
  clearInterval(sweep);
  clearTimeout(cut);
}
