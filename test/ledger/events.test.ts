import { expect, test } from 'vitest';
import type { ChannelAnswer } from '../../src/domain/channel.ts';
import type { LedgerClient } from '../../src/ledger/client.ts';
import { findPendingDeliveries, recordAttempt } from '../../src/ledger/deliveries.ts';
import { eventMessage } from '../../src/ledger/event-data.ts';
import { type FeedPosition, listEvents } from '../../src/ledger/event-feed.ts';
import { insertPayment } from '../../src/ledger/new-payment.ts';
import { underOrderLock, update } from '../../src/ledger/order-lock.ts';
import { endPayment, recordAnswer, settlePayment } from '../../src/ledger/payments.ts';
import { recordRefundAnswer } from '../../src/ledger/refund-answers.ts';
import { requestRefund } from '../../src/ledger/refunds.ts';
import { removeOld } from '../../src/ledger/retention.ts';
import type { Payment } from '../../src/ledger/rows.ts';
import { takeOverdueDeliveries } from '../../src/ledger/sweep.ts';
import {
  answered,
  db,
  eventsOf,
  merchantId,
  newPaid,
  newPayment,
  newPending,
  now,
  PAID,
  withOrderService,
} from './events-support.ts';

/**
 * Tests that an event is written in the same transaction as the change that it reports. A reader with a cursor misses
 * no event.
 */

const DAY = 86_400_000;

test('each end of a payment or a refund is recorded as one event, and the versions of the events increase', async () => {
  const { id } = await newPaid();
  // Calls that are repeated, come late, or would end the payment differently write no further event.
  await settlePayment(db, id, now());
  await endPayment(db, id, 'closed', 'late', now());
  for (const state of ['succeeded', 'failed'] as const) {
    const asked = { amount: 400, note: 'why', idempotencyKey: `${id}-${state}` };
    const { refund } = await requestRefund(db, id, asked, now());
    const answer =
      state === 'succeeded'
        ? ({ state, channelRefundId: 'r', amount: 400 } as const)
        : ({ state, reason: 'The account is closed.' } as const);
    for (let i = 0; i < 2; i++) await recordRefundAnswer(db, refund.id, answer, now());
  }
  await recordAnswer(db, id, { ...PAID, refundedAmount: 600 } as ChannelAnswer, 'query', now());
  const events = await eventsOf(id);
  expect(events.map(({ type }) => type)).toEqual([
    'payment.succeeded',
    'refund.succeeded',
    'refund.failed',
    'refund.succeeded',
  ]);
  const versions = events.map(({ version }) => version);
  expect(versions).toEqual([...new Set(versions)].sort((a, b) => a - b));
  expect(events.map(({ delivery }) => delivery)).toEqual([null, null, null, null]);
  expect(eventMessage(events[0] as (typeof events)[0])).toMatchObject({
    type: 'payment.succeeded',
    timestamp: events[0]?.createdAt.toISOString(),
    data: {
      version: events[0]?.version,
      payment: { id, status: 'succeeded', orderUpdate: 'applied', receivedAmount: 1000 },
      order: { status: 'succeeded', paidPaymentId: id, metadata: { a: 'b' } },
    },
  });
  // The event shows the state at the end of its transaction. The events are in the sequence of the changes.
  expect(events[3]?.data).toMatchObject({
    payment: { refundedAmount: 600, attention: 'channel_reversed' },
    refund: { reason: 'external', amount: 200, status: 'succeeded' },
  });

  for (const to of ['failed', 'cancelled', 'closed'] as const) {
    const ended = await newPayment();
    await endPayment(db, ended.id, to, 'a test', now());
    await endPayment(db, ended.id, to, 'again', now());
    expect((await eventsOf(ended.id)).map(({ type }) => type)).toEqual([`payment.${to}`]);
    // nodrop also writes an event for money that arrives after the end of the payment.
    await recordAnswer(db, ended.id, PAID, 'query', now());
    await settlePayment(db, ended.id, now());
    expect((await eventsOf(ended.id)).map(({ type }) => type)).toEqual([
      `payment.${to}`,
      'payment.succeeded',
    ]);
  }
});

test('a change that is rolled back leaves no event', async () => {
  const { id } = await newPayment();
  const attempt = underOrderLock(db, id, now(), async ({ tx, newEvents }) => {
    await update(tx, id, { status: 'closed', endedAt: now() });
    newEvents.push({ type: 'payment.closed' });
    // The second event cannot be written. So the change and the first event must also be rolled back.
    newEvents.push({ type: 'refund.failed', refundId: 're_none' });
  });
  await expect(attempt).rejects.toThrow();
  expect(await db.payment.findUniqueOrThrow({ where: { id } })).toMatchObject({
    status: 'created',
    eventVersion: 0,
  });
  expect(await eventsOf(id)).toEqual([]);
});

