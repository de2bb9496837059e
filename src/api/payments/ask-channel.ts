import { Refusal } from '../../domain/refusal.ts';
import type { Payment } from '../../ledger/rows.ts';
import { TemporalUnavailable } from '../../temporal/payment-workflows.ts';
import type { Api, ApiDeps, AskChannel } from '../api-deps.ts';
import { CHANNEL_ANSWERS_WITHIN_MS, TEMPORAL_LOOK_MS, TRADE_ASKED_WITHIN_MS } from '../deadlines.ts';
import { orFallbackWithin } from '../http/with-deadline.ts';

/**
 * Queries channels when a caller of the API requests it. The number of queries is limited, so that a caller in a loop
 * does not use up the channel's rate limit.
 */

/** If the channel's last answer is not older than this, nodrop uses that answer and sends no new query. */
const FRESH_MS = 1_000;

/** Creates the function that queries the channel of a payment. Concurrent callers share one query per payment. */
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
 * Queries the channel of a payment. Returns when the channel's answer is in the ledger.
 * @throws Refusal `channel_unreachable` if the channel gave no readable answer; TemporalUnavailable
 */
export async function requireAnswer(
  { askChannel, isTemporalReachable }: Pick<Api, 'askChannel' | 'isTemporalReachable'>,
  payment: Payment,
): Promise<void> {
  const silent = new Refusal('channel_unreachable', `${payment.channel} gave no readable answer.`);
  try {
    if (!(await askChannel(payment))) throw silent;
  } catch (error) {
    // A query can time out because Temporal is down, or because the channel or the worker is slow. Check whether
    // Temporal is the cause.
    if (error instanceof TemporalUnavailable && (await isTemporalReachable(TEMPORAL_LOOK_MS))) throw silent;
    throw error;
  }
}

/**
 * Tries to query the channel of a payment within a short time. If the channel or Temporal does not answer in time, the
 * caller uses the state in the ledger.
 */
export async function askBriefly({ askChannel }: Pick<Api, 'askChannel'>, payment: Payment): Promise<void> {
  await orFallbackWithin(TRADE_ASKED_WITHIN_MS, false, askChannel(payment));
}

/** True if the last call to the channel was less than 1 s ago and got a readable answer. */
export const isFresh = (payment: Payment, now: Date): boolean =>
  payment.channelErrorSince === null && isAnsweredWithin(payment, FRESH_MS, now);

/**
 * True if the time of the channel's answer is less than `ms` before or after `now`. False if that time is in the far
 * future. Otherwise a worker whose clock is far ahead would stop the queries.
 */
export const isAnsweredWithin = ({ channelAnsweredAt }: Payment, ms: number, now: Date): boolean =>
  channelAnsweredAt !== null && Math.abs(now.getTime() - channelAnsweredAt.getTime()) < ms;
