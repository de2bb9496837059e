import type { Express, Request, RequestHandler, Response } from 'express';
import { Refusal } from '../../domain/refusal.ts';
import { faultsInWords } from '../../faults-in-words.ts';
import { parseJson, rawBody, readRaw, requireJson } from '../http/body.ts';
import type { z } from '../http/zod.ts';
import type { Access, Authenticate } from './auth.ts';
import type { Endpoint, Exchange } from './endpoint.ts';
import { plainAnswer, type RunOnce } from './idempotency.ts';

/** Allows pages of every origin to call endpoints with `cors`. */
export function allowOrigins(app: Express, endpoints: readonly Endpoint[]): void {
  for (const [path, group] of byPath(endpoints)) {
    if (group.some(({ cors }) => cors)) app.all(path, allowEveryOrigin);
  }
}

/**
 * Adds endpoints to the app. For each request, the checks of its endpoint run first, in a fixed order, and then the
 * handler.
 */
export function mount(
  app: Express,
  endpoints: readonly Endpoint[],
  authenticate: Authenticate,
  runOnce: RunOnce,
): void {
  for (const [path, group] of byPath(endpoints)) {
    for (const endpoint of group) {
      const read = endpoint.body === undefined ? [] : [readRaw];
      // Authentication comes before the body is read, so that unauthenticated requests cost little.
      app[endpoint.method](
        path,
        nameRoute(endpoint.path),
        check(endpoint, authenticate),
        ...read,
        serve(endpoint, runOnce),
      );
    }
    app.all(path, nameRoute(group[0]?.path ?? path), refuseMethod(group));
  }
}

/** Groups the endpoints by path. The paths are in Express's syntax. */
function byPath(endpoints: readonly Endpoint[]): Map<string, Endpoint[]> {
  const paths = new Map<string, Endpoint[]>();
  for (const endpoint of endpoints) {
    const path = endpoint.path.replace(/\{(\w+)\}/g, ':$1');
    paths.set(path, [...(paths.get(path) ?? []), endpoint]);
  }
  return paths;
}

/**
 * Stores the declared path of the route for the metrics. The path of the request contains ids, and each id would be a
 * new label value.
 */
const nameRoute =
  (path: string): RequestHandler =>
  (_request, response, next) => {
    response.locals.route = path;
    next();
  };

const check =
  (endpoint: Endpoint, authenticate: Authenticate): RequestHandler =>
  async (request, response, next) => {
    await endpoint.admit?.(request, response);
    if (endpoint.auth !== 'none') {
      // A request that has passed `admit` may hold a slot that other requests need. So the request must not wait for a
      // look-up of its key or token.
      const access = await authenticate(request, endpoint.admit === undefined);
      if (access.kind === 'token' && endpoint.auth !== 'key or token') {
        throw new Refusal(
          'forbidden',
          'A client token can only read its own payment, give hints for it and switch it.',
        );
      }
      if (access.kind === 'key' && endpoint.auth === 'operator' && access.caller.role !== 'operator') {
        throw new Refusal('forbidden', "Only an operator's key may do that.");
      }
      response.locals.access = access;
    }
    if (typeof endpoint.body === 'object') requireJson(request);
    next();
  };

const serve =
  (endpoint: Endpoint, runOnce: RunOnce): RequestHandler =>
  async (request, response) => {
    const { body, replay } = endpoint;
    const content = typeof body === 'object' ? parseJson(rawBody(request)) : undefined;
    const exchange: Exchange = {
      request,
      response,
      access: (response.locals.access ?? null) as Access | null,
      params: endpoint.params === undefined ? undefined : parse(endpoint.params, request.params),
      query:
        endpoint.query === undefined ? undefined : parse(endpoint.query, request.query, queryFaultsInWords),
      body: typeof body === 'object' ? parse(body, content) : body === 'raw' ? rawBody(request) : undefined,
      startedAt: response.locals.startedAt as number,
      answer: plainAnswer(response),
    };
    // The idempotency check compares the content as the caller sent it, before defaults are filled in. Otherwise a
    // repeated request would look different after a release changed a default value.
    if (replay === undefined) await endpoint.handle(exchange);
    else await runOnce({ ...endpoint, replay }, exchange, [request.params, content]);
  };

/** Maximum number of errors in an answer, because a body can have thousands of errors. */
const FAULTS_AT_MOST = 50;

/** Returns error texts for query strings. Express passes a repeated query parameter as an array. */
const queryFaultsInWords: z.core.$ZodErrorMap = (issue) =>
  issue.code === 'invalid_type' && Array.isArray(issue.input) ? 'must be given once' : faultsInWords(issue);

/** Validates a part of a request. @throws Refusal `invalid_request` that names the faults. */
function parse(schema: z.ZodType, value: unknown, error = faultsInWords): unknown {
  const parsed = schema.safeParse(value, { error });
  if (parsed.success) return parsed.data;
  // Two rules may find the same fault in one value. The answer reports such a fault once.
  const errors = [
    ...new Map(
      parsed.error.issues.flatMap(explain).map((error) => [`${error.path}\n${error.message}`, error]),
    ).values(),
  ].slice(0, FAULTS_AT_MOST);
  const first = errors[0];
  throw new Refusal(
    'invalid_request',
    `${first?.path === '' ? 'The request' : first?.path}: ${first?.message}.`,
    { errors },
  );
}

function explain(issue: z.core.$ZodIssue): { path: string; message: string }[] {
  const at = (path: readonly PropertyKey[], message: string) => ({
    path: path.map(String).join('.'),
    message,
  });
  if (issue.code === 'unrecognized_keys')
    return issue.keys.map((key) => at([...issue.path, key], issue.message));
  if (issue.code === 'invalid_key') return [at(issue.path, issue.issues[0]?.message ?? issue.message)];
  return [at(issue.path, issue.message)];
}

/** Allows every page to call the route with a client token. Credentials are not allowed, so cookies are never used. */
const allowEveryOrigin: RequestHandler = (_request, response, next) => {
  response.set({
    'Access-Control-Allow-Origin': '*',
    'Access-Control-Allow-Methods': 'GET, POST',
    'Access-Control-Allow-Headers':
      'Authorization, Content-Type, Idempotency-Key, Last-Event-ID, X-Request-Id',
    'Access-Control-Expose-Headers': 'X-Request-Id, Retry-After',
    'Access-Control-Max-Age': '7200',
  });
  next();
};

function refuseMethod(group: readonly Endpoint[]) {
  const methods = group.flatMap(({ method }) =>
    method === 'get' ? ['GET', 'HEAD'] : [method.toUpperCase()],
  );
  return (request: Request, response: Response) => {
    response.set('Allow', [...methods, 'OPTIONS'].join(', '));
    if (request.method === 'OPTIONS') return void response.status(204).end();
    throw new Refusal(
      'method_not_allowed',
      `${request.method} is not supported here, only ${methods.join(', ')}.`,
    );
  };
}
