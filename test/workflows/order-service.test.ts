import { expect, test } from 'vitest';
import { rotateMerchantSecret } from '../../src/cli/merchants.ts';
import { deliveryWorkflowId } from '../../src/domain/names.ts';
import { requestRedelivery } from '../../src/ledger/deliveries.ts';
import { type Reaction, startOrderService } from '../support/order-service.ts';
import { NET_MS } from '../support/progress.ts';
import { eventually } from '../support/stack.ts';
import { SECRET } from './harness.ts';
import {
  allTold,
  deliveriesOf,
  done,
  eventsOf,
  h,
  receive,
  resolve,
  set,
  shop,
} from './order-service-support.ts';

/** Tests that nodrop retries a delivery until the order service agrees, whatever the earlier answers were. */

const HOUR = 3_600;

test('if the order service answers 500 for an hour, delivery is retried on schedule and an attention is raised after 10 minutes', async () => {
  let until = Number.POSITIVE_INFINITY;
  shop.react = ({ at }) => (at < until ? { status: 500 } : undefined);
  const payment = await receive();
  until = (await h.now()) + HOUR * 1000;
  await h.pass(560);
  expect(await h.row(payment.id)).toMatchObject({ orderUpdate: 'pending', attention: null });
  await h.pass(60);
  const shown = await h.row(payment.id);
  expect(shown).toMatchObject({ orderUpdate: 'pending', attention: 'order_update_failing' });
  expect(shown.attentionDetail).toMatch(/has not agreed since .*Z\. Its last answer: It answered 500\./);
  await done(payment);

  expect(await h.row(payment.id)).toMatchObject({ orderUpdate: 'applied', attention: null });
  expect(await h.orderStatus(payment)).toBe('succeeded');
  const told = shop.about(payment.id);
  const waits = [1, 2, 5, 10, 20, 30, ...Array(5).fill(60), ...Array(5).fill(300), 1800];
  const gaps = told.slice(1).map(({ at }, i) => (at - (told[i]?.at ?? 0)) / 1000);
  expect(gaps).toHaveLength(waits.length);
  const off = gaps.findIndex((gap, i) => gap < (waits[i] ?? 0) - 0.6 || gap > (waits[i] ?? 0) * 1.2 + 2);
  expect({ off, gaps }).toMatchObject({ off: -1 });
  expect(told.every(({ isSigned }) => isSigned)).toBe(true);
  expect(new Set(told.map(({ id, body }) => `${id} ${body}`)).size).toBe(1);
  expect(shop.order(payment.orderId)).toMatchObject({ paidPaymentId: payment.id, timesPaid: 1 });
  expect(await eventsOf(payment)).toEqual(['1 payment.succeeded']);
  expect(await deliveriesOf(payment)).toMatchObject([{ status: 'delivered', attempts: 18 }]);
});

test.each<[string, Reaction]>([
  ['times out', { hang: true }],
  ['answers too late', { delayMs: 3_000, apply: true }],
  ['redirects', { status: 302, headers: { location: '/events' } }],
  ['answers 404 without the code order_unknown', { status: 404, body: 'There is nothing here.' }],
  ['answers 409 without a body', { status: 409 }],
  ['answers 409 with an invalid body', { status: 409, body: { paidPaymentId: 7 } }],
  ['answers 429 with Retry-After', { status: 429, headers: { 'retry-after': '1' } }],
])(
  'if the order service %s, the outcome is unknown, and the event is redelivered and applied once',
  async (_, reaction) => {
    shop.react = (_event, nth) => (nth <= 2 ? reaction : undefined);
    const payment = await receive();
    await done(payment);
    expect(await h.row(payment.id)).toMatchObject({ orderUpdate: 'applied', attention: null });
    expect(shop.order(payment.orderId)).toMatchObject({ paidPaymentId: payment.id, timesPaid: 1 });
    expect(shop.about(payment.id)).toHaveLength(3);
    const [delivery] = await deliveriesOf(payment);
    expect(delivery?.log.map(({ outcome }) => outcome)).toEqual(['unknown', 'unknown', 'agreed']);
    expect((await h.timeline(payment.id)).filter((line) => line.startsWith('delivery: '))).toHaveLength(3);
  },
);

test('a slow answer of the order service is accepted if it arrives within the timeout', async () => {
  shop.react = () => ({ delayMs: 500, apply: true });
  const payment = await receive();
  await done(payment);
  expect(shop.about(payment.id)).toHaveLength(1);
  expect(await h.row(payment.id)).toMatchObject({ orderUpdate: 'applied' });
});

