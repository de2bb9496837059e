import { Refusal } from '../../domain/refusal.ts';
import type { Payment } from '../../ledger/rows.ts';
import { TemporalUnavailable } from '../../temporal/payment-workflows.ts';
import type { Api, ApiDeps, AskChannel } from '../api-deps.ts';
import { CHANNEL_ANSWERS_WITHIN_MS, TEMPORAL_LOOK_MS, TRADE_ASKED_WITHIN_MS } from '../deadlines.ts';
import { orFallbackWithin } from '../http/with-deadline.ts';

/** Asking channels on a caller's request: one caller in a loop must not use up the rate that other payers' creates need. */

/** An answer this young is the channel's word. */
const FRESH_MS = 1_000;

/** One query at a time for each payment: who comes meanwhile shares it. */
export function createAskChannel({ workflows }: Pick<ApiDeps, 'workflows'>): AskChannel {
  const asking = new Map<string, Promise<boolean>>();
  return async (payment) => {
    const { id } = payment;
    const query =
      asking.get(id) ??
      workflows.askChannel(payment, CHANNEL_ANSWERS_WITHIN_MS).finally(() => {
        asking.delete(id);
      });
    asking.set(id, query);
    return await query;
  };
}

/**
 * The same for somebody who needs its word: it is in the ledger when this returns.
 * @throws Refusal `channel_unreachable`, TemporalUnavailable
 */
export async function requireAnswer(
  { askChannel, isTemporalReachable }: Pick<Api, 'askChannel' | 'isTemporalReachable'>,
  payment: Payment,
): Promise<void> {
  const silent = new Refusal('channel_unreachable', `${payment.channel} gave no readable answer.`);
  try {
    if (!(await askChannel(payment))) throw silent;
  } catch (error) {
    // A channel or worker that takes too long ends in the same deadline as a Temporal that is not there.
    if (error instanceof TemporalUnavailable && (await isTemporalReachable(TEMPORAL_LOOK_MS))) throw silent;
    throw error;
  }
}

/** The same for somebody who goes by the ledger when the channel, or Temporal, says nothing in time. */
export async function askBriefly({ askChannel }: Pick<Api, 'askChannel'>, payment: Payment): Promise<void> {
  await orFallbackWithin(TRADE_ASKED_WITHIN_MS, false, askChannel(payment));
}

/** The last thing heard of the channel is a readable answer of just now. */
export const isFresh = (payment: Payment, now: Date): boolean =>
  payment.channelErrorSince === null && isAnsweredWithin(payment, FRESH_MS, now);

/** Both ways: a worker's clock that is ahead must not silence the queries for as long. */
export const isAnsweredWithin = ({ channelAnsweredAt }: Payment, ms: number, now: Date): boolean =>
  channelAnsweredAt !== null && Math.abs(now.getTime() - channelAnsweredAt.getTime()) < ms;
