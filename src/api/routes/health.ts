import type { Api } from '../api-deps.ts';
import { type Endpoint, endpoint } from '../endpoint/endpoint.ts';
import { z } from '../http/zod.ts';
import { DATABASE_STATES } from '../readiness.ts';
import { openSet } from '../schemas/sets.ts';

const health = z.object({ status: openSet('Liveness', ['ok']).open });
const readiness = z
  .object({
    status: openSet('ReadinessStatus', ['ready', 'not_ready']).open,
    database: openSet('DatabaseState', DATABASE_STATES, {
      description:
        'New values may be added: accept them. `in_recovery`: the database reports that it is a standby or replays its log. ' +
        '`read_only`: the database reports that it is read-only. `not_writable`: a write failed.',
    }).open,
    temporal: openSet('Reachability', ['ok', 'unreachable']).open,
  })
  .openapi('Readiness');

/** Routes for liveness and readiness. Load balancers and `npm start` use them. */
export function healthRoutes(api: Pick<Api, 'readiness'>): Endpoint[] {
  return [
    endpoint({
      method: 'get',
      path: '/healthz',
      operationId: 'isAlive',
      tag: 'Service',
      summary: 'Liveness',
      auth: 'none',
      answers: { 200: { description: 'The process is up.', schema: health } },
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
      summary: 'Readiness: the database accepts writes, and Temporal can be reached',
      description:
        'Checks at most once a second, however many requests come. After a failed write that the database refused, `database` ' +
        'is `not_writable` for 10 s, and after that until a write succeeds.',
      auth: 'none',
      answers: {
        200: { description: 'Ready.', schema: readiness },
        503: { description: 'Not ready; the body names the cause.', schema: readiness },
      },
      refusals: [],
      async handle({ response }) {
        const reachable = await api.readiness.look();
        const ready = reachable.database === 'ok' && reachable.temporal === 'ok';
        response.status(ready ? 200 : 503).json({ status: ready ? 'ready' : 'not_ready', ...reachable });
      },
    }),
  ];
}
