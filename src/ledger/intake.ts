import { isDeepStrictEqual } from 'node:util';
import { newPaymentId } from '../domain/ids.ts';
import type { CurrencyCode } from '../domain/money.ts';
import { defaultSubject } from '../domain/payment.ts';
import { Refusal } from '../domain/refusal.ts';
import { isLive } from '../domain/states.ts';
import { isConstraintViolation, json, type LedgerClient, type LedgerTx } from './client.ts';
import { lockOrder } from './order-row.ts';
import type { Order, Payment } from './rows.ts';
import { hasUnsettledMoney, isUndecided } from './snapshot.ts';
import { note } from './timeline.ts';
import { transaction } from './turns.ts';

/** How orders and payments come into being. */

export interface NewOrder {
  readonly id: string;
  /** Minor units. */
  readonly amount: number;
  readonly currency: CurrencyCode;
  readonly subject: string;
  readonly metadata: Readonly<Record<string, string>>;
  readonly expiresInSeconds: number | undefined;
}

export interface NewPayment {
  readonly channel: string;
  readonly method: string;
  readonly payer: { readonly id?: string; readonly ip?: string } | undefined;
  readonly returnUrl: string | undefined;
  readonly metadata: Readonly<Record<string, string>>;
  readonly expiresInMs: number;
  /** How many attempts the order may have had; absent: any number. */
  readonly attemptsAtMost?: number;
  /** The order's other live attempts that the channel was asked about for this one. */
  readonly askedAttempts: ReadonlySet<string>;
}

/** The order has live attempts on other channels or methods: they are asked about before a new one is made. */
export class UnaskedAttempts extends Error {
  override readonly name = 'UnaskedAttempts';
  readonly attempts: readonly Payment[];

  constructor(attempts: readonly Payment[]) {
    super(`${attempts.length} live attempts have not been asked about`);
    this.attempts = attempts;
  }
}

/**
 * Creates the order, or returns the one that is there when its content is the same. One that was recovered after a loss
 * of the database is filled with what only the merchant knows.
 * @throws Refusal `order_exists` when an order with this id has other content.
 */
export async function createOrder(
  db: LedgerClient,
  merchantId: string,
  given: NewOrder,
  now: Date,
): Promise<{ order: Order; created: boolean }> {
  return await transaction(db, merchantId, given.id, (tx) => insertOrder(tx, merchantId, given, now));
}

/** The order is locked when its content is compared: it does not change between that and what is made for it. */
async function insertOrder(
  tx: LedgerTx,
  merchantId: string,
  given: NewOrder,
  now: Date,
): Promise<{ order: Order; created: boolean }> {
  // Not a failing INSERT: inside a transaction that would undo everything before it.
  const inserted = await tx.order.createMany({
    data: {
      merchantId,
      id: given.id,
      amount: BigInt(given.amount),
      currency: given.currency,
      subject: given.subject,
      metadata: given.metadata,
      createdAt: now,
      expiresAt:
        given.expiresInSeconds === undefined ? null : new Date(now.getTime() + given.expiresInSeconds * 1000),
    },
    skipDuplicates: true,
  });
  let order = await lockOrder(tx, merchantId, given.id);
  if (order !== null && isUnfilled(order) && (await fillRecovered(tx, merchantId, given)))
    order = await lockOrder(tx, merchantId, given.id);
  // Orders are never deleted.
  if (order === null) throw new Error(`order ${given.id} is gone`);
  const lifetime =
    order.expiresAt === null ? undefined : (order.expiresAt.getTime() - order.createdAt.getTime()) / 1000;
  const same =
    order.amount === BigInt(given.amount) &&
    order.currency === given.currency &&
    order.subject === given.subject &&
    lifetime === given.expiresInSeconds &&
    isDeepStrictEqual(order.metadata, given.metadata);
  if (!same)
    throw new Refusal(
      'order_exists',
      `Order ${given.id} exists with another amount, subject, metadata or expiry.`,
    );
  return { order, created: inserted.count === 1 };
}

/** Its row was lost, and written again without what its payments' workflows do not know. */
export const isUnfilled = ({ recoveredAt, subject }: Order): boolean =>
  recoveredAt !== null && subject === '';

/**
 * Fills subject, metadata and expiry of a recovered order, once. The expiry counts from the order's creation, as far as
 * it is known. @returns true when it did.
 */
async function fillRecovered(
  db: LedgerClient | LedgerTx,
  merchantId: string,
  { id, amount, currency, subject, metadata, expiresInSeconds }: NewOrder,
): Promise<boolean> {
  const filled = await db.$executeRaw`
    UPDATE orders SET subject = ${subject}, metadata = ${JSON.stringify(metadata)}::jsonb,
      expires_at = created_at + ${expiresInSeconds ?? null}::int * interval '1 s', updated_at = now()
    WHERE merchant_id = ${merchantId} AND id = ${id} AND recovered_at IS NOT NULL AND subject = ''
      AND amount = ${BigInt(amount)} AND currency = ${currency}`;
  return filled === 1;
}

/**
 * The transaction behind `POST /v1/payments`: locks the order, checks it, and inserts a payment `created`, or
 * returns the live one for the same order, channel and method.
 * @throws Refusal `order_not_found`, `order_exists`, `order_already_paid`, `order_not_payable`, `attempt_unresolved`.
 * @throws UnaskedAttempts when the order has other live attempts that are not among `askedAttempts`.
 */
