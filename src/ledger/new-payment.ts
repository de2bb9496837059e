import { isDeepStrictEqual } from 'node:util';
import { decideAttempt } from '../domain/attempt.ts';
import { type AccountMode, type MethodDeclaration, type Payer, takesCurrency } from '../domain/channel.ts';
import { newPaymentId } from '../domain/ids.ts';
import { amountFault } from '../domain/limits.ts';
import type { CurrencyCode } from '../domain/money.ts';
import { defaultSubject } from '../domain/payment.ts';
import { Refusal } from '../domain/refusal.ts';
import { type Adoption, isLive } from '../domain/states.ts';
import { Prisma } from '../generated/prisma/client.ts';
import { isConstraintViolation, json, type LedgerClient, type LedgerTx } from './client.ts';
import { visibleTransaction } from './notify.ts';
import { lockOrder } from './order-row.ts';
import { unknownAccount } from './queries.ts';
import {
  type Changes,
  columnsAndValues,
  notesOf,
  ORDERS,
  PAYMENTS,
  type RawRow,
  readRow,
  rowsOf,
  takeOrderLock,
} from './raw-rows.ts';
import type { Order, Payment } from './rows.ts';
import { note } from './timeline.ts';
import { withinLimits } from './transaction-limits.ts';

/** This file creates orders and payments. */

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
  /** The name of the channel account. If it is absent, the merchant's default account at the channel is used. */
  readonly account?: string | undefined;
  /** The mode that the account must have. If it is absent, accounts of any mode can be used. */
  readonly mode?: AccountMode;
  readonly payer: Payer | undefined;
  readonly returnUrl: string | undefined;
  readonly metadata: Readonly<Record<string, string>> | undefined;
  readonly expiresInMs: number;
  /**
   * True if the payer, `returnUrl` and metadata were copied from an earlier attempt. If the request returns a live
   * attempt, that attempt then keeps its own values.
   */
  readonly isInherited?: boolean;
  /**
   * The currencies that the channel accepts, each with its limits for amounts. If this is absent, every currency and
   * every amount is accepted.
   */
  readonly currencies?: MethodDeclaration['currencies'];
  /** The greatest number of attempts that the order may have had. If it is absent, there is no limit. */
  readonly attemptsAtMost?: number;
  /** The order's live attempts that were queried at the channel before this request. */
  readonly askedAttempts: ReadonlySet<string>;
  /** The trade to adopt, if the merchant's own code has created one. If it is absent, nodrop creates a trade. */
  readonly adopt?: { readonly reference: string; readonly as: Adoption } | undefined;
}

/**
 * Thrown if the order has live attempts and none of them can be returned. The caller must query the channel about these
 * attempts before it makes a new attempt.
 */
export class UnaskedAttempts extends Error {
  override readonly name = 'UnaskedAttempts';
  readonly attempts: readonly Payment[];

  constructor(attempts: readonly Payment[]) {
    super(`${attempts.length} live attempts have not been queried`);
    this.attempts = attempts;
  }
}

/**
 * Creates the order, or returns an existing order with the same content. The expiry is not part of the content. If the
 * existing order was recovered, some of its fields were lost with the database. The request fills these fields, because
 * only the merchant knows them.
 * @throws Refusal `order_exists`, with the fields that differ, if an order with this id has other content.
 */
export async function createOrder(
  db: LedgerClient,
  merchantId: string,
  given: NewOrder,
  now: Date,
): Promise<{ order: Order; created: boolean }> {
  return await visibleTransaction(db, merchantId, given.id, (tx) => insertOrder(tx, merchantId, given, now));
}

/**
 * The content of the order is compared under the order's lock. Therefore the order cannot change before the caller uses
 * it.
 */
