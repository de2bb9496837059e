import { expect, test } from 'vitest';
import { hashSecret } from '../../src/client-token.ts';
import { insertPayment } from '../../src/ledger/new-payment.ts';
import { recordAnswer } from '../../src/ledger/payments.ts';
import type { Payment } from '../../src/ledger/rows.ts';
import { ACCOUNT, newTrade } from '../simulator/support.ts';
import { NET_MS } from '../support/progress.ts';
import { LATE_CANCELLATION, useHarness } from './harness.ts';

/**
 * Tests adopted trades, which the merchant's own code has created at the simulator. Their callbacks are not
 * delivered.
 */

const h = useHarness({ workflowInterceptors: LATE_CANCELLATION });

let n = 0;

/** Creates a trade as the merchant's own code does, without nodrop. */
async function trade(): Promise<string> {
  const outTradeNo = `shop-${++n}`;
  // The simulated wallet uses the real clock.
  const expiresAt = new Date(Date.now() + 3_600_000).toISOString();
  await channel().createTrade(ACCOUNT, newTrade({ outTradeNo, amount: 1990, expiresAt }));
  return outTradeNo;
}

function channel() {
  const simulator = h.channels.get('simulator');
  if (simulator === undefined) throw new Error('the harness has a simulator');
  return simulator;
}

const stateOf = async (outTradeNo: string) =>
  (await h.simulator.ledger()).find((row) => row.outTradeNo === outTradeNo)?.state;

/** Adopts a trade as the API does: creates the payment, records the channel's answer, and wakes the workflow. */
async function adopt(
  reference: string,
  { as = 'watched' as 'watched' | 'own', orderId = `adopted-${n}`, expiresInMs = 1_800_000 } = {},
): Promise<Payment> {
  const at = new Date(await h.now());
  const order = { id: orderId, amount: 1990, currency: 'CNY', subject: 'Coffee', metadata: {} };
  const { payment } = await insertPayment(
    h.db,
    h.merchant.id,
    { ...order, expiresInSeconds: undefined },
    {
      ...{ channel: 'simulator', method: 'wallet', payer: undefined, returnUrl: undefined },
      ...{ metadata: {}, expiresInMs, adopt: { reference, as } },
      askedAttempts: new Set((await h.db.payment.findMany({ select: { id: true } })).map(({ id }) => id)),
    },
    hashSecret,
    at,
  );
  const { answer } = (await channel().readTrade?.(ACCOUNT, reference)) ?? {};
  if (answer === undefined) throw new Error('the simulator reports the terms of its trades');
  await recordAnswer(h.db, payment.id, answer, 'query', at);
  await h.workflows.wake(payment, NET_MS);
  return payment;
}

const run = (payment: Payment) => h.env.client.workflow.getHandle(`payment/${payment.id}`);

test('if the callback of an adopted trade is lost, the money pays the order within 30 s', async () => {
  const reference = await trade();
  const payment = await adopt(reference);
  await h.simulator.pay(reference);
  await run(payment).result();
  const row = await h.row(payment.id);
  expect(row).toMatchObject({ status: 'succeeded', orderUpdate: 'applied', settledBy: 'query' });
  expect(await h.orderStatus(payment)).toBe('succeeded');
  expect((row.settledAt?.getTime() ?? 0) - payment.createdAt.getTime()).toBeLessThan(30_000);
  // The channel has only the adopted trade, because nodrop has not created another trade.
  expect((await h.simulator.ledger()).map(({ outTradeNo }) => outTradeNo)).not.toContain(payment.id);
});

test('a trade that is already paid when nodrop adopts it pays its order immediately', async () => {
  const reference = await trade();
  await h.simulator.pay(reference);
  const payment = await adopt(reference);
  await run(payment).result();
  expect(await h.row(payment.id)).toMatchObject({ status: 'succeeded', orderUpdate: 'applied' });
});

test("a refund of an adopted trade names the trade by the trade's own number", async () => {
  const reference = await trade();
  await h.simulator.pay(reference);
  const payment = await adopt(reference);
  await run(payment).result();
  const refund = await h.refund(await h.row(payment.id), 990);
  await h.untilRefund(refund.id, 'succeeded');
  const books = (await h.simulator.ledger()).find((row) => row.outTradeNo === reference);
  expect(books?.refunded).toBe(990);
});

test('an adopted trade that nodrop owns is closed at its expiry', async () => {
  const reference = await trade();
  const payment = await adopt(reference, { as: 'own', expiresInMs: 60_000 });
  await h.pass(62);
  await h.until(payment.id, 'closed');
  expect(await stateOf(reference)).toBe('CLOSED');
});

test('a trade that is only watched stays open at the channel after its expiry, and late money pays the order', async () => {
  const reference = await trade();
  const payment = await adopt(reference, { expiresInMs: 60_000 });
  await h.pass(62);
  await h.until(payment.id, 'closed');
  expect(await stateOf(reference)).toBe('NOTPAY');
  await h.simulator.pay(reference);
  await run(payment).result();
  expect(await h.row(payment.id)).toMatchObject({ status: 'succeeded', orderUpdate: 'applied' });
});

test('if nodrop only watches the trade of a payment and the payment is cancelled, the trade stays open at the channel', async () => {
  const reference = await trade();
  const payment = await adopt(reference);
  await h.workflows.cancel(payment, NET_MS);
  await h.until(payment.id, 'cancelled');
  expect(await stateOf(reference)).toBe('NOTPAY');
  expect(await h.timeline(payment.id)).toContain(
    "transition: paying -> cancelled: unpaid. The trade is the merchant's and stays open: the late watch continues.",
  );
});
