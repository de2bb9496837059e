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

export interface Payer {
  readonly id?: string;
  readonly ip?: string;
}

export interface NewPayment {
  readonly channel: string;
  readonly method: string;
  readonly payer: Payer | undefined;
  readonly returnUrl: string | undefined;
  readonly metadata: Readonly<Record<string, string>> | undefined;
  readonly expiresInMs: number;
  /**
   * Payer, `returnUrl` and metadata are those of an earlier attempt, and nobody stated them for this one: a live attempt
   * keeps its own.
   */
  readonly isInherited?: boolean;
  /** How many attempts the order may have had; absent: any number. */
  readonly attemptsAtMost?: number;
  /** The order's live attempts that the channel was asked about for this one. */
  readonly askedAttempts: ReadonlySet<string>;
}

/** The order has live attempts, and none that is handed out: they are asked about before a new one is made. */
export class UnaskedAttempts extends Error {
  override readonly name = 'UnaskedAttempts';
  readonly attempts: readonly Payment[];

  constructor(attempts: readonly Payment[]) {
    super(`${attempts.length} live attempts have not been asked about`);
    this.attempts = attempts;
  }
}

/**
 * An attempt with less time left is not handed out again when a new one would end later: a payer needs about as long to
 * open the wallet and to pay.
 */
const TIME_TO_PAY_MS = 30_000;

/**
 * Creates the order, or returns the one that is there when its content is the same. How long it lives is not content.
 * One that was recovered after a loss of the database is filled with what only the merchant knows.
 * @throws Refusal `order_exists`, with the fields that differ, when an order with this id has other content.
 */
export async function createOrder(
  db: LedgerClient,
  merchantId: string,
  given: NewOrder,
  now: Date,
): Promise<{ order: Order; created: boolean }> {
  return await transaction(db, merchantId, given.id, (tx) => insertOrder(tx, merchantId, given, now));
}

/**
 * The order is locked when its content is compared: it does not change between that and what is made for it.
 * @param at what comes before the names of the order's fields in the request.
 */
async function insertOrder(
  tx: LedgerTx,
  merchantId: string,
  given: NewOrder,
  now: Date,
  at: '' | 'order.' = '',
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
  const errors = differences(order, given).map(({ path, message }) => ({ path: `${at}${path}`, message }));
  if (errors.length > 0) {
    const fields = errors.map(({ path }) => path).join(', ');
    throw new Refusal('order_exists', `Order ${given.id} exists, and differs in ${fields}.`, { errors });
  }
  return { order, created: inserted.count === 1 };
}

