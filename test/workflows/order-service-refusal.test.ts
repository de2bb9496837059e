import { expect, test } from 'vitest';
import { deliveryWorkflowId, paymentWorkflowId, SWEEP_TASK_QUEUE } from '../../src/domain/names.ts';
import { recordAttempt } from '../../src/ledger/deliveries.ts';
import type { Payment } from '../../src/ledger/rows.ts';
import { SWEEP_WORKFLOW } from '../../src/workflows/messages.ts';
import type { Reaction } from '../support/order-service.ts';
import { eventually } from '../support/stack.ts';
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

/**
 * Tests payments that the order service refuses, and payments that an operator accepts or refunds before the order
 * service answers. In each case, the money is applied or refunded exactly once.
 */

const sweep = async () =>
  await h.env.client.workflow.execute(SWEEP_WORKFLOW, {
    taskQueue: SWEEP_TASK_QUEUE,
    workflowId: `sweep-${Math.random()}`,
  });

// The following tests do not need skipped time. After a refund was started as a child workflow or a running
// activity was cancelled, the time-skipping server no longer skips time.

const atChannel = async ({ id }: Payment) =>
  (await h.simulator.ledger()).find(({ outTradeNo }: { outTradeNo: string }) => outTradeNo === id);

test('if the order service answers 409 and names the payment of the event, the payment is applied', async () => {
  shop.react = ({ paymentId }) => ({ status: 409, body: { paidPaymentId: paymentId } });
  const payment = await receive();
  await done(payment);
  expect(await h.row(payment.id)).toMatchObject({ orderUpdate: 'applied', attention: null });
  expect(shop.about(payment.id)).toHaveLength(1);
});

test.each([
  [
    'an answer 409 that names another payment',
    { react: { status: 409, body: { paidPaymentId: 'pay_other' } } },
  ],
  ['a read-back that names another payment', { read: { body: { paidPaymentId: 'pay_other' } } }],
])(
  'after %s, the money is refunded, and an attention stays raised until the refund is made',
  async (_, { react, read }: { react?: Reaction; read?: Reaction }) => {
    await set({ orderStatusUrl: shop.statusUrl });
    shop.react = ({ type }) => (type === 'payment.succeeded' ? react : undefined);
    shop.reactToRead = () => read;
    let shown = '';
    h.onRefund = async (ask) => {
      shown = String(
        (await h.db.payment.findFirst({ where: { orderUpdate: 'conflict', refundedAmount: 0 } }))?.attention,
      );
      return await ask();
    };
    const payment = await receive();
    await done(payment);
    const refund = await h.db.refund.findFirstOrThrow({ where: { paymentId: payment.id } });
    expect(refund).toMatchObject({ reason: 'duplicate_payment', amount: 1990n });
    await h.untilRefund(refund.id, 'succeeded');
    await allTold(payment);
    h.onRefund = undefined;
    expect(shown).toBe('order_conflict');
    expect(await h.row(payment.id)).toMatchObject({
      orderUpdate: 'conflict',
      attention: null,
      refundedAmount: 1990n,
    });
    expect(await h.orderStatus(payment)).toBe('refunded');
    expect(await atChannel(payment)).toMatchObject({ state: 'REFUND', refunded: 1990 });
    expect(await eventsOf(payment)).toEqual([
      '1 payment.succeeded',
      '2 payment.conflict',
      '3 refund.succeeded',
    ]);
    expect((await deliveriesOf(payment)).map(({ status }) => status)).toEqual([
      'conflict',
      'delivered',
      'delivered',
    ]);
  },
);

test('if the order service answers 410, the order is gone, and the money is refunded like late money', async () => {
  shop.react = ({ type }) => (type === 'payment.succeeded' ? { status: 410 } : undefined);
  const payment = await receive();
  await done(payment);
  const refund = await h.db.refund.findFirstOrThrow({ where: { paymentId: payment.id } });
  expect(refund).toMatchObject({ reason: 'late_payment' });
  await h.untilRefund(refund.id, 'succeeded');
  await allTold(payment);
  expect(await h.row(payment.id)).toMatchObject({ orderUpdate: 'conflict', refundedAmount: 1990n });
  expect((await deliveriesOf(payment)).map(({ status }) => status)).toEqual([
    'gone',
    'delivered',
    'delivered',
  ]);
});

