import type { IncomingMessage, ServerResponse } from 'node:http';
import { pinoHttp } from 'pino-http';
import { ulid } from 'ulid';
import type { Logger } from '../../log.ts';

/** Gives each request an id, and logs one line per answer. Headers are not logged, and tokens in URLs are hidden. */

/**
 * Hides the secrets in a URL, even if they are percent-encoded. Channels add their own secrets to the return URL, such
 * as Stripe's `payment_intent_client_secret` (https://docs.stripe.com/payments/accept-a-payment).
 */
export function hideTokens(url: string): string {
  const [, path = '', query = ''] = /^([^?]*)(.*)$/s.exec(url) ?? [];
  const shown = path.replace(/^(\/callbacks(?:\/[^/]*){3}\/).+$/i, '$1[hidden]');
  return shown.replace(/[^/]+/g, hideIn) + query.replace(/[^&]+/g, hideIn);
}

function hideIn(part: string): string {
  const read = part.replace(/%([\da-f]{2})/gi, (_, code: string) => String.fromCharCode(parseInt(code, 16)));
  const hidden = read
    .replace(/^(\??(?:token|[^=]*secret[^=]*)=).*/is, '$1[hidden]')
    .replace(/\b(ct|sk)_[\w-]+/g, '$1_[hidden]');
  return hidden === read ? part : hidden;
}

/**
 * Chooses the id of the request and sends the id with the answer. If the caller's `x-request-id` is harmless, the
 * function uses it as the id. Otherwise it creates a new id.
 */
export function giveRequestId(request: IncomingMessage, response: ServerResponse): string {
  const given = request.headers['x-request-id'];
  const isHarmless =
    typeof given === 'string' && /^[\w.:-]{1,64}$/.test(given) && hideTokens(given) === given;
  const id = isHarmless ? given : ulid();
  response.setHeader('x-request-id', id);
  return id;
}

const outcome = (response: ServerResponse): string =>
  response.writableFinished ? 'answered' : 'client disconnected';

export function requestLog(log: Logger) {
  return pinoHttp({
    logger: log,
    genReqId: giveRequestId,
    quietReqLogger: true,
    customAttributeKeys: { reqId: 'requestId', responseTime: 'ms' },
    // Health checks arrive every few seconds, so they are not logged.
    autoLogging: { ignore: ({ url }) => url === '/healthz' || url === '/readyz' },
    customLogLevel: (_request, response, error) =>
      error !== undefined || response.statusCode >= 500
        ? 'error'
        : response.statusCode >= 400
          ? 'warn'
          : 'info',
    customSuccessMessage: (_request, response) => outcome(response),
    customErrorMessage: (_request, response) => outcome(response),
    serializers: {
      req: ({ method, url, remoteAddress }: { method: string; url: string; remoteAddress: string }) => ({
        method,
        url: hideTokens(url),
        remoteAddress,
      }),
      res: ({ statusCode }: { statusCode: number }) => ({ statusCode }),
    },
  });
}
