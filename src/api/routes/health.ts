import { createProbe } from '../admin/reachable.ts';
import type { Api } from '../deps.ts';
import { type Endpoint, endpoint } from '../endpoint/endpoint.ts';
import { z } from '../http/zod.ts';
import { openSet } from '../schemas/sets.ts';

const health = z.object({ status: openSet('Liveness', ['ok']).open });
const reachability = openSet('Reachability', ['ok', 'unreachable']);
const readiness = z
  .object({
    status: openSet('ReadinessStatus', ['ready', 'not_ready']).open,
    database: reachability.open,
    temporal: reachability.open,
  })
  .openapi('Readiness');

/** Liveness and readiness, for load balancers and `npm start`. */
export function healthRoutes(api: Pick<Api, 'db' | 'isTemporalReachable'>): Endpoint[] {
  // Open to everybody.
  const probe = createProbe(api);

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
        const reachable = await probe();
        const ready = reachable.database === 'ok' && reachable.temporal === 'ok';
        response.status(ready ? 200 : 503).json({ status: ready ? 'ready' : 'not_ready', ...reachable });
      },
    }),
  ];
}
