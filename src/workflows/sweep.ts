import * as wf from '@temporalio/workflow';
import type { SweepActivities } from '../activities/sweep.ts';
import { SWEEP } from './activity-options.ts';
import type { SweepResult } from './messages.ts';

const activities = wf.proxyActivities<SweepActivities>(SWEEP);

/** One lane's steps run one after another: what the first finds is the second's. */
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
type StepName = (typeof LANES)[number][number];

/**
 * The safety net, run every minute by the Schedule `nodrop-sweep`. Each step is tried though another failed, and the
 * lanes at once: a slow one would leave no time for those after it.
 */
export async function sweep(): Promise<SweepResult> {
  const result: Record<string, number | string> = {};
  const run = async (names: readonly StepName[]) => {
    for (const name of names) result[name] = await runStep(name);
  };
  await Promise.all(LANES.map(run));
  return result;
}

async function runStep(name: StepName): Promise<number | string> {
  try {
    return await activities[name]();
  } catch (error) {
    if (!(error instanceof wf.ActivityFailure)) throw error;
    return error.cause?.message ?? error.message;
  }
}
