import { describe, expect, test } from 'vitest';
import type { ChannelAnswer } from '../../src/domain/channel.ts';
import { automaticRefundId } from '../../src/domain/ids.ts';
import {
  hurryDeliveries,
  leaseDelivery,
  recordAttempt,
  requestRedelivery,
  showOverdue,
} from '../../src/ledger/deliveries.ts';
import { resolvePayment } from '../../src/ledger/operator-decision.ts';
import { underOrderLock, update } from '../../src/ledger/order-lock.ts';
import { recordAnswer } from '../../src/ledger/payments.ts';
import { recordRefundAnswer } from '../../src/ledger/refund-answers.ts';
import { requestRefund } from '../../src/ledger/refunds.ts';
import { findUnseenDeliveries } from '../../src/ledger/sweep.ts';
import {
  answered,
  attentionOf,
  db,
  eventsOf,
  merchantId,
  newPayment,
  newPending,
  now,
  PAID,
  withOrderService,
} from './events-support.ts';

/**
 * Tests the order service's answers to events. Only the first answer has an effect, and only one process delivers an
 * event at a time. If an answer is missing, an attention is raised.
 */

const back = (amount: number) => ({ state: 'succeeded', channelRefundId: 'r', amount }) as const;

test('if an order service is set while events are being written, only the events that need a delivery are delivered to it', async () => {
  const { id } = await newPayment();
  await underOrderLock(db, id, now(), async ({ newEvents }) => {
    await withOrderService();
    newEvents.push({ type: 'payment.failed', mustBeTold: false }, { type: 'payment.closed' });
  });
  expect((await eventsOf(id)).map(({ delivery }) => delivery?.status)).toEqual([undefined, 'pending']);
});

test('if money was refunded at the channel before the order service agreed, an attention is raised when the order service agrees', async () => {
  const { payment, delivery } = await newPending();
  await recordAnswer(db, payment.id, { ...PAID, refundedAmount: 300 } as ChannelAnswer, 'query', now());
  expect(await attentionOf(payment.id)).toBeNull();
  await recordAttempt(db, delivery.id, answered('agreed'), 0, now());
  expect(await db.payment.findUniqueOrThrow({ where: { id: payment.id } })).toMatchObject({
    orderUpdate: 'applied',
    attention: 'channel_reversed',
    attentionDetail:
      'CNY 3.00 was refunded at the channel, not through nodrop; the payment had paid its order.',
  });
});

