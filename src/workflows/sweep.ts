import * as wf from '@temporalio/workflow';
import type { SweepActivities } from '../activities/sweep.ts';
import { SWEEP } from './activity-options.ts';

const net = wf.proxyActivities<SweepActivities>(SWEEP);

/** One lane's hauls run one after another: what the first finds is the second's. */
const LANES = [
  ['sweepUnmatched', 'sweepCallbacks'],
  ['sweepPayments'],
  ['sweepStuck'],
  ['sweepAbnormalEnds'],
  ['sweepRefunds'],
  ['sweepOrders'],
  ['sweepDeliveries'],
  ['sweepOld'],
] as const;
type HaulName = (typeof LANES)[number][number];

type Outcome = number | string;

/**
 * The safety net, run every minute by the Schedule `nodrop-sweep`. Each haul is tried though another failed, and the
 * lanes at once: a slow one would leave no time for those after it.
 * @returns how many rows each haul healed, or why it could not.
 */
export async function sweep(): Promise<Record<string, Outcome>> {
  const result: Record<string, Outcome> = {};
  const run = async (names: readonly HaulName[]) => {
    for (const name of names) result[name] = await haul(name);
  };
  await Promise.all(LANES.map(run));
  return result;
}

async function haul(name: HaulName): Promise<Outcome> {
  try {
    return await net[name]();
  } catch (error) {
    if (!(error instanceof wf.ActivityFailure)) throw error;
    return error.cause?.message ?? error.message;
  }
}
