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

/** This file changes orders that have not been paid. */

/** The new values of an order's fields. A field that is absent or undefined keeps its value. */
export type OrderChange = {
  /**
   * `metadata` replaces all stored metadata. `expiresInSeconds` counts from the order's creation, not from the change.
   */
  readonly [Name in 'amount' | 'subject' | 'metadata' | 'expiresInSeconds']?: NewOrder[Name] | undefined;
};

/**
 * Changes an order that accepts payments. A value that equals the stored value is not a change. Therefore a repeated
 * request does nothing, even if the order has been paid or has ended meanwhile. The amount cannot change while an
 * attempt can still be paid, or while received money of an attempt still waits for a decision. Money that arrives after
 * the change is a late success with another amount.
 * @param askedAttempts the ids of the live attempts that the caller has already queried at the channel.
 * @throws Refusal `order_not_found`, `order_already_paid`, `order_not_payable`, `attempt_unresolved`,
 *   `invalid_request`. The code is `invalid_request` if the order would end in the past or before a live attempt. It is
 *   also `invalid_request` if the change concerns an incomplete recovered order and a field other than the amount.
 * @throws UnaskedAttempts if the amount changes and the order has live attempts that are not among `askedAttempts`.
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
    const changed = differing(order, change);
    if (Object.keys(changed).length === 0) return;
    const refusal = refusesAttempts(order, now);
    if (refusal !== null) throw refusal;
    if (isUnfilled(order)) requireAmountAlone(changed);
    if (changed.expiresAt !== undefined) requireAhead(order, changed.expiresAt, now);
    const attempts = await tx.payment.findMany({ where: { merchantId, orderId } });
    if (changed.amount !== undefined) requireNonePayable(attempts, askedAttempts);
    if (changed.expiresAt !== undefined) requireNotBefore(order, attempts, changed.expiresAt);
    if (changed.subject !== undefined) {
      // During an upgrade, a process of an older release can insert a payment without a subject. Such a payment gets
      // the subject that the order had until now.
      await tx.payment.updateMany({
        where: { merchantId, orderId, subject: null },
        data: { subject: order.subject },
      });
    }
    await tx.order.update({ where: { merchantId_id: { merchantId, id: orderId } }, data: changed });
    if (changed.amount === undefined) return;
    const [before, after] = [order.amount, changed.amount].map((amount) =>
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

/** Returns the new values of the columns that differ from the stored order. */
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

/**
 * Checks that every attempt has ended and that no received money still waits for a decision.
 * @throws Refusal or UnaskedAttempts if the check fails.
 */
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
      `Payment ${live.id} has not ended: ${live.channel} has not confirmed that it can no longer be paid.`,
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

/**
 * Refuses an expiry that is earlier than the end of a payment that can still be paid. @throws Refusal `invalid_request`
 */
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
 * Refuses changes of a recovered order until its merchant has created the order again. A change could make the order
 * look complete, or the merchant's create request could overwrite the change. Only the amount may change, because it
 * must be correct when the merchant sends that create request.
 * @throws Refusal `invalid_request`
 */
function requireAmountAlone(changed: ReturnType<typeof differing>): void {
  const names = Object.keys(changed).filter((name) => name !== 'amount');
  if (names.length === 0) return;
  const message = 'the order was restored after a data loss: create it again with all of its fields first';
  const errors = names.map((name) => ({ path: name === 'expiresAt' ? 'expiresInSeconds' : name, message }));
  const fields = errors.map(({ path }) => path).join(', ');
  throw new Refusal('invalid_request', `${fields}: ${message}.`, { errors });
}
