import { randomBytes } from 'node:crypto';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterAll, beforeAll, beforeEach, expect } from 'vitest';
import { queryOnce } from '../support/stack.ts';
import { readBack, type Shop, send, startShop } from './support.ts';

/** Support for the tests of the example shop. The shop is a process with its own database, and nodrop is simulated. */

export let shop: Shop;
export let orderId: string;

/** The answers of the simulated nodrop. */
export interface Answers {
  /**
   * The answer to GET /v1/orders/{id}. If it is undefined, nodrop closes the connection without an answer.
   */
  order: { status: string; payments: { status: string; orderUpdate: string | null }[] } | undefined;
  /** The answer to GET /v1/payments/{id}. If it is undefined, the answer is the payment of the last event. */
  payment: object | 'away' | undefined;
}
export const answers: Answers = { order: undefined, payment: undefined };
const lastDelivered = new Map<string, object>();
/** The ids of the payments that the shop has read. */
export const paymentsRead: string[] = [];
const nodrop = createServer((request, response) => {
  const [, kind, id] = /^\/v1\/(orders|payments)\/([^/]+)$/.exec(request.url ?? '') ?? [];
  if (kind === 'payments') paymentsRead.push(id ?? '');
  const payment = answers.payment ?? lastDelivered.get(id ?? '');
  const said = kind === 'orders' ? answers.order : kind === 'payments' ? payment : undefined;
  if (request.method !== 'GET' || said === undefined || said === 'away') return void request.socket.destroy();
  expect(request.headers.authorization).toBe('Bearer sk_of_the_shop');
  response.setHeader('content-type', 'application/json');
  response.end(JSON.stringify(said));
});

beforeAll(async () => {
  await new Promise<void>((resolve) => nodrop.listen(0, '127.0.0.1', resolve));
  shop = await startShop({ SHOP_NODROP_URL: `http://127.0.0.1:${(nodrop.address() as AddressInfo).port}` });
});

afterAll(async () => {
  await shop?.stop();
  nodrop.close();
});

beforeEach(async () => {
  answers.order = undefined;
  answers.payment = undefined;
  paymentsRead.length = 0;
  orderId = await buy();
});

/** Presses "Buy" for the coffee of CNY 68.00. @returns the id of the new order */
async function buy(id = `shop_${randomBytes(12).toString('hex')}`): Promise<string> {
  const response = await fetch(`${shop.url}/orders`, {
    method: 'POST',
    body: new URLSearchParams({ order: id, product: 'coffee' }),
    redirect: 'manual',
  });
  expect(response.status).toBe(303);
  return id;
}

export const deliver = (event: object, options?: Parameters<typeof send>[3]) => {
  const { payment } = (event as { data?: { payment?: { id?: string } } }).data ?? {};
  if (payment?.id !== undefined) lastDelivered.set(payment.id, payment);
  return send(shop.url, shop.secret, event, options);
};

export const paidBy = async (id = orderId) => (await readBack(shop.url, shop.secret, id)).body.paidPaymentId;

export async function page(id = orderId): Promise<string> {
  const response = await fetch(`${shop.url}/orders/${id}`);
  expect(response.status).toBe(200);
  return await response.text();
}

export const eventsKnown = async () => (await queryOnce(shop.database.url, 'select id from events')).length;
