import type { Request, Response } from 'express';
import type { RefusalCode } from '../../domain/refusal.ts';
import type { z } from '../http/zod.ts';
import type { Access, KeyAccess } from './auth.ts';

/**
 * Declares one route of the API. nodrop uses the declaration to validate requests, to answer 405 and CORS preflights,
 * and to build the OpenAPI document. So the document cannot contradict the behaviour.
 */
export interface Endpoint {
  readonly method: 'get' | 'post' | 'patch';
  /** The path in OpenAPI's syntax, for example `/v1/payments/{id}`. */
  readonly path: string;
  readonly operationId: string;
  readonly tag: 'Orders' | 'Payments' | 'Refunds' | 'Events' | 'Channels and payers' | 'Service';
  readonly summary: string;
  readonly description?: string;
  /** The kinds of credentials that the route accepts. */
  readonly auth: 'key' | 'operator' | 'key or token' | 'none';
  /** True if web pages of other origins may call the route. Cookies are never allowed. */
  readonly cors?: boolean;
  /** `raw` if nodrop reads the body as bytes and does not parse it. */
  readonly body?: z.ZodType | 'raw';
  readonly bodyExamples?: Readonly<Record<string, { readonly summary: string; readonly value: unknown }>>;
  readonly query?: z.ZodObject;
  readonly params?: z.ZodObject;
  /** The request headers, for the OpenAPI document only. The handler itself reads and checks them. */
  readonly headers?: z.ZodObject;
  readonly answers: Readonly<Record<number, Answer>>;
  /** The codes of the handler's own refusals. The codes of authentication and validation are added automatically. */
  readonly refusals: readonly RefusalCode[];
  /**
   * Runs before the first database query, and can delay or refuse the request. This limits the cost of many concurrent
   * requests.
   */
  readonly admit?: (request: Request, response: Response) => Promise<void>;
  readonly handle: (exchange: Exchange) => Promise<void>;
  /**
   * If a route declares `replay`, it accepts an `Idempotency-Key`, and its handler must call `answer`. For a repeated
   * request, `replay` returns the current state of the object that the first request created. An old state could send a
   * payer to a payment that has ended.
   */
  readonly replay?: (id: string, access: Access) => Promise<unknown>;
}

export interface Answer {
  readonly description: string;
  readonly schema?: z.ZodType;
  /** @default application/json */
  readonly mediaType?: string;
}

/** One request with all its parsed and validated parts. */
export interface Exchange<AccessKind = unknown, Params = unknown, Query = unknown, Body = unknown> {
  readonly request: Request;
  readonly response: Response;
  readonly access: AccessKind;
  readonly params: Params;
  readonly query: Query;
  readonly body: Body;
  /** The time at which the request started, in epoch ms. The deadlines of the request count from this time. */
  readonly startedAt: number;
  /** Sends the answer of a route with `replay`. Call it only when the created object is durable. */
  readonly answer: (status: number, body: { readonly id: string }) => Promise<void>;
}

type AccessOf<Auth> = Auth extends 'key' | 'operator'
  ? KeyAccess
  : Auth extends 'key or token'
    ? Access
    : null;
type Read<Schema> = Schema extends z.ZodType ? z.output<Schema> : Schema extends 'raw' ? Buffer : undefined;

/** Declares a route. The arguments of `handle` get their types from the schemas in the declaration. */
export function endpoint<
  const Auth extends Endpoint['auth'],
  Params extends z.ZodObject | undefined = undefined,
  Query extends z.ZodObject | undefined = undefined,
  Body extends z.ZodType | 'raw' | undefined = undefined,
>(
  declaration: Omit<Endpoint, 'auth' | 'params' | 'query' | 'body' | 'handle' | 'replay'> & {
    readonly auth: Auth;
    readonly params?: Params;
    readonly query?: Query;
    readonly body?: Body;
    readonly handle: (
      exchange: Exchange<AccessOf<Auth>, Read<Params>, Read<Query>, Read<Body>>,
    ) => Promise<void>;
    readonly replay?: (id: string, access: AccessOf<Auth>) => Promise<unknown>;
  },
): Endpoint {
  return declaration as unknown as Endpoint;
}
