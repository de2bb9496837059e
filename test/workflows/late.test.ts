import { expect, test } from 'vitest';
import { recordAnswer, requestCancel } from '../../src/ledger/payments.ts';
import { NET_MS } from '../support/progress.ts';
import { expectAsked, useHarness } from './harness.ts';

/**
 * Tests money and requests that arrive long after the end of a payment. These tests have their own file, so that no
 * other payment is open while days of virtual time pass. If several workflows are open, the time-skipping server may
 * skip time while one of them has a task.
 */

const DAY = 86_400;

/** True if the channel returns a link, and creates the trade only when the payer opens this link. */
let isLinkOnly = false;
const h = useHarness({
  between: (adapter) => ({
    ...adapter,
    async createTrade(account, trade, signal) {
      if (isLinkOnly) return { action: { type: 'redirect', url: 'https://channel.example/pay' } };
      return await adapter.createTrade(account, trade, signal);
    },
  }),
});

test('a callback long after the late watch restarts the workflow and pays the order', async () => {
  const payment = await h.newPayment({ expiresInMs: 60_000 });
  const run = await h.start(payment);
  await run.result();
  expect((await h.row(payment.id)).status).toBe('closed');
  await h.pass(30 * 86_400);
  await h.callback(payment);
  await h.env.client.workflow.getHandle(`payment/${payment.id}`).result();
  expect(await h.row(payment.id)).toMatchObject({
    status: 'succeeded',
    orderUpdate: 'applied',
    settledBy: 'callback',
  });
});

test("an operator's query long after the late watch restarts the workflow, which settles the recorded money", async () => {
  const payment = await h.newPayment({ expiresInMs: 60_000 });
  const run = await h.start(payment);
  await run.result();
  expect((await h.row(payment.id)).status).toBe('closed');
  await h.ask(payment);
  // The row is now as if an activity had recorded the answer and died before it returned.
  const answer = { amount: 1990, currency: 'CNY', paidAt: new Date(await h.now()).toISOString() };
  await recordAnswer(
    h.db,
    payment.id,
    { state: 'paid', channelPaymentId: 'trx', ...answer },
    'query',
    new Date(await h.now()),
  );
  await h.ask(payment);
  expect(await h.row(payment.id)).toMatchObject({ status: 'succeeded', orderUpdate: 'applied' });
});

/** A payment that was cancelled before the payer opened its link. The link works for a week. */
async function cancelledWithLink() {
  isLinkOnly = true;
  const payment = await h.newPayment({ expiresInMs: 7 * DAY * 1000 });
  const run = await h.start(payment);
  isLinkOnly = false;
  await requestCancel(h.db, payment.id, 'the merchant', new Date(await h.now()));
  await h.workflows.cancel(payment, 10_000);
  await h.until(payment.id, 'cancelled');
  return { payment, run };
}

test('a cancelled payment is queried daily until one day after its payment link stops working', async () => {
  const { payment, run } = await cancelledWithLink();
  await run.result();
  const { createdAt, endedAt, status } = await h.row(payment.id);
  expect(status).toBe('cancelled');
  const ended = ((endedAt?.getTime() ?? 0) - createdAt.getTime()) / 1000;
  const after = [600, 3_600, 21_600, DAY];
  expectAsked(h, payment, [
    ended,
    ...[...after, 2 * DAY, 3 * DAY, 4 * DAY, 5 * DAY, 6 * DAY].map((seconds) => ended + seconds),
    ...after.map((seconds) => 7 * DAY + seconds),
  ]);
});

test('if the payer pays through the link of a cancelled payment and the callback is lost, a query finds the money', async () => {
  const { payment, run } = await cancelledWithLink();
  await h.pass(5 * DAY);
  await h.lateCreate(payment);
  await h.simulator.pay(payment.id);
  await run.result();
  expect(await h.row(payment.id)).toMatchObject({ status: 'succeeded', orderUpdate: 'applied' });
});

test('the late watch does not end while the channel is silent', async () => {
  const payment = await h.newPayment({ expiresInMs: 60_000 });
  const run = await h.start(payment);
  await h.pass(80_000);
  await h.simulator.setFaults({ down: true });
  await h.pass(20_000);
  await h.simulator.setFaults({ down: false });
  await run.result();
  expect(await h.row(payment.id)).toMatchObject({ status: 'closed', channelErrorSince: null });
  expect(h.askedAt(payment).at(-1)).toBeGreaterThan(86_460 + 3_000);
});

test('if a late watch missed its last query, the restarted workflow sends that query', async () => {
  const payment = await h.newPayment({ expiresInMs: 60_000 });
  const run = await h.start(payment);
  await h.pass(3_700);
  await run.terminate();
  const before = h.askedAt(payment).length;
  await h.pass(2 * 86_400);
  await h.workflows.wake(payment, NET_MS);
  const again = h.env.client.workflow.getHandle(`payment/${payment.id}`);
  await again.result();
  expect(h.askedAt(payment)).toHaveLength(before + 1);
  // The channel has answered a query after the end of the late watch. So the late watch is complete.
  await h.workflows.wake(payment, NET_MS);
  await again.result();
  expect(h.askedAt(payment)).toHaveLength(before + 1);
});
