import * as wf from '@temporalio/workflow';
import type { SweepActivities } from '../activities/sweep.ts';
import { MAIN_TASK_QUEUE } from '../domain/names.ts';

/** A haul that cannot be finished is left to the next sweep. */
const net = wf.proxyActivities<SweepActivities>({
  taskQueue: MAIN_TASK_QUEUE,
  startToCloseTimeout: '50 s',
  retry: { maximumAttempts: 2 },
});

const HAULS = [
  'sweepUnmatched',
  'sweepCallbacks',
  'sweepPayments',
  'sweepAbnormalEnds',
  'sweepRefunds',
  'sweepOrders',
  'sweepDeliveries',
  'sweepOld',
] as const;

/**
 * The safety net, run every minute by the Schedule `nodrop-sweep`. Each haul is tried though another failed.
 * @returns how many rows each haul healed, or why it could not.
 */
export async function sweep(): Promise<Record<string, number | string>> {
  const result: Record<string, number | string> = {};
  for (const haul of HAULS) {
    // Sweeps that were running when this haul came had none.
    if (haul === 'sweepDeliveries' && !wf.patched('sweep-deliveries')) continue;
    try {
      result[haul] = await net[haul]();
    } catch (error) {
      if (!(error instanceof wf.ActivityFailure)) throw error;
      result[haul] = error.cause?.message ?? error.message;
    }
  }
  return result;
}
