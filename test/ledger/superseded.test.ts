import { beforeEach, describe, expect, test } from 'vitest';
import type { ChannelAnswer } from '../../src/domain/channel.ts';
import { storeCallback } from '../../src/ledger/callbacks.ts';
import {
  findDelivery,
  findPendingDelivery,
  leaseDelivery,
  mayBeRedelivered,
  recordAttempt,
  requestRedelivery,
  showOverdue,
} from '../../src/ledger/deliveries.ts';
import { listEvents } from '../../src/ledger/event-feed.ts';
import { ensureMerchant } from '../../src/ledger/merchants.ts';
import { insertPayment } from '../../src/ledger/new-payment.ts';
import { resolvePayment } from '../../src/ledger/operator-decision.ts';
import { endPayment, recordAnswer, settlePayment } from '../../src/ledger/payments.ts';
import { recordFirstAsk, recordRefundAnswer } from '../../src/ledger/refund-answers.ts';
import { requestRefund } from '../../src/ledger/refunds.ts';
import { recordRefundsOfCallback } from '../../src/ledger/reversals.ts';
import type { Payment } from '../../src/ledger/rows.ts';
import { ofTrade } from '../support/callback.ts';
import { useDatabase } from '../support/stack.ts';

/** Tests that nodrop marks a pending event as superseded in the transaction that makes the event untrue. */

const { db } = useDatabase();
let merchantId: string;
let merchants = 0;
beforeEach(async () => {
  merchants += 1;
  merchantId = (await ensureMerchant(db, `shop-${merchants}`, ['simulator'])).merchant.id;
  await db.merchant.update({
    where: { id: merchantId },
    data: { orderServiceUrl: 'https://shop.example/events' },
  });
});

const now = () => new Date();
const PAID: ChannelAnswer = {
  state: 'paid',
  channelPaymentId: 'trx',
  amount: 1000,
  currency: 'CNY',
  paidAt: new Date().toISOString(),
};
const backAtChannel = (refundedAmount: number): ChannelAnswer =>
  ({ ...PAID, refundedAmount }) as ChannelAnswer;
const answered = (outcome: 'agreed' | 'conflict' | 'gone' | 'unknown', at = now()) => ({
  ...{ outcome, statusCode: 200, detail: 'It answered.', durationMs: 1, at },
});
const REFUSED = { state: 'failed', reason: 'The account is closed.' } as const;

let orders = 0;
/** @param orderId if given, the new payment is a second attempt at this order, with another method */
async function newPayment(orderId?: string): Promise<Payment> {
  orders += 1;
  const order = {
    id: `order-${orders}`,
    ...{ amount: 1000, currency: 'CNY', subject: 'x', metadata: {}, expiresInSeconds: undefined },
  };
  const given = {
    channel: 'simulator',
    method: orderId === undefined ? 'wallet' : 'qr',
    payer: undefined,
    returnUrl: undefined,
    metadata: {},
    expiresInMs: 60_000,
    askedAttempts: new Set((await db.payment.findMany({ select: { id: true } })).map(({ id }) => id)),
  };
  const of = orderId === undefined ? order : { id: orderId };
  return (await insertPayment(db, merchantId, of, given, () => `hash-${orders}`, now())).payment;
}

async function pay({ id }: Payment, answer: ChannelAnswer = PAID): Promise<void> {
  await recordAnswer(db, id, { ...answer, channelPaymentId: `trx-${id}` } as ChannelAnswer, 'query', now());
  await settlePayment(db, id, now());
}

/** Creates a payment that waits for its order service. */
async function newPending(): Promise<Payment> {
  const payment = await newPayment();
  await pay(payment);
  expect(await row(payment)).toMatchObject({ orderUpdate: 'pending' });
  return payment;
}

const row = ({ id }: Payment) => db.payment.findUniqueOrThrow({ where: { id } });
const orderOf = ({ orderId: id }: Payment) =>
  db.order.findUniqueOrThrow({ where: { merchantId_id: { merchantId, id } } });
const eventsOf = ({ id }: Payment) =>
  db.event.findMany({ where: { paymentId: id }, include: { delivery: true }, orderBy: { version: 'asc' } });
/** Returns the type and the delivery status of each event, in the sequence of the events. */
const toldOf = async (payment: Payment) =>
  (await eventsOf(payment)).map(({ type, delivery }) => `${type} ${delivery?.status}`);
const deliveryOf = async (payment: Payment) =>
  (await eventsOf(payment)).find(({ type }) => type === 'payment.succeeded')?.delivery?.id ?? '';

let keys = 0;
/**
 * Requests a refund, which the channel makes.
 * @param given the amount that the channel gives back
 */
