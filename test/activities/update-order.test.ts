import { MockActivityEnvironment } from '@temporalio/testing';
import { beforeAll, expect, test } from 'vitest';
import { ledgerActivities } from '../../src/activities/ledger.ts';
import { ensureMerchant } from '../../src/ledger/merchants.ts';
import { insertPayment } from '../../src/ledger/new-payment.ts';
import { recordAnswer, recordCreated } from '../../src/ledger/payments.ts';
import {
  type OwnedPayment,
  TooBusy,
  TRANSACTIONS_AT_ONCE,
  withinLimits,
} from '../../src/ledger/transaction-limits.ts';
import { useDatabase } from '../support/stack.ts';

/**
 * Tests the activity that updates an order when no transaction slot of the order or of its merchant is free. As a local
 * activity it fails immediately, because otherwise it would occupy a workflow task slot while it waits. As a regular
 * activity it waits for a slot.
 */

const { db } = useDatabase();
let merchantId: string;
beforeAll(async () => {
  merchantId = (await ensureMerchant(db, 'shop', ['simulator'])).merchant.id;
});

const AT = new Date(Date.UTC(2026, 10, 27));

let orders = 0;
/** Creates a payment and records an answer of the channel that it is paid. */
async function newPaid(): Promise<OwnedPayment> {
  orders += 1;
  const orderId = `order-${orders}`;
  const order = { amount: 1000, currency: 'CNY', subject: 'x', metadata: {}, expiresInSeconds: undefined };
  const { payment } = await insertPayment(
    db,
    merchantId,
    { ...order, id: orderId },
    {
      channel: 'simulator',
      method: 'wallet',
      payer: undefined,
      returnUrl: undefined,
      metadata: {},
      expiresInMs: 600_000,
      askedAttempts: new Set<string>(),
    },
    () => `hash-${orders}`,
    AT,
  );
  await recordCreated(db, payment.id, { type: 'redirect', url: 'https://wallet.example/' }, AT);
  const answer = { state: 'paid', channelPaymentId: `trx-${orders}`, amount: 1000, currency: 'CNY' } as const;
  await recordAnswer(db, payment.id, { ...answer, paidAt: AT.toISOString() }, 'query', AT);
  return { paymentId: payment.id, merchantId, orderId };
}

/** Starts no workflow, because these tests need no delivery. */
const deliveryWorkflows = { start: async () => {}, redeliverWaiting: async () => {} };
const attempt = (payment: OwnedPayment, isLocal: boolean) =>
  new MockActivityEnvironment({ isLocal }).run(
    ledgerActivities({ db, now: async () => AT, deliveryWorkflows }).updateOrder,
    payment,
  );

/**
 * The error of a transaction that does not wait for a slot. A transaction that waits too long gets a different error.
 */
const NO_TURN = new TooBusy(
  'Another change of this order is running, or too many changes of its merchant are.',
);
const SETTLED = { snapshot: expect.objectContaining({ status: 'succeeded' }) };

/** Holds one transaction slot for each of these orders while the work runs. */
async function whileTaken(orderIds: readonly string[], work: () => Promise<void>): Promise<void> {
  let end = () => {};
  const ended = new Promise<void>((resolve) => {
    end = resolve;
  });
  const taken = orderIds.map((orderId) => withinLimits(db, merchantId, orderId, () => ended));
  try {
    await work();
  } finally {
    end();
    await Promise.all(taken);
  }
}

test.each([
  [
    'all slots of its merchant are in use',
    () => Array.from({ length: TRANSACTIONS_AT_ONCE }, (_, n) => `other-${n}`),
  ],
  ['the slot of its order is in use', ({ orderId }: OwnedPayment) => [orderId]],
])('if %s, a local activity fails immediately instead of waiting for a slot', async (_, orderIds) => {
  const payment = await newPaid();
  await whileTaken(orderIds(payment), async () => {
    await expect(attempt(payment, true)).rejects.toThrow(NO_TURN);
  });
  expect(await attempt(payment, true)).toMatchObject(SETTLED);
});

test('an ordinary activity waits for a free slot, but a local activity does not', async () => {
  const payment = await newPaid();
  let isSettled = false;
  let settling: Promise<unknown> | undefined;
  await whileTaken([payment.orderId], async () => {
    settling = attempt(payment, false).then(() => {
      isSettled = true;
    });
    // The local activity fails immediately, while the regular activity still waits for a slot.
    await expect(attempt(payment, true)).rejects.toThrow(NO_TURN);
    expect(isSettled).toBe(false);
  });
  await settling;
  expect(await attempt(payment, true)).toMatchObject(SETTLED);
});
