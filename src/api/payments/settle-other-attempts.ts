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

/** Nothing is made while a channel decides, so that no count of attempts ends the asking of whoever has a token. */
const PAYERS_ASK_AGAIN_MS = 10_000;

/**
 * Point 9 of the way of a payment: does something to an order once its live attempts have been asked about. Unpaid ones
 * are closed; one that the channel says nothing of in time is left watched: `act` decides whether it may go on.
 * @param startedAt of the request, epoch ms.
 * @param by what the attempts end for, as their timelines say it.
 * @param act throws UnaskedAttempts for live attempts that stand in its way and are not among those asked.
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
 * For whoever has a token: while the channel was heard not long ago that it is deciding on an attempt, or says nothing
 * since, it is not asked again, and no lock is taken. The schedule asks.
 * @throws Refusal `attempt_unresolved`
 */
export function refuseUndecided(attempts: readonly Payment[], now: Date): void {
  for (const attempt of attempts) {
    const isKnown = attempt.channelErrorSince !== null || isAnsweredWithin(attempt, PAYERS_ASK_AGAIN_MS, now);
    if (isKnown && isLive(attempt.status)) refuse(attempt);
  }
}

async function resolve(api: Api, attempt: Payment, left: () => number, by: string): Promise<void> {
  const { db, workflows, changes, now } = api;
  const { id } = attempt;
  const answered =
    isFresh(attempt, now()) || (await orFallbackWithin(Math.max(left(), 1), false, api.askChannel(attempt)));
  const read = () => db.payment.findUniqueOrThrow({ where: { id } });
  // Money that the answer brought is settled in a moment, and then it is known what became of the order.
  const asked = await changes.until(paymentKey(id), {
    read,
    done: (payment) => !hasUnsettledMoney(payment),
    timeoutMs: left(),
  });
  refuse(asked);
  // Silence is neither paid nor unpaid: the attempt stays watched.
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

/** @throws Refusal when this attempt forbids another one. */
function refuse(payment: Payment): void {
  const { id, orderId, orderUpdate } = payment;
  if (orderUpdate === 'applied') {
    throw new Refusal('order_already_paid', `Order ${orderId} was paid by payment ${id}.`);
  }
  const refusal = forbidsAnother(payment);
  if (refusal !== null) throw refusal;
}
