import { TemporalUnavailable } from '../activities/payment-workflows.ts';
import { Refusal } from '../domain/refusal.ts';
import { isLive, type PaymentStatus } from '../domain/states.ts';
import type { Payment } from '../generated/prisma/client.ts';
import { unsettledMoney } from '../ledger/intake.ts';
import { requestCancel } from '../ledger/payments.ts';
import { hasUnsettledMoney } from '../ledger/snapshot.ts';
import { paymentKey } from './changes.ts';
import type { Api } from './deps.ts';

const SIGNAL_DEADLINE_MS = 1_000;

/**
 * Point 9 of the way of a payment: before an order gets a new attempt, its live ones are asked about. Unpaid ones are
 * closed; one that the channel says nothing of in time is left watched, and the refund of a second success is the net.
 * @param within what is left of the request's budget, in ms.
 * @throws Refusal `order_already_paid`, `attempt_unresolved`.
 */
export async function resolveOtherAttempts(
  api: Api,
  attempts: readonly Payment[],
  within: () => number,
): Promise<void> {
  await Promise.all(attempts.map((attempt) => resolve(api, attempt, within)));
}

async function resolve(api: Api, attempt: Payment, within: () => number): Promise<void> {
  const { db, workflows, changes, now } = api;
  const { id } = attempt;
  const answered = await workflows.askChannel(attempt, Math.max(within(), 1)).catch((error: unknown) => {
    if (error instanceof TemporalUnavailable) return false;
    throw error;
  });
  const read = () => db.payment.findUniqueOrThrow({ where: { id } });
  // Money that the answer brought is settled in a moment, and then it is known what became of the order.
  const asked = await changes.until(paymentKey(id), {
    read,
    done: (payment) => !hasUnsettledMoney(payment),
    timeoutMs: within(),
  });
  refuse(asked);
  // Silence is neither paid nor unpaid: the attempt stays watched.
  if (!answered || !isLive(asked.status as PaymentStatus)) return;

  await requestCancel(db, id, 'a new attempt of its order', now());
  await workflows.cancel(asked, SIGNAL_DEADLINE_MS).catch((error: unknown) => {
    if (!(error instanceof TemporalUnavailable)) throw error;
  });
  const ended = await changes.until(paymentKey(id), {
    read,
    done: (payment) =>
      !hasUnsettledMoney(payment) &&
      (!isLive(payment.status as PaymentStatus) || payment.channelState === 'processing'),
    timeoutMs: within(),
  });
  refuse(ended);
}

/** @throws Refusal when this attempt forbids another one. */
function refuse(payment: Payment): void {
  const { id, orderId, status, orderUpdate, channelState, channel } = payment;
  if (hasUnsettledMoney(payment)) throw unsettledMoney(payment);
  if (orderUpdate === 'applied') {
    throw new Refusal('order_already_paid', `Order ${orderId} was paid by payment ${id}.`);
  }
  if (orderUpdate === 'review' || orderUpdate === 'pending') {
    throw new Refusal('attempt_unresolved', `Payment ${id} has brought money that waits for a decision.`);
  }
  if (isUndecided({ status, channelState })) {
    throw new Refusal(
      'attempt_unresolved',
      `${channel} is still deciding on payment ${id}: the payer has acted.`,
    );
  }
}

/** True when the payer has acted and the channel has not decided: nobody is to pay again meanwhile. */
export function isUndecided({ status, channelState }: Pick<Payment, 'status' | 'channelState'>): boolean {
  return isLive(status as PaymentStatus) && channelState === 'processing';
}
