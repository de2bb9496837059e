import type { ErrorRequestHandler, Request, Response } from 'express';
import { REFUSALS, Refusal, type RefusalCode } from '../../domain/refusal.ts';
import { isDatabaseUnavailable } from '../../ledger/database-errors.ts';
import { TooBusy } from '../../ledger/transaction-limits.ts';
import { RequestRefused } from '../../request-bounds.ts';
import { TemporalUnavailable } from '../../temporal/payment-workflows.ts';

/** Turns errors into refusals, and refusals into answers of type problem+json (RFC 9457). */

/** The path of the page that explains a code, relative to the API's public URL. */
export const problemPath = (code: RefusalCode): string => `/docs/problems#${code}`;

/** The `Retry-After` in seconds for refusals that do not set their own value. */
const RETRY_AFTER: Partial<Record<RefusalCode, number>> = {
  too_many_readers: 10,
  attempt_unresolved: 10,
  too_busy: 2,
  database_unavailable: 2,
  temporal_unavailable: 2,
  callback_not_stored: 2,
  channel_misconfigured: 60,
  channel_unreachable: 5,
};

/**
 * Builds the problem document of a refusal. If the path of the request could not be read, the document has no
 * `instance`.
 */
export function problemOf(
  publicUrl: string,
  refusal: Refusal,
  { requestId, instance }: { readonly requestId: string; readonly instance?: string },
) {
  const { status, title } = REFUSALS[refusal.code];
  return {
    type: `${publicUrl}${problemPath(refusal.code)}`,
    title,
    status,
    detail: refusal.message,
    code: refusal.code,
    ...(instance === undefined ? {} : { instance }),
    requestId,
    ...(refusal.errors === undefined ? {} : { errors: refusal.errors }),
  };
}

export function sendProblem(publicUrl: string, request: Request, response: Response, refusal: Refusal): void {
  const { status } = REFUSALS[refusal.code];
  const retryAfter = refusal.retryAfterSeconds ?? RETRY_AFTER[refusal.code];
  if (retryAfter !== undefined) response.set('Retry-After', String(retryAfter));
  if (refusal.code === 'unauthorized') response.set('WWW-Authenticate', 'Bearer realm="nodrop"');
  const body = problemOf(publicUrl, refusal, { requestId: String(request.id), instance: request.path });
  response
    .status(status)
    .set('Cache-Control', 'no-store')
    .type('application/problem+json')
    .send(JSON.stringify(body));
}

/** Maps any error to a refusal. An unknown error becomes `internal_error`. */
export function toRefusal(error: unknown): Refusal {
  if (error instanceof Refusal) return error;
  if (error instanceof TemporalUnavailable) {
    return new Refusal('temporal_unavailable', 'Temporal did not confirm in time; a retry is safe.', {
      cause: error,
    });
  }
  if (error instanceof TooBusy) {
    return new Refusal('too_busy', `${error.message} A retry is safe.`, { cause: error });
  }
  if (isDatabaseUnavailable(error)) {
    return new Refusal('database_unavailable', 'The database did not answer in time; a retry is safe.', {
      cause: error,
    });
  }
  return (
    httpRefusal(error) ??
    new Refusal(
      'internal_error',
      'Internal error. Quote the request id to the operator, who can find the cause in the log.',
      {
        cause: error,
      },
    )
  );
}

/**
 * Maps an error of Express or of its body parsers to a refusal. Such errors have an HTTP status. The result is
 * undefined for other errors.
 */
function httpRefusal(error: unknown): Refusal | undefined {
  const { status, expose } = error as { status?: unknown; expose?: unknown };
  if (typeof status !== 'number' || status < 400 || status > 499 || expose === false) return undefined;
  if (status === 413)
    return new Refusal('payload_too_large', 'A body may have at most 256 KiB.', { cause: error });
  if (status === 415)
    return new Refusal('unsupported_media_type', 'The encoding of the body is not supported.', {
      cause: error,
    });
  const detail =
    error instanceof RequestRefused
      ? error.message
      : error instanceof URIError
        ? 'The path cannot be decoded: ids in it must be percent-encoded, for example % as %25.'
        : 'The request cannot be read.';
  return new Refusal('bad_request', detail, { cause: error });
}

/**
 * Creates the last handler of the app, which answers every error.
 * @param onRefused called for every error that is answered
 */
export function createErrorHandler(
  publicUrl: string,
  onRefused?: (error: unknown, request: Request, refusal: Refusal) => void,
): ErrorRequestHandler {
  return (error, request, response, next) => {
    if (response.headersSent) return void next(error);
    const refusal = toRefusal(error);
    onRefused?.(error, request, refusal);
    if (REFUSALS[refusal.code].status >= 500)
      response.err = error instanceof Error ? error : new Error(String(error));
    sendProblem(publicUrl, request, response, refusal);
  };
}
