import { beforeEach, describe, expect, test } from 'vitest';
import type { ChannelAnswer } from '../../src/domain/channel.ts';
import type { DeliveryOutcome } from '../../src/domain/event.ts';
import { automaticRefundId } from '../../src/domain/ids.ts';
import { removeOld } from '../../src/ledger/cleanup.ts';
import type { LedgerClient } from '../../src/ledger/client.ts';
import {
  findPendingDeliveries,
  hurryDeliveries,
  recordAttempt,
  requestRedelivery,
  showOverdue,
  takeTurn,
} from '../../src/ledger/deliveries.ts';
import { eventMessage } from '../../src/ledger/event-data.ts';
import { type FeedPlace, listEvents } from '../../src/ledger/feed.ts';
import { startPayment } from '../../src/ledger/intake.ts';
import { underLock, update } from '../../src/ledger/locked.ts';
import { ensureMerchant } from '../../src/ledger/merchants.ts';
import { endPayment, recordAnswer, settlePayment } from '../../src/ledger/payments.ts';
import { recordRefundAnswer } from '../../src/ledger/refund-answers.ts';
import { requestRefund } from '../../src/ledger/refunds.ts';
import { resolvePayment } from '../../src/ledger/resolve.ts';
import type { Payment } from '../../src/ledger/rows.ts';
import { findUnseenDeliveries, takeOverdueDeliveries } from '../../src/ledger/sweep.ts';
import { useDatabase } from '../support/stack.ts';

/** Events are written with what they tell, or not at all; a reader with a cursor misses none. */

const { db } = useDatabase();
let merchantId: string;
let merchants = 0;
beforeEach(async () => {
  merchants += 1;
  merchantId = (await ensureMerchant(db, `shop-${merchants}`, ['simulator'])).merchant.id;
});

const DAY = 86_400_000;
const now = () => new Date();
const PAID: ChannelAnswer = {
  state: 'paid',
  channelPaymentId: 'trx',
  amount: 1000,
  currency: 'CNY',
  paidAt: new Date().toISOString(),
};

let orders = 0;
async function newPayment(): Promise<Payment> {
  orders += 1;
  const order = {
    id: `order-${orders}`,
    amount: 1000,
    currency: 'CNY',
    subject: 'x',
    metadata: { a: 'b' },
    expiresInSeconds: undefined,
  };
  const given = {
    channel: 'simulator',
    method: 'wallet',
    payer: undefined,
    returnUrl: undefined,
    metadata: {},
    expiresInMs: 60_000,
    askedAttempts: new Set<string>(),
  };
  return (await startPayment(db, merchantId, order, given, () => 'hash', now())).payment;
}

async function newPaid(): Promise<Payment> {
  const payment = await newPayment();
  await recordAnswer(db, payment.id, PAID, 'query', now());
  await settlePayment(db, payment.id, now());
  return await db.payment.findUniqueOrThrow({ where: { id: payment.id } });
}

const withOrderService = () =>
  db.merchant.update({ where: { id: merchantId }, data: { orderServiceUrl: 'https://shop.example/events' } });
const eventsOf = (paymentId: string) =>
  db.event.findMany({ where: { paymentId }, include: { delivery: true }, orderBy: { version: 'asc' } });

test('every end and every refund, each once, with versions that grow', async () => {
  const { id } = await newPaid();
  // Again, late, and of something else: nothing new.
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
  // As it is when the transaction ends, in the order in which it happened.
  expect(events[3]?.data).toMatchObject({
    payment: { refundedAmount: 600, attention: 'channel_reversed' },
    refund: { reason: 'external', amount: 200, status: 'succeeded' },
  });

  for (const to of ['failed', 'cancelled', 'closed'] as const) {
    const ended = await newPayment();
    await endPayment(db, ended.id, to, 'a test', now());
    await endPayment(db, ended.id, to, 'again', now());
    expect((await eventsOf(ended.id)).map(({ type }) => type)).toEqual([`payment.${to}`]);
    // Money that comes after the end is told as well.
    await recordAnswer(db, ended.id, PAID, 'query', now());
    await settlePayment(db, ended.id, now());
    expect((await eventsOf(ended.id)).map(({ type }) => type)).toEqual([
      `payment.${to}`,
      'payment.succeeded',
    ]);
  }
});

test('what is rolled back was never told', async () => {
  const { id } = await newPayment();
  const attempt = underLock(db, id, now(), async ({ tx, news }) => {
    await update(tx, id, { status: 'closed', endedAt: now() });
    news.push({ type: 'payment.closed' });
    // The event itself cannot be written: of what it tells nothing stays either.
    news.push({ type: 'refund.failed', refundId: 're_none' });
  });
  await expect(attempt).rejects.toThrow();
  expect(await db.payment.findUniqueOrThrow({ where: { id } })).toMatchObject({
    status: 'created',
    eventVersion: 0,
  });
  expect(await eventsOf(id)).toEqual([]);
});

