import type { RequestHandler } from 'express';

/**
 * If a body is too large, Express reads the whole body before it refuses the request. This shop does not read such a
 * body.
 */

/** The largest accepted body, in bytes. nodrop's events are smaller. */
export const BODY_LIMIT = 512 * 1024;
/**
 * How long a client may read its answer before the shop cuts the connection. The shop then drops everything that the
 * client still sends.
 */
const GRACE_MS = 2_000;

/** Refuses bodies that are too large (413) or come without a Content-Length (411), on every route. */
export const refuseLargeBodies: RequestHandler = (request, response, next) => {
  const { headers, socket } = request;
  // The shop has sent the last answer of this connection and is closing it, so this request gets no answer.
  if (socket.writableEnded) return void socket.destroy();
  const isOpenEnded = headers['transfer-encoding'] !== undefined;
  if (!isOpenEnded && Number(headers['content-length'] ?? 0) <= BODY_LIMIT) {
    if (/100-continue/i.test(headers.expect ?? '')) response.writeContinue();
    return next();
  }
  // This listener must run before Node's own listener, which reads and drops a request's whole body if the handler has
  // not read it.
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
    .json({ error: `A body needs a Content-Length of at most ${BODY_LIMIT} bytes.` });
};
