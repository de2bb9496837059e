import { afterAll, beforeAll, expect, test } from 'vitest';
import type { ChannelAnswer, PaidAnswer } from '../../src/domain/channel.ts';
import { automaticRefundId } from '../../src/domain/ids.ts';
import type { Payment } from '../../src/generated/prisma/client.ts';
import { storeCallback } from '../../src/ledger/callbacks.ts';
import { createLedgerClient, type LedgerClient } from '../../src/ledger/client.ts';
import { startPayment } from '../../src/ledger/intake.ts';
import { ensureMerchant } from '../../src/ledger/merchants.ts';
import { cancelOrder } from '../../src/ledger/orders.ts';
import {
  endPayment,
  raiseAttention,
  recordAnswer,
  recordCreated,
  recordRefusal,
  recordSilence,
  requestCancel,
  settlePayment,
} from '../../src/ledger/payments.ts';
import { type FreshDatabase, freshDatabase } from '../support/stack.ts';

/**
 * Every change of a payment is conditional: late, doubled, or in the wrong order, it changes nothing (P5), and money
 * once on record is never talked away (P1, P3).
 */

let database: FreshDatabase;
let db: LedgerClient;
let merchantId: string;
beforeAll(async () => {
  database = await freshDatabase();
  db = createLedgerClient(database.url);
  merchantId = (await ensureMerchant(db, 'shop', ['simulator', 'simulator2'])).merchant.id;
});
afterAll(async () => {
  await db?.$disconnect();
  await database?.drop();
});

const now = () => new Date();
const ACTION = { type: 'redirect', url: 'https://wallet.example' } as const;
const PAID: PaidAnswer = {
  state: 'paid',
  channelPaymentId: 'trx',
  amount: 1000,
  currency: 'CNY',
  paidAt: new Date().toISOString(),
};

let orders = 0;
async function attempt(channel = 'simulator', orderId = `order-${++orders}`) {
  const order = {
    id: orderId,
    amount: 1000,
    currency: 'CNY',
    subject: 'x',
    metadata: {},
    expiresInSeconds: undefined,
  };
  // As when their channels did not answer in time.
  const askedAttempts = new Set((await db.payment.findMany({ select: { id: true } })).map(({ id }) => id));
  const { payment } = await startPayment(
    db,
    merchantId,
    order,
    {
      channel,
      method: 'wallet',
      payer: undefined,
      returnUrl: undefined,
      metadata: {},
      expiresInMs: 60_000,
      askedAttempts,
    },
    () => 'hash',
    now(),
  );
  return payment;
}
const row = (id: string) => db.payment.findUniqueOrThrow({ where: { id } });
const orderOf = async ({ orderId }: Payment) =>
  (await db.order.findFirstOrThrow({ where: { merchantId, id: orderId } })).status;

test('settling twice, also at once, pays the order once and says the same', async () => {
  const { id, orderId } = await attempt();
  await recordAnswer(db, id, PAID, 'query', now());
  const settled = await Promise.all([1, 2, 3].map(() => settlePayment(db, id, now())));
  expect(settled.map(({ snapshot }) => snapshot.orderUpdate)).toEqual(['applied', 'applied', 'applied']);
  expect(await db.timelineEntry.count({ where: { paymentId: id, kind: 'order' } })).toBe(1);
  expect(await db.order.findFirst({ where: { id: orderId } })).toMatchObject({
    status: 'succeeded',
    paidPaymentId: id,
  });
});

test('two attempts settled at once: one pays the order, the other is owed back', async () => {
  const first = await attempt();
  const second = await attempt('simulator2', first.orderId);
  for (const { id } of [first, second]) await recordAnswer(db, id, PAID, 'query', now());
  const settled = await Promise.all([first, second].map(({ id }) => settlePayment(db, id, now())));
  expect(settled.map(({ snapshot }) => snapshot.orderUpdate).sort()).toEqual(['applied', 'conflict']);
  expect(await db.refund.count({ where: { paymentId: { in: [first.id, second.id] } } })).toBe(1);
});

test('whoever repeats the order update is told of the same attempts to cancel', async () => {
  const first = await attempt();
  const second = await attempt('simulator2', first.orderId);
  await recordAnswer(db, first.id, PAID, 'query', now());
  expect((await settlePayment(db, first.id, now())).cancelled).toEqual([second.id]);
  expect((await settlePayment(db, first.id, now())).cancelled).toEqual([second.id]);
  expect((await row(second.id)).cancelRequestedAt).not.toBeNull();
});

