import { FairSlots } from '../domain/fair-slots.ts';
import type { LedgerClient, LedgerTx } from './client.ts';

/**
 * Transactions take turns before they take a connection. Nearly all begin with the lock of their order: without turns,
 * those of one order that wait for it, or those of one merchant, would hold every connection of the pool. So an order has
 * one transaction at a time in a process, a merchant a few, and what waits here holds nothing.
 */

/** As many as the pool of a ledger client has. */
const CONNECTIONS = 20;
/** So many transactions of one merchant run at once. */
export const TRANSACTIONS_AT_ONCE = 10;
/** So many of one merchant's wait at most, in a process whose requests hold nothing scarce. */
const WAITING_AT_MOST = 200;
const WAIT_MS = 3_000;

/** Too many transactions of the merchant are under way, or its order's last one takes too long. Asking again is safe. */
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
  /** Orders that have a transaction under way. */
  readonly #orders = new Set<string>();
  /** In the order of coming. */
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
      if (!mayWait) throw new TooBusy('Another change of this order is under way, or many of its merchant.');
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
      throw new TooBusy('Too many changes of this merchant are under way.');
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

/** @param atMost so many of one merchant's transactions wait in this process; each holds an activity's slot, say. */
export function limitWaiting(db: LedgerClient, atMost: number): void {
  limitsOf(db).waitingAtMost = atMost;
}

/**
 * Does the work when it is its turn: work that may wait for a lock in the database. Not within other such work.
 * @param orderId whose lock it takes; null for work that takes none.
 * @param mayWait false: only when its turn is free at once, for a caller that holds something scarce.
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

/** The same for a transaction. @throws TooBusy */
export async function transaction<T>(
  db: LedgerClient,
  merchantId: string,
  orderId: string | null,
  work: (tx: LedgerTx) => Promise<T>,
  mayWait = true,
): Promise<T> {
  return await withinLimits(db, merchantId, orderId, () => db.$transaction(work), mayWait);
}

/** A payment with its owner and its order; neither ever changes. */
export interface OwnedPayment {
  readonly paymentId: string;
  readonly merchantId: string;
  readonly orderId: string;
}

/**
 * Whose turn the changes of a payment take, read when only the payment's id is known.
 * @throws Prisma's P2025 when there is no such payment.
 */
export async function ownerOf(db: LedgerClient, payment: string | OwnedPayment): Promise<OwnedPayment> {
  if (typeof payment !== 'string') return payment;
  const { merchantId, orderId } = await db.payment.findUniqueOrThrow({
    where: { id: payment },
    select: { merchantId: true, orderId: true },
  });
  return { paymentId: payment, merchantId, orderId };
}