test('if the database loses its last commits, new events do not reuse the versions of the lost events', async () => {
  const { id, createdAt } = await newPaid();
  const at = (seconds: number) => new Date(createdAt.getTime() + seconds * 1000);
  const { eventVersion } = await db.payment.findUniqueOrThrow({ where: { id } });
  await recordAnswer(db, id, { ...PAID, refundedAmount: 200 } as ChannelAnswer, 'query', at(60));
  const [lost] = (await eventsOf(id)).slice(-1);
  // The database is now in the state of a standby that has not received the last commit.
  await db.event.deleteMany({ where: { paymentId: id, version: { gt: eventVersion } } });
  await db.payment.update({ where: { id }, data: { eventVersion } });
  await recordAnswer(db, id, { ...PAID, refundedAmount: 400 } as ChannelAnswer, 'query', at(90));
  expect((await eventsOf(id)).at(-1)?.version).toBeGreaterThan(lost?.version ?? Number.POSITIVE_INFINITY);
});

test('a reader with a cursor gets every event of many payments that end at the same time', async () => {
  const payments: Payment[] = [];
  for (let i = 0; i < 30; i++) payments.push(await newPayment());
  let ending = true;
  const seen: string[] = [];
  const read = async () => {
    for (let after: FeedPosition | null = null; ; ) {
      const wasEnding = ending;
      const { events, next }: Awaited<ReturnType<typeof listEvents>> = await listEvents(db, merchantId, {
        limit: 7,
        after,
      });
      seen.push(...events.map(({ paymentId }) => paymentId));
      after = next;
      if (events.length === 0 && !wasEnding) return;
    }
  };
  const end = ({ id }: Payment) => endPayment(db, id, 'closed', 'a test', now());
  const endAll = async () => {
    // The test runs as many concurrent transactions as can get a connection without waiting, even on a busy machine.
    for (let i = 0; i < payments.length; i += 10) await Promise.all(payments.slice(i, i + 10).map(end));
    ending = false;
  };
  await Promise.all([read(), endAll()]);
  expect(seen.toSorted()).toEqual(payments.map(({ id }) => id).toSorted());
});

test('if the last event that a reader got is deleted while it reads, the reader still gets every later event', async () => {
  const payments: Payment[] = [];
  for (let i = 0; i < 3; i++) payments.push(await newPayment());
  for (const { id } of payments) await endPayment(db, id, 'closed', 'a test', now());
  let { next: after } = await listEvents(db, merchantId, { limit: 2, after: null });
  // Before each query of the reader, the events that the reader already has are deleted.
  for (let nth = 1; nth <= 4; nth++) {
    await db.event.updateMany({
      where: { merchantId, seq: { lte: after.seq } },
      data: { createdAt: new Date(0) },
    });
    let queries = 0;
    const racing = db.$extends({
      query: {
        $allModels: {
          async $allOperations({ args, query }) {
            queries += 1;
            if (queries === nth) await removeOld(db, now());
            return query(args);
          },
        },
      },
    }) as unknown as LedgerClient;
    const { events, next } = await listEvents(racing, merchantId, { limit: 1, after });
    expect(queries).toBe(4);
    expect(events.map(({ paymentId }) => paymentId)).toEqual(
      payments.slice(nth + 1, nth + 2).map(({ id }) => id),
    );
    payments.push(await newPayment());
    await endPayment(db, payments.at(-1)?.id ?? '', 'closed', 'a test', now());
    after = next;
  }
});

test("if the merchant has an order service, a settled payment waits for the order service's answer, and every event has a delivery", async () => {
  await withOrderService();
  const payment = await newPaid();
  expect(payment).toMatchObject({ status: 'succeeded', orderUpdate: 'pending', orderUpdatedAt: null });
  const order = { merchantId_id: { merchantId, id: payment.orderId } };
  expect(await db.order.findUniqueOrThrow({ where: order })).toMatchObject({ status: 'succeeded' });
  const { id } = await newPayment();
  await endPayment(db, id, 'failed', 'a test', now());
  expect((await eventsOf(payment.id))[0]?.delivery).toMatchObject({ status: 'pending', attempts: 0 });
  expect((await eventsOf(id))[0]?.delivery).toMatchObject({ status: 'pending', attempts: 0 });
});

