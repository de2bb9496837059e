import { HEALTH_WITHIN_MS } from '../deadlines.ts';
import type { Api } from '../deps.ts';
import { within } from '../http/within.ts';

export interface Reachable {
  readonly database: 'ok' | 'unreachable';
  readonly temporal: 'ok' | 'unreachable';
}

/** @returns what says whether both servers can be reached; however many ask at once, one look is taken. */
export function createProbe(api: Pick<Api, 'db' | 'isTemporalReachable'>): () => Promise<Reachable> {
  const word = (reachable: boolean) => (reachable ? 'ok' : 'unreachable');
  let probing: Promise<Reachable> | undefined;
  return () => {
    probing ??= Promise.all([isDatabaseReachable(api.db), api.isTemporalReachable(HEALTH_WITHIN_MS)])
      .then(([database, temporal]) => ({ database: word(database), temporal: word(temporal) }) as const)
      .finally(() => {
        probing = undefined;
      });
    return probing;
  };
}

/** A query of a table, so that a database without the migrations is not ready. */
async function isDatabaseReachable(db: Api['db']): Promise<boolean> {
  return await within(
    HEALTH_WITHIN_MS,
    false,
    db.merchant.findFirst({ select: { id: true } }).then(() => true),
  );
}
