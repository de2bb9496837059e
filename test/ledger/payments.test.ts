import { describe, expect, test } from 'vitest';
import type { ChannelAnswer } from '../../src/domain/channel.ts';
import { automaticRefundId } from '../../src/domain/ids.ts';
import { storeCallback } from '../../src/ledger/callbacks.ts';
import { ensureMerchant } from '../../src/ledger/merchants.ts';
import { resolvePayment } from '../../src/ledger/operator-decision.ts';
import { cleared, underOrderLock, update } from '../../src/ledger/order-lock.ts';
import { cancelOrder, releaseEndingOrder } from '../../src/ledger/orders.ts';
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
import type { Payment } from '../../src/ledger/rows.ts';
import { ofTrade } from '../support/callback.ts';
import { eventually } from '../support/stack.ts';
import { attempt, connect, db, merchantId, now, orderOf, PAID, row } from './payments-support.ts';

/**
 * Tests that a payment's state decides which changes it accepts. A change that is repeated, late, or in the wrong
 * sequence has no effect (P5). An answer that reports no money never replaces recorded money (P1, P3).
 */

const ACTION = { type: 'redirect', url: 'https://wallet.example' } as const;

test('a payment that is settled twice, even concurrently, pays the order once, and each settlement has the same result', async () => {
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

test('if two attempts are settled at the same time, one attempt pays the order and a refund of the other attempt is due', async () => {
  const first = await attempt();
  const second = await attempt('simulator2', first.orderId);
  for (const { id } of [first, second]) await recordAnswer(db, id, PAID, 'query', now());
  const settled = await Promise.all([first, second].map(({ id }) => settlePayment(db, id, now())));
  expect(settled.map(({ snapshot }) => snapshot.orderUpdate).sort()).toEqual(['applied', 'conflict']);
  expect(await db.refund.count({ where: { paymentId: { in: [first.id, second.id] } } })).toBe(1);
});

test('a repeated settlement returns the same attempts to cancel as the first settlement', async () => {
  const first = await attempt();
  const second = await attempt('simulator2', first.orderId);
  await recordAnswer(db, first.id, PAID, 'query', now());
  expect((await settlePayment(db, first.id, now())).cancelled).toEqual([second.id]);
  expect((await settlePayment(db, first.id, now())).cancelled).toEqual([second.id]);
  expect((await row(second.id)).cancelRequestedAt).not.toBeNull();
});

test('money that waits for a decision is refunded automatically once another attempt pays the order', async () => {
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

test('while money waits for a decision, the order accepts no other attempt, and keeps the status paying even if it is cancelled or expires', async () => {
  const short = await attempt();
  await recordCreated(db, short.id, ACTION, now());
  await recordAnswer(db, short.id, { ...PAID, amount: 900 }, 'query', now());
  await settlePayment(db, short.id, now());
  expect(await row(short.id)).toMatchObject({ status: 'succeeded', orderUpdate: 'review' });
  expect(await orderOf(short)).toBe('paying');
  await expect(attempt('simulator2', short.orderId)).rejects.toMatchObject({ code: 'attempt_unresolved' });
  // While the payment has received money, a cancellation or the expiry of the order does not end the order.
  expect(await cancelOrder(db, merchantId, short.orderId, now())).toEqual({ status: 'paying', live: [] });
  await db.order.updateMany({ where: { id: short.orderId }, data: { expiresAt: new Date(Date.now() - 1) } });
  expect(await releaseEndingOrder(db, { merchantId, id: short.orderId }, now())).toBe(false);
  expect(await orderOf(short)).toBe('paying');
});

test('the policy of the merchant decides what happens to late money', async () => {
  const policies = ['apply', 'refund', 'review'] as const;
  const shops = await Promise.all(
    policies.map(async (latePayment) => {
      const { merchant } = await ensureMerchant(db, `late-${latePayment}`, ['simulator']);
      return await db.merchant.update({ where: { id: merchant.id }, data: { latePayment } });
    }),
  );
  const outcomes: unknown[] = [];
  for (const { id: shop } of shops) {
    // All merchants use the same order number.
    const { id, expiresAt } = await attempt('simulator', 'late', shop);
    await recordCreated(db, id, ACTION, now());
    await endPayment(db, id, 'closed', 'expired', expiresAt);
    const paidAt = new Date(expiresAt.getTime() + 1_000);
    await recordAnswer(db, id, { ...PAID, paidAt: paidAt.toISOString() }, 'query', paidAt);
    await settlePayment(db, id, paidAt);
    const { orderUpdate, attention } = await row(id);
    const order = await db.order.findUniqueOrThrow({
      where: { merchantId_id: { merchantId: shop, id: 'late' } },
    });
    const refunds = await db.refund.findMany({ where: { paymentId: id } });
    outcomes.push([orderUpdate, attention, order.status, refunds.map(({ reason }) => reason)]);
  }
  expect(outcomes).toEqual([
    ['applied', null, 'succeeded', []],
    ['conflict', 'order_conflict', 'unpaid', ['late_payment']],
    ['review', 'late_payment_review', 'unpaid', []],
  ]);
});

test('recorded money stays recorded after a later answer without money, and after an attempt to end the payment', async () => {
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

test('a definite answer without money ends the payment, and its order can be paid again', async () => {
  const { id, orderId } = await attempt();
  await recordCreated(db, id, ACTION, now());
  await recordAnswer(db, id, { state: 'failed', reason: 'no funds' }, 'query', now());
  expect(await row(id)).toMatchObject({ status: 'failed' });
  expect((await db.order.findFirst({ where: { id: orderId } }))?.status).toBe('unpaid');
});

test('a payment is not settled without an answer, after an unpaid answer, or after a callback with a different amount', async () => {
  const payment = await attempt();
  const { id } = payment;
  await settlePayment(db, id, now());
  await recordAnswer(db, id, { state: 'unpaid' }, 'query', now());
  await settlePayment(db, id, now());
  const callback = ofTrade({ notificationId: 'n1', outTradeNo: id, answer: { ...PAID, amount: 999 } });
  await storeCallback(db, payment.channelAccountId, callback, Buffer.from('{}'), now());
  await settlePayment(db, id, now());
  expect(await row(id)).toMatchObject({ status: 'created', channelAnswer: null });
});

test('a callback that reuses a notification id for another trade is a separate callback, and settles only the payment of its trade', async () => {
  const [first, second] = [await attempt(), await attempt()];
  const store = (outTradeNo: string, answer: ChannelAnswer) =>
    storeCallback(
      db,
      first.channelAccountId,
      ofTrade({ notificationId: 'reused', outTradeNo, answer }),
      Buffer.from('{}'),
      now(),
    );
  await store(first.id, { state: 'processing' });
  const stored = await store(second.id, PAID);
  expect(stored).toMatchObject({ outTradeNo: second.id, paymentId: second.id, deliveredAt: null });
  for (const { id } of [first, second]) await settlePayment(db, id, now());
  expect(await row(first.id)).toMatchObject({ status: 'created', channelAnswer: null });
  expect(await row(second.id)).toMatchObject({ status: 'succeeded', orderUpdate: 'applied' });
  // A repeated callback is found in its own row, so there are still two rows.
  expect((await store(second.id, PAID)).id).toBe(stored.id);
  expect(await db.callback.count({ where: { notificationId: 'reused' } })).toBe(2);
});

test('a creation, refusal, unreadable answer, attention or cancellation that comes too late does not change the payment', async () => {
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

test('an unreadable answer raises no attention if a readable answer is recorded at the same time', async () => {
  const { id } = await attempt();
  const alarmAfterMs = 60_000;
  await recordSilence(db, id, 'no answer', alarmAfterMs, new Date(Date.now() - 2 * alarmAfterMs));
  // In one process, the two transactions would wait for each other's slot. So the second transaction has its own
  // client.
  const elsewhere = connect();
  let silent: Promise<unknown> | undefined;
  let isRecorded = false;
  // Clears the error under the order's lock, as recordAnswer does.
  await underOrderLock(db, id, now(), async ({ tx, payment }) => {
    silent = recordSilence(elsewhere, id, 'no answer', alarmAfterMs, now()).then(() => {
      isRecorded = true;
    });
    await eventually(async () => {
      const [waiting] = await db.$queryRaw<{ count: bigint }[]>`
        SELECT count(*) FROM pg_stat_activity
        WHERE datname = current_database() AND wait_event_type = 'Lock'`;
      return isRecorded || waiting?.count === 1n;
    });
    await update(tx, id, { channelErrorSince: null, ...cleared(payment, 'answered') });
  });
  await silent;
  expect(await row(id)).toMatchObject({ attention: null });
});

test('a payment whose cancellation was requested gets no next action', async () => {
  const { id } = await attempt();
  await requestCancel(db, id, 'the merchant', now());
  await recordCreated(db, id, ACTION, now());
  expect(await row(id)).toMatchObject({ status: 'paying', nextAction: null });
});

test('a paid order refuses a request for cancellation and does not record the request', async () => {
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

test('if the channel still reports processing a day after the expiry, an attention is raised and stays until the channel decides', async () => {
  const { id, expiresAt } = await attempt();
  await recordCreated(db, id, ACTION, now());
  const after = (ms: number) => new Date(expiresAt.getTime() + ms);
  const processing = (ms: number) => recordAnswer(db, id, { state: 'processing' }, 'query', after(ms));
  expect((await processing(86_399_999)).attention).toBeNull();
  await processing(86_400_000);
  expect(await row(id)).toMatchObject({
    attention: 'channel_undecided',
    attentionSince: after(86_400_000),
    attentionDetail: 'One day after the expiry the channel still reports processing.',
  });
  await processing(90_000_000);
  expect((await row(id)).attentionSince).toEqual(after(86_400_000));
  await resolvePayment(db, merchantId, id, 'dismiss', 'They are slow today.', after(91_000_000));
  await processing(92_000_000);
  expect((await row(id)).attention).toBeNull();
  await recordAnswer(db, id, { state: 'failed' }, 'query', after(95_000_000));
  expect(await row(id)).toMatchObject({ status: 'failed', attention: null });
});

describe('an ended payment has received money, and its order then ends before the settlement', () => {
  /** Creates a closed payment. Its paid callback is stored and acknowledged, but not settled yet. */
  async function paidAfterItsEnd() {
    const payment = await attempt();
    await recordCreated(db, payment.id, ACTION, now());
    await endPayment(db, payment.id, 'closed', 'x', now());
    const { id, channelAccountId } = payment;
    const callback = ofTrade({ notificationId: `late-${id}`, outTradeNo: id, answer: PAID });
    await storeCallback(db, channelAccountId, callback, Buffer.from('{}'), now());
    return payment;
  }
  const orderWhere = ({ orderId }: Payment) => ({ merchantId_id: { merchantId, id: orderId } });
  async function lookAtEnd(payment: Payment) {
    return await releaseEndingOrder(db, { merchantId, id: payment.orderId }, now());
  }

  test('the money pays the order if the cancellation of the order was only requested', async () => {
    const payment = await paidAfterItsEnd();
    expect(await cancelOrder(db, merchantId, payment.orderId, now())).toEqual({ status: 'unpaid', live: [] });
    expect(await lookAtEnd(payment)).toBe(false);
    const { snapshot, refund } = await settlePayment(db, payment.id, now());
    expect([snapshot.orderUpdate, refund, await orderOf(payment)]).toEqual(['applied', null, 'succeeded']);
  });

  test('the money pays the order if the order has expired', async () => {
    const payment = await paidAfterItsEnd();
    await db.order.update({ where: orderWhere(payment), data: { expiresAt: new Date(Date.now() - 1) } });
    expect(await lookAtEnd(payment)).toBe(false);
    expect((await settlePayment(db, payment.id, now())).snapshot.orderUpdate).toBe('applied');
  });

  test.each([
    ['cancelled', { cancelRequestedAt: new Date() }],
    ['closed', { expiresAt: new Date(Date.now() - 1) }],
  ])('the order becomes %s if the money was refunded in full before the settlement', async (status, data) => {
    const payment = await paidAfterItsEnd();
    await recordAnswer(db, payment.id, { ...PAID, state: 'refunded' }, 'query', now());
    await db.order.update({ where: orderWhere(payment), data });
    expect(await lookAtEnd(payment)).toBe(false);
    expect((await settlePayment(db, payment.id, now())).snapshot.orderUpdate).toBe('conflict');
    expect(await orderOf(payment)).toBe(status);
  });
});
