import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { paymentWorkflowId } from '../../src/domain/names.ts';
import { type MerchantSettings, setMerchant } from '../../src/ledger/merchants.ts';
import { type Resolution, resolvePayment } from '../../src/ledger/operator-decision.ts';
import type { Payment } from '../../src/ledger/rows.ts';
import { type OrderService, type Reaction, startOrderService } from '../support/order-service.ts';
import { eventually } from '../support/stack.ts';
import { type Harness, SECRET, useHarness } from './harness.ts';

/**
 * Tests an order that the order service does not know. nodrop redelivers the event for a day before it refunds the
 * money. Refunds cancel activities, and after that the server may no longer skip time. So the tests without refunds
 * come first.
 */

const HOUR = 3_600;

let shop: OrderService;
const h = useHarness();
beforeAll(async () => {
  shop = await startOrderService(() => h.now());
});
afterAll(async () => {
  await shop?.close();
});
beforeEach(async () => {
  shop.reset();
  await set({ orderServiceUrl: shop.url, orderStatusUrl: null, latePayment: 'apply' });
});

async function set(settings: MerchantSettings): Promise<void> {
  const given = await setMerchant(h.db, 'shop', settings, SECRET, new Date(await h.now()));
  if (given?.secret != null) shop.secret = given.secret;
}

/** A payment of a new order. The payment's money has arrived. */
async function receive(options: Parameters<Harness['newPayment']>[0] = {}): Promise<Payment> {
  const payment = await h.newPayment(options);
  await h.start(payment);
  await h.simulator.pay(payment.id);
  await h.callback(payment);
  await h.until(payment.id, 'succeeded');
  return payment;
}

const done = (payment: Payment) => h.env.client.workflow.getHandle(paymentWorkflowId(payment.id)).result();

const eventsOf = async ({ id }: Payment) =>
  (await h.db.event.findMany({ where: { paymentId: id }, orderBy: { version: 'asc' } })).map(
    // Versions also grow with the clock. So the text contains the event's position and not its version.
    ({ type }, i) => `${i + 1} ${type}`,
  );
const deliveriesOf = ({ id }: Payment) =>
  h.db.delivery.findMany({
    where: { paymentId: id },
    include: { log: true, event: true },
    orderBy: { id: 'asc' },
  });

/** Resolves when no delivery of this payment's events is pending. */
const allTold = (payment: Payment) =>
  eventually(async () => (await deliveriesOf(payment)).every(({ status }) => status !== 'pending'));

const resolve = async (payment: Payment, action: Resolution) =>
  resolvePayment(h.db, payment.merchantId, payment.id, action, 'a test', new Date(await h.now()));

const NOT_KNOWN: Reaction = { status: 404, body: { code: 'order_unknown' } };
const UNKNOWN: readonly [string, Reaction][] = [
  ['404', NOT_KNOWN],
  ['410', { ...NOT_KNOWN, status: 410 }],
];

test.each(UNKNOWN)(
  'if the order service answers %s with the code order_unknown, an order that appears after 23 h is paid and nothing is refunded',
  async (_, reaction) => {
    let until = Number.POSITIVE_INFINITY;
    shop.react = ({ at }) => (at < until ? reaction : undefined);
    const payment = await receive();
    until = (await h.now()) + 23 * HOUR * 1000;
    await eventually(async () => (await h.row(payment.id)).attention !== null);
    const shown = await h.row(payment.id);
    expect(shown).toMatchObject({ orderUpdate: 'pending', attention: 'order_unknown' });
    expect(shown.attentionDetail).toMatch(
      /does not know order .* Its last answer: It answered 4\d\d: it does not know the order\. Unless the order service knows the order by .*Z, /,
    );
    await done(payment);
    expect(await h.row(payment.id)).toMatchObject({ orderUpdate: 'applied', attention: null });
    expect(await h.db.refund.count({ where: { paymentId: payment.id } })).toBe(0);
    expect(shop.order(payment.orderId)).toMatchObject({ paidPaymentId: payment.id, timesPaid: 1 });
    expect(await eventsOf(payment)).toEqual(['1 payment.succeeded']);
    const [delivery] = await deliveriesOf(payment);
    expect(new Set(delivery?.log.map(({ outcome }) => outcome))).toEqual(
      new Set(['order_unknown', 'agreed']),
    );
    // There are 17 attempts in the first half hour. After that there is at least one attempt an hour.
    expect(shop.about(payment.id).length).toBeGreaterThan(30);
    expect((await h.timeline(payment.id)).filter((line) => line.startsWith('attention: '))).toEqual([
      expect.stringContaining('order_unknown: The order service does not know order'),
      'attention: order_unknown was cleared.',
    ]);
  },
);