async function giveBack(payment: Payment, amount: number | undefined, given = amount ?? 1000) {
  const { id } = await ask(payment, amount);
  await recordRefundAnswer(db, id, { state: 'succeeded', channelRefundId: 'r', amount: given }, now());
}
async function ask({ id }: Payment, amount: number | undefined) {
  keys += 1;
  const wanted = { amount, note: undefined, idempotencyKey: `key-${keys}` };
  return (await requestRefund(db, id, wanted, now())).refund;
}
async function callBack({ id, channelAccountId }: Payment, answer: ChannelAnswer) {
  keys += 1;
  const callback = ofTrade({ notificationId: `n-${keys}`, outTradeNo: id, answer });
  const stored = await storeCallback(db, channelAccountId, callback, Buffer.from('{}'), now());
  await recordRefundsOfCallback(db, id, stored.id, now());
}

const WAYS: Record<string, (payment: Payment) => Promise<unknown>> = {
  'by one requested refund': (payment) => giveBack(payment, undefined),
  'by several requested refunds': async (payment) => {
    for (const amount of [300, 500]) await giveBack(payment, amount);
    expect(await row(payment)).toMatchObject({ orderUpdate: 'pending' });
    await giveBack(payment, 200);
  },
  'by a refund that gave back more than requested': (payment) => giveBack(payment, 400, 1000),
  'at the channel, found by a query': ({ id }) => recordAnswer(db, id, backAtChannel(1000), 'query', now()),
  'at the channel, found as refunded': ({ id }) =>
    recordAnswer(db, id, { ...PAID, state: 'refunded' } as ChannelAnswer, 'hint', now()),
  'at the channel, reported by a callback': (payment) => callBack(payment, backAtChannel(1000)),
  'at the channel, found when another refund is requested': async (payment) =>
    recordFirstAsk(db, (await ask(payment, undefined)).id, backAtChannel(1000), now()),
  'in part by a refund and in part at the channel': async (payment) => {
    await giveBack(payment, 400);
    await callBack(payment, backAtChannel(900));
    expect(await row(payment)).toMatchObject({ orderUpdate: 'pending' });
    await recordAnswer(db, payment.id, backAtChannel(1000), 'query', now());
  },
  'in part at the channel, found with the answer about the rest': async (payment) => {
    const { id } = await ask(payment, 600);
    const answer = { state: 'succeeded', channelRefundId: 'r', amount: 600 } as const;
    await recordRefundAnswer(db, id, answer, now(), backAtChannel(1000));
  },
};

describe.each(Object.entries(WAYS))('all of the money was given back %s', (_, giveAllBack) => {
  test('a conflict event supersedes the undelivered success, has a delivery and is in the feed', async () => {
    const payment = await newPending();
    const { next: after } = await listEvents(db, merchantId, { limit: 10, after: null });
    const [before] = await eventsOf(payment);
    await giveAllBack(payment);
    const { events } = await listEvents(db, merchantId, { limit: 20, after });
    expect(await row(payment)).toMatchObject({
      ...{ status: 'succeeded', orderUpdate: 'conflict', orderUpdatedAt: expect.any(Date) },
      ...{ receivedAmount: 1000n, refundedAmount: 1000n },
    });
    expect(await orderOf(payment)).toMatchObject({ status: 'refunded', paidPaymentId: payment.id });
    const [success, ...others] = await eventsOf(payment);
    expect(success).toEqual({
      ...before,
      delivery: {
        ...before?.delivery,
        ...{ status: 'superseded', settledAt: expect.any(Date), nextAttemptAt: null, leasedUntil: null },
      },
    });
    const conflict = others.find(({ type }) => type === 'payment.conflict');
    expect(conflict?.delivery).toMatchObject({ status: 'pending', attempts: 0 });
    expect(conflict?.data).toMatchObject({
      payment: { orderUpdate: 'conflict', refundedAmount: 1000 },
      order: { status: 'refunded' },
    });
    expect(events.filter(({ type }) => type === 'payment.conflict').map(({ id }) => id)).toEqual([
      conflict?.id,
    ]);
    expect(await findPendingDelivery(db, payment.id)).toBeNull();
    expect(await leaseDelivery(db, success?.delivery?.id ?? '', now())).toEqual({ kind: 'settled' });
    // In this case no refund is due, and none is processing.
    const open = { paymentId: payment.id, status: { in: ['created', 'processing'] } };
    expect(await db.refund.count({ where: open })).toBe(0);
  });

  test.each(['agreed', 'conflict', 'gone', 'unknown'] as const)(
    'if a delivery attempt of the success is already running and is answered %s, the answer is logged and has no effect',
    async (outcome) => {
      const payment = await newPending();
      const deliveryId = await deliveryOf(payment);
      const at = now();
      expect(await leaseDelivery(db, deliveryId, at)).toMatchObject({ kind: 'now' });
      await giveAllBack(payment);
      const decided = await row(payment);
      const told = await toldOf(payment);
      const after = await recordAttempt(db, deliveryId, answered(outcome, at), 0, now());
      expect(after).toMatchObject({ status: 'superseded', telling: null, toldByPayment: false });
      expect(await row(payment)).toEqual(decided);
      expect(await toldOf(payment)).toEqual(told);
      expect(await db.deliveryAttempt.findMany({ where: { deliveryId } })).toMatchObject([{ outcome }]);
      const notes = await db.timelineEntry.count({
        where: { paymentId: payment.id, kind: 'order', detail: { contains: 'superseded meanwhile' } },
      });
      expect(notes).toBe(outcome === 'agreed' ? 1 : 0);
    },
  );
});

