import pg from 'pg';
import { afterAll, afterEach, beforeAll, beforeEach, expect, test, vi } from 'vitest';
import { createLedgerClient } from '../../src/ledger/client.ts';
import { recordAnswer, settlePayment } from '../../src/ledger/payments.ts';
import { findOrder, findPaymentOfPayer, listOrders } from '../../src/ledger/queries.ts';
import { paidAnswer, pay, setUp } from '../api/support.ts';

/** Tests that nodrop reads an order, its payments and their due refunds from one snapshot. */

const { database, api, key, merchantId } = await setUp();
const db = createLedgerClient(database.url);
/** If set, this function runs after the first statement of `db` and before its next statement. */
let between: (() => Promise<unknown>) | undefined;
beforeAll(async () => {
  await db.$queryRaw`SELECT 1`;
});
afterAll(async () => {
  await db.$disconnect();
});
beforeEach(() => {
  const query = pg.Client.prototype.query as (...args: unknown[]) => Promise<unknown>;
  let clientOfReader: unknown;
  vi.spyOn(pg.Client.prototype, 'query').mockImplementation(async function (
    this: unknown,
    ...args: unknown[]
  ) {
    if (between === undefined) return await query.apply(this, args);
    if (clientOfReader === undefined) {
      clientOfReader = this;
      return await query.apply(this, args);
    }
    if (clientOfReader === this) {
      const work = between;
      between = undefined;
      await work();
    }
    return await query.apply(this, args);
  } as never);
});
afterEach(() => {
  between = undefined;
  vi.restoreAllMocks();
});

/** Creates a payment in status paying. Also returns a function that settles it through another connection. */
async function newPaying() {
  const { id } = await pay(api, key);
  const { orderId } = await api.db.payment.findUniqueOrThrow({ where: { id } });
  const settle = async () => {
    await recordAnswer(api.db, id, paidAnswer(), 'query', new Date());
    await settlePayment(api.db, id, new Date());
  };
  return { id, orderId, settle };
}

test('if a payment is settled while a payer’s request reads it, the request gets the payment and the order from one snapshot', async () => {
  const { id, settle } = await newPaying();
  between = settle;
  const seen = await findPaymentOfPayer(db, id);
  expect(seen?.order.payments.find((payment) => payment.id === id)?.status).toBe(seen?.status);
  expect(seen?.order.status === 'succeeded').toBe(seen?.status === 'succeeded');
  await between?.();
  expect(await findPaymentOfPayer(db, id)).toMatchObject({
    status: 'succeeded',
    order: { status: 'succeeded', payments: [{ id, status: 'succeeded' }] },
    channels: [
      { channel: 'simulator', mode: 'test' },
      { channel: 'simulator2', mode: 'test' },
    ],
  });
});

test.each([
  ['one order', async (orderId: string) => await findOrder(db, merchantId, orderId)],
  [
    'a list of orders',
    async (orderId: string) => {
      const orders = await listOrders(db, merchantId, {}, { limit: 100, after: undefined });
      return orders.find(({ id }) => id === orderId) ?? null;
    },
  ],
])(
  'if a payment is settled while %s is read, the reader gets orders and payments from one snapshot',
  async (_, read) => {
    const { orderId, settle } = await newPaying();
    between = settle;
    const seen = await read(orderId);
    expect(seen?.payments[0]?.status === 'succeeded').toBe(seen?.status === 'succeeded');
    await between?.();
    expect(await read(orderId)).toMatchObject({ status: 'succeeded', payments: [{ status: 'succeeded' }] });
  },
);
