import type { z } from 'zod';
import { type ChannelAccount, ChannelError, type Credentials } from '../../domain/channel.ts';
import { type ExchangeOptions, exchange, HTTP_TIMEOUT_MS, inTime } from '../exchange.ts';
import { classify, type Operation, type Reply } from './classify.ts';

export interface MollieRequest {
  readonly method: 'GET' | 'POST' | 'DELETE';
  /** The path of the request, including the query string. */
  readonly path: string;
  readonly content?: object;
  /** The idempotency key of a POST. */
  readonly key?: string;
  readonly operation: Operation;
  /**
   * The largest answer that nodrop accepts.
   * @default the limit that applies to every channel
   */
  readonly atMostBytes?: number;
}

export interface MollieAnswer<T> {
  readonly value: T;
  readonly reply: Reply;
}

/** Sends the requests of one call of the adapter to Mollie. These requests share one timeout. */
export interface Session {
  readonly credentials: Credentials;
  /**
   * Sends one request to Mollie.
   * @throws ChannelError of the kind that `classify` returns, or `garbage` if the answer has an unexpected shape
   */
  ask<T>(request: MollieRequest, schema: z.ZodType<T>): Promise<MollieAnswer<T>>;
}

export type MollieClient = <T>(
  account: ChannelAccount,
  signal: AbortSignal | undefined,
  work: (session: Session) => Promise<T>,
) => Promise<T>;

/** @param baseUrl the base URL of Mollie's API, without a path @param fetch see `ExchangeOptions` */
export function createMollieClient(baseUrl: string, fetch?: ExchangeOptions['fetch']): MollieClient {
  async function send(
    apiKey: string,
    { method, path, content, key, atMostBytes }: MollieRequest,
    signal: AbortSignal,
  ): Promise<Reply> {
    const { response, text } = await exchange(
      `${baseUrl}${path}`,
      {
        method,
        headers: {
          accept: 'application/hal+json',
          authorization: `Bearer ${apiKey}`,
          'user-agent': 'nodrop',
          ...(key === undefined ? {} : { 'idempotency-key': key }),
          ...(content === undefined ? {} : { 'content-type': 'application/json' }),
        },
        ...(content === undefined ? {} : { body: JSON.stringify(content) }),
      },
      { channel: 'mollie', signal, atMostBytes, fetch },
    );
    return { status: response.status, headers: response.headers, text };
  }

  return ({ id, credentials: [credentials] }, outer, work) =>
    inTime(HTTP_TIMEOUT_MS, outer, async (signal) => {
      const apiKey = credentials?.api_key;
      if (credentials === undefined || apiKey === undefined)
        throw new ChannelError('misconfigured', `mollie: account ${id} has no api_key`);
      return await work({
        credentials,
        async ask(request, schema) {
          const reply = await send(apiKey, request, signal);
          const { status } = reply;
          if (status < 200 || status > 299) throw classify(reply, request.operation);
          const parsed = schema.safeParse(parseJson(reply.text));
          if (parsed.success) return { value: parsed.data, reply };
          throw new ChannelError('garbage', `mollie answered ${status} with an unexpected body`, {
            cause: parsed.error,
          });
        },
      });
    });
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