test.each(['accept', 'refund'] as const)(
  'if the merchant reviews late money, an operator can decide to %s after the order service answers 410',
  async (action) => {
    await set({ latePayment: 'review' });
    shop.react = ({ type }) => (type === 'payment.succeeded' ? { status: 410 } : undefined);
    const payment = await receive();
    await done(payment);
    await allTold(payment);
    expect(await h.row(payment.id)).toMatchObject({
      orderUpdate: 'review',
      attention: 'late_payment_review',
    });
    expect(await h.db.refund.count({ where: { paymentId: payment.id } })).toBe(0);
    await resolve(payment, action);
    const applied = action === 'accept';
    expect(await h.row(payment.id)).toMatchObject({ orderUpdate: applied ? 'applied' : 'conflict' });
    expect(await eventsOf(payment)).toEqual([
      '1 payment.succeeded',
      '2 payment.review',
      applied ? '3 payment.succeeded' : '3 payment.conflict',
    ]);
    expect(await h.db.refund.count({ where: { paymentId: payment.id, reason: 'late_payment' } })).toBe(
      applied ? 0 : 1,
    );
  },
);

test('while the order service keeps failing, an operator can accept the payment in its place', async () => {
  shop.react = () => ({ status: 500 });
  const payment = await receive();
  await eventually(() => shop.about(payment.id).length > 1);
  await resolve(payment, 'accept');
  await done(payment);
  expect(await h.row(payment.id)).toMatchObject({ orderUpdate: 'applied', attention: null });
  // An attempt was in flight at the time of the decision. Its result is only logged.
  const agreed = (await deliveriesOf(payment))[0]?.log.filter(({ outcome }) => outcome === 'agreed');
  expect(agreed).toMatchObject([{ detail: 'An operator decided: accept.' }]);
});

test('an operator can refund a payment that the order service has not accepted', async () => {
  shop.react = ({ type }) => (type === 'payment.succeeded' ? { status: 500 } : undefined);
  const payment = await receive();
  const first = await h.refund(payment, 500);
  await h.untilRefund(first.id, 'succeeded');
  await resolve(payment, 'refund');
  await done(payment);
  const owed = await h.db.refund.findFirstOrThrow({
    where: { paymentId: payment.id, id: { not: first.id } },
  });
  expect(owed).toMatchObject({ amount: 1490n, reason: 'requested' });
  await h.untilRefund(owed.id, 'succeeded');
  expect(await h.orderStatus(payment)).toBe('refunded');
});

const hasEnded = (payment: Payment) =>
  eventually(async () => {
    const run = h.env.client.workflow.getHandle(paymentWorkflowId(payment.id));
    return (await run.describe()).status.name === 'COMPLETED';
  });
const tellsOf = async (payment: Payment) =>
  (await deliveriesOf(payment)).map(({ event, status }) => `${event.type} ${status}`);

test.each([
  ['by one refund', async (payment: Payment) => [await h.refund(payment)]],
  [
    'by several refunds',
    async (payment: Payment) => {
      const first = await h.refund(payment, 990);
      await h.untilRefund(first.id, 'succeeded');
      return [first, await h.refund(payment, 1000)];
    },
  ],
  [
    'in part at the channel, and by a refund of the rest',
    async (payment: Payment) => {
      await h.refundElsewhere(payment, 990);
      return [await h.refund(payment)];
    },
  ],
  [
    'at the channel, reported by a callback',
    async (payment: Payment) => {
      await h.refundElsewhere(payment, 1990);
      await h.callback(payment, { state: 'refunded', refundedAmount: 1990 });
      return [];
    },
  ],
  [
    'at the channel, found by a query on request of an operator',
    async (payment: Payment) => {
      await h.refundElsewhere(payment, 1990);
      await h.ask(payment);
      return [];
    },
  ],
])(
  'if all money is refunded %s while the order service fails, the success event is superseded and a conflict event is delivered immediately',
  async (_, giveAllBack) => {
    await set({ orderStatusUrl: shop.statusUrl });
    shop.react = ({ type }) =>
      type === 'payment.succeeded' ? { status: 503, headers: { 'retry-after': '80000' } } : undefined;
    const payment = await receive();
    await eventually(async () => (await deliveriesOf(payment))[0]?.attempts === 1);
    for (const { id } of await giveAllBack(payment)) await h.untilRefund(id, 'succeeded');
    // The workflow is woken and does not wait for its next attempt. So no virtual time passes.
    await hasEnded(payment);
    await allTold(payment);
    expect(await h.row(payment.id)).toMatchObject({
      ...{ orderUpdate: 'conflict', attention: null, refundedAmount: 1990n },
    });
    expect(await h.orderStatus(payment)).toBe('refunded');
    const told = await tellsOf(payment);
    expect(told[0]).toBe('payment.succeeded superseded');
    expect(told).toContain('payment.conflict delivered');
    // Two refunds were made. The event of the first refund says that the payment still pays the order. This event was
    // delivered before the second refund, or it was superseded by the second refund.
    expect(new Set(told.slice(1).filter((one) => one !== 'refund.succeeded superseded'))).toEqual(
      new Set(['payment.conflict delivered', 'refund.succeeded delivered']),
    );
    expect(shop.about(payment.id).filter(({ type }) => type === 'payment.succeeded')).toHaveLength(1);
    expect(shop.order(payment.orderId)).toMatchObject({ paidPaymentId: null, timesPaid: 0 });
  },
);

