import * as wf from '@temporalio/workflow';
import type { SweepActivities } from '../activities/sweep.ts';
import { SWEEP } from './activity-options.ts';
import type { SweepResult } from './messages.ts';

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

/**
 * The safety net, run every minute by the Schedule `nodrop-sweep`. Each haul is tried though another failed, and the
 * lanes at once: a slow one would leave no time for those after it.
 */
export async function sweep(): Promise<SweepResult> {
  const result: Record<string, number | string> = {};
  const run = async (names: readonly HaulName[]) => {
    for (const name of names) result[name] = await haul(name);
  };
  await Promise.all(LANES.map(run));
  return result;
}

async function haul(name: HaulName): Promise<number | string> {
  try {
    return await net[name]();
  } catch (error) {
    if (!(error instanceof wf.ActivityFailure)) throw error;
    return error.cause?.message ?? error.message;
  }
}
