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
        'Accept new ones. `in_recovery` (a standby, or one that replays its log) and `read_only`: it says so itself. ' +
        '`not_writable`: a write failed.',
    }).open,
    temporal: openSet('Reachability', ['ok', 'unreachable']).open,
  })
  .openapi('Readiness');

/** Liveness and readiness, for load balancers and `npm start`. */
export function healthRoutes(api: Pick<Api, 'readiness'>): Endpoint[] {
  return [
    endpoint({
      method: 'get',
      path: '/healthz',
      operationId: 'isAlive',
      tag: 'Service',
      summary: 'The process answers',
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
      summary: 'The database takes writes, and Temporal can be reached',
      description:
        'Looks at most once a second, however many ask. After a write that the database refused it is `not_writable` for ' +
        '10 s, and then until a write succeeds.',
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