test('what waits for a decision goes back by itself once another attempt pays the order', async () => {
  const short = await attempt();
  const exact = await attempt('simulator2', short.orderId);
  await recordAnswer(db, short.id, { ...PAID, amount: 900 }, 'query', now());
  await settlePayment(db, short.id, now());
  expect(await row(short.id)).toMatchObject({ orderUpdate: 'review', attention: 'amount_mismatch' });
  await recordAnswer(db, exact.id, PAID, 'query', now());
  for (let i = 0; i < 2; i++)
    expect((await settlePayment(db, exact.id, now())).snapshot.orderUpdate).toBe('applied');
  expect(await row(short.id)).toMatchObject({ orderUpdate: 'conflict', attention: 'order_conflict' });
  const refunds = await db.refund.findMany({ where: { payment: { orderId: short.orderId } } });
  expect(refunds).toMatchObject([
    { id: automaticRefundId(short.id), amount: 900n, reason: 'duplicate_payment', status: 'created' },
  ]);
  const types = async (paymentId: string) =>
    (await db.event.findMany({ where: { paymentId }, orderBy: { version: 'asc' } })).map(({ type }) => type);
  expect(await types(short.id)).toEqual(['payment.review', 'payment.conflict']);
  expect(await types(exact.id)).toEqual(['payment.succeeded']);
});

test('after "paid" neither an unpaid nor a closed answer, nor an end, takes the money back', async () => {
  const { id } = await attempt();
  await recordAnswer(db, id, PAID, 'query', now());
  for (const state of ['unpaid', 'closed', 'failed', 'unknown_trade'] as const) {
    await recordAnswer(db, id, { state }, 'query', now());
    await endPayment(db, id, 'closed', 'x', now());
    expect(await row(id)).toMatchObject({ status: 'created', channelAnswer: { state: 'paid' } });
  }
  expect((await settlePayment(db, id, now())).snapshot.status).toBe('succeeded');
  await endPayment(db, id, 'cancelled', 'x', now());
  expect((await row(id)).status).toBe('succeeded');
});

test('a definite answer without money ends the payment and frees its order in the same breath', async () => {
  const { id, orderId } = await attempt();
  await recordCreated(db, id, ACTION, now());
  await recordAnswer(db, id, { state: 'failed', reason: 'no funds' }, 'query', now());
  expect(await row(id)).toMatchObject({ status: 'failed' });
  expect((await db.order.findFirst({ where: { id: orderId } }))?.status).toBe('unpaid');
});

test('nothing but the channel’s word settles: no answer, an unpaid one, a mismatching callback', async () => {
  const payment = await attempt();
  const { id } = payment;
  await settlePayment(db, id, now());
  await recordAnswer(db, id, { state: 'unpaid' }, 'query', now());
  await settlePayment(db, id, now());
  const callback = { notificationId: 'n1', outTradeNo: id, answer: { ...PAID, amount: 999 } };
  await storeCallback(db, payment.channelAccountId, callback, Buffer.from('{}'), now());
  await settlePayment(db, id, now());
  expect(await row(id)).toMatchObject({ status: 'created', channelAnswer: null });
});

test('a notification id that comes again with another trade pays that trade, and tells nothing of the first', async () => {
  const [first, second] = [await attempt(), await attempt()];
  const store = (outTradeNo: string, answer: ChannelAnswer) =>
    storeCallback(
      db,
      first.channelAccountId,
      { notificationId: 'reused', outTradeNo, answer },
      Buffer.from('{}'),
      now(),
    );
  await store(first.id, { state: 'processing' });
  const told = await store(second.id, PAID);
  expect(told).toMatchObject({ outTradeNo: second.id, paymentId: second.id, deliveredAt: null });
  for (const { id } of [first, second]) await settlePayment(db, id, now());
  expect(await row(first.id)).toMatchObject({ status: 'created', channelAnswer: null });
  expect(await row(second.id)).toMatchObject({ status: 'succeeded', orderUpdate: 'applied' });
  // Again, it is the same two.
  expect((await store(second.id, PAID)).id).toBe(told.id);
  expect(await db.callback.count({ where: { notificationId: 'reused' } })).toBe(2);
});

