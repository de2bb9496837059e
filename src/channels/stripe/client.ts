import type { Stripe } from 'stripe';
import type { z } from 'zod';
import { type ChannelAccount, ChannelError } from '../../domain/channel.ts';
import { exchange, HTTP_TIMEOUT_MS } from '../exchange.ts';
import { classify, type Operation, type Reply } from './classify.ts';

/** The API version that this adapter is written for: https://docs.stripe.com/api/versioning. */
export const API_VERSION = '2026-10-28.endive';

export interface StripeCall<T> {
  readonly account: ChannelAccount;
  readonly operation: Operation;
  readonly schema: z.ZodType<T>;
  readonly request: (stripe: Stripe) => Promise<unknown>;
  readonly signal?: AbortSignal | undefined;
  /**
   * The largest answer that nodrop accepts.
   * @default the limit that applies to every channel
   */
  readonly atMostBytes?: number | undefined;
}

export interface StripeAnswer<T> {
  readonly value: T;
  readonly reply: Reply;
}

/**
 * Sends one request through Stripe's library.
 * @throws ChannelError of the kind that `classify` returns, or `garbage` if the answer has an unexpected shape
 */
export type StripeClient = <T>(call: StripeCall<T>) => Promise<StripeAnswer<T>>;

/** @param baseUrl the base URL of Stripe's API, without a path */
export function createStripeClient(baseUrl: string): StripeClient {
  const { protocol, hostname, port } = new URL(baseUrl);
  const isSecure = protocol === 'https:';

  return async ({ account, operation, schema, request, signal, atMostBytes }) => {
    const [credentials] = account.credentials;
    if (credentials?.secret_key === undefined) {
      throw new ChannelError('misconfigured', `stripe: account ${account.id} has no secret_key`);
    }
    // nodrop imports Stripe's library at the first request. So a process without a Stripe account saves time and
    // memory.
    const { Stripe } = await import('stripe');
    let reply: Reply | undefined;
    let failure: unknown;
    // nodrop passes only successful answers whose JSON is an object to Stripe's library. With other JSON, the library's
    // call never ends. For any other answer, nodrop throws a ChannelError. The library does not retry after this error,
    // because it retries only errors with the code of a closed connection.
    const send: typeof fetch = async (url, init) => {
      try {
        const { response, text } = await exchange(String(url), init ?? {}, {
          ...{ channel: 'stripe', signal, atMostBytes },
        });
        const { status, headers } = response;
        reply = { status, headers, text };
        if (status < 200 || status > 299) throw classify(reply, operation);
        if (!isObject(text)) throw nonsense(status);
        return new Response(text);
      } catch (error) {
        failure = error;
        throw error;
      }
    };
    const stripe = new Stripe(credentials.secret_key, {
      apiVersion: API_VERSION,
      httpClient: Stripe.createFetchHttpClient(send),
      host: hostname,
      port: port === '' ? (isSecure ? 443 : 80) : Number(port),
      protocol: isSecure ? 'https' : 'http',
      maxNetworkRetries: 0,
      telemetry: false,
      // This timeout of Stripe's library is longer than nodrop's own timeout, so nodrop's timeout ends the request
      // first.
      timeout: HTTP_TIMEOUT_MS + 1_000,
    });
    const answered = await request(stripe).catch((error: unknown) => {
      if (reply === undefined || failure !== undefined) throw failure ?? error;
    });
    if (reply === undefined) throw new ChannelError('garbage', 'stripe: no request was made');
    const parsed = schema.safeParse(answered);
    if (parsed.success) return { value: parsed.data, reply };
    throw nonsense(reply.status, parsed.error);
  };
}

const nonsense = (status: number, cause?: unknown): ChannelError =>
  new ChannelError('garbage', `stripe answered ${status} with an unexpected body`, { cause });

function isObject(text: string): boolean {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null;
  } catch {
    return false;
  }
}
