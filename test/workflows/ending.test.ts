import { beforeEach, expect, test } from 'vitest';
import { NET_MS } from '../support/progress.ts';
import { eventually } from '../support/stack.ts';
import { expectAsked, useHarness } from './harness.ts';

/**
 * Tests how a payment ends (P3). Only a definite answer of the channel ends the payment, and money that arrives
 * later is still found.
 */

const h = useHarness();
beforeEach(async () => {
  await h.simulator.setFaults({
    create: { errorRate: 0, timeoutAfterAcceptRate: 0 },
    query: { errorRate: 0, garbageRate: 0, lagMs: 0 },
    close: { errorRate: 0 },
    down: false,
  });
});

const ledgerOf = async (paymentId: string) =>
  (await h.simulator.ledger()).find(({ outTradeNo }) => outTradeNo === paymentId);

test('an unpaid payment is queried once more at its expiry and then closed at the channel', async () => {
  const payment = await h.newPayment({ expiresInMs: 60_000 });
  const run = await h.start(payment);
  await h.pass(62);
  expect(await h.row(payment.id)).toMatchObject({ status: 'closed', settledAt: null });
  expect(await h.orderStatus(payment)).toBe('unpaid');
  expect((await ledgerOf(payment.id))?.state).toBe('CLOSED');
  await run.result();
  // The times of the scheduled queries, of the query at the expiry, and of the late watch, which sends queries 10 min,
  // 1 h, 6 h and 24 h after the expiry.
  expectAsked(h, payment, [10, 20, 30, 50, 60, 660, 3660, 21_660, 86_460]);
});

test('money that arrives just before the expiry pays the order', async () => {
  const payment = await h.newPayment({ expiresInMs: 60_000 });
  const run = await h.start(payment);
  await h.pass(55);
  await h.simulator.pay(payment.id);
  await run.result();
  expectAsked(h, payment, [10, 20, 30, 50, 60]);
  expect(await h.row(payment.id)).toMatchObject({
    status: 'succeeded',
    orderUpdate: 'applied',
    settledBy: 'close',
  });
});

test('if the channel answers a close with "already paid", the payment succeeds and pays its order', async () => {
  const payment = await h.newPayment({ expiresInMs: 60_000 });
  const run = await h.start(payment);
  await h.pass(55);
  // The last query has reported "unpaid". The payer pays after this query and before the close.
  h.onAnswer = async (outTradeNo) => void (await h.simulator.pay(outTradeNo));
  await run.result();
  expect(await h.row(payment.id)).toMatchObject({
    status: 'succeeded',
    orderUpdate: 'applied',
    settledBy: 'close',
  });
});

test('if the channel answers a close with "paid" but queries do not report the money, nodrop raises an attention and queries until the money is reported', async () => {
  const payment = await h.newPayment({ expiresInMs: 60_000 });
  const run = await h.start(payment);
  await h.pass(55);
  await h.simulator.setFaults({ query: { lagMs: 3_600_000 } });
  await h.simulator.pay(payment.id);
  await h.pass(3600);
  const waits = [2, 4, 8, 16, 32, 64, 128, 256, ...Array(11).fill(300)];
  const asked = waits.map((_, i) => 60 + waits.slice(0, i).reduce((sum, wait) => sum + wait, 0));
  expectAsked(h, payment, [10, 20, 30, 50, ...asked]);
  expect(await h.row(payment.id)).toMatchObject({ status: 'paying', attention: 'channel_unreachable' });
  // The attention is raised only once.
  const shown = (await h.timeline(payment.id)).filter((entry) => entry.startsWith('attention:'));
  expect(shown).toEqual([
    'attention: channel_unreachable: The channel refuses to close the trade as already paid, but its queries do not report it as paid.',
  ]);
  await h.simulator.setFaults({ query: { lagMs: 0 } });
  await run.result();
  expect(await h.row(payment.id)).toMatchObject({
    status: 'succeeded',
    orderUpdate: 'applied',
    settledBy: 'close',
    attention: null,
  });
});

test('if the channel does not know a trade at its expiry, the payment is closed', async () => {
  await h.simulator.setFaults({ create: { errorRate: 1 } });
  const payment = await h.newPayment({ expiresInMs: 300_000 });
  await h.workflows.wake(payment, NET_MS);
  await h.pass(200);
  expect(await h.row(payment.id)).toMatchObject({ status: 'created', attention: 'create_unknown' });
  await h.pass(110);
  expect(await h.row(payment.id)).toMatchObject({ status: 'closed', attention: null });
});

test('while the channel reports processing, a payment stays paying even after its expiry', async () => {
  const payment = await h.newPayment({ expiresInMs: 60_000 });
  const run = await h.start(payment);
  await h.simulator.pay(payment.id, 'processing');
  await h.pass(1200);
  expect(await h.row(payment.id)).toMatchObject({ status: 'paying', channelState: 'processing' });
  await h.simulator.pay(payment.id, 'success');
  await run.result();
  expect(await h.row(payment.id)).toMatchObject({ status: 'succeeded', orderUpdate: 'applied' });
});

test('if the channel is unreachable at the expiry, the payment keeps its status and an attention is raised', async () => {
  const payment = await h.newPayment({ expiresInMs: 60_000 });
  const run = await h.start(payment);
  await h.pass(20);
  await h.simulator.setFaults({ down: true });
  await h.pass(3600);
  expect(await h.row(payment.id)).toMatchObject({ status: 'paying', attention: 'channel_unreachable' });
  await h.simulator.pay(payment.id);
  await h.simulator.setFaults({ down: false });
  await run.result();
  expect(await h.row(payment.id)).toMatchObject({
    status: 'succeeded',
    orderUpdate: 'applied',
    attention: null,
  });
});

