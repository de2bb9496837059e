import { createHash } from 'node:crypto';
import pg from 'pg';
import { afterAll, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest';
import type { ChannelAnswer } from '../../src/domain/channel.ts';
import { storeCallback } from '../../src/ledger/callbacks.ts';
import { changeOrder } from '../../src/ledger/change-order.ts';
import type { LedgerClient } from '../../src/ledger/client.ts';
import { Connection } from '../../src/ledger/connection.ts';
import { takeHint } from '../../src/ledger/hints.ts';
import { ensureMerchant } from '../../src/ledger/merchants.ts';
import { createOrder, insertPayment } from '../../src/ledger/new-payment.ts';
import { notificationsSent } from '../../src/ledger/notify.ts';
import { cancelOrder } from '../../src/ledger/orders.ts';
import {
  endPayment,
  raiseAttention,
  recordAnswer,
  recordCreated,
  recordSilence,
  requestCancel,
  settlePayment,
} from '../../src/ledger/payments.ts';
import { recoverPayment } from '../../src/ledger/recover-payment.ts';
import { recordRefundAnswer } from '../../src/ledger/refund-answers.ts';
import { requestRefund } from '../../src/ledger/refunds.ts';
import type { Payment } from '../../src/ledger/rows.ts';
import { ofTrade } from '../support/callback.ts';
import { eventually, queryOnce, useDatabase } from '../support/stack.ts';

/**
 * Tests that waiting requests are notified once of each visible change, after its commit. The notification is never
 * sent in a transaction that moves money.
 */

const { db, databaseUrl } = useDatabase();
let merchantId: string;
let accountId: string;
let listener: Connection;
let heard: string[] = [];
/** The SQL statements that are sent to the database, each with its connection. */
const send = pg.Client.prototype.query;
const queries = vi.spyOn(pg.Client.prototype, 'query');

beforeAll(async () => {
  listener = new Connection({ connectionString: databaseUrl });
  await listener.connect();
  listener.on('notification', ({ payload }) => heard.push(payload ?? ''));
  await listener.query('LISTEN nodrop');
});
afterAll(async () => {
  await listener?.end();
});
let merchants = 0;
beforeEach(async () => {
  merchants += 1;
  const { merchant } = await ensureMerchant(db, `shop-${merchants}`, ['simulator']);
  merchantId = merchant.id;
  accountId = (await db.channelAccount.findFirstOrThrow({ where: { merchantId } })).id;
});

const now = () => new Date();
const PAID: ChannelAnswer = {
  state: 'paid',
  channelPaymentId: 'trx',
  amount: 1000,
  currency: 'CNY',
  paidAt: new Date().toISOString(),
};

const newOrder = (id: string) => ({
  id,
  amount: 1000,
  currency: 'CNY' as const,
  subject: 'x',
  metadata: {},
  expiresInSeconds: undefined,
});
let orders = 0;
const attempt = async (orderId = `order-${++orders}`, method = 'wallet', asked: string[] = []) =>
  (
    await insertPayment(
      db,
      merchantId,
      newOrder(orderId),
      {
        channel: 'simulator',
        method,
        payer: undefined,
        returnUrl: undefined,
        metadata: {},
        expiresInMs: 600_000,
        askedAttempts: new Set(asked),
      },
      () => `hash-${orderId}-${method}`,
      now(),
    )
  ).payment;

const callback = (payment: Payment, answer: ChannelAnswer = PAID) =>
  ofTrade({ notificationId: `n-${payment.id}-${answer.state}`, outTradeNo: payment.id, answer });
const store = (payment: Payment, answer?: ChannelAnswer) =>
  storeCallback(db, accountId, callback(payment, answer), Buffer.from('{}'), now());

const keyOf = ({ id }: Payment) => `payment/${id}`;
const orderKeyOf = (orderId: string) =>
  `order/${merchantId}/${createHash('md5').update(orderId).digest('hex')}`;

/** Returns the notifications that `work` causes. */
async function heardOf(work: () => Promise<unknown>): Promise<string[]> {
  await notificationsSent(db);
  await listener.query('SELECT 1');
  heard = [];
  await work();
  await notificationsSent(db);
  // PostgreSQL sends the notifications of earlier commits before its answer to this statement.
  await listener.query('SELECT 1');
  return heard.toSorted();
}

/** Returns the SQL statements that were sent, each with its connection. */
const sent = () =>
  queries.mock.calls.map(([query], index) => ({
    client: queries.mock.contexts[index],
    text: typeof query === 'string' ? query : ((query as { text?: string } | undefined)?.text ?? ''),
  }));

test('no trigger and no function of the database sends a notification', async () => {
  const notifying = await queryOnce(
    databaseUrl,
    `SELECT proname FROM pg_proc JOIN pg_namespace ON pg_namespace.oid = pronamespace
     WHERE nspname NOT IN ('pg_catalog', 'information_schema') AND prosrc ~* 'notify'`,
  );
  expect(notifying).toEqual([]);
});

test('no transaction of the ledger sends a notification', async () => {
  queries.mockClear();
  const first = await attempt();
  const second = await attempt(first.orderId, 'qr', [first.id]);
  await recordCreated(db, second.id, { type: 'redirect', url: 'https://wallet.example/' }, now());
  await takeHint(db, second.id, 'return', now());
  await recordAnswer(db, second.id, { state: 'unpaid' }, 'query', now());
  await recordSilence(db, second.id, 'timeout', 1, now());
  await store(second);
  await settlePayment(db, second.id, now());
  await store(first);
  await settlePayment(db, first.id, now());
  const asked = { amount: 400, note: undefined, idempotencyKey: second.id };
  const { refund } = await requestRefund(db, second.id, asked, now());
  await recordRefundAnswer(db, refund.id, { state: 'succeeded', channelRefundId: 'r', amount: 400 }, now());
  const third = await attempt();
  await requestCancel(db, third.id, 'a test', now());
  await cancelOrder(db, merchantId, third.orderId, now());
  await endPayment(db, third.id, 'cancelled', 'a test', now());
  const open = new Set<unknown>();
  let [notified, transactions] = [0, 0];
  for (const { client, text } of sent()) {
    if (/^BEGIN/i.test(text)) {
      open.add(client);
      transactions += 1;
    }
    if (/^(COMMIT|ROLLBACK)/i.test(text)) open.delete(client);
    if (!/notify/i.test(text)) continue;
    notified += 1;
    expect(open.has(client)).toBe(false);
    expect(text).toMatch(/set_config\('synchronous_commit', 'off', true\)/);
  }
  expect(transactions).toBeGreaterThan(10);
  expect(notified).toBeGreaterThan(10);
  // The changed setting lasts only for one statement, so every connection has the default again.
  for (let i = 0; i < 5; i++) {
    expect(await db.$queryRaw`SELECT current_setting('synchronous_commit') AS value`).toEqual([
      { value: 'on' },
    ]);
  }
});

test('a change sends one notification each for the order, its payments and the feed, in one statement', async () => {
  const first = await attempt();
  const second = await attempt(first.orderId, 'qr', [first.id]);
  const other = await attempt();
  const ofOrder = [keyOf(first), keyOf(second), orderKeyOf(first.orderId)].toSorted();
  queries.mockClear();
  expect(await heardOf(() => store(second))).toEqual(ofOrder);
  expect(await heardOf(() => settlePayment(db, second.id, now()))).toEqual(
    [`events/${merchantId}`, ...ofOrder].toSorted(),
  );
  expect(sent().filter(({ text }) => /pg_notify/.test(text))).toHaveLength(2);
  const asked = { amount: 400, note: undefined, idempotencyKey: second.id };
  expect(await heardOf(() => requestRefund(db, second.id, asked, now()))).toEqual(ofOrder);
  expect(await heardOf(() => requestCancel(db, other.id, 'a test', now()))).toEqual(
    [keyOf(other), orderKeyOf(other.orderId)].toSorted(),
  );
});

test('creating, changing, cancelling and recovering an order notifies the requests that wait for it', async () => {
  const id = `order-${++orders}`;
  expect(await heardOf(() => createOrder(db, merchantId, newOrder(id), now()))).toEqual([orderKeyOf(id)]);
  const change = () => changeOrder(db, merchantId, id, { amount: 900 }, new Set(), now());
  expect(await heardOf(change)).toEqual([orderKeyOf(id)]);
  expect(await heardOf(() => cancelOrder(db, merchantId, id, now()))).toEqual([orderKeyOf(id)]);
  const lost = await attempt();
  const terms = {
    paymentId: lost.id,
    merchantId,
    orderId: lost.orderId,
    channel: lost.channel,
    channelAccountId: accountId,
    method: lost.method,
    amount: 1000,
    currency: 'CNY' as const,
    createdAt: lost.createdAt.getTime(),
    expiresAt: lost.expiresAt.getTime(),
  };
  await db.timelineEntry.deleteMany({ where: { paymentId: lost.id } });
  await db.payment.delete({ where: { id: lost.id } });
  await db.order.delete({ where: { merchantId_id: { merchantId, id: lost.orderId } } });
  const recover = () => recoverPayment(db, terms, 'hash', now());
  expect(await heardOf(recover)).toEqual([keyOf(lost), orderKeyOf(lost.orderId)].toSorted());
  expect(await heardOf(recover)).toEqual([]);
  // The request adds the missing data of the order. It is refused anyway, because the recovered attempt is still live.
  const fill = () => attempt(lost.orderId).catch(() => undefined);
  expect(await heardOf(fill)).toEqual([keyOf(lost), orderKeyOf(lost.orderId)].toSorted());
});

test('a new attempt that adds the missing content of a recovered order notifies the requests for the order once', async () => {
  const id = `order-${++orders}`;
  const { created } = await createOrder(db, merchantId, newOrder(id), now());
  expect(created).toBe(true);
  const where = { merchantId_id: { merchantId, id } };
  await db.order.update({ where, data: { recoveredAt: now(), subject: '' } });
  const made: Payment[] = [];
  const notified = await heardOf(async () => made.push(await attempt(id)));
  expect(notified).toEqual([...made.map(keyOf), orderKeyOf(id)].toSorted());
});

test('a callback causes a notification even if the payment of the callback is created while the callback is being stored', async () => {
  const payment = await attempt();
  // The first lookup returns null, as if the payment were created after that lookup.
  const looks: unknown[] = [];
  const late = db.$extends({
    query: {
      payment: {
        findFirst({ args, query }) {
          looks.push(args);
          return looks.length === 1 ? Promise.resolve(null) : query(args);
        },
      },
    },
  }) as unknown as LedgerClient;
  const stored = () => storeCallback(late, accountId, callback(payment), Buffer.from('{}'), now());
  const notified = await heardOf(async () => {
    expect((await stored()).payment?.channelState).toBe('paid');
    await notificationsSent(late);
  });
  expect(notified).toEqual([keyOf(payment), orderKeyOf(payment.orderId)].toSorted());
});

describe('cases without a notification', () => {
  test('a call that changes nothing sends no notification', async () => {
    const paid = await attempt();
    const ended = await attempt();
    await store(paid);
    await settlePayment(db, paid.id, now());
    await endPayment(db, ended.id, 'closed', 'a test', now());
    await recordSilence(db, (await attempt()).id, 'timeout', 1_000_000, now());
    const live = await attempt();
    await requestCancel(db, live.id, 'a test', now());
    const again = async () => {
      await settlePayment(db, paid.id, now());
      await endPayment(db, ended.id, 'closed', 'again', now());
      await recordCreated(db, paid.id, { type: 'redirect', url: 'https://wallet.example/' }, now());
      await raiseAttention(db, paid.id, 'channel_unreachable', 'again', now());
      await requestCancel(db, live.id, 'again', now());
      await createOrder(db, merchantId, newOrder(paid.orderId), now());
      await changeOrder(db, merchantId, paid.orderId, { amount: 1000 }, new Set(), now());
      await store(paid);
    };
    expect(await heardOf(again)).toEqual([]);
  });

  test('repeated unreadable answers send no notification', async () => {
    const { id } = await attempt();
    const silence = () => recordSilence(db, id, 'timeout', 1_000_000, now());
    expect(await heardOf(silence)).not.toEqual([]);
    expect(await heardOf(silence)).toEqual([]);
  });

  test('a change that was rolled back sends no notification', async () => {
    const { orderId } = await attempt();
    const refused = () =>
      createOrder(db, merchantId, { ...newOrder(orderId), amount: 7 }, now()).catch(() => 0);
    expect(await heardOf(refused)).toEqual([]);
  });
});

test('a notification that cannot be sent does not fail the committed change', async () => {
  const { id } = await attempt();
  const refused = vi.fn();
  queries.mockImplementation(function (this: pg.Client, ...given: unknown[]) {
    const [query, ...others] = given;
    const text = typeof query === 'string' ? query : (query as { text: string }).text;
    if (!/pg_notify/.test(text)) return Reflect.apply(send, this, given);
    refused();
    return Reflect.apply(send, this, [{ ...(query as object), text: 'SELECT 1 / 0', values: [] }, ...others]);
  } as never);
  try {
    expect((await endPayment(db, id, 'closed', 'a test', now())).status).toBe('closed');
    await notificationsSent(db);
    expect(refused).toHaveBeenCalledTimes(1);
  } finally {
    queries.mockReset();
  }
});

test('a committed change is acknowledged even if the database stops responding before the notification', async () => {
  const payment = await attempt();
  const answered: (() => void)[] = [];
  queries.mockImplementation(function (this: pg.Client, ...given: unknown[]) {
    const [query] = given;
    const text = typeof query === 'string' ? query : (query as { text: string }).text;
    if (!/pg_notify/.test(text)) return Reflect.apply(send, this, given);
    return new Promise((resolve) => answered.push(() => resolve(Reflect.apply(send, this, given))));
  } as never);
  try {
    expect((await store(payment)).payment?.channelState).toBe('paid');
    expect((await settlePayment(db, payment.id, now())).snapshot.status).toBe('succeeded');
    await eventually(() => answered.length === 2);
    let isOver = false;
    const sent = notificationsSent(db).then(() => {
      isOver = true;
    });
    await db.$queryRaw`SELECT 1`;
    expect(isOver).toBe(false);
    for (const answer of answered) answer();
    await sent;
  } finally {
    queries.mockReset();
  }
});