test('if the order service acknowledges an event without applying it, the read-back detects this and delivery is retried', async () => {
  await set({ orderStatusUrl: shop.statusUrl });
  let honest = false;
  shop.react = () => (honest ? undefined : { status: 200 });
  const payment = await receive();
  await eventually(async () => (await h.row(payment.id)).attention !== null);
  expect(await h.row(payment.id)).toMatchObject({
    orderUpdate: 'pending',
    attention: 'order_update_failing',
    attentionDetail: expect.stringContaining('Read back: the order names no payment'),
  });
  await h.pass(60);
  honest = true;
  await done(payment);
  expect(await h.row(payment.id)).toMatchObject({ orderUpdate: 'applied', attention: null });
  const [delivery] = await deliveriesOf(payment);
  const outcomes = delivery?.log.map(({ outcome }) => outcome) ?? [];
  expect([outcomes.length > 3, new Set(outcomes.slice(0, -1)), outcomes.at(-1)]).toEqual([
    true,
    new Set(['not_applied']),
    'agreed',
  ]);
  expect(shop.reads).toEqual(Array(outcomes.length).fill(payment.orderId));
  expect(shop.order(payment.orderId).timesPaid).toBe(1);
});

test('after an acknowledgement, the payment is applied only when the read-back has succeeded', async () => {
  await set({ orderStatusUrl: shop.statusUrl });
  let readable = false;
  shop.reactToRead = () => (readable ? undefined : { status: 500 });
  const payment = await receive();
  await h.pass(30);
  expect(await h.row(payment.id)).toMatchObject({ orderUpdate: 'pending' });
  readable = true;
  await done(payment);
  const [delivery] = await deliveriesOf(payment);
  expect(delivery?.log[0]).toMatchObject({ outcome: 'unknown', statusCode: 200 });
  expect(await h.row(payment.id)).toMatchObject({ orderUpdate: 'applied' });
});

test('during a rotation, events are signed with the old secret, then with the old and the new secret, and finally with the new secret', async () => {
  let open = false;
  shop.react = () => (open ? undefined : { status: 503 });
  const old = shop.secret;
  const payment = await receive();
  /** The delivery attempts that have been made so far. */
  const marks: number[] = [];
  const pass = async (seconds: number) => {
    await h.pass(seconds);
    marks.push(shop.about(payment.id).length);
  };
  await pass(60);
  const lines = await rotateMerchantSecret(h.db, 'shop', 1, { secret: SECRET }, new Date(await h.now()));
  const secret = lines.at(-1) ?? '';
  await pass(600);
  // The shop gets the new secret. At this time, nodrop signs with both the old and the new secret.
  shop.secret = secret;
  await pass(600);
  await pass(HOUR);
  open = true;
  await done(payment);

  expect(await h.row(payment.id)).toMatchObject({ orderUpdate: 'applied', attention: null });
  const told = shop.about(payment.id);
  expect(told.every(({ isSigned }) => isSigned)).toBe(true);
  expect(new Set(told.map(({ id, body }) => `${id} ${body}`)).size).toBe(1);
  const [before = 0, withOld = 0, withNew = 0] = marks;
  expect([before > 1, withOld > before + 1, withNew > withOld + 1]).toEqual([true, true, true]);
  const signedBy = told.map(({ isSignedBy }) => `old: ${isSignedBy(old)}, new: ${isSignedBy(secret)}`);
  expect(signedBy.filter((one, i) => one !== signedBy[i - 1])).toEqual([
    'old: true, new: false',
    'old: true, new: true',
    'old: false, new: true',
  ]);
  expect(new Set(signedBy.slice(before + 1, withNew))).toEqual(new Set(['old: true, new: true']));
  expect(shop.order(payment.orderId)).toMatchObject({ paidPaymentId: payment.id, timesPaid: 1 });
});