async function insertOrder(
  tx: LedgerTx,
  merchantId: string,
  given: NewOrder,
  now: Date,
): Promise<{ order: Order; created: boolean }> {
  // A failed INSERT would roll back the whole transaction. Therefore this statement skips an existing order.
  const inserted = await tx.order.createMany({
    data: {
      merchantId,
      ...stated(given, now),
    },
    skipDuplicates: true,
  });
  const order = await filledAsGiven(tx, await lockOrder(tx, merchantId, given.id), given, '');
  return { order, created: inserted.count === 1 };
}

/** The columns of an order whose values the request states. */
const stated = ({ id, amount, currency, subject, metadata, expiresInSeconds }: NewOrder, now: Date) => ({
  ...{ id, amount: BigInt(amount), currency, subject, metadata, createdAt: now },
  expiresAt: expiresInSeconds === undefined ? null : new Date(now.getTime() + expiresInSeconds * 1000),
});

/**
 * Returns the locked order if its content equals the content in the request. If the order was recovered, its missing
 * fields are first set from the request.
 * @param at the prefix of the order's field names in the request.
 * @throws Refusal `order_exists`
 */
async function filledAsGiven(
  tx: LedgerTx,
  locked: Order | null,
  given: NewOrder,
  at: '' | 'order.',
): Promise<Order> {
  let order = locked;
  if (order !== null && isUnfilled(order) && (await fillRecovered(tx, order.merchantId, given)))
    order = await tx.order.findUnique({
      where: { merchantId_id: { merchantId: order.merchantId, id: order.id } },
    });
  // The order must exist at this point, because orders are never deleted.
  if (order === null) throw new Error(`order ${given.id} does not exist`);
  const errors = differences(order, given).map(({ path, message }) => ({ path: `${at}${path}`, message }));
  if (errors.length > 0) {
    const fields = errors.map(({ path }) => path).join(', ');
    throw new Refusal('order_exists', `Order ${given.id} exists, and differs in ${fields}.`, { errors });
  }
  return order;
}

/**
 * Compares an existing order with the order in a request. If the existing order was recovered, its missing fields are
 * first set from the request.
 * @throws Refusal `order_exists`
 */
export async function requireOrderAsGiven(
  db: LedgerClient,
  merchantId: string,
  given: NewOrder,
): Promise<void> {
  await visibleTransaction(db, merchantId, given.id, async (tx) => {
    await filledAsGiven(tx, await lockOrder(tx, merchantId, given.id), given, 'order.');
  });
}

/** Lists the fields in which the existing order differs from the requested order. */
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

/**
 * True for a recovered order that is still incomplete. Its row was lost, and the payments' workflows do not know all of
 * its fields.
 */
export const isUnfilled = ({ recoveredAt, subject }: Order): boolean =>
  recoveredAt !== null && subject === '';

/**
 * Sets the subject, metadata and expiry of a recovered order once. The expiry counts from the creation time in the
 * order's row.
 * @returns true if the function has set them.
 */
async function fillRecovered(
  tx: LedgerTx,
  merchantId: string,
  { id, amount, currency, subject, metadata, expiresInSeconds }: NewOrder,
): Promise<boolean> {
  const order = await tx.order.findUnique({ where: { merchantId_id: { merchantId, id } } });
  if (order === null || !isUnfilled(order)) return false;
  const { count } = await tx.order.updateMany({
    where: { merchantId, id, recoveredAt: { not: null }, subject: '', amount: BigInt(amount), currency },
    data: {
      subject,
      metadata,
      expiresAt:
        expiresInSeconds === undefined ? null : new Date(order.createdAt.getTime() + expiresInSeconds * 1000),
    },
  });
  return count === 1;
}

