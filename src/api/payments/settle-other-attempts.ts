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
 * How long an answer of the channel counts for a request with a client token. Needed because no attempt is created
 * while the channel decides, so the limit on attempts per order does not limit these requests.
 */
const ANSWER_FRESH_FOR_PAYER_MS = 10_000;

/**
 * Changes an order after its live attempts have been queried (point 9 of "The way of a payment" in
 * docs/architecture.md). Unpaid attempts are closed. If the channel of an attempt does not answer in time, the attempt
 * stays live and is still queried on schedule. `act` then decides whether the change may go on.
 * @param startedAt when the request started, epoch ms.
 * @param by why the attempts are cancelled, for their timelines.
 * @param act throws UnaskedAttempts for live attempts in its way that have not been queried yet.
 * @throws Refusal `order_already_paid`, `attempt_unresolved`, and what `act` throws.
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
 * For requests with a client token: refuses without a query and without a lock while an attempt is undecided. An
 * attempt counts as undecided if the channel said so in the last 10 s, or if the last call to the channel failed. The
 * scheduled queries go on.
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
  // If the answer reports money, wait until it is settled: then it is known whether it pays the order.
  const asked = await changes.until(paymentKey(id), {
    read,
    done: (payment) => !hasUnsettledMoney(payment),
    timeoutMs: left(),
  });
  refuse(asked);
  // No answer means neither paid nor unpaid, so the attempt stays live and is queried on schedule.
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

/** @throws Refusal if this attempt forbids another attempt of its order. */
function refuse(payment: Payment): void {
  const { id, orderId, orderUpdate } = payment;
  if (orderUpdate === 'applied') {
    throw new Refusal('order_already_paid', `Order ${orderId} was paid by payment ${id}.`);
  }
  const refusal = forbidsAnother(payment);
  if (refusal !== null) throw refusal;
}
