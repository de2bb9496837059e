import { afterAll, beforeAll, expect, test } from 'vitest';
import type { NextAction, PaidAnswer } from '../../src/domain/channel.ts';
import { storeCallback } from '../../src/ledger/callbacks.ts';
import { changeOrder } from '../../src/ledger/change-order.ts';
import { json, type LedgerClient } from '../../src/ledger/client.ts';
import { Connection } from '../../src/ledger/connection.ts';
import { ensureMerchant } from '../../src/ledger/merchants.ts';
import { insertPayment } from '../../src/ledger/new-payment.ts';
import { resolvePayment } from '../../src/ledger/operator-decision.ts';
import {
  endPayment,
  recordAnswer,
  recordCreated,
  requestCancel,
  settlePayment,
} from '../../src/ledger/payments.ts';
import { requestRefund } from '../../src/ledger/refunds.ts';
import type { Payment } from '../../src/ledger/rows.ts';
import { ofTrade } from '../support/callback.ts';
import { eventually, queryOnce, useDatabase } from '../support/stack.ts';

/**
 * Tests transactions of several processes that wait for the lock of one order, in both sequences. The later transaction
 * begins before the earlier one has committed, but it must use the state that the earlier one commits.
 */

const { db, databaseUrl, connect } = useDatabase();
/** Each process has one client, because a process runs only one transaction of an order at a time. */
const processes = [connect(), connect()];
let holder: Connection;
let merchantId: string;
beforeAll(async () => {
  holder = new Connection({ connectionString: databaseUrl });
  await holder.connect();
  merchantId = (await ensureMerchant(db, 'shop', ['simulator'])).merchant.id;
});
afterAll(async () => {
  await holder?.end();
});

const now = () => new Date();
const ACTION: NextAction = { type: 'redirect', url: 'https://wallet.example/' };
const PAID: PaidAnswer = {
  ...{ state: 'paid', channelPaymentId: 'trx', amount: 1000, currency: 'CNY' },
  paidAt: '2026-11-27T00:00:00.000Z',
};

type Step = (client: LedgerClient, payment: Payment) => Promise<unknown>;
const created: Step = (client, { id }) => recordCreated(client, id, ACTION, now());
const cancelled: Step = (client, { id }) => requestCancel(client, id, 'a test', now());
const ended: Step = (client, { id }) => endPayment(client, id, 'closed', 'a test.', now());
const settled: Step = (client, { id }) => settlePayment(client, id, now());
const calledBack =
  (answer: PaidAnswer): Step =>
  (client, { id, channelAccountId }) =>
    storeCallback(
      client,
      channelAccountId,
      ofTrade({ notificationId: `${id} ${answer.state}`, outTradeNo: id, answer }),
      Buffer.from('{}'),
      now(),
    );
const refunded: Step = (client, { id }) =>
  requestRefund(client, id, { amount: undefined, note: undefined, idempotencyKey: id }, now());
const patched =
  (change: { amount?: number; subject?: string }): Step =>
  (client, { orderId }) =>
    changeOrder(client, merchantId, orderId, change, new Set(), now());

let orders = 0;
async function newPayment(orderId = `order-${++orders}`, method = 'wallet'): Promise<Payment> {
  const order = {
    ...{ id: orderId, amount: 1000, currency: 'CNY', subject: 'x', metadata: {} },
    expiresInSeconds: undefined,
  };
  const live = await db.payment.findMany({ where: { orderId } });
  const given = {
    ...{ channel: 'simulator', method, payer: undefined, returnUrl: undefined, metadata: {} },
    ...{ expiresInMs: 600_000, askedAttempts: new Set(live.map(({ id }) => id)) },
  };
  return (await insertPayment(db, merchantId, order, given, () => 'hash', now())).payment;
}
/** Creates a payment whose money is recorded. */
async function paid(): Promise<Payment> {
  const payment = await newPayment();
  await created(db, payment);
  await recordAnswer(db, payment.id, PAID, 'query', now());
  return payment;
}

/**
 * Runs two steps, each as its own process. Both wait for the order's lock before the first step gets the lock. More
 * than two steps would compete for the lock after the first step has changed the row, and PostgreSQL promises no
 * sequence for them.
 */
