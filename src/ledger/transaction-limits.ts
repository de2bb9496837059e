import { FairSlots } from '../domain/fair-slots.ts';
import type { LedgerClient, LedgerTx } from './client.ts';

/**
 * Limits the number of concurrent transactions, before they take a database connection. Nearly all transactions begin
 * with the lock of an order. Without limits, the transactions that wait for one order, or the transactions of one
 * merchant, could hold every connection of the pool. Therefore a process runs only one transaction of each order at a
 * time, and at most `TRANSACTIONS_AT_ONCE` transactions of each merchant. A transaction that waits for a slot holds no
 * connection and no lock.
 */

/** The size of a ledger client's connection pool. */
const CONNECTIONS = 20;
/** How many transactions of one merchant run at the same time. */
export const TRANSACTIONS_AT_ONCE = 10;
/**
 * By default, at most this number of transactions of one merchant may wait in a process. `limitWaiting` sets a lower
 * number if waiting transactions hold a scarce resource.
 */
const WAITING_AT_MOST = 200;
const WAIT_MS = 3_000;

/**
 * Thrown if too many transactions of the merchant are running, or if another transaction of the order takes too long.
 * It is safe to repeat the call.
 */
export class TooBusy extends Error {
  override readonly name = 'TooBusy';
}

interface Waiter {
  readonly merchantId: string;
  readonly orderKey: string | null;
  readonly start: () => void;
}

class TransactionLimits {
  readonly #slots = new FairSlots(CONNECTIONS, TRANSACTIONS_AT_ONCE);
  /** Orders that have a running transaction. */
  readonly #orders = new Set<string>();
  /** The waiting transactions, in order of arrival. */
  readonly #waiting = new Set<Waiter>();
  waitingAtMost = WAITING_AT_MOST;

  /** @throws TooBusy */
  async run<T>(
    merchantId: string,
    orderId: string | null,
    work: () => Promise<T>,
    mayWait: boolean,
  ): Promise<T> {
    const orderKey = orderId === null ? null : `${merchantId}/${orderId}`;
    if (!this.#take(merchantId, orderKey)) {
      if (!mayWait)
        throw new TooBusy(
          'Another change of this order is running, or too many changes of its merchant are.',
        );
      await this.#wait(merchantId, orderKey);
    }
    try {
      return await work();
    } finally {
      this.#slots.give(merchantId);
      if (orderKey !== null) this.#orders.delete(orderKey);
      for (const waiter of [...this.#waiting]) {
        if (this.#take(waiter.merchantId, waiter.orderKey)) waiter.start();
      }
    }
  }

  #take(merchantId: string, orderKey: string | null): boolean {
    if (orderKey !== null && this.#orders.has(orderKey)) return false;
    if (!this.#slots.take(merchantId)) return false;
    if (orderKey !== null) this.#orders.add(orderKey);
    return true;
  }

  async #wait(merchantId: string, orderKey: string | null): Promise<void> {
    const ofMerchant = [...this.#waiting].filter((waiter) => waiter.merchantId === merchantId);
    if (ofMerchant.length >= this.waitingAtMost)
      throw new TooBusy('Too many changes of this merchant are running.');
    await new Promise<void>((resolve, reject) => {
      const waiter: Waiter = {
        merchantId,
        orderKey,
        start: () => {
          clearTimeout(timer);
          this.#waiting.delete(waiter);
          resolve();
        },
      };
      const timer = setTimeout(() => {
        this.#waiting.delete(waiter);
        reject(new TooBusy(`The changes of this ${orderKey === null ? 'merchant' : 'order'} take too long.`));
      }, WAIT_MS);
      this.#waiting.add(waiter);
    });
  }
}

const limits = new WeakMap<LedgerClient, TransactionLimits>();

function limitsOf(db: LedgerClient): TransactionLimits {
  const known = limits.get(db) ?? new TransactionLimits();
  limits.set(db, known);
  return known;
}

/**
 * @param atMost how many transactions of one merchant may wait in this process. Set a lower number if each waiting
 *   transaction holds a scarce resource, such as an activity's slot.
 */
export function limitWaiting(db: LedgerClient, atMost: number): void {
  limitsOf(db).waitingAtMost = atMost;
}

/**
 * Runs the work when a slot for a transaction is free. Use this for work that may wait for a lock in the database.
 * Calls must not be nested.
 * @param orderId the order that the work locks; null if the work locks no order.
 * @param mayWait false for a caller that holds a scarce resource. The work then runs only if a slot is free
 *   immediately.
 * @throws TooBusy
 */
export async function withinLimits<T>(
  db: LedgerClient,
  merchantId: string,
  orderId: string | null,
  work: () => Promise<T>,
  mayWait = true,
): Promise<T> {
  return await limitsOf(db).run(merchantId, orderId, work, mayWait);
}

/**
 * Runs a transaction when a slot is free, as `withinLimits` does for other work.
 * @throws TooBusy
 */
export async function transaction<T>(
  db: LedgerClient,
  merchantId: string,
  orderId: string | null,
  work: (tx: LedgerTx) => Promise<T>,
  mayWait = true,
): Promise<T> {
  return await withinLimits(db, merchantId, orderId, () => db.$transaction(work), mayWait);
}

/** A payment with its merchant and its order. The merchant and the order of a payment never change. */
export interface OwnedPayment {
  readonly paymentId: string;
  readonly merchantId: string;
  readonly orderId: string;
}

/**
 * Finds the payment's merchant and order, whose slots a change of the payment uses. This function is for callers that
 * know only the payment's id.
 * @throws Prisma's P2025 if the payment does not exist.
 */
export async function ownerOf(db: LedgerClient, payment: string | OwnedPayment): Promise<OwnedPayment> {
  if (typeof payment !== 'string') return payment;
  const { merchantId, orderId } = await db.payment.findUniqueOrThrow({
    where: { id: payment },
    select: { merchantId: true, orderId: true },
  });
  return { paymentId: payment, merchantId, orderId };
}
