import type { Request, Response } from 'express';
import type { RefusalCode } from '../../domain/refusal.ts';
import type { z } from '../http/zod.ts';
import type { Access, KeyAccess } from './auth.ts';

/**
 * One route of the API. The same declaration validates requests, answers 405 and CORS preflights, and makes the OpenAPI
 * document, so that validation, answers and document cannot contradict each other.
 */
export interface Endpoint {
  readonly method: 'get' | 'post' | 'patch';
  /** The path in OpenAPI's syntax: `/v1/payments/{id}`. */
  readonly path: string;
  readonly operationId: string;
  readonly tag: 'Orders' | 'Payments' | 'Refunds' | 'Events' | 'Channels and payers' | 'Service';
  readonly summary: string;
  readonly description?: string;
  /**
   * Which credentials the route accepts: any key; only an operator's key; any key or a payment's client token; or none.
   */
  readonly auth: 'key' | 'operator' | 'key or token' | 'none';
  /** True if pages of other origins may call the route. Never with cookies. */
  readonly cors?: boolean;
  /** `raw`: the body is read as bytes and not parsed. */
  readonly body?: z.ZodType | 'raw';
  readonly bodyExamples?: Readonly<Record<string, { readonly summary: string; readonly value: unknown }>>;
  readonly query?: z.ZodObject;
  readonly params?: z.ZodObject;
  /** Only for the OpenAPI document: the handler reads and checks the headers. */
  readonly headers?: z.ZodObject;
  readonly answers: Readonly<Record<number, Answer>>;
  /** The codes that the route refuses with, in addition to those of its authentication and validation. */
  readonly refusals: readonly RefusalCode[];
  /**
   * Runs before the first database query, to limit the cost of many concurrent requests. May wait, and may throw a
   * Refusal.
   */
  readonly admit?: (request: Request, response: Response) => Promise<void>;
  readonly handle: (exchange: Exchange) => Promise<void>;
  /**
   * Makes the route accept an `Idempotency-Key`; its handler must answer with `answer`. Returns the view of what an
   * earlier request with the key created, in its current state, because an old view could send a payer to a payment
   * that has ended.
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
  /** When the request started, epoch ms. Deadlines count from here. */
  readonly startedAt: number;
  /** Sends the answer for what the request created, which must be durable by now. For routes with `replay`. */
  readonly answer: (status: number, body: { readonly id: string }) => Promise<void>;
}

type AccessOf<Auth> = Auth extends 'key' | 'operator'
  ? KeyAccess
  : Auth extends 'key or token'
    ? Access
    : null;
type Read<Schema> = Schema extends z.ZodType ? z.output<Schema> : Schema extends 'raw' ? Buffer : undefined;

/** Declares a route. Types the arguments of `handle` by the schemas of the declaration. */
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