async function inLine(payment: Payment, ...steps: [Step, Step]): Promise<PromiseSettledResult<unknown>[]> {
  await holder.query('begin');
  await holder.query('select from orders where merchant_id = $1 and id = $2 for update', [
    merchantId,
    payment.orderId,
  ]);
  const results: Promise<unknown>[] = [];
  for (const [nth, step] of steps.entries()) {
    const result = step(processes[nth] as LedgerClient, payment);
    result.catch(() => undefined);
    results.push(result);
    await eventually(async () => {
      const waiting = await queryOnce(
        databaseUrl,
        `select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`,
      );
      return waiting.length > nth;
    });
  }
  await holder.query('commit');
  return await Promise.allSettled(results);
}
const done = (value: object) => ({ status: 'fulfilled', value: expect.objectContaining(value) });
const refusedAs = (code: string) => ({ status: 'rejected', reason: expect.objectContaining({ code }) });

/** Returns the payment with its order, refunds, callbacks and events. */
const stateOf = ({ id }: Payment) =>
  db.payment.findUniqueOrThrow({
    where: { id },
    include: { order: true, refunds: true, callbacks: true, events: { orderBy: { version: 'asc' } } },
  });

test('a payment keeps both its next action and the paid answer of a callback, whichever nodrop records first', async () => {
  const [first, second] = [await newPayment(), await newPayment()];
  const both = {
    ...{ status: 'paying', nextAction: ACTION, channelAnswer: { ...PAID, by: 'callback' } },
    ...{ channelState: 'paid', order: { status: 'paying' }, callbacks: [{}] },
  };
  expect(await inLine(first, created, calledBack(PAID))).toEqual([
    done({ status: 'paying', answer: null }),
    done({ payment: expect.objectContaining({ status: 'paying' }) }),
  ]);
  expect(await stateOf(first)).toMatchObject(both);

  expect(await inLine(second, calledBack(PAID), created)).toEqual([
    done({ payment: expect.objectContaining({ status: 'created' }) }),
    done({ status: 'paying', answer: 'paid', channelState: 'paid' }),
  ]);
  expect(await stateOf(second)).toMatchObject(both);
});

test('a payment whose cancellation is requested before its creation is recorded gets no next action', async () => {
  const [first, second] = [await newPayment(), await newPayment()];
  expect(await inLine(first, created, cancelled)).toEqual([
    done({ status: 'paying', cancelRequested: false }),
    done({ status: 'paying', cancelRequested: true, nextActionReady: true }),
  ]);
  expect(await inLine(second, cancelled, created)).toEqual([
    done({ status: 'created', cancelRequested: true }),
    done({ status: 'paying', cancelRequested: true, nextActionReady: false }),
  ]);
  expect(await stateOf(second)).toMatchObject({ nextAction: null });
});

test('whether the end or the creation of a payment is recorded first, the payment is closed and the order can be paid again', async () => {
  const [first, second] = [await newPayment(), await newPayment()];
  const closed = { status: 'closed', order: { status: 'unpaid' }, events: [{ type: 'payment.closed' }] };
  expect(await inLine(first, created, ended)).toEqual([
    done({ status: 'paying' }),
    done({ status: 'closed' }),
  ]);
  expect(await stateOf(first)).toMatchObject({ ...closed, nextAction: ACTION });
  expect(await inLine(second, ended, created)).toEqual([
    done({ status: 'closed' }),
    done({ status: 'closed', nextActionReady: false }),
  ]);
  expect(await stateOf(second)).toMatchObject({ ...closed, nextAction: null });
});

test('if two attempts at an order are settled, the first pays the order and a refund of the second is due', async () => {
  const first = await paid();
  // This attempt was live when the first attempt paid the order.
  const second = await db.$transaction(async (tx) => {
    const { id, method, channelAnswer, nextAction, referenceData, payer, disputes, ...rest } =
      await tx.payment.findUniqueOrThrow({
        where: { id: first.id },
      });
    return await tx.payment.create({
      data: {
        ...rest,
        ...{ id: `${id}2`.slice(-32), method: 'qr', metadata: {}, channelAnswer: channelAnswer as object },
      },
    });
  });
  const settleSecond: Step = (client) => settlePayment(client, second.id, now());
  expect(await inLine(first, settled, settleSecond)).toEqual([
    done({ snapshot: expect.objectContaining({ orderUpdate: 'applied' }), cancelled: [second.id] }),
    done({
      snapshot: expect.objectContaining({ orderUpdate: 'conflict', attention: 'order_conflict' }),
      refund: expect.any(String),
    }),
  ]);
  expect(await stateOf(first)).toMatchObject({
    ...{ orderUpdate: 'applied', refunds: [], events: [{ type: 'payment.succeeded' }] },
    order: { status: 'succeeded', paidPaymentId: first.id },
  });
  expect(await stateOf({ ...first, id: second.id })).toMatchObject({
    ...{ orderUpdate: 'conflict', refunds: [{ reason: 'duplicate_payment', amount: 1000n }] },
    events: [{ type: 'payment.conflict' }],
  });
});