describe.each(['before', 'after'])(
  'a part of the payment was refunded %s the order service answered that the order is gone',
  (when) => {
    test.each([
      ['accept', 'requested from nodrop'],
      ['accept', 'made at the channel'],
      ['refund', 'requested from nodrop'],
      ['refund', 'made at the channel'],
    ] as const)('an operator can %s the remaining money if the refund was %s', async (action, by) => {
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
  ['the order service answers that the order is paid otherwise', 'conflict', 'duplicate_payment'],
  ['the order service answers that the order is gone', 'gone', 'late_payment'],
  ['an operator refunds the payment', 'operator', 'requested'],
] as const)(
  'if %s while a refund is open and the channel then refuses that refund, an automatic refund replaces it',
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

test('the attention `disputed` stays, whatever the order service answers', async () => {
  const { payment, delivery } = await newPending();
  const disputed = { attention: 'disputed', attentionSince: now(), attentionDetail: 'A dispute.' };
  await update(db, payment.id, disputed);
  await recordAttempt(db, delivery.id, answered('conflict'), 0, now());
  expect(await attentionOf(payment.id)).toBe('disputed');
});

test('only one of several concurrent requests gets the lease of a delivery, and the next lease is given when an attempt is due', async () => {
  const { delivery } = await newPending();
  const at = now();
  const turns = await Promise.all([...Array(8)].map(() => leaseDelivery(db, delivery.id, at)));
  expect(turns.filter(({ kind }) => kind === 'now')).toHaveLength(1);
  expect(turns.filter(({ kind }) => kind === 'later')).toHaveLength(7);
  // If a worker dies while it holds the lease, another worker can get the lease after it has expired.
  expect(await leaseDelivery(db, delivery.id, new Date(at.getTime() + 30_000))).toMatchObject({
    kind: 'later',
  });
  expect(await leaseDelivery(db, delivery.id, new Date(at.getTime() + 41_000))).toMatchObject({
    kind: 'now',
  });
  await recordAttempt(db, delivery.id, answered('unknown', at), 0, at);
  expect(await leaseDelivery(db, delivery.id, new Date(at.getTime() + 400))).toMatchObject({ kind: 'later' });
  expect(await leaseDelivery(db, delivery.id, new Date(at.getTime() + 1_000))).toMatchObject({ kind: 'now' });
});

test('a redelivery requested during a delivery attempt is due as soon as that attempt has ended, and not before', async () => {
  const { payment, delivery } = await newPending();
  const at = now();
  const later = (ms: number) => new Date(at.getTime() + ms);
  await leaseDelivery(db, delivery.id, at);
  await requestRedelivery(db, merchantId, delivery.id, 'a test', at);
  await db.$transaction((tx) => hurryDeliveries(tx, payment.id));
  expect(await leaseDelivery(db, delivery.id, later(1_000))).toMatchObject({ kind: 'later', inMs: 2_000 });
  await recordAttempt(db, delivery.id, answered('unknown', at), 0, later(1_500));
  expect(await leaseDelivery(db, delivery.id, later(1_600))).toMatchObject({ kind: 'now' });
  // No redelivery was requested during this attempt. So the next attempt follows the normal schedule.
  await recordAttempt(db, delivery.id, answered('unknown', at), 0, later(1_700));
  expect(await leaseDelivery(db, delivery.id, later(1_800))).toMatchObject({ kind: 'later', inMs: 1_900 });
  // The worker dies while it holds the lease.
  await leaseDelivery(db, delivery.id, later(3_700));
  await db.$transaction((tx) => hurryDeliveries(tx, payment.id));
  expect(await leaseDelivery(db, delivery.id, later(40_000))).toMatchObject({ kind: 'later' });
  expect(await leaseDelivery(db, delivery.id, later(44_000))).toMatchObject({ kind: 'now' });
});

test('of several concurrent answers to an event, the first decides and the others are only logged', async () => {
  const { payment, delivery } = await newPending();
  const outcomes = ['agreed', 'conflict', 'gone', 'agreed', 'unknown'] as const;
  await Promise.all(outcomes.map((outcome) => recordAttempt(db, delivery.id, answered(outcome), 0, now())));
  const after = await db.delivery.findUniqueOrThrow({ where: { id: delivery.id }, include: { log: true } });
  expect(after).toMatchObject({ attempts: 5, nextAttemptAt: null });
  expect(after.log).toHaveLength(5);
  const row = await db.payment.findUniqueOrThrow({ where: { id: payment.id } });
  const refunds = await db.refund.count({ where: { paymentId: payment.id } });
  // Only the first answer has an effect.
  expect([after.status, row.orderUpdate, refunds, (await eventsOf(payment.id)).length]).toEqual(
    after.status === 'delivered' ? ['delivered', 'applied', 0, 1] : [after.status, 'conflict', 1, 2],
  );
});

test('after the order service has agreed, its later answers to the same event have no effect', async () => {
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

test('order_update_failing is raised when the order service has not agreed for ten minutes, and not earlier', async () => {
  const { payment, delivery } = await newPending();
  const at = now();
  await leaseDelivery(db, delivery.id, at);
  await recordAttempt(db, delivery.id, answered('unknown', at), 0, at);
  for (const [ms, attention] of [
    [599_000, null],
    [600_000, 'order_update_failing'],
  ] as const) {
    await showOverdue(db, delivery.id, new Date(at.getTime() + ms));
    expect(await db.payment.findUniqueOrThrow({ where: { id: payment.id } })).toMatchObject({ attention });
  }
});

test('if a delivery has had no attempt, the sweep raises its attention once, and the first answer updates the attention', async () => {
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
  const unsent = `payment.succeeded has not been sent to the order service yet. Its first delivery attempt was due at ${delivery.createdAt.toISOString()}.`;
  // The payment was settled at most some milliseconds after its delivery was created.
  expect(await look(601_000)).toEqual([1, 'order_update_failing', unsent]);
  expect(await look(661_000)).toEqual([0, 'order_update_failing', unsent]);
  const first = new Date(since + 700_000);
  await leaseDelivery(db, delivery.id, first);
  await recordAttempt(db, delivery.id, answered('unknown', first), 0, first);
  expect((await look(760_000))[2]).toMatch(/has not agreed since .* Its last answer: It answered\./);
  await update(db, payment.id, { attention: null, attentionSince: null, attentionDetail: null });
  expect(await look(3_600_000)).toEqual([0, null, null]);
  await recordAttempt(db, delivery.id, answered('agreed'), 0, now());
  expect(await look(3_600_000)).toEqual([0, null, null]);
});

describe('a failing delivery of an event that the payment does not wait for', () => {
  /**
   * Creates a payment that its order service has acknowledged, and two pending deliveries of its refund events. Each
   * delivery has one attempt, which failed.
   */
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
      await leaseDelivery(db, id, at);
      await recordAttempt(db, id, answered('unknown', at), 0, at);
      ids.push(id);
    }
    const [first = '', second = ''] = ids;
    return { payment, first, second, later: (ms: number) => new Date(at.getTime() + ms) };
  }
  const row = (id: string) => db.payment.findUniqueOrThrow({ where: { id } });

  test('delivery_failing is raised after ten minutes, and stays until no delivery of the payment fails', async () => {
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

  test('order_update_failing replaces delivery_failing, and a dismissed delivery_failing is not raised again for the same delivery', async () => {
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