test('an exact callback is on record with its row, and does not beat a refund already known', async () => {
  const payment = await attempt();
  const exact = { notificationId: 'n2', outTradeNo: payment.id, answer: PAID };
  await storeCallback(db, payment.channelAccountId, exact, Buffer.from('{}'), now());
  expect((await row(payment.id)).channelAnswer).toMatchObject({ state: 'paid', by: 'callback' });

  const gone = await attempt();
  await recordAnswer(db, gone.id, { ...PAID, state: 'refunded' }, 'query', now());
  const old = { notificationId: 'n3', outTradeNo: gone.id, answer: PAID };
  await storeCallback(db, gone.channelAccountId, old, Buffer.from('{}'), now());
  expect((await settlePayment(db, gone.id, now())).snapshot.orderUpdate).toBe('conflict');
  expect((await db.order.findFirst({ where: { id: gone.orderId } }))?.status).not.toBe('succeeded');
  expect(await row(gone.id)).toMatchObject({ receivedAmount: 1000n, refundedAmount: 1000n });
});

test('before it is settled, word that more of the money has gone back replaces what is on record, in any order', async () => {
  const back = { ...PAID, state: 'refunded' } as const;
  const part = (refundedAmount: number) => ({ ...PAID, refundedAmount });
  let stored = 0;
  const viaCallback = async ({ id, channelAccountId }: Payment, answer: ChannelAnswer) => {
    const callback = { notificationId: `back-${++stored}`, outTradeNo: id, answer };
    await storeCallback(db, channelAccountId, callback, Buffer.from('{}'), now());
  };
  const viaQuery = async ({ id }: Payment, answer: ChannelAnswer) =>
    void (await recordAnswer(db, id, answer, 'query', now()));
  for (const first of [viaCallback, viaQuery]) {
    for (const second of [viaCallback, viaQuery]) {
      for (const [one, other] of [
        [PAID, back],
        [back, PAID],
        [part(400), back],
        [back, part(400)],
      ] as const) {
        const payment = await attempt();
        await first(payment, one);
        await second(payment, other);
        await settlePayment(db, payment.id, now());
        expect(await row(payment.id)).toMatchObject({ orderUpdate: 'conflict', refundedAmount: 1000n });
        expect(await orderOf(payment)).toBe('unpaid');
      }
      const payment = await attempt();
      await first(payment, part(400));
      await second(payment, part(300));
      await settlePayment(db, payment.id, now());
      expect(await row(payment.id)).toMatchObject({ orderUpdate: 'applied', refundedAmount: 400n });
    }
  }
});

test('of another amount a callback is word only of the same money, of which more has gone back', async () => {
  const payment = await attempt();
  const { id, channelAccountId } = payment;
  await recordAnswer(db, id, { ...PAID, amount: 900 }, 'query', now());
  for (const [notificationId, amount, state] of [
    ['more', 1000, 'refunded'],
    ['less', 900, 'paid'],
    ['back', 900, 'refunded'],
  ] as const) {
    const callback = { notificationId, outTradeNo: id, answer: { ...PAID, amount, state } };
    await storeCallback(db, channelAccountId, callback, Buffer.from('{}'), now());
    expect((await row(id)).channelAnswer).toMatchObject({
      amount: 900,
      state: notificationId === 'back' ? 'refunded' : 'paid',
      by: notificationId === 'back' ? 'callback' : 'query',
    });
  }
});

test('a late create, refusal, silence or alarm changes nothing of what has got further', async () => {
  const { id } = await attempt();
  await recordCreated(db, id, ACTION, now());
  await recordRefusal(db, id, 'too late', now());
  expect((await row(id)).status).toBe('paying');
  await recordAnswer(db, id, PAID, 'query', now());
  await settlePayment(db, id, now());
  await recordCreated(db, id, ACTION, now());
  await recordSilence(db, id, 'x', 0, now());
  await raiseAttention(db, id, 'order_update_failing', 'x', now());
  await requestCancel(db, id, 'x', now());
  expect(await row(id)).toMatchObject({
    status: 'succeeded',
    attention: null,
    channelErrorSince: null,
    cancelRequestedAt: null,
  });
});

test('a payment that is to be cancelled gives nobody anything to pay with', async () => {
  const { id } = await attempt();
  await requestCancel(db, id, 'the merchant', now());
  await recordCreated(db, id, ACTION, now());
  expect(await row(id)).toMatchObject({ status: 'paying', nextAction: null });
});

test('an order that is paid is not cancelled, and nobody wishes it afterwards', async () => {
  const { id, orderId } = await attempt();
  await recordAnswer(db, id, PAID, 'query', now());
  await settlePayment(db, id, now());
  await expect(cancelOrder(db, merchantId, orderId, now())).rejects.toMatchObject({
    code: 'order_already_paid',
  });
  expect(await db.order.findFirst({ where: { id: orderId } })).toMatchObject({
    status: 'succeeded',
    cancelRequestedAt: null,
  });
});
