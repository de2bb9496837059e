import { createServer, type IncomingMessage, type RequestListener, type Server } from 'node:http';
import type { RequestHandler, Response } from 'express';

/**
 * Limits how much of a request body a server reads, on every route. Node and Express read the whole body even if no
 * handler needs it. A server that uses this file answers without reading the rest of the body, and then closes the
 * connection.
 */

/**
 * After the answer, the server accepts at most this many more bytes, and gives the client this long to read the answer.
 * Then it closes the connection.
 */
const GRACE_BYTES = 256 * 1024;
const GRACE_MS = 2_000;

/** A request that is refused before it reaches a route. Has the same fields as errors of Express's body parsers. */
export class RequestRefused extends Error {
  override readonly name = 'RequestRefused';
  readonly status: 400 | 413;
  readonly type: string;

  constructor(status: 400 | 413, type: string, message: string) {
    super(message);
    this.status = status;
    this.type = type;
  }
}

const tooLarge = (limit: number) =>
  new RequestRefused(413, 'entity.too.large', `The body is larger than ${limit} bytes.`);

/**
 * Creates a server that sends `100 Continue` only when `readBody` starts to read. So a client does not send a body that
 * the server refuses.
 */
export function createBoundedServer(handler: RequestListener): Server {
  return createServer(handler).on('checkContinue', handler).on('checkExpectation', handler);
}

/**
 * Refuses bodies whose `Content-Length` is above `limit` bytes, and requests with two `Host` headers. For such a
 * request, passes a `RequestRefused` to `next`. This handler must come before every handler that can answer. Other
 * handlers must read bodies only with `readBody`.
 */
export function boundRequests(limit: number): RequestHandler {
  return (request, response, next) => {
    // The server has sent the last answer of this connection and is closing it, so this request gets no answer.
    if (request.socket.writableEnded) return void request.socket.destroy();
    const length = announcedLength(request);
    const hosts = request.rawHeaders.filter((name, i) => i % 2 === 0 && name.toLowerCase() === 'host');
    const refusal =
      hosts.length > 1
        ? new RequestRefused(400, 'host.repeated', 'Send one Host header.')
        : length !== undefined && length > limit
          ? tooLarge(limit)
          : undefined;
    if (refusal !== undefined || length === undefined || expectsContinue(request))
      closeAfterAnswer(request, response);
    next(refusal);
  };
}

/**
 * Wraps a body parser of Express so that it stops after `limit` bytes from the socket. Otherwise the parser would read
 * the whole body before it reports that the body is too large.
 */
export function readBody(parser: RequestHandler, limit: number): RequestHandler {
  return (request, response, next) => {
    let isSettled = false;
    const settle = (error?: unknown) => {
      if (isSettled) return;
      isSettled = true;
      if (error === undefined && request.complete) keepAlive(request, response);
      next(error);
    };
    if (expectsContinue(request)) response.writeContinue();
    parser(request, response, settle);
    // The parser has already called `settle`, because the request does not have a body.
    if (isSettled) return;
    let taken = 0;
    request.on('data', (chunk: Buffer) => {
      taken += chunk.length;
      if (taken <= limit) return;
      request.pause();
      settle(tooLarge(limit));
    });
  };
}

/**
 * Returns the length of the body in bytes, as the request announces it. Undefined for a chunked body, which does not
 * announce its length.
 */
const announcedLength = ({ headers }: IncomingMessage): number | undefined =>
  headers['transfer-encoding'] === undefined ? Number(headers['content-length'] ?? 0) : undefined;

const expectsContinue = ({ headers }: IncomingMessage): boolean => /100-continue/i.test(headers.expect ?? '');

/**
 * Requests whose connection is closed after their answer. A request whose body has been read completely is removed from
 * this set.
 */
const closing = new WeakSet<IncomingMessage>();

function closeAfterAnswer(request: IncomingMessage, response: Response): void {
  closing.add(request);
  response.setHeader('Connection', 'close');
  // This listener must run before Node's own listener, which would read and drop the request's whole body if the
  // handler has not read it.
  response.prependOnceListener('finish', () => {
    if (closing.has(request)) readGrace(request);
  });
  // Node calls `destroySoon` to close the connection. If unread bytes were left, TCP would reset the connection, and
  // the client could lose the answer.
  request.socket.destroySoon = () => linger(request);
}

function keepAlive(request: IncomingMessage, response: Response): void {
  if (!closing.delete(request)) return;
  response.removeHeader('Connection');
  Reflect.deleteProperty(request.socket, 'destroySoon');
}

/**
 * Reads at most `GRACE_BYTES` more of the body. After that it reads nothing, and the socket stays open until `GRACE_MS`
 * have passed.
 */
function readGrace(request: IncomingMessage): void {
  let left = GRACE_BYTES;
  request.on('data', (chunk: Buffer) => {
    left -= chunk.length;
    if (left < 0) request.pause();
  });
  request.resume();
  // Read immediately, because Node reads and drops the whole body if nothing has been read before its own listener
  // runs.
  while (left >= 0 && request.read() !== null);
}

/**
 * Closes the connection when the body has been received completely, the client has closed it, or `GRACE_MS` are over.
 */
function linger(request: IncomingMessage): void {
  const { socket } = request;
  const close = () => {
    Reflect.deleteProperty(socket, 'destroySoon');
    socket.destroySoon();
  };
  if (request.readableEnded) return void close();
  socket.end();
  const cut = setTimeout(() => socket.destroy(), GRACE_MS);
  socket.once('close', () => clearTimeout(cut));
  request.once('end', close);
}
