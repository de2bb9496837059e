import * as wf from '@temporalio/workflow';
import type { SweepActivities } from '../activities/sweep.ts';
import { SWEEP } from './activity-options.ts';
import type { SweepResult } from './messages.ts';

const activities = wf.proxyActivities<SweepActivities>(SWEEP);

/**
 * The lanes of the sweep run at the same time. The steps of one lane run one after another, because an earlier step can
 * find work for a later step.
 */
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
 * The sweep does the work that other processes left undone. The Schedule `nodrop-sweep` runs it every minute. If a step
 * fails, the next steps still run. The sweep's lanes run at the same time, so that a slow lane does not delay the other
 * lanes.
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