/** In which fields the order that is there is another one than the one that is asked for. */
function differences(order: Order, given: NewOrder): { path: string; message: string }[] {
  return [
    ...(order.amount === BigInt(given.amount)
      ? []
      : [{ path: 'amount', message: `the order has ${order.amount}` }]),
    ...(order.currency === given.currency
      ? []
      : [{ path: 'currency', message: `the order has ${order.currency}` }]),
    ...(order.subject === given.subject
      ? []
      : [{ path: 'subject', message: `the order has ${JSON.stringify(order.subject)}` }]),
    ...(isDeepStrictEqual(order.metadata, given.metadata)
      ? []
      : [{ path: 'metadata', message: 'the order has other metadata' }]),
  ];
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
 * returns the live one for the same order, channel and method. That one takes the `returnUrl` and the metadata that are
 * stated now; it is not returned when it is ending, or when it `runsOut`.
 * @throws Refusal `order_not_found`, `order_exists`, `order_already_paid`, `order_not_payable`, `attempt_unresolved`,
 *   `payer_differs`.
 * @throws UnaskedAttempts when a new attempt is to be made and the order has live ones that are not among
 *   `askedAttempts`. One of the same channel and method must have ended before the next call.
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
          ? (await insertOrder(tx, merchantId, order, now, 'order.')).order
          : await lockOrder(tx, merchantId, order.id);
      if (locked === null) throw new Refusal('order_not_found', `There is no order ${order.id}.`);
      return await insertPayment(tx, locked, given, makeTokenHash, now);
    });
  } catch (error) {
    // The lost payment that is being cancelled delays or refuses the new one; the order is filled all the same.
    if ((error instanceof Refusal || error instanceof UnaskedAttempts) && 'amount' in order)
      await fillRecovered(db, merchantId, order);
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

/** When an attempt made now would end. Its order's end comes first. @param expiresInMs how long the payer is to have. */
export const expiryOf = (order: Pick<Order, 'expiresAt'>, expiresInMs: number, now: Date): Date =>
  new Date(Math.min(now.getTime() + expiresInMs, order.expiresAt?.getTime() ?? Number.POSITIVE_INFINITY));

/**
 * A payer who gets this attempt now has less than 30 s, and would have longer with a new one: it is closed instead of
 * handed out. One that ends with its order is as good as any.
 * @param renewedUntil when a new one would end.
 */
export function runsOut({ expiresAt }: Pick<Payment, 'expiresAt'>, renewedUntil: Date, now: Date): boolean {
  return expiresAt.getTime() - now.getTime() < TIME_TO_PAY_MS && renewedUntil > expiresAt;
}

/** Nobody is sent to pay it any more: it is over, or is to be cancelled. */
const isEnding = ({ expiresAt, cancelRequestedAt }: Payment, now: Date): boolean =>
  expiresAt <= now || cancelRequestedAt !== null;

/**
 * The live attempt as it is handed out: it takes the `returnUrl` and the metadata that are stated now, and what was not
 * known of its payer. Its expiry, and what is known of its payer, stay.
 */
async function restate(tx: LedgerTx, live: Payment, given: NewPayment, now: Date): Promise<Payment> {
  if (given.isInherited) return live;
  const payer = { ...given.payer, ...(live.payer as Payer | null) };
  const changes = {
    ...(isDeepStrictEqual(payer, live.payer ?? {}) ? {} : { payer: json(payer) }),
    ...(given.returnUrl === undefined || given.returnUrl === live.returnUrl
      ? {}
      : { returnUrl: given.returnUrl }),
    ...(given.metadata === undefined || isDeepStrictEqual(given.metadata, live.metadata)
      ? {}
      : { metadata: given.metadata }),
  };
  const names = Object.keys(changes);
  if (names.length === 0) return live;
  await note(tx, live.id, 'manual', `Asked for again, with a new ${names.join(', ')}.`, now);
  return await tx.payment.update({ where: { id: live.id }, data: changes });
}

/** @throws Refusal `payer_differs` when both name a payer, and not the same one. */
function refuseOtherPayer(live: Payment, payer: Payer | undefined): void {
  const known = (live.payer as Payer | null)?.id;
  if (payer?.id === undefined || known === undefined || payer.id === known) return;
  throw new Refusal(
    'payer_differs',
    `Payment ${live.id} of the same order, channel and method is live, and another payer's. Cancel it first.`,
    { errors: [{ path: 'payer.id', message: `payment ${live.id} has another one` }] },
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
  const isFull = attempts.length >= (given.attemptsAtMost ?? Number.POSITIVE_INFINITY);
  const expiresAt = expiryOf(order, given.expiresInMs, now);
  const same = live.find(({ channel, method }) => channel === given.channel && method === given.method);
  const usable = same !== undefined && !isEnding(same, now) ? same : undefined;
  if (usable !== undefined) refuseOtherPayer(usable, given.payer);
  const handedOut = usable !== undefined && (isFull || !runsOut(usable, expiresAt, now)) ? usable : undefined;
  const unasked = handedOut === undefined ? live.filter(({ id }) => !given.askedAttempts.has(id)) : [];
  for (const attempt of attempts) {
    // Also by one that has ended: whoever pays again now would pay twice.
    const forbidden = attempt === handedOut || unasked.includes(attempt) ? null : forbidsAnother(attempt);
    if (forbidden !== null) throw forbidden;
  }
  if (handedOut !== undefined) return { payment: await restate(tx, handedOut, given, now), created: false };
  if (same !== undefined && (isFull || given.askedAttempts.has(same.id))) {
    throw new Refusal(
      'attempt_unresolved',
      `Payment ${same.id} is ending, and ${same.channel} has not closed it yet.`,
      {
        retryAfterSeconds: 5,
      },
    );
  }
  if (isFull)
    throw new Refusal('order_not_payable', `Order ${order.id} has had ${attempts.length} attempts.`);
  if (unasked.length > 0) throw new UnaskedAttempts(unasked);
  const account = await tx.channelAccount.findUnique({
    where: { merchantId_channel: { merchantId: order.merchantId, channel: given.channel } },
  });
  if (account === null)
    throw new Refusal('unknown_channel', `This merchant has no account at channel ${given.channel}.`);

  const id = newPaymentId();
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
      metadata: given.metadata ?? {},
      returnUrl: given.returnUrl ?? null,
      createdAt: now,
      expiresAt,
      ...(given.payer === undefined ? {} : { payer: json(given.payer) }),
    },
  });
  await note(tx, id, 'transition', `Created for order ${order.id}.`, now);
  return { payment, created: true };
}
