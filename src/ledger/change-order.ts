import { isDeepStrictEqual } from 'node:util';
import { sayAmount } from '../domain/money.ts';
import { Refusal } from '../domain/refusal.ts';
import { isLive } from '../domain/states.ts';
import type { LedgerClient } from './client.ts';
import { forbidsAnother, type NewOrder, refusesAttempts, UnaskedAttempts } from './intake.ts';
import { lockOrder } from './order-row.ts';
import type { Order, Payment } from './rows.ts';
import { note } from './timeline.ts';
import { transaction } from './turns.ts';

/** How an order that is not paid changes. */

/** What is to change; what is absent or undefined stays. */
export type OrderChange = {
  /** `metadata` replaces all that was there; `expiresInSeconds` counts from the order's creation, as it did then. */
  readonly [Name in 'amount' | 'subject' | 'metadata' | 'expiresInSeconds']?: NewOrder[Name] | undefined;
};

/**
 * Changes an order that takes payments. What holds already is no change: a change that is asked for again does nothing,
 * whatever became of the order meanwhile. The amount changes only when no attempt can be paid and none has brought
 * money that is not decided over, so that whatever is paid from then on is a late success for another amount.
 * @param askedAttempts the live attempts that the channel was asked about, to end them, for this change.
 * @throws Refusal `order_not_found`, `order_already_paid`, `order_not_payable`, `attempt_unresolved`, `invalid_request`
 *   when it would end in the past.
 * @throws UnaskedAttempts when the amount changes and the order has live attempts that are not among `askedAttempts`.
 */
export async function changeOrder(
  db: LedgerClient,
  merchantId: string,
  orderId: string,
  change: OrderChange,
  askedAttempts: ReadonlySet<string>,
  now: Date,
): Promise<void> {
  await transaction(db, merchantId, orderId, async (tx) => {
    const order = await lockOrder(tx, merchantId, orderId);
    if (order === null) throw new Refusal('order_not_found', `There is no order ${orderId}.`);
    const news = differing(order, change);
    if (Object.keys(news).length === 0) return;
    const refusal = refusesAttempts(order, now);
    if (refusal !== null) throw refusal;
    if (news.expiresAt !== undefined) requireAhead(order, news.expiresAt, now);
    const attempts = await tx.payment.findMany({ where: { merchantId, orderId } });
    if (news.amount !== undefined) requireNonePayable(attempts, askedAttempts);
    if (news.expiresAt !== undefined) requireNotBefore(attempts, news.expiresAt, now);
    await tx.order.update({ where: { merchantId_id: { merchantId, id: orderId } }, data: news });
    if (news.amount === undefined) return;
    const [before, after] = [order.amount, news.amount].map((amount) => sayAmount(amount, order.currency));
    for (const { id } of attempts)
      await note(
        tx,
        id,
        'order',
        `The amount of order ${orderId} was changed from ${before} to ${after}.`,
        now,
      );
  });
}

/** The columns that are to be other than they are. */
function differing(order: Order, { amount, subject, metadata, expiresInSeconds }: OrderChange) {
  const expiresAt =
    expiresInSeconds === undefined
      ? undefined
      : new Date(order.createdAt.getTime() + expiresInSeconds * 1000);
  return {
    ...(amount === undefined || BigInt(amount) === order.amount ? {} : { amount: BigInt(amount) }),
    ...(subject === undefined || subject === order.subject ? {} : { subject }),
    ...(metadata === undefined || isDeepStrictEqual(metadata, order.metadata) ? {} : { metadata }),
    ...(expiresAt === undefined || expiresAt.getTime() === order.expiresAt?.getTime() ? {} : { expiresAt }),
  };
}

/** @throws Refusal or UnaskedAttempts unless every attempt is over, with all its money decided over. */
function requireNonePayable(attempts: readonly Payment[], asked: ReadonlySet<string>): void {
  const unasked = attempts.filter(({ id, status }) => isLive(status) && !asked.has(id));
  for (const attempt of attempts) {
    const forbidden = unasked.includes(attempt) ? null : forbidsAnother(attempt);
    if (forbidden !== null) throw forbidden;
  }
  if (unasked.length > 0) throw new UnaskedAttempts(unasked);
  const live = attempts.find(({ status }) => isLive(status));
  if (live !== undefined) {
    throw new Refusal(
      'attempt_unresolved',
      `Payment ${live.id} has not ended: ${live.channel} has not said that nobody can pay it any more.`,
    );
  }
}

/** @throws Refusal `invalid_request` */
function requireAhead({ createdAt }: Order, expiresAt: Date, now: Date): void {
  if (expiresAt > now) return;
  const lived = Math.floor((now.getTime() - createdAt.getTime()) / 1000);
  const message = `counts from the order's creation and must be more than the ${lived} seconds since then; cancel the order to end it`;
  throw new Refusal('invalid_request', `expiresInSeconds: ${message}.`, {
    errors: [{ path: 'expiresInSeconds', message }],
  });
}

/** An order outlives what can be paid for it. @throws Refusal `attempt_unresolved` */
function requireNotBefore(attempts: readonly Payment[], expiresAt: Date, now: Date): void {
  for (const attempt of attempts) {
    if (!isLive(attempt.status) || attempt.expiresAt <= expiresAt) continue;
    throw new Refusal(
      'attempt_unresolved',
      `Payment ${attempt.id} can be paid until ${attempt.expiresAt.toISOString()}: the order cannot expire before.`,
      { retryAfterSeconds: Math.max(1, Math.ceil((attempt.expiresAt.getTime() - now.getTime()) / 1000)) },
    );
  }
}