test('after the URL of the order service changes, all further delivery attempts go to the new URL', async () => {
  const other = await startOrderService(() => h.now());
  try {
    shop.react = () => ({ status: 500 });
    const payment = await receive();
    await h.pass(10);
    other.secret = shop.secret;
    await set({ orderServiceUrl: other.url, orderStatusUrl: other.statusUrl });
    await done(payment);
    expect(await h.row(payment.id)).toMatchObject({ orderUpdate: 'applied' });
    const [first] = shop.about(payment.id);
    expect(other.about(payment.id)).toMatchObject([{ id: first?.id, body: first?.body, isSigned: true }]);
    // Only the last attempt went to the new URL.
    const [delivery] = await deliveriesOf(payment);
    expect(shop.about(payment.id).length).toBeLessThan(delivery?.attempts ?? 0);
    expect([shop.reads, other.reads]).toEqual([[], [payment.orderId]]);
  } finally {
    await other.close();
  }
});

const PATIENCE = { status: 503, headers: { 'retry-after': '3600' } };
test.each<[string, () => Promise<void>]>([
  [
    'an event',
    async () => {
      shop.react = (_, nth) => (nth === 1 ? PATIENCE : undefined);
    },
  ],
  [
    'an order that is read back',
    async () => {
      await set({ orderStatusUrl: shop.statusUrl });
      shop.reactToRead = () => (shop.reads.length === 1 ? PATIENCE : undefined);
    },
  ],
])(
  'the Retry-After of the answer to a request for %s is used if it is longer than the planned wait',
  async (_, prepare) => {
    await prepare();
    const payment = await receive();
    await done(payment);
    const [first, second] = shop.about(payment.id);
    const seconds = ((second?.at ?? 0) - (first?.at ?? 0)) / 1000;
    expect([seconds >= 3_599, seconds < 3_610]).toEqual([true, true]);
    expect((await h.timeline(payment.id)).filter((line) => line.startsWith('attention: '))).toEqual([
      expect.stringContaining('order_update_failing: The order service has not agreed'),
      'attention: order_update_failing was cleared.',
    ]);
  },
);

test('if nodrop cannot deliver the event of a refund for hours, it raises an attention after 10 minutes and clears the attention after the delivery', async () => {
  shop.react = ({ type }, nth) => (type === 'refund.succeeded' && nth < 20 ? { status: 500 } : undefined);
  const payment = await receive();
  await done(payment);
  const refund = await h.refund(payment, 500);
  await h.untilRefund(refund.id, 'succeeded');
  const [, delivery] = await eventually(async () => {
    const rows = await deliveriesOf(payment);
    return rows[1]?.attempts === 1 && rows;
  });
  await h.pass(700);
  const shown = await h.row(payment.id);
  expect(shown).toMatchObject({ orderUpdate: 'applied', attention: 'delivery_failing' });
  expect(shown.attentionDetail).toMatch(
    /has not answered refund\.succeeded since .*Z\. Its last answer: It answered 500\./,
  );
  await h.env.client.workflow.getHandle(deliveryWorkflowId(delivery?.id ?? '')).result();
  expect((await deliveriesOf(payment))[1]).toMatchObject({ status: 'delivered', attempts: 19 });
  expect(await h.row(payment.id)).toMatchObject({ orderUpdate: 'applied', attention: null });
  const attentions = (await h.timeline(payment.id)).filter((line) => line.startsWith('attention: '));
  expect(attentions).toEqual([
    expect.stringContaining('delivery_failing: '),
    'attention: delivery_failing was cleared.',
  ]);
});

test('after an operator dismisses the attention, delivery continues and the attention is not raised again', async () => {
  let open = false;
  shop.react = () => (open ? undefined : { status: 500 });
  const payment = await receive();
  await h.pass(700);
  expect(await h.row(payment.id)).toMatchObject({ attention: 'order_update_failing' });
  await resolve(payment, 'dismiss');
  await h.pass(1800);
  expect(await h.row(payment.id)).toMatchObject({ attention: null, orderUpdate: 'pending' });
  open = true;
  await done(payment);
  expect(await h.row(payment.id)).toMatchObject({ orderUpdate: 'applied' });
});

test('the end of an unpaid payment is delivered to the order service, and the order is not paid', async () => {
  const payment = await h.newPayment({ expiresInMs: 60_000 });
  await h.start(payment);
  await done(payment);
  await allTold(payment);
  expect(await h.row(payment.id)).toMatchObject({ status: 'closed', orderUpdate: null });
  expect(shop.about(payment.id)).toMatchObject([{ type: 'payment.closed', isSigned: true }]);
  expect(shop.order(payment.orderId)).toMatchObject({ paidPaymentId: null });
});