test('when an order is paid, the pending deliveries of its other attempts also start immediately', async () => {
  await withOrderService();
  await db.merchant.update({ where: { id: merchantId }, data: { latePayment: 'review' } });
  const late = await newPayment();
  const { payment: second } = await insertPayment(
    db,
    merchantId,
    { id: late.orderId },
    {
      channel: 'simulator',
      method: 'qr',
      payer: undefined,
      returnUrl: undefined,
      metadata: {},
      expiresInMs: 60_000,
      askedAttempts: new Set([late.id]),
    },
    () => 'another hash',
    now(),
  );
  await endPayment(db, late.id, 'closed', 'a test', now());
  const paidAt = new Date(Date.now() + 3_600_000).toISOString();
  for (const { id } of [late, second]) {
    await recordAnswer(db, id, { ...PAID, channelPaymentId: `trx-${id}`, paidAt }, 'query', now());
    await settlePayment(db, id, now());
  }
  const conflict = (await eventsOf(late.id)).at(-1);
  expect(conflict?.type).toBe('payment.conflict');
  const told = (await findPendingDeliveries(db, second.id)).map(({ id }) => id);
  expect(told).toContain(conflict?.delivery?.id);
});

test.each([
  ['refunded', { state: 'refunded' }],
  ['paid, and refunded in full', { refundedAmount: 1000 }],
] as const)(
  'money that the channel first reports as %s pays no order, and no event says that the order is paid',
  async (_name, changes) => {
    await withOrderService();
    const { id, orderId } = await newPayment();
    await recordAnswer(db, id, { ...PAID, ...changes } as ChannelAnswer, 'query', now());
    await settlePayment(db, id, now());
    const events = await eventsOf(id);
    expect(events.map(({ type }) => type)).toEqual(['payment.conflict', 'refund.succeeded']);
    for (const { data } of events)
      expect(data).toMatchObject({
        payment: { status: 'succeeded', orderUpdate: 'conflict', receivedAmount: 1000, refundedAmount: 1000 },
      });
    const order = { merchantId_id: { merchantId, id: orderId } };
    expect(await db.order.findUniqueOrThrow({ where: order })).toMatchObject({
      status: 'unpaid',
      paidPaymentId: null,
    });
  },
);

test('the sweep takes only deliveries that no workflow is attempting, and takes each of them once', async () => {
  await withOrderService();
  const at = Date.now();
  const rows = {
    forgotten: { createdAt: new Date(at - 31_000) },
    new: { createdAt: new Date(at - 29_000) },
    overdue: { createdAt: new Date(at - DAY), nextAttemptAt: new Date(at - 121_000) },
    waiting: { createdAt: new Date(at - DAY), nextAttemptAt: new Date(at - 119_000) },
    later: { createdAt: new Date(at - DAY), nextAttemptAt: new Date(at + DAY) },
    hurried: { createdAt: new Date(at - DAY), nextAttemptAt: null },
    settled: { createdAt: new Date(at - DAY), status: 'delivered', settledAt: now() },
  };
  const names = new Map<string, string>();
  for (const [name, data] of Object.entries(rows)) {
    const payment = await newPaid();
    const { id } = await db.delivery.findFirstOrThrow({ where: { paymentId: payment.id } });
    names.set(id, name);
    await db.delivery.update({ where: { id }, data });
  }
  const taken = (await takeOverdueDeliveries(db, new Date(at))).flatMap(({ id }) => names.get(id) ?? []);
  expect(taken.toSorted()).toEqual(['forgotten', 'hurried', 'overdue']);
  const again = await takeOverdueDeliveries(db, new Date(at));
  expect(again.filter(({ id }) => names.has(id))).toEqual([]);
});

test('events are deleted after 30 days, except events with a pending delivery', async () => {
  const delivered = await newPaid();
  const { payment: undelivered, delivery } = await newPending();
  const young = await newPaid();
  for (const { id } of [delivered, undelivered])
    await db.event.updateMany({
      where: { paymentId: id },
      data: { createdAt: new Date(Date.now() - 31 * DAY) },
    });
  await db.event.updateMany({
    where: { paymentId: young.id },
    data: { createdAt: new Date(Date.now() - 29 * DAY) },
  });
  const left = async () =>
    (await Promise.all([delivered, undelivered, young].map(({ id }) => eventsOf(id)))).map(
      ({ length }) => length,
    );
  await removeOld(db, now());
  expect(await left()).toEqual([0, 1, 1]);
  await recordAttempt(db, delivery.id, answered('agreed'), 0, now());
  await removeOld(db, now());
  expect(await left()).toEqual([0, 0, 1]);
  expect(await db.delivery.count({ where: { paymentId: undelivered.id } })).toBe(0);
});