test('if two processes settle one payment, the second settlement has no effect', async () => {
  const payment = await paid();
  const [one, two] = await inLine(payment, settled, settled);
  const applied = { snapshot: expect.objectContaining({ orderUpdate: 'applied' }), refund: null };
  expect([one, two]).toEqual([done(applied), done(applied)]);
  expect(await stateOf(payment)).toMatchObject({ events: [{ type: 'payment.succeeded' }] });
});

test('before the settlement, a callback with a full refund leaves the order unpaid; after the settlement, the callback is only stored', async () => {
  const [first, second] = [await paid(), await paid()];
  const back = calledBack({ ...PAID, state: 'refunded' });
  await inLine(first, settled, back);
  expect(await stateOf(first)).toMatchObject({
    ...{ orderUpdate: 'applied', channelAnswer: { ...PAID, by: 'query' }, callbacks: [{}] },
    order: { status: 'succeeded' },
  });
  await inLine(second, back, settled);
  expect(await stateOf(second)).toMatchObject({
    ...{ orderUpdate: 'conflict', settledBy: 'callback', refundedAmount: 1000n, channelState: 'refunded' },
    ...{ refunds: [{ reason: 'external', status: 'succeeded' }], order: { status: 'unpaid' } },
  });
});

test('a refund request is refused before the settlement and accepted after the settlement', async () => {
  const [first, second] = [await paid(), await paid()];
  expect(await inLine(first, settled, refunded)).toEqual([done({ refund: null }), done({ created: true })]);
  expect(await stateOf(first)).toMatchObject({ refunds: [{ amount: 1000n }] });
  expect(await inLine(second, refunded, settled)).toEqual([
    refusedAs('not_refundable'),
    done({ snapshot: expect.objectContaining({ orderUpdate: 'applied' }) }),
  ]);
  expect(await stateOf(second)).toMatchObject({ refunds: [], order: { status: 'succeeded' } });
});

test('money of another attempt is refunded once, whether an operator’s refund or the settlement comes first', async () => {
  for (const isSettledFirst of [true, false]) {
    const inReview = await newPayment();
    await created(db, inReview);
    await recordAnswer(db, inReview.id, { ...PAID, amount: 900 }, 'query', now());
    await settled(db, inReview);
    const { id, channelAccountId, orderId } = inReview;
    const payment = await db.payment.create({
      data: {
        ...{ id: `${id}2`.slice(-32), merchantId, orderId, channel: 'simulator', channelAccountId },
        ...{ method: 'qr', amount: 1000n, currency: 'CNY', status: 'paying', clientTokenHash: '' },
        ...{ channelAnswer: json({ ...PAID, by: 'query' }), expiresAt: new Date(Date.now() + 600_000) },
      },
    });
    const settle: Step = (client) => settlePayment(client, payment.id, now());
    const refund: Step = (client) => resolvePayment(client, merchantId, id, 'refund', 'back', now());
    const results = await inLine(
      inReview,
      ...(isSettledFirst ? ([settle, refund] as const) : ([refund, settle] as const)),
    );
    const applied = done({ snapshot: expect.objectContaining({ orderUpdate: 'applied' }) });
    if (isSettledFirst) expect(results).toEqual([applied, refusedAs('not_resolvable')]);
    else expect(results).toEqual([done({ refunds: [expect.anything()] }), applied]);
    expect(await stateOf(inReview)).toMatchObject({
      ...{ orderUpdate: 'conflict', order: { paidPaymentId: payment.id } },
      refunds: [{ amount: 900n, reason: isSettledFirst ? 'duplicate_payment' : 'requested' }],
    });
  }
});

test('if the settlement comes before a PATCH, the PATCH is refused; if the PATCH comes first, the event contains its change', async () => {
  const [first, second, third] = [await paid(), await paid(), await newPayment()];
  expect(await inLine(first, settled, patched({ subject: 'y' }))).toEqual([
    done({ refund: null }),
    refusedAs('order_already_paid'),
  ]);
  await inLine(second, patched({ subject: 'y' }), settled);
  expect(await stateOf(second)).toMatchObject({
    order: { subject: 'y', status: 'succeeded' },
    events: [{ data: { order: { subject: 'y', status: 'succeeded' } } }],
  });
  // The attempt has ended, so the order's amount can be changed. Then the money of the ended attempt arrives.
  await ended(db, third);
  await inLine(third, patched({ amount: 2000 }), calledBack(PAID));
  await settled(db, third);
  expect(await stateOf(third)).toMatchObject({
    ...{ status: 'succeeded', orderUpdate: 'review', attention: 'amount_mismatch' },
    order: { status: 'unpaid', amount: 2000n },
  });
});