test.each<[string, Reaction]>([
  ['with a page for people', { status: 404, body: 'Cannot POST /events' }],
  ['without a body', { status: 404 }],
])(
  'if the order service answers 404 %s for two days, an attention is raised, delivery is retried, and no money is refunded',
  async (_, reaction) => {
    let until = Number.POSITIVE_INFINITY;
    shop.react = ({ at }) => (at < until ? reaction : undefined);
    const payment = await receive();
    until = (await h.now()) + 48 * HOUR * 1000;
    await eventually(async () => (await h.row(payment.id)).attention !== null);
    expect(await h.row(payment.id)).toMatchObject({ orderUpdate: 'pending', attention: 'order_unknown' });
    await done(payment);
    expect(await h.row(payment.id)).toMatchObject({ orderUpdate: 'applied', attention: null });
    expect(await h.db.refund.count({ where: { paymentId: payment.id } })).toBe(0);
    const [delivery] = await deliveriesOf(payment);
    expect(delivery?.log[0]).toMatchObject({
      outcome: 'unknown',
      answer: reaction.body === undefined ? null : '"Cannot POST /events"',
    });
  },
);

test('if the merchant reviews late money, an operator decides after the order service has answered order_unknown for 24 h', async () => {
  await set({ latePayment: 'review' });
  shop.react = ({ type }) => (type === 'payment.succeeded' ? NOT_KNOWN : undefined);
  const payment = await receive();
  await done(payment);
  expect(await h.row(payment.id)).toMatchObject({
    orderUpdate: 'review',
    attention: 'late_payment_review',
    attentionDetail: expect.stringContaining('has not known the order for 24 h'),
  });
  expect(await h.db.refund.count({ where: { paymentId: payment.id } })).toBe(0);
});

test('the money of an unknown order is refunded once, but only after the order service has answered order_unknown for 24 h', async () => {
  shop.react = () => NOT_KNOWN;
  const payment = await receive();
  await done(payment);
  const refund = await h.db.refund.findFirstOrThrow({ where: { paymentId: payment.id } });
  expect(refund).toMatchObject({ reason: 'late_payment', amount: 1990n });
  await h.untilRefund(refund.id, 'succeeded');
  await allTold(payment);
  expect(await h.db.refund.count({ where: { paymentId: payment.id } })).toBe(1);
  expect(await h.row(payment.id)).toMatchObject({
    orderUpdate: 'conflict',
    refundedAmount: 1990n,
    attention: null,
  });
  const deliveries = await deliveriesOf(payment);
  // After `order_unknown`, nodrop does not retry the events about the refund, because they move no money.
  expect(deliveries.map(({ event, status, attempts }) => [event.type, status, attempts > 1])).toEqual([
    ['payment.succeeded', 'gone', true],
    ['payment.conflict', 'gone', false],
    ['refund.succeeded', 'gone', false],
  ]);
  const asked = deliveries[0]?.log.map(({ at }) => at.getTime()) ?? [];
  const lasted = (Math.max(...asked) - Math.min(...asked)) / 1000;
  expect([lasted >= 24 * HOUR - 1, lasted < 24.5 * HOUR]).toEqual([true, true]);
});

test('an operator can refund the money of an unknown order without waiting for 24 h', async () => {
  shop.react = ({ type }) => (type === 'payment.succeeded' ? NOT_KNOWN : undefined);
  const payment = await receive();
  await eventually(async () => (await h.row(payment.id)).attention === 'order_unknown');
  await resolve(payment, 'refund');
  await done(payment);
  const refund = await h.db.refund.findFirstOrThrow({ where: { paymentId: payment.id } });
  expect(refund).toMatchObject({ reason: 'requested', amount: 1990n });
  await h.untilRefund(refund.id, 'succeeded');
  await allTold(payment);
  expect(await h.row(payment.id)).toMatchObject({ orderUpdate: 'conflict', attention: null });
  expect(await h.db.refund.count({ where: { paymentId: payment.id } })).toBe(1);
});
