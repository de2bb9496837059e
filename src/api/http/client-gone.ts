import type { Response } from 'express';

/** @returns a signal that is aborted when the client disconnects or the answer is complete. */
export function abortedOnDisconnect(response: Response): AbortSignal {
  const gone = new AbortController();
  if (response.closed) gone.abort();
  response.once('close', () => gone.abort());
  return gone.signal;
}
