import type { Response } from 'express';

/** Aborted when the client has gone without its answer. */
export function abortedOnDisconnect(response: Response): AbortSignal {
  const gone = new AbortController();
  if (response.closed) gone.abort();
  response.once('close', () => gone.abort());
  return gone.signal;
}
