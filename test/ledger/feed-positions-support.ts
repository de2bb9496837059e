import { beforeEach } from 'vitest';
import type { LedgerClient } from '../../src/ledger/client.ts';
import { type FeedPosition, listEvents } from '../../src/ledger/event-feed.ts';
import { recordEvent } from '../../src/ledger/events.ts';
import { ensureMerchant } from '../../src/ledger/merchants.ts';
import { insertPayment } from '../../src/ledger/new-payment.ts';
import { useDatabase } from '../support/stack.ts';

/**
 * Support for the tests of feed positions. It creates a new merchant for each test, payments, events whose transactions
 * stay open, and readers.
 */

export const { db, databaseUrl, connect } = useDatabase();
/** A second database client. For PostgreSQL it looks like another process. */
export const elsewhere = connect();
export let merchantId: string;
let merchants = 0;
beforeEach(async () => {
  merchants += 1;
  merchantId = (await ensureMerchant(db, `shop-${merchants}`, ['simulator', 'simulator2'])).merchant.id;
});
export const now = () => new Date();

export let orders = 0;
export const newOrderId = () => `order-${++orders}`;
/** @param asked the ids of the other attempts at the same order, which the channel has reported as unpaid */
export async function newPayment(
  orderId = newOrderId(),
  channel = 'simulator',
  asked: string[] = [],
): Promise<string> {
  const order = { amount: 1000, currency: 'CNY', subject: 'x', metadata: {}, expiresInSeconds: undefined };
  const { payment } = await insertPayment(
    db,
    merchantId,
    { ...order, id: orderId },
    {
      channel,
      method: 'wallet',
      payer: undefined,
      returnUrl: undefined,
      metadata: {},
      expiresInMs: 60_000,
      askedAttempts: new Set(asked),
    },
    () => `hash-${orderId}-${channel}`,
    now(),
  );
  return payment.id;
}

/** A promise together with the function that resolves it. */
export function gate() {
  let open = () => {};
  const opened = new Promise<void>((resolve) => {
    open = resolve;
  });
  return { open, opened };
}

/**
 * Starts a transaction that writes an event of the payment, and leaves the transaction open.
 * @returns a function that commits the transaction
 */
export async function writeEvent(paymentId: string, at: Date) {
  const [written, end] = [gate(), gate()];
  const done = elsewhere.$transaction(
    async (tx) => {
      await recordEvent(tx, paymentId, { type: 'payment.closed' }, at);
      written.open();
      await end.opened;
    },
    { timeout: 240_000, maxWait: 240_000 },
  );
  await Promise.race([written.opened, done]);
  return async () => {
    end.open();
    await done;
  };
}

/** A reader of the feed that keeps its cursor between reads. */
export class Reader {
  readonly seen: string[] = [];
  #after: FeedPosition | null = null;
  readonly #db: LedgerClient;
  readonly #limit: number;

  constructor(client: LedgerClient, limit: number) {
    this.#db = client;
    this.#limit = limit;
  }

  /** Reads one page. */
  async read(): Promise<number> {
    const { events, next } = await listEvents(this.#db, merchantId, {
      limit: this.#limit,
      after: this.#after,
    });
    this.seen.push(...events.map(({ id }) => id));
    this.#after = next;
    return events.length;
  }

  async readAll(): Promise<string[]> {
    while ((await this.read()) > 0);
    return this.seen;
  }
}