test('order_update_failing is cleared when the undelivered success is superseded', async () => {
  const payment = await newPending();
  const deliveryId = await deliveryOf(payment);
  const at = now();
  await leaseDelivery(db, deliveryId, at);
  await showOverdue(db, deliveryId, new Date(at.getTime() + 600_000));
  expect(await row(payment)).toMatchObject({ attention: 'order_update_failing' });
  await giveBack(payment, undefined);
  expect(await row(payment)).toMatchObject({ attention: null, orderUpdate: 'conflict' });
  // The attention is not raised again.
  await showOverdue(db, deliveryId, new Date(at.getTime() + 1_200_000));
  expect(await row(payment)).toMatchObject({ attention: null });
});

test('a partial refund does not supersede an undelivered success', async () => {
  const payment = await newPending();
  await giveBack(payment, 999);
  await recordRefundAnswer(db, (await ask(payment, 1)).id, REFUSED, now(), backAtChannel(999));
  expect(await row(payment)).toMatchObject({ orderUpdate: 'pending', refundedAmount: 999n });
  expect(await toldOf(payment)).toEqual([
    'payment.succeeded pending',
    'refund.succeeded pending',
    'refund.failed pending',
  ]);
  await recordAttempt(db, await deliveryOf(payment), answered('agreed'), 0, now());
  expect(await row(payment)).toMatchObject({ orderUpdate: 'applied' });
});

test('a full refund supersedes the undelivered event of an earlier partial refund', async () => {
  const payment = await newPending();
  await giveBack(payment, 999);
  await giveBack(payment, undefined);
  expect(await toldOf(payment)).toEqual([
    'payment.succeeded superseded',
    'refund.succeeded superseded',
    'refund.succeeded pending',
    'payment.conflict pending',
  ]);
});

test('a full refund does not change a delivered success, and the payment stays applied', async () => {
  const payment = await newPending();
  await recordAttempt(db, await deliveryOf(payment), answered('agreed'), 0, now());
  await giveBack(payment, undefined);
  expect(await row(payment)).toMatchObject({ orderUpdate: 'applied', refundedAmount: 1000n });
  expect(await toldOf(payment)).toEqual(['payment.succeeded delivered', 'refund.succeeded pending']);
});

test('a delivered success is not redelivered after a full refund', async () => {
  const payment = await newPending();
  const deliveryId = await deliveryOf(payment);
  await recordAttempt(db, deliveryId, answered('agreed'), 0, now());
  await db.delivery.update({ where: { id: deliveryId }, data: { redeliveryAskedAt: now() } });
  expect(await mayBeRedelivered(db, await findDelivery(db, deliveryId), now())).toBe(true);
  await giveBack(payment, undefined);
  await expect(requestRedelivery(db, merchantId, deliveryId, 'a test', now())).rejects.toMatchObject({
    code: 'delivery_superseded',
  });
  expect(await mayBeRedelivered(db, await findDelivery(db, deliveryId), now())).toBe(false);
  expect(await findDelivery(db, deliveryId)).toMatchObject({ status: 'delivered', redeliveryAskedAt: null });
});

