import type { Api } from '../deps.ts';
import { type Endpoint, endpoint } from '../endpoint.ts';
import { within } from '../within.ts';
import { z } from '../zod.ts';

const REACHABLE_WITHIN_MS = 2_000;

const health = z.object({ status: z.literal('ok') });
const readiness = z
  .object({
    status: z.enum(['ready', 'not_ready']),
    database: z.enum(['ok', 'unreachable']),
    temporal: z.enum(['ok', 'unreachable']),
  })
  .openapi('Readiness');

interface Reachable {
  readonly database: boolean;
  readonly temporal: boolean;
}

/** Liveness and readiness, for load balancers and `npm start`. */
export function healthRoutes(api: Pick<Api, 'db' | 'isTemporalReachable'>): Endpoint[] {
  // Open to everybody, so that however many ask at once, one look is taken.
  let probing: Promise<Reachable> | undefined;
  const probe = () => {
    probing ??= Promise.all([isDatabaseReachable(api.db), api.isTemporalReachable(REACHABLE_WITHIN_MS)])
      .then(([database, temporal]) => ({ database, temporal }))
      .finally(() => {
        probing = undefined;
      });
    return probing;
  };

  return [
    endpoint({
      method: 'get',
      path: '/healthz',
      operationId: 'isAlive',
      tag: 'Service',
      summary: 'The process answers',
      auth: 'none',
      answers: { 200: { description: 'It does.', schema: health } },
      refusals: [],
      async handle({ response }) {
        response.json({ status: 'ok' });
      },
    }),
    endpoint({
      method: 'get',
      path: '/readyz',
      operationId: 'isReady',
      tag: 'Service',
      summary: 'Database and Temporal can be reached',
      auth: 'none',
      answers: {
        200: { description: 'Both can.', schema: readiness },
        503: { description: 'Says which cannot.', schema: readiness },
      },
      refusals: [],
      async handle({ response }) {
        const { database, temporal } = await probe();
        const word = (reachable: boolean) => (reachable ? 'ok' : 'unreachable');
        response.status(database && temporal ? 200 : 503).json({
          status: database && temporal ? 'ready' : 'not_ready',
          database: word(database),
          temporal: word(temporal),
        });
      },
    }),
  ];
}

/** A query of a table, so that a database without the migrations is not ready. */
async function isDatabaseReachable(db: Api['db']): Promise<boolean> {
  return await within(
    REACHABLE_WITHIN_MS,
    false,
    db.merchant.findFirst({ select: { id: true } }).then(() => true),
  );
}
