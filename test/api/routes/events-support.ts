import { afterEach, beforeEach } from 'vitest';
import { newEventId } from '../../../src/domain/ids.ts';
import type { Prisma } from '../../../src/generated/prisma/client.ts';
import { notifyWaiters } from '../../../src/ledger/notify.ts';
import { useDatabase } from '../../support/stack.ts';
import { newKey, startTestApi, type TestApi } from '../support.ts';

/**
 * Support for the tests of the feed and of deliveries. It starts a new API for each test, and writes events as other
 * processes do.
 */

const { databaseUrl, connect } = useDatabase();
export let api: TestApi;
export let key: string;
export let merchantId: string;
/** A second database client, which acts as another process. */
export const elsewhere = connect();

/** Creates a new merchant. From now on `key` and `merchantId` are its key and id. */
export async function becomeNewMerchant(): Promise<void> {
  ({ key, merchantId } = await newKey(api.db));
}
beforeEach(async () => {
  api = await startTestApi(databaseUrl);
  await becomeNewMerchant();
});
afterEach(async () => {
  await api.close();
});

export const NOT_IN_EVENTS = [
  ...['nextAction', 'payUrl', 'checkoutUrl', 'clientToken', 'temporalUrl'],
  // Events of a payment omit its refunds, because refunds have their own events.
  ...['refundReason', 'refundStatus'],
  // These fields belong to the request. Only the merchant who made the request sees them.
  ...['payer', 'returnUrl', 'adopted'],
  // Events omit disputes. An event shows a dispute only as the payment's attention.
  'disputes',
];

/** The content of an event about this payment. */
export async function contentOf(id: string, asKey = key): Promise<Prisma.JsonObject> {
  const payment = (await api.call(`/v1/payments/${id}`, { key: asKey })).json;
  const { payments: _, ...order } = (await api.call(`/v1/orders/${payment.orderId}`, { key: asKey })).json;
  const told = Object.entries(payment).filter(([name]) => !NOT_IN_EVENTS.includes(name));
  return { payment: Object.fromEntries(told) as Prisma.JsonObject, order };
}

/**
 * Writes an event of a payment and notifies waiting requests, as the ledger does. The event has no feed position yet.
 */
export async function record(payment: { id: string }, version = 1, type = 'payment.succeeded', asKey = key) {
  const { merchantId: owner, orderId } = await api.db.payment.findUniqueOrThrow({
    where: { id: payment.id },
  });
  const row = await elsewhere.event.create({
    data: {
      id: newEventId(),
      merchantId: owner,
      paymentId: payment.id,
      type,
      version,
      data: { ...(await contentOf(payment.id, asKey)), version },
    },
  });
  await notifyWaiters(elsewhere, owner, orderId, true);
  return row;
}
export const idsOf = ({ data }: { data: { id: string }[] }) => data.map(({ id }) => id);
