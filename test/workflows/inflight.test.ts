import { beforeEach, expect, test } from 'vitest';
import { recordAnswer } from '../../src/ledger/payments.ts';
import { NET_MS } from '../support/progress.ts';
import { useHarness } from './harness.ts';

/**
 * Tests query activities that are cancelled while the channel's answer is in flight. The result of the activity is
 * lost. The answer is not lost, because the activity first records it in the ledger. These tests have their own file,
 * because the time-skipping server stops skipping after a cancelled activity completes. After that, tests run in real
 * time.
 */

const h = useHarness();
beforeEach(async () => {
  await h.simulator.setFaults({ query: { errorRate: 0 } });
});

/** Records the channel's answer, as the query activity does before it returns. */
async function writeDown(paymentId: string) {
  const at = new Date(await h.now());
  const answer = { channelPaymentId: 'trx', amount: 1990, currency: 'CNY', paidAt: at.toISOString() };
  await recordAnswer(h.db, paymentId, { state: 'paid', ...answer }, 'query', at);
}

test('if a query activity dies after it recorded its answer, the next attempt uses the recorded answer and sends no query', async () => {
  const payment = await h.newPayment();
  const run = await h.start(payment);
  h.onAnswer = async () => {
    await writeDown(payment.id);
    throw new Error('the worker is killed');
  };
  await run.result();
  expect(await h.row(payment.id)).toMatchObject({ status: 'succeeded', settledBy: 'query' });
  expect(h.askedAt(payment)).toHaveLength(1);
});

test('if a query activity is cancelled after it recorded its answer, the workflow reads the row again and sends no query', async () => {
  const payment = await h.newPayment();
  const run = await h.start(payment);
  h.onAnswer = async () => {
    await writeDown(payment.id);
    await h.workflows.hint(payment, true, NET_MS);
    await h.pollCancelled(payment.id);
  };
  await run.result();
  expect(await h.row(payment.id)).toMatchObject({ status: 'succeeded', settledBy: 'query' });
  const { events } = await run.fetchHistory();
  const polls = events?.filter(
    (event) => event.activityTaskScheduledEventAttributes?.activityType?.name === 'queryChannel',
  );
  expect(polls).toHaveLength(1);
});

test('if a hint cancels a query activity, the answer that is still on its way is not lost', async () => {
  const payment = await h.newPayment();
  const run = await h.start(payment);
  await h.simulator.pay(payment.id);
  h.onAnswer = async () => {
    // From this point on the channel gives no more answers. Only the answer that is already in flight can
    // report the money.
    await h.simulator.setFaults({ query: { errorRate: 1 } });
    await h.workflows.hint(payment, true, NET_MS);
    await h.pollCancelled(payment.id);
  };
  await run.result();
  expect(await h.row(payment.id)).toMatchObject({ status: 'succeeded', orderUpdate: 'applied' });
});

test('if a callback cancels a query activity, the answer that is still on its way is not lost', async () => {
  const payment = await h.newPayment();
  const run = await h.start(payment);
  await h.simulator.pay(payment.id);
  h.onAnswer = async () => {
    // From this point on the channel gives no more answers. Only the answer that is already in flight can
    // report the money.
    await h.simulator.setFaults({ query: { errorRate: 1 } });
    await h.callback(payment, { amount: 1 });
    await h.pollCancelled(payment.id);
  };
  await run.result();
  expect(await h.row(payment.id)).toMatchObject({
    status: 'succeeded',
    settledBy: 'query',
    receivedAmount: 1990n,
  });
});

test('a query and a callback at the same time update the order once', async () => {
  const payment = await h.newPayment();
  const run = await h.start(payment);
  await h.simulator.pay(payment.id);
  h.onAnswer = async () => {
    // From this point on the channel gives no more answers. Only the answer that is already in flight can
    // report the money.
    await h.simulator.setFaults({ query: { errorRate: 1 } });
    await h.callback(payment);
    await h.pollCancelled(payment.id);
  };
  await run.result();
  const updates = (await h.timeline(payment.id)).filter((entry) => entry.startsWith('order:'));
  expect(updates).toHaveLength(1);
  expect(await h.orderStatus(payment)).toBe('succeeded');
});