test('if an external refund turns out to be a refund that nodrop made, the payment stays refunded in full', async () => {
  const payment = await newPending();
  const { id } = await ask(payment, 400);
  // The channel did not know the number of nodrop's refund, and all money was refunded at the channel. After that, the
  // channel also makes nodrop's refund.
  await recordFirstAsk(db, id, backAtChannel(1000), now());
  const superseded = await row(payment);
  expect(superseded).toMatchObject({ orderUpdate: 'conflict', refundedAmount: 1000n });
  await recordRefundAnswer(
    db,
    id,
    { state: 'succeeded', channelRefundId: 'r', amount: 400 },
    now(),
    backAtChannel(1000),
  );
  expect(await row(payment)).toMatchObject({ orderUpdate: 'conflict', refundedAmount: 1000n });
  expect(await orderOf(payment)).toMatchObject({ status: 'refunded' });
  // The external refund was recorded wrongly, so its event is superseded. The conflict stays.
  expect(await toldOf(payment)).toEqual([
    'payment.succeeded superseded',
    'refund.succeeded superseded',
    'payment.conflict pending',
    'refund.failed pending',
    'refund.succeeded pending',
    'refund.succeeded pending',
  ]);
});

test.each(['failed', 'cancelled', 'closed'] as const)(
  'the undelivered event payment.%s is superseded by a late success',
  async (to) => {
    const payment = await newPayment();
    await endPayment(db, payment.id, to, 'a test', now());
    expect(await toldOf(payment)).toEqual([`payment.${to} pending`]);
    await pay(payment);
    expect(await toldOf(payment)).toEqual([`payment.${to} superseded`, 'payment.succeeded pending']);
    expect(await row(payment)).toMatchObject({ orderUpdate: 'pending' });
  },
);

test('if a payment succeeds after its end was delivered, the delivered event does not change', async () => {
  const payment = await newPayment();
  await endPayment(db, payment.id, 'closed', 'a test', now());
  const [closed] = await eventsOf(payment);
  await recordAttempt(db, closed?.delivery?.id ?? '', answered('agreed'), 0, now());
  await pay(payment);
  expect(await toldOf(payment)).toEqual(['payment.closed delivered', 'payment.succeeded pending']);
});

describe('the decision about a payment supersedes its undelivered review event', () => {
  const newReview = async () => {
    const payment = await newPayment();
    await pay(payment, { ...PAID, amount: 1007 } as ChannelAnswer);
    expect(await toldOf(payment)).toEqual(['payment.review pending']);
    return payment;
  };

  test('an operator’s acceptance supersedes the review event', async () => {
    const payment = await newReview();
    await resolvePayment(db, merchantId, payment.id, 'accept', 'a test', now());
    expect(await toldOf(payment)).toEqual(['payment.review superseded', 'payment.succeeded pending']);
  });

  test('an operator’s refund supersedes the review event', async () => {
    const payment = await newReview();
    await resolvePayment(db, merchantId, payment.id, 'refund', 'a test', now());
    expect(await toldOf(payment)).toEqual(['payment.review superseded', 'payment.conflict pending']);
  });

  test('a full refund supersedes the review event', async () => {
    const payment = await newReview();
    await giveBack(payment, undefined, 1007);
    expect(await toldOf(payment)).toEqual([
      'payment.review superseded',
      'refund.succeeded pending',
      'payment.conflict pending',
    ]);
  });

  test('a success of another attempt supersedes the review event', async () => {
    await db.merchant.update({ where: { id: merchantId }, data: { latePayment: 'review' } });
    const late = await newPayment();
    const second = await newPayment(late.orderId);
    await endPayment(db, late.id, 'closed', 'a test', now());
    const paidAt = new Date(Date.now() + 3_600_000).toISOString();
    await pay(late, { ...PAID, paidAt } as ChannelAnswer);
    await pay(second);
    expect(await toldOf(late)).toEqual([
      'payment.closed superseded',
      'payment.review superseded',
      'payment.conflict pending',
    ]);
  });
});

test('if an operator accepts a payment whose order is gone, a full refund supersedes the undelivered success and the payment stays applied', async () => {
  await db.merchant.update({ where: { id: merchantId }, data: { latePayment: 'review' } });
  const payment = await newPending();
  await recordAttempt(db, await deliveryOf(payment), answered('gone'), 0, now());
  await resolvePayment(db, merchantId, payment.id, 'accept', 'a test', now());
  expect(await row(payment)).toMatchObject({ orderUpdate: 'applied' });
  await giveBack(payment, undefined);
  expect(await row(payment)).toMatchObject({ orderUpdate: 'applied' });
  expect(await toldOf(payment)).toEqual([
    'payment.succeeded gone',
    'payment.review superseded',
    'payment.succeeded superseded',
    'refund.succeeded pending',
  ]);
});

test('a request to redeliver a superseded event is refused', async () => {
  const payment = await newPending();
  const deliveryId = await deliveryOf(payment);
  await giveBack(payment, undefined);
  await expect(requestRedelivery(db, merchantId, deliveryId, 'a test', now())).rejects.toMatchObject({
    code: 'delivery_superseded',
  });
});
