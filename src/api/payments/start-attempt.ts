import { clientToken, hashSecret } from '../../client-token.ts';
import { Refusal } from '../../domain/refusal.ts';
import {
  expiryOf,
  type NewOrder,
  type NewPayment,
  refusesAttempts,
  runsOut,
  startPayment,
} from '../../ledger/intake.ts';
import type { Payment } from '../../ledger/rows.ts';
import { hasUsableAction, isUndecided, recordedAnswer } from '../../ledger/snapshot.ts';
import { findOrder, getPayment, hasAccount, type PaymentWithRefund } from '../../ledger/views.ts';
import { ANSWER_WITHIN_MS, NEXT_ACTION_AT_LEAST_MS } from '../deadlines.ts';
import type { Api } from '../deps.ts';
import { onceOthersAreResolved, refuseUndecided } from './resolve-other-attempts.ts';
import { ATTEMPTS_OF_PAYERS, takes } from './switch-options.ts';
import { isPayable } from './views.ts';

/** An attempt as it is asked for. */
export interface Attempt extends Omit<NewPayment, 'method' | 'askedAttempts' | 'attemptsAtMost'> {
  /** @default the channel's first */
  readonly method: string | undefined;
  /** By whoever has a client token: within bounds, as they cost the channels a trade or a query each time. */
  readonly byPayer?: boolean;
}

/** What came of it: 201 it is new, 200 it was live already, 202 there is nothing to pay with yet. */
export interface Started {
  readonly status: 200 | 201 | 202;
  readonly payment: PaymentWithRefund;
}

/** @returns what makes an attempt to pay an order: points 1, 2 and 9 of the way of a payment. */
export function createStartAttempt(api: Api) {
  const { db, config, channels, workflows, metrics, now } = api;

  /** @throws Refusal `unknown_channel`, `invalid_request`, `currency_not_supported`, `order_not_found`, `attempt_unresolved` */
  async function chooseMethod(
    merchantId: string,
    order: { readonly id: string } | NewOrder,
    attempt: Attempt,
  ): Promise<string> {
    const adapter = channels.get(attempt.channel);
    if (adapter === undefined || !(await hasAccount(db, merchantId, attempt.channel))) {
      throw new Refusal('unknown_channel', `There is no channel ${attempt.channel} for this merchant.`);
    }
    const method = attempt.method ?? adapter.methods[0];
    if (!adapter.methods.includes(method)) {
      const message = `must be one of ${adapter.methods.join(', ')}`;
      throw new Refusal('invalid_request', `method: ${message}.`, { errors: [{ path: 'method', message }] });
    }
    const found = 'currency' in order ? null : await findOrder(db, merchantId, order.id);
    const currency = 'currency' in order ? order.currency : found?.currency;
    if (currency === undefined) throw new Refusal('order_not_found', `There is no order ${order.id}.`);
    if (!takes(adapter, currency)) {
      throw new Refusal(
        'currency_not_supported',
        `${attempt.channel} takes ${adapter.currencies.join(', ')}, not ${currency}.`,
      );
    }
    if (attempt.byPayer === true && found !== null && refusesAttempts(found, now()) === null) {
      const renewedUntil = expiryOf(found, attempt.expiresInMs, now());
      const asked = found.payments.filter(
        (one) =>
          one.channel !== attempt.channel || one.method !== method || runsOut(one, renewedUntil, now()),
      );
      refuseUndecided(asked, now());
    }
    return method;
  }

  /** Inserts the payment once every live attempt of its order has been asked about, or finds the one to hand out. */
  async function insert(
    merchantId: string,
    order: { readonly id: string } | NewOrder,
    { byPayer = false, ...given }: Attempt & { readonly method: string },
    startedAt: number,
  ) {
    return await onceOthersAreResolved(api, startedAt, 'a new attempt of its order', (askedAttempts) =>
      startPayment(
        db,
        merchantId,
        order,
        { ...given, askedAttempts, ...(byPayer ? { attemptsAtMost: ATTEMPTS_OF_PAYERS } : {}) },
        (id) => hashSecret(clientToken(config.secret, id)),
        now(),
      ),
    );
  }

  /** Makes the payment payable; true when it got so far in time. @throws TemporalUnavailable */
  async function advance(row: Payment, startedAt: number): Promise<boolean> {
    if (row.status === 'paying' && isPayable(row, now())) return true;
    // Its payer gets nothing to do: it is being cancelled.
    if (row.recoveredAt !== null) return false;
    // The channel decides, and gives nobody anything to do until it has.
    if (row.status === 'created' && isUndecided(row)) return false;
    return await workflows.awaitNextAction(
      row,
      Math.max(ANSWER_WITHIN_MS - (Date.now() - startedAt), NEXT_ACTION_AT_LEAST_MS),
    );
  }

  /**
   * @param order one that exists, or one that comes along.
   * @param startedAt of the request, epoch ms.
   * @throws Refusal with one of `ATTEMPT_REFUSALS`, TemporalUnavailable
   */
  return async (
    merchantId: string,
    order: { readonly id: string } | NewOrder,
    attempt: Attempt,
    startedAt: number,
  ): Promise<Started> => {
    const method = await chooseMethod(merchantId, order, attempt);
    const { payment: row, created } = await insert(merchantId, order, { ...attempt, method }, startedAt);

    const count = metrics.countPayment.bind(undefined, attempt.channel);
    const advanced = await advance(row, startedAt).catch((error: unknown) => {
      count('unavailable');
      throw error;
    });
    const payment = await getPayment(db, row.id);
    if (payment.status === 'failed') {
      count('rejected');
      const said = recordedAnswer(payment);
      const reason = said?.state === 'failed' ? said.reason : undefined;
      throw new Refusal(
        'channel_rejected',
        `${attempt.channel} refused payment ${row.id}: ${reason ?? 'it gave no reason'}`,
      );
    }
    const pending = !advanced || payment.status === 'created' || lacksAction(payment, now());
    count(pending ? 'accepted' : created ? 'created' : 'repeated');
    return { status: pending ? 202 : created ? 201 : 200, payment };
  };
}

/** Its payer could pay, and has nothing to pay with: the old next action has expired, and there is no new one yet. */
function lacksAction(payment: Payment, now: Date): boolean {
  return (
    payment.status === 'paying' &&
    payment.cancelRequestedAt === null &&
    payment.expiresAt > now &&
    !isUndecided(payment) &&
    !hasUsableAction(payment, now)
  );
}

/** What an attempt for an order that exists is refused with, besides what is wrong with the request. */
export const ATTEMPT_REFUSALS = [
  'order_already_paid',
  'order_not_payable',
  'attempt_unresolved',
  'payer_differs',
  'unknown_channel',
  'currency_not_supported',
  'channel_rejected',
  'temporal_unavailable',
] as const;
