import { beforeEach } from 'vitest';
import type { PaidAnswer } from '../../src/domain/channel.ts';
import type { DeliveryOutcome } from '../../src/domain/event.ts';
import { ensureMerchant } from '../../src/ledger/merchants.ts';
import { insertPayment } from '../../src/ledger/new-payment.ts';
import { recordAnswer, settlePayment } from '../../src/ledger/payments.ts';
import type { Payment } from '../../src/ledger/rows.ts';
import { useDatabase } from '../support/stack.ts';

/**
 * Support for the tests of events. It creates a new merchant for each test, and payments whose order service has not
 * answered.
 */

export const { db } = useDatabase();
export let merchantId: string;
let merchants = 0;
beforeEach(async () => {
  merchants += 1;
  merchantId = (await ensureMerchant(db, `shop-${merchants}`, ['simulator'])).merchant.id;
});
export const now = () => new Date();
export const PAID: PaidAnswer = {
  state: 'paid',
  channelPaymentId: 'trx',
  amount: 1000,
  currency: 'CNY',
  paidAt: new Date().toISOString(),
};

export let orders = 0;
export async function newPayment(): Promise<Payment> {
  orders += 1;
  const order = {
    id: `order-${orders}`,
    amount: 1000,
    currency: 'CNY',
    subject: 'x',
    metadata: { a: 'b' },
    expiresInSeconds: undefined,
  };
  const given = {
    channel: 'simulator',
    method: 'wallet',
    payer: undefined,
    returnUrl: undefined,
    metadata: {},
    expiresInMs: 60_000,
    askedAttempts: new Set<string>(),
  };
  return (await insertPayment(db, merchantId, order, given, () => 'hash', now())).payment;
}

export async function newPaid(): Promise<Payment> {
  const payment = await newPayment();
  await recordAnswer(db, payment.id, PAID, 'query', now());
  await settlePayment(db, payment.id, now());
  return await db.payment.findUniqueOrThrow({ where: { id: payment.id } });
}

export const withOrderService = () =>
  db.merchant.update({ where: { id: merchantId }, data: { orderServiceUrl: 'https://shop.example/events' } });
export const eventsOf = (paymentId: string) =>
  db.event.findMany({ where: { paymentId }, include: { delivery: true }, orderBy: { version: 'asc' } });

/** Creates a payment that waits for its order service, and the payment's delivery. */
export async function newPending() {
  await withOrderService();
  const payment = await newPaid();
  const delivery = await db.delivery.findFirstOrThrow({ where: { paymentId: payment.id } });
  return { payment, delivery };
}
export const answered = (outcome: DeliveryOutcome, at = now(), statusCode = 200) => ({
  ...{ outcome, statusCode, detail: 'It answered.', durationMs: 1, at },
});

export const attentionOf = async (id: string) =>
  (await db.payment.findUniqueOrThrow({ where: { id } })).attention;
