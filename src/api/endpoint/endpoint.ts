import type { Request, Response } from 'express';
import type { RefusalCode } from '../../domain/refusal.ts';
import type { z } from '../http/zod.ts';
import type { Access, KeyAccess } from './auth.ts';

/**
 * One route of the API. The same declaration validates requests, answers 405 and preflights, and makes the
 * OpenAPI document, so that none of them can say something else than the others.
 */
export interface Endpoint {
  readonly method: 'get' | 'post' | 'patch';
  /** As OpenAPI writes it: `/v1/payments/{id}`. */
  readonly path: string;
  readonly operationId: string;
  readonly tag: 'Orders' | 'Payments' | 'Refunds' | 'Events' | 'Channels and payers' | 'Service';
  readonly summary: string;
  readonly description?: string;
  /** Which credentials the route accepts: any key, an operator's key only, also a payment's client token, or none. */
  readonly auth: 'key' | 'operator' | 'key or token' | 'none';
  /** May pages of other origins call it? Never with cookies. */
  readonly cors?: boolean;
  /** `raw`: the body is read as bytes, whatever it is. */
  readonly body?: z.ZodType | 'raw';
  readonly bodyExamples?: Readonly<Record<string, { readonly summary: string; readonly value: unknown }>>;
  readonly query?: z.ZodObject;
  readonly params?: z.ZodObject;
  /** For the document alone: the handler reads and checks them. */
  readonly headers?: z.ZodObject;
  readonly answers: Readonly<Record<number, Answer>>;
  /** What this route refuses with, besides what its authentication and validation do. */
  readonly refusals: readonly RefusalCode[];
  /** Runs before anything is looked up, for what many requests at once would cost. It may wait, and refuse. */
  readonly admit?: (request: Request, response: Response) => Promise<void>;
  readonly handle: (exchange: Exchange) => Promise<void>;
  /**
   * Makes the route take an `Idempotency-Key`; its handler answers with `answer`. Shows what was made under a key
   * once more, by its id and as it is now: nobody is sent to pay what is over.
   */
  readonly replay?: (id: string, access: Access) => Promise<unknown>;
}

export interface Answer {
  readonly description: string;
  readonly schema?: z.ZodType;
  /** @default application/json */
  readonly mediaType?: string;
}

/** One request with everything that was read and checked. */
export interface Exchange<AccessKind = unknown, Params = unknown, Query = unknown, Body = unknown> {
  readonly request: Request;
  readonly response: Response;
  readonly access: AccessKind;
  readonly params: Params;
  readonly query: Query;
  readonly body: Body;
  /** Epoch ms: the deadlines of a request count from here. */
  readonly startedAt: number;
  /** Answers with what was made, which must be durable by now. For routes with `replay`. */
  readonly answer: (status: number, body: { readonly id: string }) => Promise<void>;
}

type AccessOf<Auth> = Auth extends 'key' | 'operator'
  ? KeyAccess
  : Auth extends 'key or token'
    ? Access
    : null;
type Read<Schema> = Schema extends z.ZodType ? z.output<Schema> : Schema extends 'raw' ? Buffer : undefined;

/** Declares a route; `handle` gets its parts in the types of their schemas. */
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