export async function startPayment(
  db: LedgerClient,
  merchantId: string,
  order: { readonly id: string } | NewOrder,
  given: NewPayment,
  makeTokenHash: (paymentId: string) => string,
  now: Date,
): Promise<{ payment: Payment; created: boolean }> {
  try {
    return await transaction(db, merchantId, order.id, async (tx) => {
      const locked =
        'amount' in order
          ? (await insertOrder(tx, merchantId, order, now)).order
          : await lockOrder(tx, merchantId, order.id);
      if (locked === null) throw new Refusal('order_not_found', `There is no order ${order.id}.`);
      return await insertPayment(tx, locked, given, makeTokenHash, now);
    });
  } catch (error) {
    // The lost payment that is being cancelled refuses the new one for a moment; the order is filled all the same.
    if (error instanceof Refusal && 'amount' in order) await fillRecovered(db, merchantId, order);
    // The order's lock makes this impossible; should it happen all the same, the index has kept the promise.
    if (!isConstraintViolation(error)) throw error;
    throw new Refusal('attempt_unresolved', 'Another attempt was made at the same moment; ask again.', {
      cause: error,
      retryAfterSeconds: 1,
    });
  }
}

/** Why the order takes no new attempt now, whatever its attempts are; null when it takes one. */
export function refusesAttempts(order: Order, now: Date): Refusal | null {
  const { id, status, paidPaymentId, cancelRequestedAt, expiresAt } = order;
  if (status === 'succeeded' || status === 'refunded')
    return new Refusal('order_already_paid', `Order ${id} was paid by payment ${paidPaymentId}.`);
  if (status === 'cancelled' || status === 'closed')
    return new Refusal('order_not_payable', `Order ${id} is ${status}.`);
  if (cancelRequestedAt !== null) return new Refusal('order_not_payable', `Order ${id} is being cancelled.`);
  if (expiresAt !== null && expiresAt <= now)
    return new Refusal('order_not_payable', `Order ${id} expired at ${expiresAt.toISOString()}.`);
  return null;
}

/** Why this attempt forbids another one, or null when it does not. */
export function forbidsAnother(attempt: Payment): Refusal | null {
  const { id, orderUpdate, channel } = attempt;
  if (!isUndecided(attempt)) return null;
  if (orderUpdate === 'pending' || orderUpdate === 'review')
    return new Refusal('attempt_unresolved', `Payment ${id} has brought money that waits for a decision.`);
  if (hasUnsettledMoney(attempt)) {
    // It is decided over in a moment.
    return new Refusal('attempt_unresolved', `Payment ${id} has brought money that is being settled.`, {
      retryAfterSeconds: 5,
    });
  }
  return new Refusal(
    'attempt_unresolved',
    `${channel} is still deciding on payment ${id}: the payer has acted.`,
  );
}

async function insertPayment(
  tx: LedgerTx,
  order: Order,
  given: NewPayment,
  makeTokenHash: (paymentId: string) => string,
  now: Date,
): Promise<{ payment: Payment; created: boolean }> {
  const attemptsOf = { merchantId: order.merchantId, orderId: order.id };
  // Under the order's lock: an attempt that came meanwhile is asked about like the others.
  const attempts = await tx.payment.findMany({ where: attemptsOf });
  const refusal = refusesAttempts(order, now);
  if (refusal !== null) throw refusal;
  const live = attempts.filter(({ status }) => isLive(status));
  const same = live.find(({ channel, method }) => channel === given.channel && method === given.method);
  const unasked = same === undefined ? live.filter(({ id }) => !given.askedAttempts.has(id)) : [];
  for (const attempt of attempts) {
    // Also by one that has ended: whoever pays again now would pay twice.
    const forbidden = attempt === same || unasked.includes(attempt) ? null : forbidsAnother(attempt);
    if (forbidden !== null) throw forbidden;
  }
  if (same !== undefined) {
    if (same.expiresAt > now && same.cancelRequestedAt === null) return { payment: same, created: false };
    throw new Refusal('attempt_unresolved', `Payment ${same.id} is ending: the channel is being asked.`, {
      retryAfterSeconds: 5,
    });
  }
  if (attempts.length >= (given.attemptsAtMost ?? Number.POSITIVE_INFINITY)) {
    throw new Refusal('order_not_payable', `Order ${order.id} has had ${attempts.length} attempts.`);
  }
  if (unasked.length > 0) throw new UnaskedAttempts(unasked);
  const account = await tx.channelAccount.findUnique({
    where: { merchantId_channel: { merchantId: order.merchantId, channel: given.channel } },
  });
  if (account === null)
    throw new Refusal('unknown_channel', `This merchant has no account at channel ${given.channel}.`);

  const id = newPaymentId();
  const expiresAt = new Date(
    Math.min(now.getTime() + given.expiresInMs, order.expiresAt?.getTime() ?? Number.POSITIVE_INFINITY),
  );
  const payment = await tx.payment.create({
    data: {
      id,
      ...attemptsOf,
      channel: given.channel,
      channelAccountId: account.id,
      method: given.method,
      amount: order.amount,
      currency: order.currency,
      subject: order.subject || defaultSubject(order.id),
      clientTokenHash: makeTokenHash(id),
      metadata: given.metadata,
      returnUrl: given.returnUrl ?? null,
      createdAt: now,
      expiresAt,
      ...(given.payer === undefined ? {} : { payer: json(given.payer) }),
    },
  });
  await note(tx, id, 'transition', `Created for order ${order.id}.`, now);
  return { payment, created: true };
}
