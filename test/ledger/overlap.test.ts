import { afterAll, beforeAll, expect, test } from 'vitest';
import type { PaidAnswer } from '../../src/domain/channel.ts';
import { storeCallback } from '../../src/ledger/callbacks.ts';
import { Connection } from '../../src/ledger/connection.ts';
import { ensureMerchant } from '../../src/ledger/merchants.ts';
import { insertPayment, type NewPayment, UnaskedAttempts } from '../../src/ledger/new-payment.ts';
import type { Payment } from '../../src/ledger/rows.ts';
import { ofTrade } from '../support/callback.ts';
import { eventually, queryOnce, useDatabase } from '../support/stack.ts';

/**
 * Tests two overlapping transactions of one order. The second transaction must use the state that the first one has
 * committed.
 */

const { db, databaseUrl } = useDatabase();
/** A database client that acts as another process. */
let other: Connection;
let merchantId: string;
beforeAll(async () => {
  other = new Connection({ connectionString: databaseUrl });
  await other.connect();
  merchantId = (await ensureMerchant(db, 'shop', ['simulator'])).merchant.id;
});
afterAll(async () => {
  await other?.end();
});

const now = () => new Date();
let orders = 0;
const newOrder = (id = `order-${++orders}`) => ({
  id,
  amount: 1000,
  currency: 'CNY' as const,
  subject: 'x',
  metadata: {},
  expiresInSeconds: undefined,
});
const start = (order: ReturnType<typeof newOrder> | { id: string }, change: Partial<NewPayment> = {}) => {
  const given: NewPayment = {
    ...{ channel: 'simulator', method: 'wallet', payer: undefined, returnUrl: undefined, metadata: {} },
    ...{ expiresInMs: 600_000, askedAttempts: new Set(), ...change },
  };
  return insertPayment(db, merchantId, order, given, (id) => `hash-${id}`, now());
};

/**
 * Runs `first` in a transaction. The transaction ends once `second` waits for it.
 * @returns the result of `second`
 */
async function overlapping<T>(
  first: () => Promise<unknown>,
  second: () => Promise<T>,
  end: 'commit' | 'rollback' = 'commit',
): Promise<T> {
  await other.query('begin');
  await first();
  const result = second();
  result.catch(() => undefined);
  await eventually(async () => {
    const waiting = await queryOnce(
      databaseUrl,
      `select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`,
    );
    return waiting.length > 0;
  });
  await other.query(end);
  return await result;
}

const lock = ({ orderId }: Payment) =>
  other.query('select from orders where merchant_id = $1 and id = $2 for update', [merchantId, orderId]);
const copy = (id: string, of: Payment, method: string) =>
  other.query(
    `insert into payments (id, merchant_id, order_id, channel, channel_account_id, method, amount, currency,
       client_token_hash, created_at, expires_at)
     select $1, merchant_id, order_id, channel, channel_account_id, $3, amount, currency, $1, created_at, expires_at
     from payments where id = $2`,
    [id, of.id, method],
  );
const PAID: PaidAnswer = {
  state: 'paid',
  channelPaymentId: 'trx',
  amount: 1000,
  currency: 'CNY',
  paidAt: '2026-11-27T00:00:00.000Z',
};

test('a callback that reports paid does not replace a recorded answer that reports a refund', async () => {
  const { payment } = await start(newOrder());
  const { id, channelAccountId } = payment;
  const back = { ...PAID, state: 'refunded', by: 'query' };
  const callback = ofTrade({ notificationId: id, outTradeNo: id, answer: PAID });
  const stored = await overlapping(
    async () => {
      await lock(payment);
      await other.query('update payments set channel_answer = $2 where id = $1', [id, JSON.stringify(back)]);
    },
    () => storeCallback(db, channelAccountId, callback, Buffer.from('{}'), now()),
  );
  expect(stored).toMatchObject({ paymentId: id, payment: { channelAnswer: back } });
  expect(await db.payment.findUnique({ where: { id } })).toMatchObject({ channelAnswer: back });
});

test('if two equal callbacks arrive at the same time, the second is treated as a repetition, even if the first took no lock', async () => {
  const { payment } = await start(newOrder());
  const { id, channelAccountId } = payment;
  const callback = ofTrade({ notificationId: id, outTradeNo: id, answer: PAID });
  const store = () => storeCallback(db, channelAccountId, callback, Buffer.from('{}'), now());
  const { contentHash } = await store();
  await db.timelineEntry.deleteMany({ where: { paymentId: id } });
  await db.callback.deleteMany({});
  const stored = await overlapping(
    () =>
      other.query(
        `insert into callbacks (id, channel_account_id, notification_id, out_trade_no, content_hash, answer, body)
         values ('first', $1, $2, $2, $3, $4, '')`,
        [channelAccountId, id, contentHash, JSON.stringify(PAID)],
      ),
    store,
  );
  expect(stored).toMatchObject({ id: 'first', paymentId: id });
  const entries = await db.timelineEntry.findMany({ where: { paymentId: id } });
  expect(entries.map(({ detail }) => detail)).toEqual(['The channel called back again: paid.']);
});

test('if another process inserts an attempt at the same time, no second attempt is made', async () => {
  const { payment } = await start(newOrder());
  await db.payment.update({ where: { id: payment.id }, data: { status: 'failed', endedAt: now() } });
  const meanwhile = (id: string) => async () => {
    await lock(payment);
    await copy(id, payment, 'wallet');
  };
  const { payment: same, created } = await overlapping(meanwhile('pay_meanwhile'), () =>
    start({ id: payment.orderId }),
  );
  expect([same.id, created]).toEqual(['pay_meanwhile', false]);

  const second = (await start(newOrder())).payment;
  await db.payment.update({ where: { id: second.id }, data: { status: 'failed', endedAt: now() } });
  const making = overlapping(
    async () => {
      await lock(second);
      await copy('pay_other', second, 'qr');
    },
    () => start(newOrder(second.orderId)),
  );
  await expect(making).rejects.toThrow(UnaskedAttempts);
});

test.each([
  ['commit', 'pay_commit', false],
  ['rollback', expect.not.stringMatching(/^pay_rollback$/), true],
] as const)(
  'if another transaction inserts the same order and a payment at the same time and ends with a %s, one payment exists',
  async (end, id, created) => {
    const order = newOrder();
    const made = await overlapping(
      async () => {
        const { rows } = await other.query(
          `insert into orders (merchant_id, id, amount, currency, subject) values ($1, $2, 1000, 'CNY', 'x')
           returning (select id from channel_accounts where merchant_id = $1) as account`,
          [merchantId, order.id],
        );
        await other.query(
          `insert into payments (id, merchant_id, order_id, channel, channel_account_id, method, amount, currency,
             client_token_hash, expires_at)
           values ($4, $1, $2, 'simulator', $3, 'wallet', 1000, 'CNY', '', now() + interval '10 min')`,
          [merchantId, order.id, rows[0]?.account, `pay_${end}`],
        );
      },
      () => start(order),
      end,
    );
    expect(made).toEqual({ payment: expect.objectContaining({ id, orderId: order.id }), created });
    expect(await db.payment.count({ where: { orderId: order.id } })).toBe(1);
  },
);