test('a payment is not closed while it cannot be queried, because only a query proves that it is unpaid', async () => {
  const payment = await h.newPayment({ expiresInMs: 60_000 });
  const run = await h.start(payment);
  await h.pass(20);
  // The payment is unpaid, so a close would succeed now.
  await h.simulator.setFaults({ query: { errorRate: 1 } });
  await h.pass(600);
  expect((await h.row(payment.id)).status).toBe('paying');
  expect((await ledgerOf(payment.id))?.state).toBe('NOTPAY');
  await h.simulator.setFaults({ query: { errorRate: 0 } });
  await run.result();
  expect((await h.row(payment.id)).status).toBe('closed');
  expect((await ledgerOf(payment.id))?.state).toBe('CLOSED');
});

test('the late watch finds money that arrives after the payment has ended, and the money pays the order', async () => {
  await h.simulator.setFaults({ create: { errorRate: 1 } });
  const payment = await h.newPayment({ expiresInMs: 60_000 });
  await h.workflows.wake(payment, NET_MS);
  await h.pass(70);
  const { status, endedAt, createdAt } = await h.row(payment.id);
  expect(status).toBe('closed');
  // The create request that seemed lost reaches the channel late, and then the payer pays.
  await h.simulator.setFaults({ create: { errorRate: 0 } });
  await h.lateCreate(payment);
  await h.simulator.pay(payment.id);
  await h.env.client.workflow.getHandle(`payment/${payment.id}`).result();
  expect(await h.row(payment.id)).toMatchObject({ status: 'succeeded', orderUpdate: 'applied' });
  expect(await h.orderStatus(payment)).toBe('succeeded');
  const ended = ((endedAt?.getTime() ?? 0) - createdAt.getTime()) / 1000;
  expect(Math.round(((h.askedAt(payment).at(-1) ?? 0) - ended) / 60)).toBe(10);
});

test('if two payments of one order are paid, one payment pays the order and the other payment is refunded', async () => {
  const first = await h.newPayment();
  const second = await h.newPayment({ orderId: first.orderId, channel: 'simulator2' });
  await h.start(first);
  await h.start(second);
  await h.simulator.pay(first.id);
  await h.simulator.pay(second.id);
  await h.workflows.hint(first, false, NET_MS);
  await h.until(first.id, 'succeeded');
  await h.until(second.id, 'succeeded');
  const rows = await Promise.all([h.row(first.id), h.row(second.id)]);
  expect(rows.map(({ status }) => status)).toEqual(['succeeded', 'succeeded']);
  expect(rows.map(({ orderUpdate }) => orderUpdate).sort()).toEqual(['applied', 'conflict']);
  const loser = rows.find(({ orderUpdate }) => orderUpdate === 'conflict');
  const refunds = await h.db.refund.findMany({ where: { paymentId: loser?.id ?? '' } });
  expect(refunds).toMatchObject([{ amount: 1990n, reason: 'duplicate_payment' }]);
  await h.untilRefund(refunds[0]?.id ?? '', 'succeeded');
  expect(await h.row(loser?.id ?? '')).toMatchObject({ refundedAmount: 1990n, attention: null });
});

test('when an attempt pays the order, the other live attempts are queried, closed at the channel and cancelled', async () => {
  const first = await h.newPayment();
  const second = await h.newPayment({ orderId: first.orderId, channel: 'simulator2' });
  await h.start(first);
  await h.start(second);
  await h.callback(first);
  await h.until(first.id, 'succeeded');
  await h.until(second.id, 'cancelled');
  expect((await ledgerOf(second.id))?.state).toBe('CLOSED');
});

test('"Request Cancellation" in the Web UI makes the workflow query the trade and close it if it is unpaid', async () => {
  const unpaid = await h.newPayment();
  const paid = await h.newPayment();
  const runs = [await h.start(unpaid), await h.start(paid)] as const;
  await h.simulator.pay(paid.id);
  await runs[0].cancel();
  await runs[1].cancel();
  await h.until(unpaid.id, 'cancelled');
  await h.until(paid.id, 'succeeded');
  expect(await h.row(unpaid.id)).toMatchObject({ status: 'cancelled' });
  expect((await ledgerOf(unpaid.id))?.state).toBe('CLOSED');
  expect(await h.row(paid.id)).toMatchObject({ status: 'succeeded', orderUpdate: 'applied' });
});

test("an operator's request for a query is answered immediately", async () => {
  const payment = await h.newPayment();
  const run = await h.start(payment);
  await h.ask(payment);
  await h.simulator.setFaults({ down: true });
  expect(await h.workflows.askChannel(payment, NET_MS)).toBe(false);
  await h.simulator.setFaults({ down: false });
  await h.simulator.pay(payment.id);
  await h.ask(payment);
  await run.result();
  expect(await h.row(payment.id)).toMatchObject({ status: 'succeeded', orderUpdate: 'applied' });
});

test("an operator's query is answered even if the payment is being cancelled and the channel reports processing", async () => {
  const payment = await h.newPayment();
  const run = await h.start(payment);
  await h.simulator.pay(payment.id, 'processing');
  await run.cancel();
  await eventually(async () => (await h.row(payment.id)).channelState === 'processing');
  await h.ask(payment);
  await h.simulator.pay(payment.id, 'declined');
  await h.ask(payment);
  expect(await h.row(payment.id)).toMatchObject({ status: 'failed' });
});
