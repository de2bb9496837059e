import { type RequestListener, type Server, type ServerResponse, STATUS_CODES } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Duplex } from 'node:stream';
import type { RequestHandler } from 'express';
import { ulid } from 'ulid';
import { ConfigError } from '../../config.ts';
import { REFUSALS, Refusal } from '../../domain/refusal.ts';
import { createBoundedServer } from '../../request-bounds.ts';
import { problemOf } from './problems.ts';

/** Listening and stopping, the same for the API and its admin listener. */

export interface Listener {
  readonly server: Server;
  /** The port, also when 0 was asked for. */
  readonly port: number;
}

/** Clients rarely pipeline at all, and none of ours does; a hostile one would have us work on thousands at once. */
const UNFINISHED_AT_MOST = 20;

/**
 * @param setting the name of the setting that holds the port, for when it is taken
 * @param publicUrl where problems are explained, for what cannot be read as a request
 * @throws ConfigError when the address cannot be listened on
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
  // For receiving a request alone; above the longest wait all the same, so that no proxy need think about it.
  server.requestTimeout = 75_000;
  // Above the idle time of common load balancers, so that they close first.
  server.keepAliveTimeout = 65_000;
  server.on('clientError', (error, socket) => refuseUnreadable(publicUrl, error, socket));
  await new Promise<void>((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) => reject(explain(error, host, port, setting)));
    server.listen(port, host, resolve);
  });
  return { server, port: (server.address() as AddressInfo).port };
}

const unfinished = new WeakMap<Duplex, Set<ServerResponse>>();

/** Cuts connections that send request after request without waiting for answers. The app's first handler. */
export function limitPipelining(): RequestHandler {
  return ({ socket }, response, next) => {
    const responses = unfinished.get(socket) ?? new Set();
    unfinished.set(socket, responses.add(response));
    if (responses.size > UNFINISHED_AT_MOST) return void socket.destroy();
    response.once('close', () => responses.delete(response));
    next();
  };
}

/** What never became a request is answered like every refused one, as far as somebody still listens. */
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
  // The rest of what the client sends is of no interest, however long it goes on.
  socket.end(`${head.join('\r\n')}\r\n\r\n${body}`, () => socket.destroy());
}

function unreadable({ code }: NodeJS.ErrnoException): Refusal {
  if (code === 'HPE_HEADER_OVERFLOW')
    return new Refusal('headers_too_large', 'Send fewer or shorter headers.');
  if (code === 'ERR_HTTP_REQUEST_TIMEOUT') {
    return new Refusal('request_timeout', 'The request did not arrive in time; asking again is safe.');
  }
  return new Refusal('bad_request', 'The request cannot be read.');
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
