import { afterEach, expect, test } from 'vitest';
import { storeCallback } from '../../src/ledger/callbacks.ts';
import { recordAnswer, settlePayment } from '../../src/ledger/payments.ts';
import type { Payment } from '../../src/ledger/rows.ts';
import { ofTrade } from '../support/callback.ts';
import { useHarness } from './harness.ts';

/**
 * Tests money that was refunded at the channel before it was settled. This money pays no order, in whichever sequence
 * the reports arrive.
 */

const h = useHarness();
afterEach(async () => {
  await h.simulator.setFaults({ query: { errorRate: 0 } });
});

const ALL_BACK = { state: 'refunded', refundedAmount: 1990 } as const;
const paid = async () => ({
  state: 'paid' as const,
  channelPaymentId: 'trx',
  amount: 1990,
  currency: 'CNY',
  paidAt: new Date(await h.now()).toISOString(),
});

async function expectNotPaidFor(payment: Payment) {
  expect(await h.row(payment.id)).toMatchObject({
    status: 'succeeded',
    orderUpdate: 'conflict',
    receivedAmount: 1990n,
    refundedAmount: 1990n,
  });
  expect(await h.orderStatus(payment)).toBe('unpaid');
  expect(await h.db.refund.findMany({ where: { paymentId: payment.id } })).toMatchObject([
    { reason: 'external', status: 'succeeded', amount: 1990n },
  ]);
}

test("if a full refund's callback arrives before the payment's callback and queries fail, the order is not paid", async () => {
  const payment = await h.newPayment();
  const run = await h.start(payment);
  await h.simulator.setFaults({ query: { errorRate: 1 } });
  await h.callback(payment, ALL_BACK);
  await h.callback(payment);
  await run.result();
  await expectNotPaidFor(payment);
});

test("if a full refund's callback is forwarded but the payment's callback is only stored, the order is not paid", async () => {
  const payment = await h.newPayment();
  const run = await h.start(payment);
  const at = new Date(await h.now());
  await storeCallback(
    h.db,
    payment.channelAccountId,
    ofTrade({ notificationId: 'kept', outTradeNo: payment.id, answer: await paid() }),
    Buffer.from('{}'),
    at,
  );
  await h.callback(payment, ALL_BACK);
  await run.result();
  await expectNotPaidFor(payment);
});

test('the callback of a refund is recorded even if the workflow of the payment does not know that the payment is settled', async () => {
  const payment = await h.newPayment();
  const run = await h.start(payment);
  const at = new Date(await h.now());
  await recordAnswer(h.db, payment.id, await paid(), 'query', at);
  await settlePayment(h.db, payment.id, at);
  await h.callback(payment, ALL_BACK);
  await run.result();
  expect(await h.row(payment.id)).toMatchObject({ orderUpdate: 'applied', refundedAmount: 1990n });
  expect(await h.orderStatus(payment)).toBe('refunded');
});
