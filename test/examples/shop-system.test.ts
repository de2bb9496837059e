// Tests the example shop together with the whole system, as `npm start` runs it. The shop has its own process and
// database, and is reached over HTTP.
import { randomBytes } from 'node:crypto';
import { readFileSync, statSync } from 'node:fs';
import { createServer, type IncomingMessage, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import type { Browser } from 'playwright-core';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { answers } from '../../src/stack/program-spec.ts';
import { SHOP_MERCHANT, shopUrl } from '../../src/stack/shop-setup.ts';
import { CHROMIUM, expectAccessible, launch, openTab } from '../browser/support.ts';
import { eventually, freePort, queryOnce } from '../support/stack.ts';
import { type System, startSystem } from '../support/system.ts';
import { Example } from './support.ts';

let system: System;
let shop: Example;
let url: string;

beforeAll(async () => {
  const env = { NODROP_QUERY_SCHEDULE: '1s', NODROP_SHOP_PORT: String(await freePort()) };
  system = await startSystem({ withWorker: true, env });
  const { config } = system;
  url = shopUrl(config);
  const same = {
    ...env,
    NODROP_HOME: config.home,
    NODROP_POSTGRES_PORT: String(config.stack.postgresPort),
    PORT: String(config.api.port),
    NODROP_ADMIN_PORT: String(config.admin.port),
  };
  shop = new Example('src/stack/shop.ts', same, () => answers(`${url}/healthz`));
  await shop.start();
  // The simulator sends no callbacks. So every payment in these tests is detected by a query.
  await system.simulator.setFaults({ callback: { dropRate: 1 } });
});

afterAll(async () => {
  await shop?.stop();
  await system?.stop();
});

const page = async (orderId: string) => await (await fetch(`${url}/orders/${orderId}`)).text();

/** Presses "Buy" and follows the redirect to the cashier page. */
async function buy(product: string): Promise<{ orderId: string; paymentId: string; token: string }> {
  const orderId = `shop_${randomBytes(12).toString('hex')}`;
  const response = await fetch(`${url}/orders`, {
    method: 'POST',
    body: new URLSearchParams({ order: orderId, product }),
    redirect: 'manual',
  });
  expect(response.status).toBe(303);
  const cashier = new URL(response.headers.get('location') ?? '');
  const paymentId = /pay_\w+/.exec(cashier.pathname)?.[0] ?? '';
  expect(paymentId).toMatch(/^pay_/);
  return { orderId, paymentId, token: cashier.searchParams.get('token') ?? '' };
}

const paymentOf = (id: string) => system.db.payment.findUniqueOrThrow({ where: { id } });

const untilUpdate = (id: string, orderUpdate: string) =>
  eventually(async () => (await paymentOf(id)).orderUpdate === orderUpdate);

/** Every delivery attempt of the success event of a payment, oldest first. */
async function callsOf(paymentId: string) {
  const delivery = await system.db.delivery.findFirst({
    where: { paymentId, event: { type: 'payment.succeeded' } },
    include: { log: { orderBy: { id: 'asc' } } },
  });
  return delivery?.log ?? [];
}

test.each(['coffee', 'teapot'])(
  'if the product is %s, a payment without a callback is detected, and the shop grants the goods',
  async (product) => {
    const { orderId, paymentId } = await buy(product);
    expect(await page(orderId)).toContain('Waiting for your payment');
    expect((await system.simulator.pay(paymentId)).status).toBe(200);
    await untilUpdate(paymentId, 'applied');
    expect(await page(orderId)).toMatch(/Paid[\s\S]*Pickup code/);
    const calls = await callsOf(paymentId);
    expect(calls.at(-1)).toMatchObject({ outcome: 'agreed', detail: expect.stringContaining('Read back') });
  },
);

test('after a declined attempt, a second attempt can pay the same order', async () => {
  const { orderId, paymentId } = await buy('notebook');
  await system.simulator.pay(paymentId, 'declined');
  await eventually(async () => (await page(orderId)).includes('Declined'));
  const again = await fetch(`${url}/orders/${orderId}/pay`, { method: 'POST', redirect: 'manual' });
  const second = /pay_\w+/.exec(again.headers.get('location') ?? '')?.[0] ?? '';
  expect(second).not.toBe(paymentId);
  await system.simulator.pay(second);
  await eventually(async () => (await page(orderId)).includes('Pickup code'));
});

test('if the payer chose another channel at the cashier, the shop does not show "not paid" while that attempt can still be paid', async () => {
  const { orderId, paymentId, token } = await buy('coffee');
  const switched = await system.api(
    'POST',
    `/v1/payments/${paymentId}/switch`,
    { channel: 'simulator2' },
    { authorization: `Bearer ${token}` },
  );
  expect(switched.status, JSON.stringify(switched.body)).toBe(201);
  const database = new URL(system.config.databaseUrl);
  database.pathname = '/nodrop_shop';
  const known = `select state from payments where order_id = '${orderId}'`;
  const states = async () => (await queryOnce(database.href, known)).map(({ state }) => state);
  // The shop has recorded only one attempt, which it created itself. It has also recorded that this attempt has ended.
  await eventually(async () => (await states()).join() === 'cancelled');
  const text = await page(orderId);
  expect(text).toContain('Waiting for your payment');
  expect(text).not.toMatch(/nothing was charged|Try again/);
  await system.simulator.pay(switched.body.id);
  await eventually(async () => (await page(orderId)).includes('Pickup code'));
});

test('if the shop was stopped when the money arrived, it gets the event after it has started again', async () => {
  const { orderId, paymentId } = await buy('towel');
  await shop.stop('SIGKILL');
  await system.simulator.pay(paymentId);
  await eventually(async () => (await callsOf(paymentId)).length >= 2);
  expect(await paymentOf(paymentId)).toMatchObject({ status: 'succeeded', orderUpdate: 'pending' });
  await shop.start();
  await untilUpdate(paymentId, 'applied');
  expect(await page(orderId)).toContain('Pickup code');
  expect((await callsOf(paymentId)).map(({ outcome }) => outcome).slice(-2)).toEqual(['unknown', 'agreed']);
});

test('if an order is cancelled in the shop, its payment is closed at the channel, and the shop shows it as cancelled', async () => {
  const { orderId, paymentId } = await buy('coffee');
  await eventually(async () => {
    await fetch(`${url}/orders/${orderId}/cancel`, { method: 'POST' });
    return (await page(orderId)).includes('Cancelled');
  });
  expect((await paymentOf(paymentId)).status).toBe('cancelled');
  expect((await system.simulator.pay(paymentId)).status).toBe(409);
});

test('a paid order cannot be cancelled', async () => {
  const { orderId, paymentId } = await buy('coffee');
  await system.simulator.pay(paymentId);
  const answer = await fetch(`${url}/orders/${orderId}/cancel`, { method: 'POST', redirect: 'manual' });
  expect(answer.headers.get('location')).toMatch(/notice=(paid|unsettled)$/);
  await eventually(async () => (await page(orderId)).includes('Pickup code'));
});

test('if the shop does not have the order of a payment, an attention is raised, and the money is not refunded while the shop may still create the order', async () => {
  const key = readFileSync(join(system.config.home, 'shop.key'), 'utf8');
  const order = { id: 'not-of-the-shop', amount: 1990, currency: 'CNY' };
  const made = await system.api(
    'POST',
    '/v1/payments',
    { order, channel: 'simulator' },
    {
      authorization: `Bearer ${key}`,
    },
  );
  expect(made.status).toBe(201);
  await system.simulator.pay(made.body.id);
  await eventually(async () => {
    const payment = await system.db.payment.findUniqueOrThrow({ where: { id: made.body.id } });
    return payment.attention === 'order_unknown' && payment.orderUpdate === 'pending';
  });
  expect(await system.db.refund.count({ where: { paymentId: made.body.id } })).toBe(0);
});

test('events of payments made with the development key are not delivered to the shop', async () => {
  const made = await system.payable();
  await system.simulator.pay(made.body.id);
  await untilUpdate(made.body.id, 'applied');
  expect(await callsOf(made.body.id)).toEqual([]);
});

test("a second setup keeps the shop's key and secret, and only the owner can read the file with the key", async () => {
  const file = join(system.config.home, 'shop.key');
  const key = readFileSync(file, 'utf8');
  expect(await shop.stop()).toBe(0);
  await shop.start();
  expect(readFileSync(file, 'utf8')).toBe(key);
  expect(statSync(file).mode & 0o777).toBe(0o600);
  const { id } = await system.db.merchant.findUniqueOrThrow({ where: { name: SHOP_MERCHANT } });
  expect(await system.db.signingSecret.count({ where: { merchantId: id } })).toBe(1);
  expect(await system.db.apiKey.count({ where: { merchantId: id } })).toBe(1);
});

test('a second shop on the same port prints one sentence and does not start', async () => {
  const port = new URL(url).port;
  const env = {
    NODROP_HOME: system.config.home,
    NODROP_POSTGRES_PORT: String(system.config.stack.postgresPort),
    NODROP_SHOP_PORT: port,
  };
  const second = new Example('src/stack/shop.ts', env, async () => false);
  const child = second.run();
  expect(await new Promise((resolve) => child.once('close', resolve))).toBe(1);
  expect(second.output).toBe(
    `Port ${port} for the shop is taken by another program: stop that program or set NODROP_SHOP_PORT to a free port.\n`,
  );
});

describe.skipIf(CHROMIUM === undefined)('in Chromium', () => {
  let browser: Browser;
  beforeAll(async () => {
    browser = await launch();
  });
  afterAll(async () => {
    await browser?.close();
  });

  test('after buying, paying in the wallet and coming back, the customer sees "Paid" without a reload', async () => {
    const tab = await openTab(browser, [url, system.apiUrl, system.config.simulator.url]);
    const { page } = tab;
    await page.goto(url);
    await page.getByRole('button', { name: 'Buy Kyusu teapot for JPY 5,800' }).click();
    // This click is on the cashier page.
    await page.getByRole('link', { name: /^Pay / }).click();
    await page.getByRole('button', { name: 'Pay', exact: true }).click();
    await page.getByRole('link', { name: 'Back to the shop' }).click();
    await page.getByRole('heading', { name: 'Paid' }).waitFor();
    expect(new URL(page.url()).origin).toBe(url);
    await page.getByText('Pickup code', { exact: true }).waitFor();
    expect(await page.title()).toBe('Paid: Kyusu teapot - Drip & Paper');
    expect(tab.complaints).toEqual([]);
    await tab.context.close();
  });

  test('if the customer chose Chinese in the shop, the order page stays in Chinese, even when it updates itself', async () => {
    const tab = await openTab(browser, [url], { bypassCSP: true });
    const { page } = tab;
    const { orderId, paymentId } = await buy('coffee');
    await page.goto(url);
    const choose = page.getByRole('link', { name: '中文' });
    const box = await choose.boundingBox();
    expect(Math.min(box?.width ?? 0, box?.height ?? 0)).toBeGreaterThanOrEqual(44);
    await choose.click();
    await page.getByRole('button', { name: '购买招牌拼配咖啡，CNY 68.00' }).waitFor();
    await expectAccessible(page);
    await page.goto(`${url}/orders/${orderId}`);
    await page.getByRole('heading', { name: '正在等待您的付款' }).waitFor();
    await system.simulator.pay(paymentId);
    await page.getByRole('heading', { name: '已付款' }).waitFor();
    await page.getByText('取货码', { exact: true }).waitFor();
    await expectAccessible(page);
    expect(await page.locator('html').getAttribute('lang')).toBe('zh-Hans');
    expect(tab.complaints).toEqual([]);
    await tab.context.close();
  });

  test('the order page works without scripts', async () => {
    const { orderId, paymentId } = await buy('coffee');
    const tab = await openTab(browser, [url], { javaScriptEnabled: false });
    await tab.page.goto(`${url}/orders/${orderId}`);
    await system.simulator.pay(paymentId);
    await tab.page.getByRole('heading', { name: 'Paid' }).waitFor();
    await tab.context.close();
  });

  test.each(['light', 'dark'] as const)('axe-core finds no violations in %s mode', async (colorScheme) => {
    const { orderId, paymentId } = await buy('coffee');
    const { context, page } = await openTab(browser, [url], { bypassCSP: true, colorScheme });
    await page.goto(url);
    await expectAccessible(page);
    await page.goto(`${url}/orders/${orderId}?notice=unresolved`);
    await expectAccessible(page);
    await system.simulator.pay(paymentId, 'declined');
    await page.getByRole('heading', { name: 'Declined' }).waitFor();
    await expectAccessible(page);
    const again = await fetch(`${url}/orders/${orderId}/pay`, { method: 'POST', redirect: 'manual' });
    await system.simulator.pay(/pay_\w+/.exec(again.headers.get('location') ?? '')?.[0] ?? '');
    await page.getByRole('heading', { name: 'Paid' }).waitFor();
    await expectAccessible(page);
    await page.goto(`${url}/nothing`);
    await expectAccessible(page);
    await context.close();
  });
});

let between: Server | undefined;
afterEach(() => {
  between?.close();
});

test('if a shop acknowledges an event without applying it, the read-back detects this and the event is redelivered', async () => {
  const ids: string[] = [];
  let swallowed = 2;
  let bought: string | undefined;
  between = createServer(async (request, response) => {
    const body = await bodyOf(request);
    // This server also receives late deliveries of events of earlier payments.
    const isOfThis = bought !== undefined && String(body).includes(bought);
    if (isOfThis) ids.push(String(request.headers['webhook-id']));
    if (isOfThis && swallowed > 0) {
      swallowed -= 1;
      response.writeHead(200).end();
      return;
    }
    const passed = await fetch(`${url}/nodrop/events`, {
      method: 'POST',
      headers: webhookHeaders(request),
      body,
    });
    response.writeHead(passed.status).end(await passed.text());
  });
  await new Promise<void>((resolve) => between?.listen(0, '127.0.0.1', resolve));
  const { port } = between.address() as AddressInfo;
  const set = await system.nodrop(
    ...['merchants', 'set', SHOP_MERCHANT],
    ...['--order-service-url', `http://127.0.0.1:${port}/nodrop/events`],
  );
  expect(set).toMatchObject({ status: 0 });

  const { orderId, paymentId } = await buy('coffee');
  bought = paymentId;
  await system.simulator.pay(paymentId);
  await untilUpdate(paymentId, 'applied');
  const calls = await callsOf(paymentId);
  expect(calls.map(({ outcome }) => outcome)).toEqual(['not_applied', 'not_applied', 'agreed']);
  expect(new Set(ids).size).toBe(1);
  expect(await page(orderId)).toContain('Pickup code');
});

function webhookHeaders({ headers }: IncomingMessage): Record<string, string> {
  return Object.fromEntries(
    ['webhook-id', 'webhook-timestamp', 'webhook-signature'].map((name) => [name, String(headers[name])]),
  );
}

async function bodyOf(request: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk);
  return Buffer.concat(chunks);
}
