import { createServer, type IncomingMessage, type RequestListener, type Server } from 'node:http';
import type { RequestHandler, Response } from 'express';

/**
 * How much of a request a listener reads, whatever the route. Node and Express read a body that nobody wants to its end
 * before they answer or after: here the answer comes first, and the connection ends.
 */

/** After its answer a client may still send this much, and has this long to read the answer. Then it is cut. */
const GRACE_BYTES = 256 * 1024;
const GRACE_MS = 2_000;

/** A request that is refused before a route has seen it. Has the fields of the errors of Express's body parsers. */
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

/** A server that sends `100 Continue` only when `readBody` reads, so that no refused request is asked for its body. */
export function createBoundedServer(handler: RequestListener): Server {
  return createServer(handler).on('checkContinue', handler).on('checkExpectation', handler);
}

/**
 * Refuses bodies that are announced as larger than `limit` bytes, and requests with two `Host` headers, by passing
 * `RequestRefused` on. The first handler of an app that may answer; its other handlers read bodies by `readBody` alone.
 */
export function boundRequests(limit: number): RequestHandler {
  return (request, response, next) => {
    // A further request on a connection that has had its last answer.
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
 * A body parser of Express that stops at `limit` bytes off the socket: by itself it would read the rest before it says
 * that the body is too large.
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
    // It found no body.
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

/** In bytes; undefined when the end of the body shows only as it comes. */
const announcedLength = ({ headers }: IncomingMessage): number | undefined =>
  headers['transfer-encoding'] === undefined ? Number(headers['content-length'] ?? 0) : undefined;

const expectsContinue = ({ headers }: IncomingMessage): boolean => /100-continue/i.test(headers.expect ?? '');

/** Requests whose connection ends with their answer, unless their body is read to its end. */
const closing = new WeakSet<IncomingMessage>();

function closeAfterAnswer(request: IncomingMessage, response: Response): void {
  closing.add(request);
  response.setHeader('Connection', 'close');
  // Before Node's own listener, which reads and drops the whole body of a request that nobody has begun to read.
  response.prependOnceListener('finish', () => {
    if (closing.has(request)) readGrace(request);
  });
  // By this Node ends the connection. Closed with unread bytes in it, it is reset, and the answer can be lost.
  request.socket.destroySoon = () => linger(request);
}

function keepAlive(request: IncomingMessage, response: Response): void {
  if (!closing.delete(request)) return;
  response.removeHeader('Connection');
  Reflect.deleteProperty(request.socket, 'destroySoon');
}

/** Reads on for the grace. Then the socket stays open for its time, and no more is read from it. */
function readGrace(request: IncomingMessage): void {
  let left = GRACE_BYTES;
  request.on('data', (chunk: Buffer) => {
    left -= chunk.length;
    if (left < 0) request.pause();
  });
  request.resume();
  // At once, for Node to see that somebody reads.
  while (left >= 0 && request.read() !== null);
}

/** Ends the connection when the body has come to its end after all, the client has closed, or the grace is over. */
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
