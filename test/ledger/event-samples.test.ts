import { expect, test } from 'vitest';
import { eventOf } from '../../src/api/schemas/event.ts';
import { decideSuccess } from '../../src/domain/decision.ts';
import { EVENT_TYPES } from '../../src/domain/event.ts';
import { isAutomaticRefundId, newPaymentId } from '../../src/domain/ids.ts';
import { eventMessage } from '../../src/ledger/event-data.ts';
import { sampleEvents, testEvents } from '../../src/ledger/event-samples.ts';
import { recordEvent } from '../../src/ledger/events.ts';
import { ensureMerchant } from '../../src/ledger/merchants.ts';
import { useDatabase } from '../support/stack.ts';

/** Tests that sample events have the same fields as real events. Test events are marked as such, and pay no order. */

const { db } = useDatabase();

const NOW = new Date('2026-11-27T08:00:00.000Z');

/** Returns the body of an event that the ledger wrote. */
async function writtenEvent(type: 'payment.closed' | 'refund.failed') {
  const { merchant } = await ensureMerchant(db, type, ['simulator']);
  const account = await db.channelAccount.findFirstOrThrow({ where: { merchantId: merchant.id } });
  const [paymentId, refundId] = [`pay_${type.replace('.', '_')}`, `re_${type.replace('.', '_')}`];
  const money = { amount: 1990n, currency: 'CNY' };
  await db.order.create({ data: { merchantId: merchant.id, id: 'order', ...money, subject: 'Coffee' } });
  const payment = {
    id: paymentId,
    merchantId: merchant.id,
    orderId: 'order',
    ...money,
    ...{ channel: 'simulator', channelAccountId: account.id, method: 'wallet', clientTokenHash: 'none' },
    ...{ status: 'closed', expiresAt: NOW },
  };
  await db.payment.create({ data: payment });
  const refund = { id: refundId, merchantId: merchant.id, paymentId, reason: 'external', status: 'failed' };
  if (type === 'refund.failed') await db.refund.create({ data: { ...refund, ...money } });
  const newEvent = type === 'refund.failed' ? { type, refundId } : { type };
  await db.$transaction((tx) => recordEvent(tx, paymentId, newEvent, NOW));
  return eventMessage(await db.event.findFirstOrThrow({ where: { paymentId } }));
}

/** Returns the names of all fields of a value, including nested fields. */
const shape = (value: unknown): unknown =>
  typeof value === 'object' && value !== null
    ? Object.fromEntries(Object.entries(value).map(([name, inner]) => [name, shape(inner)]))
    : null;

test('every event type has a sample with the same fields as a real event', async () => {
  const samples = sampleEvents();
  expect([...samples.keys()]).toEqual([...EVENT_TYPES]);
  const [closed, failed] = [await writtenEvent('payment.closed'), await writtenEvent('refund.failed')];
  for (const [type, body] of samples) {
    // The schema is strict. So the test fails if a sample has a field that the documented schema lacks.
    expect(eventOf(type).strict().parse(body)).toEqual(body);
    expect(shape(JSON.parse(JSON.stringify(body)))).toEqual(
      shape(JSON.parse(JSON.stringify(type.startsWith('refund.') ? failed : closed))),
    );
  }
});

const samples = () => [
  ...[...sampleEvents()].map(([type, body]) => ({ what: `the sample of ${type}`, body })),
  ...testEvents(NOW).map(({ body }) => ({ what: `the test event of ${body.type}`, body })),
];

test('the version of every event is higher than the number of seconds since the payment was created', () => {
  for (const { what, body } of samples()) {
    const age = Date.parse(body.timestamp) - Date.parse(body.data.payment.createdAt);
    expect(body.data.version, what).toBeGreaterThan(Math.floor(age / 1000));
  }
});

