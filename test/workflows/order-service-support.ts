import { afterAll, beforeAll, beforeEach } from 'vitest';
import { paymentWorkflowId } from '../../src/domain/names.ts';
import { type MerchantSettings, setMerchant } from '../../src/ledger/merchants.ts';
import { type Resolution, resolvePayment } from '../../src/ledger/operator-decision.ts';
import type { Payment } from '../../src/ledger/rows.ts';
import { type OrderService, startOrderService } from '../support/order-service.ts';
import { eventually } from '../support/stack.ts';
import { type Harness, SECRET, useHarness } from './harness.ts';

/**
 * Support for tests of order services. It provides a harness, a shop that receives events, and functions that read
 * deliveries.
 */

export let shop: OrderService;
export const h = useHarness();
beforeAll(async () => {
  shop = await startOrderService(() => h.now());
});
afterAll(async () => {
  await shop?.close();
});
beforeEach(async () => {
  shop.reset();
  await set({ orderServiceUrl: shop.url, orderStatusUrl: null, latePayment: 'apply' });
});

export async function set(settings: MerchantSettings): Promise<void> {
  const given = await setMerchant(h.db, 'shop', settings, SECRET, new Date(await h.now()));
  if (given?.secret != null) shop.secret = given.secret;
}

/** A payment of a new order. The payment's money has arrived. */
export async function receive(options: Parameters<Harness['newPayment']>[0] = {}): Promise<Payment> {
  const payment = await h.newPayment(options);
  await h.start(payment);
  await h.simulator.pay(payment.id);
  await h.callback(payment);
  await h.until(payment.id, 'succeeded');
  return payment;
}

export const done = (payment: Payment) =>
  h.env.client.workflow.getHandle(paymentWorkflowId(payment.id)).result();

export const eventsOf = async ({ id }: Payment) =>
  (await h.db.event.findMany({ where: { paymentId: id }, orderBy: { version: 'asc' } })).map(
    // Versions also grow with the clock. So the text contains the event's position and not its version.
    ({ type }, i) => `${i + 1} ${type}`,
  );
export const deliveriesOf = ({ id }: Payment) =>
  h.db.delivery.findMany({
    where: { paymentId: id },
    include: { log: true, event: true },
    orderBy: { id: 'asc' },
  });

/** Resolves when no delivery of this payment's events is pending. */
export const allTold = (payment: Payment) =>
  eventually(async () => (await deliveriesOf(payment)).every(({ status }) => status !== 'pending'));

export const resolve = async (payment: Payment, action: Resolution) =>
  resolvePayment(h.db, payment.merchantId, payment.id, action, 'a test', new Date(await h.now()));
