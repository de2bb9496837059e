import type { ErrorRequestHandler, Request, Response } from 'express';
import { REFUSALS, Refusal, type RefusalCode } from '../../domain/refusal.ts';
import { isDatabaseUnavailable } from '../../ledger/database-errors.ts';
import { TooBusy } from '../../ledger/transaction-limits.ts';
import { RequestRefused } from '../../request-bounds.ts';
import { TemporalUnavailable } from '../../temporal/payment-workflows.ts';

/** Every refusal as RFC 9457 problem+json; every error becomes one. */

/** The address that explains a code, from the API's public address on. */
export const problemPath = (code: RefusalCode): string => `/docs/problems#${code}`;

/** Seconds after which asking again makes sense, when the refusal itself does not say. */
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

/** The problem document of a refusal. Without `instance`: what could not be read as a request has no path. */
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

/** The refusal behind any error: what is nobody's fault outside is `internal_error`. */
export function toRefusal(error: unknown): Refusal {
  if (error instanceof Refusal) return error;
  if (error instanceof TemporalUnavailable) {
    return new Refusal('temporal_unavailable', 'Temporal did not confirm in time; asking again is safe.', {
      cause: error,
    });
  }
  if (error instanceof TooBusy) {
    return new Refusal('too_busy', `${error.message} Asking again is safe.`, { cause: error });
  }
  if (isDatabaseUnavailable(error)) {
    return new Refusal('database_unavailable', 'The database did not answer in time; asking again is safe.', {
      cause: error,
    });
  }
  return (
    httpRefusal(error) ??
    new Refusal(
      'internal_error',
      'Internal error: quote the request id to the operator, whose log has the cause under it.',
      {
        cause: error,
      },
    )
  );
}

/** Express and its body parsers say with a status what was wrong with the request. */
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
        ? 'The path cannot be decoded: ids in it must be percent-encoded, a % as %25.'
        : 'The request cannot be read.';
  return new Refusal('bad_request', detail, { cause: error });
}

/**
 * The last handler of the app.
 * @param onRefused is called with every error that became an answer
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
