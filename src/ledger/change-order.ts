import { isDeepStrictEqual } from 'node:util';
import { forbidsAnother, refusesAttempts } from '../domain/attempt.ts';
import { amountText } from '../domain/money.ts';
import { Refusal } from '../domain/refusal.ts';
import { isLive } from '../domain/states.ts';
import type { LedgerClient } from './client.ts';
import { isUnfilled, type NewOrder, UnaskedAttempts } from './new-payment.ts';
import { visibleTransaction } from './notify.ts';
import { lockOrder } from './order-row.ts';
import type { Order, Payment } from './rows.ts';
import { note } from './timeline.ts';

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
 *   when it would end in the past or before a live attempt, or when more than the amount of an order changes that was
 *   recovered and not filled yet.
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
  await visibleTransaction(db, merchantId, orderId, async (tx) => {
    const order = await lockOrder(tx, merchantId, orderId);
    if (order === null) throw new Refusal('order_not_found', `There is no order ${orderId}.`);
    const newEvents = differing(order, change);
    if (Object.keys(newEvents).length === 0) return;
    const refusal = refusesAttempts(order, now);
    if (refusal !== null) throw refusal;
    if (isUnfilled(order)) requireAmountAlone(newEvents);
    if (newEvents.expiresAt !== undefined) requireAhead(order, newEvents.expiresAt, now);
    const attempts = await tx.payment.findMany({ where: { merchantId, orderId } });
    if (newEvents.amount !== undefined) requireNonePayable(attempts, askedAttempts);
    if (newEvents.expiresAt !== undefined) requireNotBefore(order, attempts, newEvents.expiresAt);
    if (newEvents.subject !== undefined) {
      // A payment that an older release made during an upgrade has no subject of its own, and takes its order's.
      await tx.payment.updateMany({
        where: { merchantId, orderId, subject: null },
        data: { subject: order.subject },
      });
    }
    await tx.order.update({ where: { merchantId_id: { merchantId, id: orderId } }, data: newEvents });
    if (newEvents.amount === undefined) return;
    const [before, after] = [order.amount, newEvents.amount].map((amount) =>
      amountText(amount, order.currency),
    );
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
  throw invalidExpiry(
    `counts from the order's creation and must be more than the ${lived} seconds since then; cancel the order to end it`,
  );
}

/** An order outlives what can be paid for it. @throws Refusal `invalid_request` */
function requireNotBefore({ createdAt }: Order, attempts: readonly Payment[], expiresAt: Date): void {
  const live = attempts.filter(({ status }) => isLive(status));
  const last = live.toSorted((a, b) => b.expiresAt.getTime() - a.expiresAt.getTime())[0];
  if (last === undefined || last.expiresAt <= expiresAt) return;
  const least = Math.ceil((last.expiresAt.getTime() - createdAt.getTime()) / 1000);
  throw invalidExpiry(
    `must be at least ${least}, as payment ${last.id} can be paid until ${last.expiresAt.toISOString()}`,
  );
}

const invalidExpiry = (message: string): Refusal =>
  new Refusal('invalid_request', `expiresInSeconds: ${message}.`, {
    errors: [{ path: 'expiresInSeconds', message }],
  });

/**
 * A recovered order that its merchant has not filled yet: a part of its content would pass for all of it, or be replaced
 * by the request that fills it. The amount must be right before that. @throws Refusal `invalid_request`
 */
function requireAmountAlone(newEvents: ReturnType<typeof differing>): void {
  const names = Object.keys(newEvents).filter((name) => name !== 'amount');
  if (names.length === 0) return;
  const message = 'the order was written again after a loss: create it again with its content first';
  const errors = names.map((name) => ({ path: name === 'expiresAt' ? 'expiresInSeconds' : name, message }));
  const fields = errors.map(({ path }) => path).join(', ');
  throw new Refusal('invalid_request', `${fields}: ${message}.`, { errors });
}
