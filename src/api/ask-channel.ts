import { TemporalUnavailable } from '../activities/payment-workflows.ts';
import { Refusal } from '../domain/refusal.ts';
import type { Payment } from '../generated/prisma/client.ts';
import type { Api } from './deps.ts';

const DEADLINE_MS = 8_000;
const REACHABLE_WITHIN_MS = 1_000;

/**
 * Asks the channel about a payment, for somebody who needs its word now: it is in the ledger when this returns.
 * @throws Refusal `channel_unreachable`, TemporalUnavailable
 */
export async function askChannel(
  { workflows, isTemporalReachable }: Pick<Api, 'workflows' | 'isTemporalReachable'>,
  payment: Payment,
): Promise<void> {
  const silent = new Refusal('channel_unreachable', `${payment.channel} gave no readable answer within 8 s.`);
  try {
    if (!(await workflows.askChannel(payment, DEADLINE_MS))) throw silent;
  } catch (error) {
    // A channel or worker that takes too long ends in the same deadline as a Temporal that is not there.
    if (error instanceof TemporalUnavailable && (await isTemporalReachable(REACHABLE_WITHIN_MS)))
      throw silent;
    throw error;
  }
}