test('every event sample shows a possible state of the ledger', async () => {
  const { merchant } = await ensureMerchant(db, 'samples', ['simulator']);
  const account = await db.channelAccount.findFirstOrThrow({ where: { merchantId: merchant.id } });
  const kept = { merchantId: merchant.id };
  for (const { what, body } of samples()) {
    const { payment, order, refund } = body.data;
    // The times of the steps, in the sequence in which the steps happen. Times that are null are left out.
    const times = Object.entries({
      orderCreated: order.createdAt,
      created: payment.createdAt,
      cancelRequested: payment.cancelRequestedAt,
      paid: payment.paidAt,
      settled: payment.settledAt,
      orderUpdated: payment.orderUpdatedAt,
      refundCreated: refund?.createdAt ?? null,
      refundSettled: refund?.settledAt ?? null,
      attention: payment.attentionSince,
      told: body.timestamp,
    }).filter(([, time]) => time !== null);
    expect(times, what).toEqual(times.toSorted(([, a], [, b]) => String(a).localeCompare(String(b))));
    const expired = payment.expiresAt <= body.timestamp;
    if (payment.status === 'closed') expect(expired, what).toBe(true);
    if (payment.status === 'failed' || payment.status === 'cancelled') expect(expired, what).toBe(false);

    // The test event `payment.succeeded` shows a full refund. No other event shows a refunded amount without the refund
    // itself.
    const isBack = body.test === true && body.type === 'payment.succeeded';
    const given = refund?.status === 'succeeded' ? refund.amount : 0;
    expect(payment.refundedAmount, what).toBe(isBack ? payment.receivedAmount : given);
    if (refund !== undefined) {
      expect(refund.status, what).toBe(body.type.slice('refund.'.length));
      expect(refund.failure === null, what).toBe(refund.status === 'succeeded');
      expect([refund.paymentId, refund.currency], what).toEqual([payment.id, payment.currency]);
      // An automatic refund has a reason other than `requested`, and its payment's `orderUpdate` is `conflict`. This is
      // true of no other refund.
      const isOwed = isAutomaticRefundId(refund.id, payment.id);
      expect([isOwed, isOwed], what).toEqual([
        refund.reason !== 'requested',
        payment.orderUpdate === 'conflict',
      ]);
    }

    const isPaid = payment.status === 'succeeded';
    const isDecided = isPaid && payment.orderUpdate !== 'pending';
    expect(payment.orderUpdatedAt !== null, what).toBe(isDecided);
    const [, end = ''] = body.type.split('.');
    if (body.type.startsWith('payment.')) {
      expect(isPaid ? payment.orderUpdate : payment.status, what).toBe(
        isBack ? 'applied' : body.type === 'payment.succeeded' ? 'pending' : end,
      );
    }
    const pays = payment.orderUpdate === 'pending' || payment.orderUpdate === 'applied';
    const isAllBack = isPaid && payment.refundedAmount === payment.receivedAmount;
    const orderStatus = pays
      ? isAllBack
        ? 'refunded'
        : 'succeeded'
      : order.cancelRequestedAt === null
        ? 'unpaid'
        : 'cancelled';
    expect(order, what).toMatchObject({
      status: orderStatus,
      ...{ amount: payment.amount, currency: payment.currency, id: payment.orderId },
      ...{ paidPaymentId: pays ? payment.id : null, paidAt: pays ? payment.paidAt : null },
      cancelRequestedAt: payment.cancelRequestedAt,
    });
    if (payment.orderUpdate === 'review' || payment.orderUpdate === 'conflict') {
      const decision = decideSuccess({
        orderStatus: order.status,
        paymentStatus: order.status === 'cancelled' ? 'cancelled' : 'closed',
        asked: payment,
        expiresAt: Date.parse(payment.expiresAt),
        latePayment: 'review',
        recovered: false,
        ...{ amount: order.amount, currency: order.currency },
        answer: {
          ...{ state: 'paid', channelPaymentId: 'sim', paidAt: String(payment.paidAt) },
          ...{ amount: payment.receivedAmount ?? 0, currency: payment.receivedCurrency ?? '' },
        },
      });
      expect(decision.orderUpdate, what).toBe(payment.orderUpdate);
      if (refund === undefined)
        expect(decision, what).toMatchObject({
          attention: payment.attention,
          detail: payment.attentionDetail,
        });
    } else expect(payment.attention, what).toBeNull();

    // Checks that the rows fulfil the constraints of the database.
    const [id, orderId] = [newPaymentId(), `order of ${what}`];
    const { status, paidAt, ...made } = order;
    await db.order.create({ data: { ...made, ...kept, id: orderId, paidPaymentId: null } });
    await db.payment.create({
      data: {
        ...payment,
        ...{ ...kept, id, orderId, channelAccountId: account.id, clientTokenHash: 'none' },
      },
    });
    const key = { merchantId_id: { merchantId: merchant.id, id: orderId } };
    const paidBy = { paidAt, paidPaymentId: pays ? id : null };
    if (status === 'refunded')
      await db.order.update({ where: key, data: { ...paidBy, status: 'succeeded' } });
    await db.order.update({ where: key, data: { ...paidBy, status } });
    if (refund !== undefined)
      await db.refund.create({
        data: { ...refund, ...kept, paymentId: id, id: `re_${id}`.slice(0, 32) },
      });
  }
});

test('a test event is marked, names an order and a payment that do not exist, and pays nothing', () => {
  const events = testEvents(NOW);
  expect(events.map(({ body }) => body.type)).toEqual([...EVENT_TYPES]);
  const ids = [...events, ...testEvents(NOW)].flatMap(({ id, body: { data } }) => [
    id,
    data.payment.id,
    data.order.id,
  ]);
  expect(new Set(ids).size).toBe(ids.length);
  for (const { body } of events) {
    const { payment, order } = body.data;
    expect(body).toMatchObject({ test: true, timestamp: NOW.toISOString() });
    expect(order.id).toMatch(/^nodrop-test-pay_\w{26}$/);
    expect(payment.orderId).toBe(order.id);
    // This is the condition that docs/three-things-your-shop-must-do.md gives to shops.
    const isHere = payment.status === 'succeeded' && payment.refundedAmount < (payment.receivedAmount ?? 0);
    expect(isHere && ['pending', 'applied'].includes(payment.orderUpdate ?? '')).toBe(false);
    expect(eventOf(body.type).strict().parse(body)).toEqual(body);
  }
});
