import type { RequestHandler } from 'express';

/** Express reads a body that is too large to its end before it refuses it. Here nothing of it is read. */

/** In bytes; no event of nodrop is as large. */
export const BODY_LIMIT = 512 * 1024;
/** So long a client has to read its answer before the connection, with what it still sends, is cut. */
const GRACE_MS = 2_000;

/** Refuses bodies that are too large or do not say how large they are (413, 411), whatever the route. */
export const refuseLargeBodies: RequestHandler = (request, response, next) => {
  const { headers, socket } = request;
  // A further request on a connection that has had its last answer.
  if (socket.writableEnded) return void socket.destroy();
  const isOpenEnded = headers['transfer-encoding'] !== undefined;
  if (!isOpenEnded && Number(headers['content-length'] ?? 0) <= BODY_LIMIT) {
    if (/100-continue/i.test(headers.expect ?? '')) response.writeContinue();
    return next();
  }
  // Before Node's own listener, which reads and drops the whole body of a request that nobody has begun to read.
  response.prependOnceListener('finish', () => {
    while (request.read() !== null);
  });
  socket.destroySoon = () => {
    socket.end();
    setTimeout(() => socket.destroy(), GRACE_MS).unref();
  };
  response
    .status(isOpenEnded ? 411 : 413)
    .set('Connection', 'close')
    .json({ error: `A body says its Content-Length, and has at most ${BODY_LIMIT} bytes.` });
};
