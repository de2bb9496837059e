import { expect, test } from 'vitest';
import { recordAnswer, requestCancel } from '../../src/ledger/payments.ts';
import { NET_MS } from '../support/progress.ts';
import { expectAsked, useHarness } from './harness.ts';

/**
 * Long after the end of a payment. In a file of its own, where no other payment is open while days of virtual time
 * pass: with several, the time-skipping server may skip while one of them has a task.
 */

const DAY = 86_400;

/** The channel gives a link, and its trade is made when the payer opens it. */
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

test('a callback long after the late watch reopens the payment and pays its order', async () => {
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

test('an operator who asks long after the late watch starts it again, and money on record is settled', async () => {
  const payment = await h.newPayment({ expiresInMs: 60_000 });
  const run = await h.start(payment);
  await run.result();
  expect((await h.row(payment.id)).status).toBe('closed');
  await h.ask(payment);
  // As an activity leaves it that wrote the answer down and did not live to return it.
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

/** Cancelled before the payer opened the link, which works for a week. */
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

test('a link that outlives its payment is watched daily while it works, and a day longer', async () => {
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

test('money by a link that outlives its payment is found, though its callback is lost', async () => {
  const { payment, run } = await cancelledWithLink();
  await h.pass(5 * DAY);
  await h.lateCreate(payment);
  await h.simulator.pay(payment.id);
  await run.result();
  expect(await h.row(payment.id)).toMatchObject({ status: 'succeeded', orderUpdate: 'applied' });
});

test('the late watch does not end on silence', async () => {
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

test('a late watch that nobody ran at its end asks once more when it is started again', async () => {
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
  // Answered after its end, it is over for good.
  await h.workflows.wake(payment, NET_MS);
  await again.result();
  expect(h.askedAt(payment)).toHaveLength(before + 1);
});