/**
 * Does the ledger's part of `POST /v1/payments`. The function inserts a payment with status `created`, or returns a
 * live payment of the order with the new `returnUrl` and metadata. The live payment must have the same channel and
 * method, and the same account if the request names one. It is not returned if it is ending, or if it leaves the payer
 * too little time (`runsOut`). A new order is inserted together with its payment in one statement, because no other
 * transaction can have locked the order. An existing order is locked first and then read with its attempts.
 * @throws Refusal `unknown_channel`, `unknown_account`, `currency_not_supported`, `amount_not_supported`,
 *   `order_not_found`, `order_exists`, `order_already_paid`, `order_not_payable`, `attempt_unresolved`,
 *   `payer_differs`.
 * @throws UnaskedAttempts if a new attempt would be made and the order has live attempts that are not among
 *   `askedAttempts`. An attempt with the same channel and method must have ended before the next call.
 */
export async function insertPayment(
  db: LedgerClient,
  merchantId: string,
  order: { readonly id: string } | NewOrder,
  given: NewPayment,
  makeTokenHash: (paymentId: string) => string,
  now: Date,
): Promise<{ payment: Payment; created: boolean }> {
  const { currencies = 'any' } = given;
  try {
    const takes = (of: NewOrder) =>
      takesCurrency({ currencies }, of.currency) &&
      amountFault({ currencies }, of.currency, of.amount) === undefined;
    if ('amount' in order && takes(order)) {
      const status = given.adopt === undefined ? ('unpaid' as const) : ('paying' as const);
      const fresh = { ...stated(order, now), merchantId, status };
      const made = await withinLimits(db, merchantId, order.id, () =>
        writeAttempt(db, fresh, decideAttempt(fresh, [], given, now), given, makeTokenHash, now, true),
      );
      // No notification is needed for a new order, because no request can wait for an order that did not exist.
      if (made !== null) return { payment: made, created: true };
    }
    return await visibleTransaction(db, merchantId, order.id, async (tx, written) => {
      await takeOrderLock(tx, merchantId, order.id);
      const read = await readForAttempt(tx, merchantId, order.id, given);
      // A live payment can be returned even if its account has been disabled since the payment's creation.
      const mayHandOut = read.attempts.some(
        (one) => isLive(one.status) && one.channel === given.channel && one.method === given.method,
      );
      if (!read.hasAccount && !mayHandOut) throw await unknownAccount(tx, merchantId, given);
      const currency = 'amount' in order ? order.currency : read.order?.currency;
      if (currency === undefined) throw new Refusal('order_not_found', `There is no order ${order.id}.`);
      if (!takesCurrency({ currencies }, currency)) {
        throw new Refusal(
          'currency_not_supported',
          `${given.channel} accepts ${Object.keys(currencies).join(', ')}, not ${currency}.`,
        );
      }
      const fault = amountFault(
        { currencies },
        currency,
        'amount' in order ? order.amount : Number(read.order?.amount),
      );
      if (fault !== undefined) {
        const errors = 'amount' in order ? { errors: [{ path: 'order.amount', message: fault }] } : {};
        throw new Refusal(
          'amount_not_supported',
          `The amount of order ${order.id} ${fault} for ${given.channel} in ${currency}.`,
          errors,
        );
      }
      const locked =
        'amount' in order ? await filledAsGiven(tx, read.order, order, 'order.') : (read.order as Order);
      const adopted = read.attempts.find((one) => isAdoptedAs(one, given));
      if (adopted !== undefined) return { payment: adopted, created: false };
      const decision = decideAttempt(locked, read.attempts, given, now);
      if ('unasked' in decision) throw new UnaskedAttempts(decision.unasked);
      if ('handedOut' in decision)
        return { payment: await restate(tx, decision.handedOut, given, now), created: false };
      const made = await writeAttempt(tx, locked, decision, given, makeTokenHash, now, false);
      if (made === null) throw await unknownAccount(tx, merchantId, given);
      if (given.adopt !== undefined && locked.status === 'unpaid') {
        const where = { merchantId_id: { merchantId, id: locked.id } };
        await tx.order.update({ where, data: { status: 'paying' } });
      }
      written.add('payment');
      return { payment: made, created: true };
    });
  } catch (error) {
    // The request may be refused because an earlier payment of the order is still ending. The missing fields of a
    // recovered order are set even if the request is refused.
    if ((error instanceof Refusal || error instanceof UnaskedAttempts) && 'amount' in order) {
      const there = await db.order.findUnique({ where: { merchantId_id: { merchantId, id: order.id } } });
      // If this fails, for example with TooBusy, the next request sets the fields. The caller gets the refusal anyway.
      if (there !== null && isUnfilled(there))
        await visibleTransaction(db, merchantId, order.id, (tx) =>
          fillRecovered(tx, merchantId, order),
        ).catch(() => undefined);
    }
    // The order's lock should prevent two conflicting attempts. If they conflict anyway, the unique index has prevented
    // the second payment.
    if (!isConstraintViolation(error)) throw error;
    if (given.adopt !== undefined) {
      const taken = `Trade ${given.adopt.reference} was adopted for another order at the same moment.`;
      throw new Refusal('adopt_taken', taken, { cause: error });
    }
    throw new Refusal(
      'attempt_unresolved',
      'Another attempt was made at the same moment; retry the request.',
      {
        cause: error,
        retryAfterSeconds: 1,
      },
    );
  }
}