test('if all money is refunded during a delivery attempt, the answer to this attempt is only logged, and a conflict event is delivered', async () => {
  let answer = () => {};
  const isBack = new Promise<void>((resolve) => {
    answer = resolve;
  });
  shop.react = ({ type }) => (type === 'payment.succeeded' ? { after: isBack, apply: true } : undefined);
  const payment = await receive();
  await eventually(() => shop.about(payment.id).length > 0);
  const refund = await h.refund(payment);
  await h.untilRefund(refund.id, 'succeeded');
  answer();
  const [told] = await eventually(async () => {
    const rows = await deliveriesOf(payment);
    return (rows[0]?.log.length ?? 0) > 0 && rows;
  });
  // On a slow machine, the attempt may time out before the order service answers.
  expect(['agreed', 'unknown']).toContain(told?.log[0]?.outcome);
  await hasEnded(payment);
  await allTold(payment);
  expect(await tellsOf(payment)).toEqual([
    'payment.succeeded superseded',
    'refund.succeeded delivered',
    'payment.conflict delivered',
  ]);
  expect(await h.row(payment.id)).toMatchObject({ orderUpdate: 'conflict', attention: null });
  // The conflict is the newest event that the order service gets, so the order service takes the goods back.
  expect(shop.order(payment.orderId).known.get(payment.id)).toMatchObject({ type: 'payment.conflict' });
});

test('if the workflows of the payment and of a delivery are terminated in the Web UI, the sweep restarts them', async () => {
  let open = false;
  shop.react = () => (open ? undefined : { status: 500 });
  const payment = await receive();
  const refund = await h.refund(payment, 500);
  await h.untilRefund(refund.id, 'succeeded');
  const [, other] = await eventually(async () => {
    const rows = await deliveriesOf(payment);
    return rows.length === 2 && rows.every(({ attempts }) => attempts > 0) && rows;
  });
  const runs = [paymentWorkflowId(payment.id), deliveryWorkflowId(other?.id ?? '')];
  for (const id of runs) await h.env.client.workflow.getHandle(id).terminate('a test');
  open = true;
  // Sets the times of the next attempts to the past.
  const past = new Date((await h.now()) - 180_000);
  await h.db.delivery.updateMany({
    where: { paymentId: payment.id },
    data: { createdAt: past, nextAttemptAt: past },
  });
  expect(await sweep()).toMatchObject({ sweepDeliveries: expect.any(Number) });
  await allTold(payment);
  await sweep();
  expect((await h.timeline(payment.id)).filter((line) => line.startsWith('sweep: '))).toHaveLength(2);
  expect(await h.row(payment.id)).toMatchObject({ orderUpdate: 'applied' });
});

test('if a worker dies after it recorded a refusal, the sweep delivers the events and starts the refund', async () => {
  shop.react = ({ type }) => (type === 'payment.succeeded' ? { status: 500 } : undefined);
  const payment = await receive();
  await eventually(async () => (await deliveriesOf(payment))[0]?.attempts === 1);
  await h.env.client.workflow.getHandle(paymentWorkflowId(payment.id)).terminate('a test');
  const [delivery] = await deliveriesOf(payment);
  const at = new Date(await h.now());
  const refusal = {
    outcome: 'conflict',
    statusCode: 409,
    detail: 'It answered 409.',
    durationMs: 1,
  } as const;
  await recordAttempt(h.db, delivery?.id ?? '', { ...refusal, at }, 0, at);
  expect(await h.row(payment.id)).toMatchObject({ orderUpdate: 'conflict', attention: 'order_conflict' });
  // Makes the rows old enough that the sweep picks them up.
  const createdAt = new Date(at.getTime() - 180_000);
  await h.db.delivery.updateMany({ where: { paymentId: payment.id }, data: { createdAt } });
  await h.db.refund.updateMany({ where: { paymentId: payment.id }, data: { createdAt } });
  await sweep();
  const refund = await h.db.refund.findFirstOrThrow({ where: { paymentId: payment.id } });
  await h.untilRefund(refund.id, 'succeeded');
  await allTold(payment);
  expect(shop.about(payment.id).map(({ type }) => type)).toContain('payment.conflict');
  expect(await h.row(payment.id)).toMatchObject({ attention: null, refundedAmount: 1990n });
});