test('if a merchant has no order service, events have no deliveries and a settled payment is applied immediately', async () => {
  await set({ orderServiceUrl: null, orderStatusUrl: null });
  const payment = await h.newPaid();
  expect(await h.row(payment.id)).toMatchObject({ orderUpdate: 'applied' });
  expect(await eventsOf(payment)).toEqual(['1 payment.succeeded']);
  expect(await deliveriesOf(payment)).toEqual([]);
  expect(shop.received).toEqual([]);
});

test('if the order service is removed while a payment waits for it, the payment is applied to the order in nodrop', async () => {
  shop.react = () => ({ status: 500 });
  const payment = await receive();
  await set({ orderServiceUrl: null, orderStatusUrl: null });
  await done(payment);
  expect(await h.row(payment.id)).toMatchObject({ orderUpdate: 'applied' });
});

test('if the order service is removed, the pending delivery of an event for which no payment waits ends without a call', async () => {
  shop.react = () => ({ status: 500 });
  const payment = await h.newPayment({ expiresInMs: 60_000 });
  await h.start(payment);
  await done(payment);
  const [delivery] = await eventually(async () => {
    const rows = await deliveriesOf(payment);
    return (rows[0]?.attempts ?? 0) > 0 && rows;
  });
  await set({ orderServiceUrl: null, orderStatusUrl: null });
  await h.env.client.workflow.getHandle(deliveryWorkflowId(delivery?.id ?? '')).result();
  const [after] = await deliveriesOf(payment);
  expect(after).toMatchObject({ status: 'delivered' });
  expect(after?.log.filter(({ outcome }) => outcome !== 'unknown')).toMatchObject([
    { statusCode: null, detail: expect.stringContaining('no longer has an order service') },
  ]);
  expect(shop.about(payment.id).length).toBeLessThan(after?.attempts ?? 0);
});

test('a redelivery of a settled delivery sends the same bytes with the same id, and the new answer is only logged', async () => {
  const payment = await receive();
  await done(payment);
  const before = await h.row(payment.id);
  const [delivery] = await deliveriesOf(payment);
  const asked = await requestRedelivery(
    h.db,
    payment.merchantId,
    delivery?.id ?? '',
    'a test',
    new Date(await h.now()),
  );
  await h.deliveryWorkflows.redeliver(asked.delivery, NET_MS);
  await h.env.client.workflow.getHandle(deliveryWorkflowId(asked.delivery.id)).result();
  const [first, second, ...more] = shop.about(payment.id);
  expect(more).toEqual([]);
  expect([second?.id, second?.body]).toEqual([first?.id, first?.body]);
  expect(await h.row(payment.id)).toEqual(before);
  const [after] = await deliveriesOf(payment);
  expect(after).toMatchObject({ status: 'delivered', attempts: 2, settledAt: delivery?.settledAt });
  expect(after?.log).toHaveLength(2);
  expect(shop.order(payment.orderId).timesPaid).toBe(1);
});

// This is the last test, because the refund's signal can cancel a running attempt to update the order. After that, the
// time-skipping server no longer skips time.
test('while delivery of an older event fails, a newer event is delivered, and the older event is still delivered later', async () => {
  let open = false;
  shop.react = ({ type }) => (type === 'payment.succeeded' && !open ? { status: 500 } : undefined);
  const payment = await receive();
  const refund = await h.refund(payment, 500);
  await h.untilRefund(refund.id, 'succeeded');
  await eventually(() => shop.about(payment.id).some(({ type }) => type === 'refund.succeeded'));
  expect(await h.row(payment.id)).toMatchObject({ orderUpdate: 'pending', refundedAmount: 500n });
  open = true;
  await done(payment);
  expect(await h.row(payment.id)).toMatchObject({ orderUpdate: 'applied' });
  expect(shop.order(payment.orderId)).toMatchObject({ paidPaymentId: payment.id, timesPaid: 1 });
  const told = shop.about(payment.id);
  const refunded = told.find(({ type }) => type === 'refund.succeeded');
  const last = told.at(-1);
  expect(last?.type).toBe('payment.succeeded');
  expect(refunded?.version).toBeGreaterThan(last?.version ?? Number.POSITIVE_INFINITY);
  const newer = JSON.parse(refunded?.body ?? '');
  expect(newer.data).toMatchObject({
    version: refunded?.version,
    payment: { id: payment.id, status: 'succeeded', refundedAmount: 500 },
    order: { id: payment.orderId, status: 'succeeded', paidPaymentId: payment.id },
    refund: { id: refund.id, amount: 500, status: 'succeeded' },
  });
});