/** True if an earlier identical request has adopted this payment's trade. */
const isAdoptedAs = (one: Payment, { adopt, channel, account }: NewPayment): boolean =>
  adopt !== undefined &&
  one.adopted !== null &&
  one.reference === adopt.reference &&
  one.channel === channel &&
  (account === undefined || one.account === account);

/**
 * Reads, under the order's lock, the order, its attempts, and whether the merchant has an account for the new attempt.
 */
async function readForAttempt(
  tx: LedgerTx,
  merchantId: string,
  orderId: string,
  given: NewPayment,
): Promise<{ order: Order | null; attempts: Payment[]; hasAccount: boolean }> {
  const [read] = await tx.$queryRaw<{ order: RawRow | null; attempts: RawRow[]; hasAccount: boolean }[]>`
    SELECT
      (SELECT to_jsonb(orders) FROM orders WHERE merchant_id = ${merchantId} AND id = ${orderId}) AS order,
      (SELECT COALESCE(jsonb_agg(to_jsonb(payments)), '[]') FROM payments
        WHERE merchant_id = ${merchantId} AND order_id = ${orderId}) AS attempts,
      EXISTS (${accountFor(merchantId, given)}) AS "hasAccount"`;
  const { order = null, attempts = [], hasAccount = false } = read ?? {};
  return {
    order: order && readRow(ORDERS, order),
    attempts: attempts.map((raw) => readRow(PAYMENTS, raw)),
    hasAccount,
  };
}

/** Selects the account for new trades: the account that the request names, or else the merchant's default account. */
const accountFor = (merchantId: string, { channel, account, mode }: NewPayment) => Prisma.sql`
  SELECT id, name FROM channel_accounts
  WHERE merchant_id = ${merchantId} AND channel = ${channel} AND disabled_at IS NULL
    AND ${account === undefined ? Prisma.sql`is_merchant_default` : Prisma.sql`name = ${account}`}
    AND ${mode === undefined ? Prisma.sql`true` : Prisma.sql`mode = ${mode}`}`;

/**
 * Updates the live attempt that the request returns. The attempt gets the new `returnUrl` and metadata. Missing payer
 * fields are added only before nodrop requests the trade from the channel, so that a repeated request for the trade is
 * identical. The expiry and the known payer fields do not change.
 */