test('no version is given out again when the last commits are lost', async () => {
  const { id, createdAt } = await newPaid();
  const at = (seconds: number) => new Date(createdAt.getTime() + seconds * 1000);
  const { eventVersion } = await db.payment.findUniqueOrThrow({ where: { id } });
  await recordAnswer(db, id, { ...PAID, refundedAmount: 200 } as ChannelAnswer, 'query', at(60));
  const [lost] = (await eventsOf(id)).slice(-1);
  // As a standby that has not received the last commit has it.
  await db.event.deleteMany({ where: { paymentId: id, version: { gt: eventVersion } } });
  await db.payment.update({ where: { id }, data: { eventVersion } });
  await recordAnswer(db, id, { ...PAID, refundedAmount: 400 } as ChannelAnswer, 'query', at(90));
  expect((await eventsOf(id)).at(-1)?.version).toBeGreaterThan(lost?.version ?? Number.POSITIVE_INFINITY);
});

test('a reader that keeps its place misses none of the events of many payments that end at once', async () => {
  const payments: Payment[] = [];
  for (let i = 0; i < 30; i++) payments.push(await newPayment());
  let ending = true;
  const seen: string[] = [];
  const read = async () => {
    for (let after: FeedPlace | null = null; ; ) {
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
    // At once as many as get a connection without waiting for one, also on a machine that is busy.
    for (let i = 0; i < payments.length; i += 10) await Promise.all(payments.slice(i, i + 10).map(end));
    ending = false;
  };
  await Promise.all([read(), endAll()]);
  expect(seen.toSorted()).toEqual(payments.map(({ id }) => id).toSorted());
});

test('a reader whose last event is removed while it reads is neither refused nor told less', async () => {
  const payments: Payment[] = [];
  for (let i = 0; i < 3; i++) payments.push(await newPayment());
  for (const { id } of payments) await endPayment(db, id, 'closed', 'a test', now());
  let { next: after } = await listEvents(db, merchantId, { limit: 2, after: null });
  // What the reader has is removed before each of its queries.
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

test('with an order service the payment is pending, and every event has its delivery', async () => {
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

test('when an order is paid, its other attempts have news to be told at once too', async () => {
  await withOrderService();
  await db.merchant.update({ where: { id: merchantId }, data: { latePayment: 'review' } });
  const late = await newPayment();
  const { payment: second } = await startPayment(
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
  ['paid, and all of it back', { refundedAmount: 1000 }],
] as const)(
  'money first seen as %s pays no order, and nobody is told that it does',
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

/** The delivery of a payment that waits for its order service. */
async function newPending() {
  await withOrderService();
  const payment = await newPaid();
  const delivery = await db.delivery.findFirstOrThrow({ where: { paymentId: payment.id } });
  return { payment, delivery };
}
const back = (amount: number) => ({ state: 'succeeded', channelRefundId: 'r', amount }) as const;
const answered = (outcome: DeliveryOutcome, at = now(), statusCode = 200) => ({
  ...{ outcome, statusCode, detail: 'It answered.', durationMs: 1, at },
});

test('an order service that is set while a payment settles: it is told of what was decided for it, and of no more', async () => {
  const { id } = await newPayment();
  await underLock(db, id, now(), async ({ news }) => {
    await withOrderService();
    news.push({ type: 'payment.failed', mustBeTold: false }, { type: 'payment.closed' });
  });
  expect((await eventsOf(id)).map(({ delivery }) => delivery?.status)).toEqual([undefined, 'pending']);
});

const attentionOf = async (id: string) => (await db.payment.findUniqueOrThrow({ where: { id } })).attention;

test('money that went back at the channel before the order service agreed is shown when it does', async () => {
  const { payment, delivery } = await newPending();
  await recordAnswer(db, payment.id, { ...PAID, refundedAmount: 300 } as ChannelAnswer, 'query', now());
  expect(await attentionOf(payment.id)).toBeNull();
  await recordAttempt(db, delivery.id, answered('agreed'), 0, now());
  expect(await db.payment.findUniqueOrThrow({ where: { id: payment.id } })).toMatchObject({
    orderUpdate: 'applied',
    attention: 'channel_reversed',
    attentionDetail:
      'CNY 3.00 went back at the channel, and nobody asked for it here; the order was paid by it.',
  });
});

describe.each(['before', 'after'])(
  'a part of its money went back %s the order service said that the order is gone',
  (when) => {
    test.each([
      ['accept', 'asked for here'],
      ['accept', 'made at the channel'],
      ['refund', 'asked for here'],
      ['refund', 'made at the channel'],
    ] as const)('an operator decides about what is left: %s; the part was %s', async (action, by) => {
      const { payment, delivery } = await newPending();
      await db.merchant.update({ where: { id: merchantId }, data: { latePayment: 'review' } });
      const row = () => db.payment.findUniqueOrThrow({ where: { id: payment.id } });
      const giveBackPart = async () => {
        if (by === 'made at the channel') {
          const answer = { ...PAID, refundedAmount: 300 } as ChannelAnswer;
          return void (await recordAnswer(db, payment.id, answer, 'query', now()));
        }
        const part = { amount: 300, note: undefined, idempotencyKey: `key-${payment.id}` };
        const { refund } = await requestRefund(db, payment.id, part, now());
        await recordRefundAnswer(db, refund.id, back(300), now());
      };
      if (when === 'before') await giveBackPart();
      await recordAttempt(db, delivery.id, answered('gone'), 0, now());
      if (when === 'after') await giveBackPart();
      expect(await row()).toMatchObject({ orderUpdate: 'review', attention: 'late_payment_review' });

      const decided = await resolvePayment(db, merchantId, payment.id, action, 'a test', now());
      const orders = { merchantId_id: { merchantId, id: payment.orderId } };
      const order = () => db.order.findUniqueOrThrow({ where: orders });
      if (action === 'accept') {
        expect(decided.refunds).toEqual([]);
        expect(await row()).toMatchObject({ orderUpdate: 'applied', attention: null, refundedAmount: 300n });
        expect(await order()).toMatchObject({ status: 'succeeded', paidPaymentId: payment.id });
        expect((await eventsOf(payment.id)).at(-1)?.type).toBe('payment.succeeded');
        return;
      }
      expect(decided.refunds).toMatchObject([{ amount: 700n, reason: 'late_payment', status: 'created' }]);
      expect(await row()).toMatchObject({ orderUpdate: 'conflict', attention: 'order_conflict' });
      const [rest] = decided.refunds;
      await recordRefundAnswer(db, rest?.id ?? '', back(700), now());
      expect(await row()).toMatchObject({ attention: null, refundedAmount: 1000n });
      expect(await order()).toMatchObject({ status: 'refunded' });
    });
  },
);

test.each([
  ['the order service says it is paid otherwise', 'conflict', 'duplicate_payment'],
  ['the order service says it is gone', 'gone', 'late_payment'],
  ['an operator refunds it', 'operator', 'requested'],
] as const)(
  'a refund on its way when %s, and refused after that: it is owed all the same',
  async (_, by, reason) => {
    const { payment, delivery } = await newPending();
    const all = { amount: undefined, note: undefined, idempotencyKey: `key-${payment.id}` };
    const { refund } = await requestRefund(db, payment.id, all, now());
    if (by === 'operator') await resolvePayment(db, merchantId, payment.id, 'refund', 'why', now());
    else await recordAttempt(db, delivery.id, answered(by), 0, now());
    expect(await db.refund.count({ where: { paymentId: payment.id } })).toBe(1);
    const refused = { state: 'failed', reason: 'The account is closed.' } as const;
    await recordRefundAnswer(db, refund.id, refused, now(), PAID);
    expect(await db.refund.findUnique({ where: { id: automaticRefundId(payment.id) } })).toMatchObject({
      ...{ status: 'created', amount: 1000n, reason },
    });
  },
);

test('a dispute stays shown, whatever the order service says', async () => {
  const { payment, delivery } = await newPending();
  const disputed = { attention: 'disputed', attentionSince: now(), attentionDetail: 'A dispute.' };
  await update(db, payment.id, disputed);
  await recordAttempt(db, delivery.id, answered('conflict'), 0, now());
  expect(await attentionOf(payment.id)).toBe('disputed');
});

test('of many that want to tell it at once one does, and the next not before its time', async () => {
  const { delivery } = await newPending();
  const at = now();
  const turns = await Promise.all([...Array(8)].map(() => takeTurn(db, delivery.id, at)));
  expect(turns.filter(({ kind }) => kind === 'now')).toHaveLength(1);
  expect(turns.filter(({ kind }) => kind === 'later')).toHaveLength(7);
  // Whoever has it dies: after a while it is anybody's.
  expect(await takeTurn(db, delivery.id, new Date(at.getTime() + 30_000))).toMatchObject({ kind: 'later' });
  expect(await takeTurn(db, delivery.id, new Date(at.getTime() + 41_000))).toMatchObject({ kind: 'now' });
  await recordAttempt(db, delivery.id, answered('unknown', at), 0, at);
  expect(await takeTurn(db, delivery.id, new Date(at.getTime() + 400))).toMatchObject({ kind: 'later' });
  expect(await takeTurn(db, delivery.id, new Date(at.getTime() + 1_000))).toMatchObject({ kind: 'now' });
});

test('wanted at once while somebody tells it: after that attempt, and by no second one beside it', async () => {
  const { payment, delivery } = await newPending();
  const at = now();
  const later = (ms: number) => new Date(at.getTime() + ms);
  await takeTurn(db, delivery.id, at);
  await requestRedelivery(db, merchantId, delivery.id, 'a test', at);
  await db.$transaction((tx) => hurryDeliveries(tx, payment.id));
  expect(await takeTurn(db, delivery.id, later(1_000))).toMatchObject({ kind: 'later', inMs: 2_000 });
  await recordAttempt(db, delivery.id, answered('unknown', at), 0, later(1_500));
  expect(await takeTurn(db, delivery.id, later(1_600))).toMatchObject({ kind: 'now' });
  // Nobody wanted anything of this one: it has its schedule again.
  await recordAttempt(db, delivery.id, answered('unknown', at), 0, later(1_700));
  expect(await takeTurn(db, delivery.id, later(1_800))).toMatchObject({ kind: 'later', inMs: 1_900 });
  // Whoever has it dies.
  await takeTurn(db, delivery.id, later(3_700));
  await db.$transaction((tx) => hurryDeliveries(tx, payment.id));
  expect(await takeTurn(db, delivery.id, later(40_000))).toMatchObject({ kind: 'later' });
  expect(await takeTurn(db, delivery.id, later(44_000))).toMatchObject({ kind: 'now' });
});

test('answers at once, of which the first counts and the others are logged', async () => {
  const { payment, delivery } = await newPending();
  const outcomes = ['agreed', 'conflict', 'gone', 'agreed', 'unknown'] as const;
  await Promise.all(outcomes.map((outcome) => recordAttempt(db, delivery.id, answered(outcome), 0, now())));
  const after = await db.delivery.findUniqueOrThrow({ where: { id: delivery.id }, include: { log: true } });
  expect(after).toMatchObject({ attempts: 5, nextAttemptAt: null });
  expect(after.log).toHaveLength(5);
  const row = await db.payment.findUniqueOrThrow({ where: { id: payment.id } });
  const refunds = await db.refund.count({ where: { paymentId: payment.id } });
  // Whichever was first: all that it says, and nothing of the others.
  expect([after.status, row.orderUpdate, refunds, (await eventsOf(payment.id)).length]).toEqual(
    after.status === 'delivered' ? ['delivered', 'applied', 0, 1] : [after.status, 'conflict', 1, 2],
  );
});

test('what came first counts, whatever comes after', async () => {
  const { payment, delivery } = await newPending();
  for (const outcome of ['agreed', 'conflict', 'gone', 'unknown'] as const) {
    await recordAttempt(db, delivery.id, answered(outcome), 0, now());
    expect(await db.payment.findUniqueOrThrow({ where: { id: payment.id } })).toMatchObject({
      orderUpdate: 'applied',
      attention: null,
    });
    expect(await db.delivery.findUniqueOrThrow({ where: { id: delivery.id } })).toMatchObject({
      status: 'delivered',
    });
  }
});

test('shown when ten minutes have passed without an agreement, and not before', async () => {
  const { payment, delivery } = await newPending();
  const at = now();
  await takeTurn(db, delivery.id, at);
  await recordAttempt(db, delivery.id, answered('unknown', at), 0, at);
  for (const [ms, attention] of [
    [599_000, null],
    [600_000, 'order_update_failing'],
  ] as const) {
    await showOverdue(db, delivery.id, new Date(at.getTime() + ms));
    expect(await db.payment.findUniqueOrThrow({ where: { id: payment.id } })).toMatchObject({ attention });
  }
});

test('shown by the sweep when it was never attempted, once, and by its answer when that comes', async () => {
  const { payment, delivery } = await newPending();
  const since = delivery.createdAt.getTime();
  const look = async (ms: number) => {
    const at = new Date(since + ms);
    const found = (await findUnseenDeliveries(db, at)).filter((id) => id === delivery.id);
    for (const id of found) await showOverdue(db, id, at);
    const { attention, attentionDetail } = await db.payment.findUniqueOrThrow({ where: { id: payment.id } });
    return [found.length, attention, attentionDetail];
  };
  expect(await look(599_000)).toEqual([0, null, null]);
  const untold = `The order service has not been told yet, and should have been at ${delivery.createdAt.toISOString()}.`;
  // The payment is settled some milliseconds after its delivery's time at most.
  expect(await look(601_000)).toEqual([1, 'order_update_failing', untold]);
  expect(await look(661_000)).toEqual([0, 'order_update_failing', untold]);
  const first = new Date(since + 700_000);
  await takeTurn(db, delivery.id, first);
  await recordAttempt(db, delivery.id, answered('unknown', first), 0, first);
  expect((await look(760_000))[2]).toMatch(/has not agreed since .* Its last answer: It answered\./);
  await update(db, payment.id, { attention: null, attentionSince: null, attentionDetail: null });
  expect(await look(3_600_000)).toEqual([0, null, null]);
  await recordAttempt(db, delivery.id, answered('agreed'), 0, now());
  expect(await look(3_600_000)).toEqual([0, null, null]);
});

describe('an order that its order service does not know', () => {
  const HOUR = 3_600_000;

  /** Told at these times after the first, each with its answer. */
  async function tell(
    deliveryId: string,
    from: Date,
    ...calls: [number, DeliveryOutcome, (number | undefined)?][]
  ) {
    for (const [ms, outcome, statusCode] of calls) {
      const at = new Date(from.getTime() + ms);
      await recordAttempt(db, deliveryId, answered(outcome, at, statusCode), 0, at);
    }
  }

  const shownOf = async (id: string) => {
    const { attention, orderUpdate } = await db.payment.findUniqueOrThrow({ where: { id } });
    return [attention, orderUpdate, await db.refund.count({ where: { paymentId: id } })];
  };

  test('its day begins with its first answer, and another answer only puts off its end by an hour', async () => {
    const { payment, delivery } = await newPending();
    const from = now();
    await tell(
      delivery.id,
      from,
      [0, 'unknown'],
      [HOUR, 'order_unknown', 410],
      [24 * HOUR, 'order_unknown', 404],
    );
    expect(await shownOf(payment.id)).toEqual(['order_unknown', 'pending', 0]);
    await tell(delivery.id, from, [25 * HOUR, 'unknown', 503]);
    expect(await shownOf(payment.id)).toEqual(['order_update_failing', 'pending', 0]);
    await tell(delivery.id, from, [25 * HOUR + 1, 'order_unknown', 404]);
    expect(await shownOf(payment.id)).toEqual(['order_unknown', 'pending', 0]);
    const { attentionDetail } = await db.payment.findUniqueOrThrow({ where: { id: payment.id } });
    const end = new Date(from.getTime() + 26 * HOUR + 1).toISOString();
    expect(attentionDetail).toContain(`Unless it knows it by ${end}, `);
    await tell(delivery.id, from, [26 * HOUR, 'order_unknown', 404]);
    expect(await shownOf(payment.id)).toEqual(['order_conflict', 'conflict', 1]);
    expect(await db.delivery.findUniqueOrThrow({ where: { id: delivery.id } })).toMatchObject({
      status: 'gone',
    });
  });

  test.each([503, undefined])(
    'once at the begin and once at the end of a day of other calls (%s) moves no money',
    async (statusCode) => {
      const { payment, delivery } = await newPending();
      const from = now();
      const others = [1, 12, 23].map((hour): [number, DeliveryOutcome, number | undefined] => [
        hour * HOUR,
        'unknown',
        statusCode,
      ]);
      await tell(delivery.id, from, [0, 'order_unknown', 404], ...others);
      await tell(delivery.id, from, [30 * HOUR, 'order_unknown', 404], [30.5 * HOUR, 'order_unknown', 404]);
      expect(await shownOf(payment.id)).toEqual(['order_unknown', 'pending', 0]);
      await tell(delivery.id, from, [31 * HOUR, 'order_unknown', 404]);
      expect(await shownOf(payment.id)).toEqual(['order_conflict', 'conflict', 1]);
    },
  );

  test('for another time than a day, where the setting says so', async () => {
    const { payment, delivery } = await newPending();
    const from = now();
    const unknown = async (ms: number) => {
      const at = new Date(from.getTime() + ms);
      await recordAttempt(db, delivery.id, answered('order_unknown', at, 404), 0, at, 2 * HOUR);
    };
    await unknown(0);
    const { attentionDetail } = await db.payment.findUniqueOrThrow({ where: { id: payment.id } });
    const end = new Date(from.getTime() + 2 * HOUR).toISOString();
    expect(attentionDetail).toContain(`Unless it knows it by ${end}, `);
    await unknown(1.9 * HOUR);
    expect(await shownOf(payment.id)).toEqual(['order_unknown', 'pending', 0]);
    await unknown(2 * HOUR);
    expect(await shownOf(payment.id)).toEqual(['order_conflict', 'conflict', 1]);
  });

  test('told every hour at least, whatever else is answered in between', async () => {
    const { delivery } = await newPending();
    const from = now();
    await db.delivery.update({ where: { id: delivery.id }, data: { attempts: 30 } });
    const waits = async (ms: number, outcome: DeliveryOutcome, statusCode: number) => {
      await tell(delivery.id, from, [ms, outcome, statusCode]);
      const { nextAttemptAt } = await db.delivery.findUniqueOrThrow({ where: { id: delivery.id } });
      return (nextAttemptAt?.getTime() ?? 0) - from.getTime() - ms;
    };
    expect(await waits(0, 'order_unknown', 404)).toBe(HOUR);
    expect(await waits(HOUR, 'unknown', 422)).toBe(HOUR);
    expect(await waits(23.5 * HOUR, 'unknown', 404)).toBe(HOUR / 2);
    expect(await waits(30 * HOUR, 'unknown', 503)).toBe(HOUR);
  });

  test('shown at once, by the last answer, and dismissed for good', async () => {
    const { payment, delivery } = await newPending();
    const from = now();
    await tell(delivery.id, from, [0, 'order_unknown', 404]);
    expect(await shownOf(payment.id)).toEqual(['order_unknown', 'pending', 0]);
    await tell(delivery.id, from, [1, 'unknown', 503]);
    expect(await shownOf(payment.id)).toEqual(['order_update_failing', 'pending', 0]);
    await tell(delivery.id, from, [2, 'unknown', 404]);
    expect(await shownOf(payment.id)).toEqual(['order_unknown', 'pending', 0]);
    await resolvePayment(db, payment.merchantId, payment.id, 'dismiss', 'seen', now());
    await tell(delivery.id, from, [3, 'unknown', 404]);
    expect(await shownOf(payment.id)).toEqual([null, 'pending', 0]);
    // What was dismissed named no deadline, and this answer sets one.
    await tell(delivery.id, from, [4, 'order_unknown', 404]);
    expect(await shownOf(payment.id)).toEqual(['order_unknown', 'pending', 0]);
    await resolvePayment(db, payment.merchantId, payment.id, 'dismiss', 'seen', now());
    await tell(delivery.id, from, [5, 'order_unknown', 404], [6, 'unknown', 404], [HOUR, 'unknown', 503]);
    expect(await shownOf(payment.id)).toEqual([null, 'pending', 0]);
    await tell(delivery.id, from, [24 * HOUR, 'order_unknown', 404], [25 * HOUR, 'order_unknown', 404]);
    expect(await shownOf(payment.id)).toEqual(['order_conflict', 'conflict', 1]);
  });

  test('shown when it was dismissed as failing before, and the other way round', async () => {
    for (const [first, second] of [
      [503, 404],
      [404, 503],
    ] as const) {
      const { payment, delivery } = await newPending();
      const from = now();
      const say = (statusCode: number): [DeliveryOutcome, number] => [
        statusCode === 404 ? 'order_unknown' : 'unknown',
        statusCode,
      ];
      const shows = (statusCode: number) => [
        statusCode === 404 ? 'order_unknown' : 'order_update_failing',
        'pending',
        0,
      ];
      await tell(delivery.id, from, [HOUR, ...say(first)]);
      expect(await shownOf(payment.id)).toEqual(shows(first));
      await resolvePayment(db, payment.merchantId, payment.id, 'dismiss', 'seen', now());
      await tell(delivery.id, from, [2 * HOUR, ...say(first)]);
      expect(await shownOf(payment.id)).toEqual([null, 'pending', 0]);
      await tell(delivery.id, from, [3 * HOUR, ...say(second)]);
      expect(await shownOf(payment.id)).toEqual(shows(second));
      await resolvePayment(db, payment.merchantId, payment.id, 'dismiss', 'seen', now());
      await tell(delivery.id, from, [4 * HOUR, ...say(first)], [5 * HOUR, ...say(second)]);
      expect(await shownOf(payment.id)).toEqual([null, 'pending', 0]);
    }
  });

  test('shown again when a person dismissed only what had taken its place', async () => {
    const { payment, delivery } = await newPending();
    const from = now();
    const unknown = (hour: number) => tell(delivery.id, from, [hour * HOUR, 'order_unknown', 404]);
    const fails = (hour: number) => tell(delivery.id, from, [hour * HOUR, 'unknown', 503]);
    const dismiss = () =>
      resolvePayment(db, payment.merchantId, payment.id, 'dismiss', 'They are slow today.', now());
    await unknown(0);
    await fails(1);
    expect(await shownOf(payment.id)).toEqual(['order_update_failing', 'pending', 0]);
    await dismiss();
    await fails(2);
    expect(await shownOf(payment.id)).toEqual([null, 'pending', 0]);
    // Money moves by this answer: it is shown before that.
    await unknown(3);
    expect(await shownOf(payment.id)).toEqual(['order_unknown', 'pending', 0]);
    // What was shown and dismissed stays hidden.
    await dismiss();
    await fails(4);
    await unknown(5);
    expect(await shownOf(payment.id)).toEqual([null, 'pending', 0]);
    await unknown(24);
    expect(await shownOf(payment.id)).toEqual(['order_conflict', 'conflict', 1]);
  });

  test('a deadline is shown though a person dismissed the same without one', async () => {
    const calls = {
      coded: ['order_unknown', 404],
      router: ['unknown', 404],
      fails: ['unknown', 503],
    } satisfies Record<string, [DeliveryOutcome, number]>;
    type Calls = readonly (keyof typeof calls)[];
    for (const [before, after, shown] of [
      [['router'], ['coded'], 'order_unknown'],
      [['router', 'coded', 'router'], ['coded'], 'order_unknown'],
      // The deadline was on show when it was dismissed.
      [['router', 'coded'], ['coded', 'router', 'fails', 'coded'], null],
      [['coded'], ['router', 'coded'], null],
    ] as const satisfies readonly [Calls, Calls, string | null][]) {
      const { payment, delivery } = await newPending();
      const from = now();
      let ms = 0;
      const tellAll = async (names: Calls) => {
        for (const name of names) await tell(delivery.id, from, [ms++, ...calls[name]]);
      };
      await tellAll(before);
      await resolvePayment(db, payment.merchantId, payment.id, 'dismiss', 'It was the address.', now());
      await tellAll(after);
      const { attention, attentionDetail } = await db.payment.findUniqueOrThrow({
        where: { id: payment.id },
      });
      expect(attention, `${before}, dismissed, ${after}`).toBe(shown);
      if (shown !== null) expect(attentionDetail).toContain('Unless it knows it by ');
    }
  });

  test('no money waits for the event: shown as any that fails, and over after a day', async () => {
    await withOrderService();
    const { id } = await newPayment();
    await underLock(db, id, now(), async ({ news }) => {
      news.push({ type: 'payment.closed' });
    });
    const delivery = await db.delivery.findFirstOrThrow({ where: { paymentId: id } });
    const from = now();
    await takeTurn(db, delivery.id, from);
    await tell(delivery.id, from, [0, 'order_unknown', 404]);
    expect(await attentionOf(id)).toBeNull();
    await tell(delivery.id, from, [HOUR, 'order_unknown', 404]);
    expect(await attentionOf(id)).toBe('delivery_failing');
    await tell(delivery.id, from, [24 * HOUR, 'order_unknown', 404]);
    expect(await attentionOf(id)).toBeNull();
    expect(await db.delivery.findUniqueOrThrow({ where: { id: delivery.id } })).toMatchObject({
      status: 'gone',
    });
  });

  test('an earlier event that counts as gone takes nothing from the day of the money', async () => {
    const { payment, delivery } = await newPending();
    await underLock(db, payment.id, now(), async ({ news }) => {
      news.push({ type: 'refund.failed' });
    });
    const other = await db.delivery.findFirstOrThrow({
      where: { paymentId: payment.id, id: { not: delivery.id } },
    });
    const from = now();
    await tell(other.id, from, [0, 'gone', 410]);
    await tell(delivery.id, from, [1, 'order_unknown', 404], [23 * HOUR, 'order_unknown', 404]);
    expect(await shownOf(payment.id)).toEqual(['order_unknown', 'pending', 0]);
    await tell(delivery.id, from, [23 * HOUR + 1, 'agreed', 200]);
    expect(await shownOf(payment.id)).toEqual([null, 'applied', 0]);
  });

  test('the start of an answer is kept with its call', async () => {
    const { delivery } = await newPending();
    await recordAttempt(db, delivery.id, { ...answered('order_unknown'), answer: 'no such order' }, 0, now());
    await recordAttempt(db, delivery.id, answered('agreed'), 0, now());
    const log = await db.deliveryAttempt.findMany({
      where: { deliveryId: delivery.id },
      orderBy: { id: 'asc' },
    });
    expect(log.map(({ answer }) => answer)).toEqual(['no such order', null]);
  });
});

describe('an event on which the payment does not wait', () => {
  /** The deliveries of two events of refunds of an applied payment, each told at once and not answered. */
  async function failing() {
    const { payment, delivery } = await newPending();
    const at = now();
    await recordAttempt(db, delivery.id, answered('agreed', at), 0, at);
    const ids: string[] = [];
    for (const amount of [100, 200]) {
      const asked = { amount, note: undefined, idempotencyKey: `${payment.id}-${amount}` };
      const { refund } = await requestRefund(db, payment.id, asked, at);
      await recordRefundAnswer(db, refund.id, { state: 'succeeded', channelRefundId: 'R', amount }, at);
      const { id } = await db.delivery.findFirstOrThrow({
        where: { paymentId: payment.id, status: 'pending', id: { notIn: ids } },
      });
      await takeTurn(db, id, at);
      await recordAttempt(db, id, answered('unknown', at), 0, at);
      ids.push(id);
    }
    const [first = '', second = ''] = ids;
    return { payment, first, second, later: (ms: number) => new Date(at.getTime() + ms) };
  }
  const row = (id: string) => db.payment.findUniqueOrThrow({ where: { id } });

  test('is shown after ten minutes, by the sweep too, until none of the payment fails', async () => {
    const { payment, first, second, later } = await failing();
    await showOverdue(db, first, later(599_000));
    expect(await attentionOf(payment.id)).toBeNull();
    const found = await findUnseenDeliveries(db, later(601_000));
    expect(found).toEqual(expect.arrayContaining([first, second]));
    for (const id of [first, second]) await showOverdue(db, id, later(601_000));
    expect(await row(payment.id)).toMatchObject({
      attention: 'delivery_failing',
      attentionDetail: expect.stringMatching(/has not answered refund\.succeeded since .* It answered\./),
    });
    await recordAttempt(db, first, answered('agreed', later(700_000)), 0, later(700_000));
    expect(await attentionOf(payment.id)).toBe('delivery_failing');
    await recordAttempt(db, second, answered('agreed', later(800_000)), 0, later(800_000));
    expect(await row(payment.id)).toMatchObject({
      attention: null,
      attentionSince: null,
      attentionDetail: null,
    });
  });

  test('gives way to what is shown of the payment otherwise, and stays hidden when it was dismissed', async () => {
    const { payment, first, second, later } = await failing();
    await showOverdue(db, first, later(601_000));
    await resolvePayment(db, merchantId, payment.id, 'dismiss', 'a test', later(602_000));
    await recordAttempt(db, first, answered('unknown', later(603_000)), 0, later(603_000));
    expect(await attentionOf(payment.id)).toBeNull();
    await showOverdue(db, second, later(604_000));
    expect(await attentionOf(payment.id)).toBe('delivery_failing');
    await update(db, payment.id, { orderUpdate: 'pending', orderUpdatedAt: null });
    const waited = await db.delivery.findFirstOrThrow({
      where: { paymentId: payment.id, event: { type: 'payment.succeeded' } },
    });
    await db.delivery.update({ where: { id: waited.id }, data: { status: 'pending', settledAt: null } });
    expect(await findUnseenDeliveries(db, later(700_000))).toContain(waited.id);
    await showOverdue(db, waited.id, later(700_000));
    expect(await attentionOf(payment.id)).toBe('order_update_failing');
    await recordAttempt(db, second, answered('unknown', later(701_000)), 0, later(701_000));
    expect(await attentionOf(payment.id)).toBe('order_update_failing');
  });
});

test('the sweep takes what nobody tells, and nothing else', async () => {
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

test('events are kept 30 days, and longer while the order service has not answered', async () => {
  const told = await newPaid();
  const { payment: untold, delivery } = await newPending();
  const young = await newPaid();
  for (const { id } of [told, untold])
    await db.event.updateMany({
      where: { paymentId: id },
      data: { createdAt: new Date(Date.now() - 31 * DAY) },
    });
  await db.event.updateMany({
    where: { paymentId: young.id },
    data: { createdAt: new Date(Date.now() - 29 * DAY) },
  });
  const left = async () =>
    (await Promise.all([told, untold, young].map(({ id }) => eventsOf(id)))).map(({ length }) => length);
  await removeOld(db, now());
  expect(await left()).toEqual([0, 1, 1]);
  await recordAttempt(db, delivery.id, answered('agreed'), 0, now());
  await removeOld(db, now());
  expect(await left()).toEqual([0, 0, 1]);
  expect(await db.delivery.count({ where: { paymentId: untold.id } })).toBe(0);
});
