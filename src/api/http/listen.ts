import { type RequestListener, type Server, type ServerResponse, STATUS_CODES } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Duplex } from 'node:stream';
import type { RequestHandler } from 'express';
import { ulid } from 'ulid';
import { ConfigError } from '../../config.ts';
import { REFUSALS, Refusal } from '../../domain/refusal.ts';
import { createBoundedServer } from '../../request-bounds.ts';
import { problemOf } from './problems.ts';

/** Starts and stops the HTTP servers of the API and of the admin listener. */

export interface Listener {
  readonly server: Server;
  /** The port on which the server listens. If the configured port is 0, the system has chosen this port. */
  readonly port: number;
}

/**
 * Maximum number of open requests per connection. Normal clients rarely pipeline requests, but a hostile client could
 * start thousands of requests at the same time.
 */
const UNFINISHED_AT_MOST = 20;

/**
 * Starts an HTTP server.
 * @param setting the name of the port's setting, for the error message
 * @param publicUrl the public URL, which the problem documents for unreadable requests contain
 * @throws ConfigError if the server cannot listen on the address
 */
export async function listen(
  handler: RequestListener,
  host: string,
  port: number,
  setting: string,
  publicUrl: string,
): Promise<Listener> {
  const server = createBoundedServer(handler);
  server.headersTimeout = 15_000;
  // `requestTimeout` limits only the time until a request has arrived completely. To be safe, it is longer than the
  // longest `wait`.
  server.requestTimeout = 75_000;
  // This timeout is longer than the idle timeout of common load balancers. So the load balancer closes an idle
  // connection first.
  server.keepAliveTimeout = 65_000;
  server.on('clientError', (error, socket) => refuseUnreadable(publicUrl, error, socket));
  await new Promise<void>((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) => reject(explain(error, host, port, setting)));
    server.listen(port, host, resolve);
  });
  return { server, port: (server.address() as AddressInfo).port };
}

const unfinished = new WeakMap<Duplex, Set<ServerResponse>>();

/** Closes connections that send many requests without waiting for the answers. Must be the app's first handler. */
export function limitPipelining(): RequestHandler {
  return ({ socket }, response, next) => {
    const responses = unfinished.get(socket) ?? new Set();
    unfinished.set(socket, responses.add(response));
    if (responses.size > UNFINISHED_AT_MOST) return void socket.destroy();
    response.once('close', () => responses.delete(response));
    next();
  };
}

/** Answers with a problem document if a client sends data that is not a readable HTTP request. */
function refuseUnreadable(publicUrl: string, error: NodeJS.ErrnoException, socket: Duplex): void {
  const isAnswering = [...(unfinished.get(socket) ?? [])].some(({ headersSent }) => headersSent);
  if (error.code === 'ECONNRESET' || !socket.writable || isAnswering) return void socket.destroy();
  const refusal = unreadable(error);
  const { status } = REFUSALS[refusal.code];
  const requestId = ulid();
  const body = JSON.stringify(problemOf(publicUrl, refusal, { requestId }));
  const head = [
    `HTTP/1.1 ${status} ${STATUS_CODES[status]}`,
    'Connection: close',
    'Cache-Control: no-store',
    'Content-Type: application/problem+json; charset=utf-8',
    `Content-Length: ${Buffer.byteLength(body)}`,
    `X-Request-Id: ${requestId}`,
  ];
  // The socket is destroyed, so that further data from the client is ignored.
  socket.end(`${head.join('\r\n')}\r\n\r\n${body}`, () => socket.destroy());
}

function unreadable({ code }: NodeJS.ErrnoException): Refusal {
  if (code === 'HPE_HEADER_OVERFLOW')
    return new Refusal('headers_too_large', 'Send fewer or shorter headers.');
  if (code === 'ERR_HTTP_REQUEST_TIMEOUT') {
    return new Refusal('request_timeout', 'The request did not arrive in time; a retry is safe.');
  }
  return new Refusal('bad_request', 'The request cannot be read.');
}

function explain(error: NodeJS.ErrnoException, host: string, port: number, setting: string): Error {
  if (error.code === 'EADDRINUSE')
    return new ConfigError(`Port ${port} on ${host} is taken: set ${setting} to a free one.`);
  if (error.code === 'EACCES')
    return new ConfigError(`Port ${port} on ${host} is not permitted: set ${setting} to a port above 1023.`);
  if (error.code === 'EADDRNOTAVAIL' || error.code === 'ENOTFOUND') {
    return new ConfigError(
      `${host} is not an address of this machine: set ${setting.replace('PORT', 'HOST')} to one that is.`,
    );
  }
  return error;
}

/** Stops accepting requests, waits for open requests, and closes the remaining connections after `patienceMs`. */
export async function stopListening(server: Server, patienceMs: number): Promise<void> {
  const closed = new Promise<void>((resolve) => server.close(() => resolve()));
  // A connection becomes idle after its answer has been sent. Without this call, it would stay open until its
  // keep-alive timeout.
  const sweep = setInterval(() => server.closeIdleConnections(), 50);
  const cut = setTimeout(() => server.closeAllConnections(), patienceMs);
  await closed;
  clearInterval(sweep);
  clearTimeout(cut);
}
