import { forbidsAnother, hasUnsettledMoney, isClosedLater, isUndecided } from '../../domain/attempt.ts';
import { Refusal } from '../../domain/refusal.ts';
import { isLive } from '../../domain/states.ts';
import { UnaskedAttempts } from '../../ledger/new-payment.ts';
import { requestCancel } from '../../ledger/payments.ts';
import type { Payment } from '../../ledger/rows.ts';
import { TemporalUnavailable } from '../../temporal/payment-workflows.ts';
import type { Api } from '../api-deps.ts';
import { paymentKey } from '../changes.ts';
import { ANSWER_WITHIN_MS, SIGNAL_OTHERS_WITHIN_MS } from '../deadlines.ts';
import { orFallbackWithin } from '../http/with-deadline.ts';
import { isAnsweredWithin, isFresh } from './ask-channel.ts';

/**
 * How long nodrop uses an answer of the channel for requests with a client token, before it queries again. This limits
 * the queries that a payer can cause while an attempt is undecided. The limit on attempts per order does not limit
 * these queries, because such a request creates no attempt.
 */
const ANSWER_FRESH_FOR_PAYER_MS = 10_000;

/**
 * Queries the live attempts of an order before the order is changed (point 9 of "The way of a payment" in
 * docs/architecture.md). The function closes unpaid attempts. If a channel does not answer in time, its attempt stays
 * live, and nodrop queries it on schedule. `act` then decides whether the order may be changed anyway.
 * @param startedAt when the request started, epoch ms.
 * @param by the reason for cancelling the attempts, for their timelines
 * @param act changes the order. It throws UnaskedAttempts if the change must wait for a query of live attempts.
 * @throws Refusal `order_already_paid`, `attempt_unresolved`, and every error that `act` throws
 */
export async function onceOthersAreSettled<T>(
  api: Api,
  startedAt: number,
  by: string,
  act: (askedAttempts: ReadonlySet<string>) => Promise<T>,
): Promise<T> {
  const left = () => ANSWER_WITHIN_MS - (Date.now() - startedAt);
  const askedAttempts = new Set<string>();
  for (;;) {
    try {
      return await act(askedAttempts);
    } catch (error) {
      if (!(error instanceof UnaskedAttempts)) throw error;
      await Promise.all(error.attempts.map((attempt) => resolve(api, attempt, left, by)));
      for (const { id } of error.attempts) askedAttempts.add(id);
    }
  }
}

/**
 * Refuses a request with a client token while an attempt of its order is undecided. This check needs no query and no
 * lock. An attempt is undecided if the channel reported it as undecided in the last 10 s, or if the last call to the
 * channel failed. nodrop still queries the attempt on schedule.
 * @throws Refusal `attempt_unresolved`
 */
export function refuseUndecided(attempts: readonly Payment[], now: Date): void {
  for (const attempt of attempts) {
    const isKnown =
      attempt.channelErrorSince !== null || isAnsweredWithin(attempt, ANSWER_FRESH_FOR_PAYER_MS, now);
    if (isKnown && isLive(attempt.status)) refuse(attempt);
  }
}

async function resolve(api: Api, attempt: Payment, left: () => number, by: string): Promise<void> {
  const { db, workflows, changes, now } = api;
  const { id } = attempt;
  const answered =
    isFresh(attempt, now()) || (await orFallbackWithin(Math.max(left(), 1), false, api.askChannel(attempt)));
  const read = () => db.payment.findUniqueOrThrow({ where: { id } });
  // If the channel reports money, wait until this money is settled. Then the ledger shows whether the money pays the
  // order.
  const asked = await changes.until(paymentKey(id), {
    read,
    done: (payment) => !hasUnsettledMoney(payment),
    timeoutMs: left(),
  });
  refuse(asked);
  // The channel gave no answer, so the attempt may be paid or unpaid. The attempt stays live, and nodrop queries it on
  // schedule.
  if (!answered || !isLive(asked.status)) return;

  await requestCancel(db, id, by, now());
  await workflows.cancel(asked, SIGNAL_OTHERS_WITHIN_MS).catch((error: unknown) => {
    if (!(error instanceof TemporalUnavailable)) throw error;
  });
  const ended = await changes.until(paymentKey(id), {
    read,
    done: (payment) =>
      !hasUnsettledMoney(payment) &&
      (!isLive(payment.status) || isUndecided(payment) || isClosedLater(payment, now())),
    timeoutMs: left(),
  });
  refuse(ended);
}

/** @throws Refusal if this attempt forbids another attempt to pay the order */
function refuse(payment: Payment): void {
  const { id, orderId, orderUpdate } = payment;
  if (orderUpdate === 'applied') {
    throw new Refusal('order_already_paid', `Order ${orderId} was paid by payment ${id}.`);
  }
  const refusal = forbidsAnother(payment);
  if (refusal !== null) throw refusal;
}
