import { clientToken, hashSecret } from '../../client-token.ts';
import { hasUnsettledMoney } from '../../domain/attempt.ts';
import { Refusal } from '../../domain/refusal.ts';
import { isEnded, isFinal } from '../../domain/states.ts';
import { adoptTrade, askAgain, findAdoptable } from '../../ledger/adopt.ts';
import { type NewOrder, requireOrderAsGiven } from '../../ledger/new-payment.ts';
import { getPayment, type PaymentWithRefund } from '../../ledger/queries.ts';
import type { Payment } from '../../ledger/rows.ts';
import { startDeliveries } from '../../temporal/start-deliveries.ts';
import type { Api } from '../api-deps.ts';
import { paymentKey } from '../changes.ts';
import { ADOPTED_TRADE_WITHIN_MS, ANSWER_WITHIN_MS, NEXT_ACTION_AT_LEAST_MS } from '../deadlines.ts';
import { Counts } from '../http/counts.ts';
import { onceOthersAreSettled } from './settle-other-attempts.ts';
import type { PaymentRequest } from './start-payment.ts';

/**
 * The share of a channel's calls per second that one process may use to adopt trades. The other calls are reserved for
 * payers.
 */
const PART_FOR_ADOPTING = 1 / 4;

/** The trade that the request names. */
export interface AdoptedTrade {
  readonly reference: string;
  /** True if nodrop may close the trade and refund its money automatically. */
  readonly own: boolean;
}

/**
 * @returns a function that adopts a trade that the merchant's own code has created. The API process first queries the
 * channel directly. It needs no workflow for this query, because no row exists yet and the caller can repeat the
 * request.
 */
export function createAdoptTrade(api: Api) {
  const { db, config, channels, workflows, changes, metrics, now } = api;
  const asked = new Map<string, Counts>();

  /**
   * Counts one call to the channel for an adoption. @throws Refusal `too_busy` if the process has used up its calls in
   * this second
   */
  function takeCall(channel: string, perSecond: number): void {
    const atMost = Math.max(1, Math.floor(perSecond * PART_FOR_ADOPTING));
    const counts = asked.get(channel) ?? new Counts({ atMost, windowMs: 1_000 }, now);
    asked.set(channel, counts);
    if (counts.take(channel) !== undefined) return;
    throw new Refusal('too_busy', `Too many trades of ${channel} are being adopted in this second.`, {
      retryAfterSeconds: 1,
    });
  }

  /**
   * Starts or wakes the payment's workflow. Then waits until received money is settled or the time is up.
   * @throws TemporalUnavailable
   */
  async function watch({ id }: Payment, startedAt: number): Promise<PaymentWithRefund> {
    const left = () => Math.max(ANSWER_WITHIN_MS - (Date.now() - startedAt), NEXT_ACTION_AT_LEAST_MS);
    const row = await getPayment(db, id);
    if (row.status === 'succeeded' && isFinal(row.status, row.orderUpdate)) return row;
    // If the trade ended before its adoption, no workflow delivers the event of its payment. So this code starts the
    // delivery.
    if (isEnded(row.status)) await startDeliveries(api, id);
    await workflows.wake(row, left());
    return await changes.until(paymentKey(id), {
      read: () => getPayment(db, id),
      done: (payment) => !hasUnsettledMoney(payment),
      timeoutMs: left(),
    });
  }

  /**
   * @param order the id of an existing order, or an order to create
   * @param startedAt when the request started, epoch ms
   * @returns 201 if the payment is new, 200 if this order had already adopted the trade
   * @throws Refusal with one of `ADOPT_REFUSALS`, TemporalUnavailable
   */
  return async (
    merchantId: string,
    order: { readonly id: string } | NewOrder,
    attempt: PaymentRequest,
    { reference, own }: AdoptedTrade,
    startedAt: number,
  ): Promise<{ readonly status: 200 | 201; readonly payment: PaymentWithRefund }> => {
    const { channel, account, method, isExpiryStated: _, byPayer: __, ...given } = attempt;
    const adapter = channels.get(channel);
    const read = async <T>(trade: (signal: AbortSignal) => Promise<T>): Promise<T> => {
      takeCall(channel, adapter?.declaration.rateLimit.perSecond ?? 1);
      return await trade(AbortSignal.timeout(ADOPTED_TRADE_WITHIN_MS));
    };
    const wanted = { channel, account, method, reference, mode: config.mode };
    const looked = await findAdoptable(db, adapter, merchantId, order, wanted, now(), read);
    if ('adopted' in looked) {
      if ('amount' in order) await requireOrderAsGiven(db, merchantId, order);
      await askAgain(db, adapter, looked.adopted, read, now());
      metrics.countPayment(channel, 'repeated');
      return { status: 200, payment: await watch(looked.adopted, startedAt) };
    }
    const { payment, created } = await onceOthersAreSettled(
      api,
      startedAt,
      'a trade that is adopted',
      (askedAttempts) =>
        adoptTrade(
          db,
          merchantId,
          order,
          wanted,
          looked,
          { ...given, as: own ? 'own' : 'watched', askedAttempts },
          (id) => hashSecret(clientToken(config.secret, id)),
          now(),
        ),
    );
    metrics.countPayment(channel, created ? 'created' : 'repeated');
    return { status: created ? 201 : 200, payment: await watch(payment, startedAt) };
  };
}

/**
 * The codes of refusals that only a request for an adoption can get. The codes for a new attempt (`ATTEMPT_REFUSALS`)
 * also apply.
 */
export const ADOPT_REFUSALS = [
  'adopt_mismatch',
  'adopt_taken',
  'adopt_unknown',
  'channel_unreachable',
] as const;