async function restate(tx: LedgerTx, live: Payment, given: NewPayment, now: Date): Promise<Payment> {
  if (given.isInherited) return live;
  const payer = { ...given.payer, ...(live.payer as Payer | null) };
  // A process that requests a trade from the channel does not take the order's lock. Therefore another process can
  // request the trade at any time.
  const takesPayer =
    !isDeepStrictEqual(payer, live.payer ?? {}) &&
    (
      await tx.payment.updateMany({
        where: { id: live.id, createAskedAt: null },
        data: { payer: json(payer) },
      })
    ).count === 1;
  const changes = {
    ...(takesPayer ? { payer: json(payer) } : {}),
    ...(given.returnUrl === undefined || given.returnUrl === live.returnUrl
      ? {}
      : { returnUrl: given.returnUrl }),
    ...(given.metadata === undefined || isDeepStrictEqual(given.metadata, live.metadata)
      ? {}
      : { metadata: given.metadata }),
  };
  const names = Object.keys(changes);
  if (names.length === 0) return live;
  await note(tx, live.id, 'manual', `Requested again, with a new ${names.join(', ')}.`, now);
  return await tx.payment.update({ where: { id: live.id }, data: changes });
}

/**
 * Writes a new attempt and its timeline entry in one statement. If the order is new, the same statement writes the
 * order.
 * @returns null if the new order exists already, or if the merchant has no account for the attempt. In both cases
 *   nothing is written.
 */
async function writeAttempt(
  db: LedgerClient | LedgerTx,
  order: Pick<Order, 'merchantId' | 'id' | 'amount' | 'currency' | 'subject'> & Changes<Order>,
  { expiresAt }: { readonly expiresAt: Date },
  given: NewPayment,
  makeTokenHash: (paymentId: string) => string,
  now: Date,
  isNewOrder: boolean,
): Promise<Payment | null> {
  const id = newPaymentId();
  const payment = columnsAndValues(PAYMENTS, {
    id,
    merchantId: order.merchantId,
    orderId: order.id,
    channel: given.channel,
    method: given.method,
    amount: order.amount,
    currency: order.currency,
    subject: order.subject || defaultSubject(order.id),
    clientTokenHash: makeTokenHash(id),
    metadata: given.metadata ?? {},
    returnUrl: given.returnUrl ?? null,
    createdAt: now,
    updatedAt: now,
    expiresAt,
    ...(given.payer === undefined ? {} : { payer: given.payer }),
    ...(given.adopt === undefined
      ? {}
      : {
          status: 'paying' as const,
          reference: given.adopt.reference,
          adopted: given.adopt.as,
          // The process that adopts the trade may die before it starts the payment's workflow. In that case the sweep
          // starts the workflow, because `noticedAt` and `lastQueryDueAt` are set. The sweep repeats this until the
          // channel has answered a query of the workflow.
          noticedAt: now,
          lastQueryDueAt: now,
        }),
  });
  const detail =
    given.adopt === undefined
      ? `Created for order ${order.id}.`
      : `Adopted for order ${order.id}: trade ${given.adopt.reference}, ${given.adopt.as}.`;
  const notes = [{ kind: 'transition' as const, detail, at: now, data: {} }];
  const newOrder = columnsAndValues(ORDERS, { ...order, updatedAt: now });
  // If another transaction is inserting the same order, this INSERT waits for that transaction. ON CONFLICT avoids an
  // error in that case.
  const payable = isNewOrder
    ? Prisma.sql`INSERT INTO orders (${newOrder.columns}) SELECT ${newOrder.values} FROM account
        ON CONFLICT DO NOTHING RETURNING id`
    : Prisma.sql`SELECT`;
  const [made] = await rowsOf<{ payment: RawRow }>(
    db,
    Prisma.sql`
      WITH account AS (${accountFor(order.merchantId, given)}), payable AS (${payable}),
      made AS (
        INSERT INTO payments (${payment.columns}, channel_account_id, account)
        SELECT ${payment.values}, account.id, account.name FROM account, payable RETURNING *, id AS payment_id
      ), noted AS (${notesOf(Prisma.sql`made`, notes)})
      SELECT to_jsonb(made) - 'payment_id' AS payment FROM made`,
  );
  return made === undefined ? null : readRow(PAYMENTS, made.payment);
}
