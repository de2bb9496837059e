// The example shop as an order service: signed events over HTTP against its own database, and what it answers.
import { randomBytes } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { Connection } from '../../src/ledger/connection.ts';
import { testEvents } from '../../src/ledger/event-samples.ts';
import { endConnections, eventually, freePort, queryOnce } from '../support/stack.ts';
import { Example, eventOf, newId, newSecret, readBack, type Shop, send, startShop } from './support.ts';

let shop: Shop;
let orderId: string;

/** What nodrop answers. */
interface Answers {
  /** To who reads an order; undefined: it cannot be reached, as for everything else here. */
  order: { status: string; payments: { status: string; orderUpdate: string | null }[] } | undefined;
  /** To who reads a payment; undefined: as it was told last. */
  payment: object | 'away' | undefined;
}
const answers: Answers = { order: undefined, payment: undefined };
const toldLast = new Map<string, object>();
/** Their ids. */
const paymentsRead: string[] = [];
const nodrop = createServer((request, response) => {
  const [, kind, id] = /^\/v1\/(orders|payments)\/([^/]+)$/.exec(request.url ?? '') ?? [];
  if (kind === 'payments') paymentsRead.push(id ?? '');
  const payment = answers.payment ?? toldLast.get(id ?? '');
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

/** Presses "Buy" for the coffee of CNY 68.00. @returns the new order. */
async function buy(id = `shop_${randomBytes(12).toString('hex')}`): Promise<string> {
  const response = await fetch(`${shop.url}/orders`, {
    method: 'POST',
    body: new URLSearchParams({ order: id, product: 'coffee' }),
    redirect: 'manual',
  });
  expect(response.status).toBe(303);
  return id;
}

const tell = (event: object, options?: Parameters<typeof send>[3]) => {
  const { payment } = (event as { data?: { payment?: { id?: string } } }).data ?? {};
  if (payment?.id !== undefined) toldLast.set(payment.id, payment);
  return send(shop.url, shop.secret, event, options);
};

const paidBy = async (id = orderId) => (await readBack(shop.url, shop.secret, id)).body.paidPaymentId;

async function page(id = orderId): Promise<string> {
  const response = await fetch(`${shop.url}/orders/${id}`);
  expect(response.status).toBe(200);
  return await response.text();
}

const eventsKnown = async () => (await queryOnce(shop.database.url, 'select id from events')).length;

test('a verified event makes the order paid, and the goods are handed out', async () => {
  expect(await page()).not.toContain('Pickup code');
  const event = eventOf('payment.succeeded', orderId);
  expect((await tell(event)).status).toBe(204);
  expect(await paidBy()).toBe(event.data.payment.id);
  expect(await page()).toMatch(/Paid[\s\S]*Pickup code/);
});

test('while nodrop is away the order is kept, and pressing twice is one order', async () => {
  const before = await queryOnce(shop.database.url, 'select id from orders');
  const press = () =>
    fetch(`${shop.url}/orders`, {
      method: 'POST',
      body: new URLSearchParams({ order: orderId, product: 'towel' }),
    });
  for (const response of await Promise.all([press(), press()])) {
    expect(response.url).toBe(`${shop.url}/orders/${orderId}?notice=away`);
    const text = await response.text();
    expect(text).toMatch(/cannot be reached[\s\S]*House blend|House blend[\s\S]*cannot be reached/);
    // It does not know.
    expect(text).not.toMatch(/charged/i);
  }
  expect(await queryOnce(shop.database.url, 'select id from orders')).toEqual(before);
});

test('an order is not cancelled before nodrop has said that no money can come', async () => {
  const answer = await fetch(`${shop.url}/orders/${orderId}/cancel`, { method: 'POST' });
  expect(answer.url).toBe(`${shop.url}/orders/${orderId}?notice=unsettled`);
  expect((await tell(eventOf('payment.succeeded', orderId))).status).toBe(204);
});

test('what is copied imports nothing of nodrop itself', () => {
  const folder = new URL('../../examples/', import.meta.url);
  const files = readdirSync(folder, { recursive: true }).map(String);
  const sources = files.filter((name) => /\.(ts|js)$/.test(name));
  expect(sources.length).toBeGreaterThan(10);
  for (const name of sources) {
    const text = readFileSync(new URL(name, folder), 'utf8');
    const imports = [...text.matchAll(/(?:from|import) ?\(?'([^']+)'/g)].map(([, path]) => path);
    for (const path of imports)
      expect(path).toMatch(
        /^(node:|\.\/|\.\.\/\.\.\/clients\/js\/|express$|helmet$|pg$|standardwebhooks$|@nodrop\/client\/server$)/,
      );
  }
});

test('that the payer came back says nothing', async () => {
  const response = await fetch(`${shop.url}/orders/${orderId}?paymentId=${newId('pay')}&status=succeeded`);
  expect(await response.text()).not.toContain('Pickup code');
  expect(await paidBy()).toBeNull();
});

test.each([
  ['a signature by another secret', () => send(shop.url, newSecret(), eventOf('payment.succeeded', orderId))],
  [
    'another body than the signed one',
    () => tell(eventOf('payment.succeeded', orderId), { headers: { 'webhook-id': newId('evt') } }),
  ],
  [
    'an old timestamp',
    () => tell(eventOf('payment.succeeded', orderId), { at: new Date(Date.now() - 6 * 60_000) }),
  ],
  [
    'a timestamp of the future',
    () => tell(eventOf('payment.succeeded', orderId), { at: new Date(Date.now() + 6 * 60_000) }),
  ],
  [
    'no signature',
    () => tell(eventOf('payment.succeeded', orderId), { headers: { 'webhook-signature': '' } }),
  ],
])('refused: %s', async (_name, act) => {
  const before = await eventsKnown();
  expect((await act()).status).toBe(401);
  expect(await paidBy()).toBeNull();
  expect(await eventsKnown()).toBe(before);
});

test('what is no event at all is refused in a sentence, and changes nothing', async () => {
  const hook = `${shop.url}/nodrop/events`;
  const before = await eventsKnown();
  const refusals = [
    [405, await fetch(hook)],
    [405, await fetch(hook, { method: 'PUT', body: '{}' })],
    [401, await fetch(hook, { method: 'POST' })],
    [413, await fetch(hook, { method: 'POST', body: 'x'.repeat(1024 * 1024) })],
    [400, await fetch(hook, { method: 'POST', body: '{}', headers: { 'content-encoding': 'gzip' } })],
    [415, await fetch(hook, { method: 'POST', body: '{}', headers: { 'content-encoding': 'x' } })],
  ] as const;
  for (const [status, response] of refusals) {
    expect(response.status).toBe(status);
    expect(await response.json()).toEqual({ error: expect.stringMatching(/^[\w ]+/) });
  }
  expect(refusals[0][1].headers.get('allow')).toBe('POST');
  expect(await eventsKnown()).toBe(before);
  expect(await paidBy()).toBeNull();
});

test.each([
  ["/orders/'%20or%201=1--", 404],
  ['/orders/%3Cscript%3Ealert(1)%3C/script%3E', 404],
  ['/orders/%00', 404],
  ['/orders/%E0%A4%A', 400],
  [`/orders/${'x'.repeat(8_000)}`, 404],
])('people who ask for %s read a sentence', async (path, status) => {
  for (const method of ['GET', 'POST']) {
    const response = await fetch(`${shop.url}${path}${method === 'POST' ? '/pay' : ''}`, { method });
    expect(response.status).toBe(status);
    const text = await response.text();
    expect(text).toMatch(/<h1>(Not found|Not understood)<\/h1>/);
    expect(text).not.toContain('alert(1)');
  }
});

test('a form with other content than its own makes no order', async () => {
  const orders = async () => (await queryOnce(shop.database.url, 'select id from orders')).length;
  const before = await orders();
  const id = `shop_${randomBytes(12).toString('hex')}`;
  const bodies = [
    new URLSearchParams({ order: id, product: '__proto__' }),
    new URLSearchParams({ order: "'; drop table orders; --", product: 'coffee' }),
    new URLSearchParams([...Array(2).fill(['order', id]), ['product', 'coffee']]),
    JSON.stringify({ order: { $gt: '' }, product: 'coffee' }),
  ];
  for (const body of bodies) {
    expect((await fetch(`${shop.url}/orders`, { method: 'POST', body })).status).toBe(404);
  }
  const long = new URLSearchParams({ order: 'x'.repeat(100_000), product: 'coffee' });
  expect((await fetch(`${shop.url}/orders`, { method: 'POST', body: long })).status).toBe(413);
  expect(await orders()).toBe(before);
});

test('what stands in the address is no word of the shop, and never HTML of it', async () => {
  for (const query of [
    'notice=<script>alert(1)</script>',
    'notice=__proto__',
    'notice=away&notice=paid',
    'status=paid',
  ]) {
    const text = await (await fetch(`${shop.url}/orders/${orderId}?${query}`)).text();
    expect(text).toContain('House blend');
    expect(text).not.toMatch(/class="notice"|alert\(1\)|Pickup code/);
  }
});

test('while its table is locked the shop takes nothing for told, and the event is applied when it comes again', async () => {
  const client = new Connection({ connectionString: shop.database.url });
  await client.connect();
  const event = eventOf('payment.succeeded', orderId);
  const id = newId('evt');
  try {
    await client.query('begin');
    await client.query('lock table orders in access exclusive mode');
    const [told, read, shown] = await Promise.all([
      tell(event, { id }),
      readBack(shop.url, shop.secret, orderId),
      fetch(`${shop.url}/orders/${orderId}`),
    ]);
    // Neither a conflict nor gone: nodrop comes again.
    expect([told.status, read.status, shown.status]).toEqual([503, 503, 503]);
    expect(await shown.text()).toContain('Please try again in a moment.');
  } finally {
    await client.end();
  }
  expect(await paidBy()).toBeNull();
  expect((await tell(event, { id })).status).toBe(204);
  expect(await paidBy()).toBe(event.data.payment.id);
});

test('killed in the middle of an event it has applied all of it or nothing', async () => {
  const client = new Connection({ connectionString: shop.database.url });
  await client.connect();
  const event = eventOf('payment.succeeded', orderId);
  const id = newId('evt');
  try {
    await client.query('begin');
    await client.query('select 1 from orders where id = $1 for update', [orderId]);
    const told = tell(event, { id }).catch((error: Error) => error.name);
    // It has the event, and waits for the order.
    await eventually(async () => {
      const waits =
        "select 1 from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'";
      return (await queryOnce(shop.database.url, waits)).length > 0;
    });
    await shop.process.stop('SIGKILL');
    expect(await told).toBe('TypeError');
  } finally {
    await client.end();
    await shop.process.start();
  }
  expect(await paidBy()).toBeNull();
  expect((await tell(event, { id })).status).toBe(204);
  expect(await paidBy()).toBe(event.data.payment.id);
});

test('connections that PostgreSQL ends cost the requests that use them, and never the shop', async () => {
  const event = eventOf('payment.succeeded', orderId);
  let isOver = false;
  const keepTelling = async () => {
    while (!isOver) await tell(event).catch(() => undefined);
  };
  const tellers = Array.from({ length: 20 }, keepTelling);
  try {
    await endConnections(shop.database.url, 500, () => shop.process.hasEnded);
  } finally {
    isOver = true;
    await Promise.all(tellers);
  }
  expect(shop.process.hasEnded, shop.process.output).toBe(false);
  await eventually(async () => (await tell(event)).status === 204);
  expect(await paidBy()).toBe(event.data.payment.id);
});

test('test events are taken, and change nothing', async () => {
  const rows = async () =>
    await Promise.all(
      ['orders', 'payments', 'events'].map((table) =>
        queryOnce(shop.database.url, `select * from ${table} order by id`),
      ),
    );
  const before = await rows();
  for (const { id, body } of testEvents(new Date())) {
    // Also one that looks like the payment of an order that is here.
    const payment = { ...eventOf('payment.succeeded', orderId).data.payment };
    for (const sent of [body, { ...body, data: { ...body.data, payment } }])
      expect((await tell(sent, { id })).status, body.type).toBe(204);
  }
  expect(await rows()).toEqual(before);
});

test('signed nonsense is refused', async () => {
  expect((await tell({ type: 'payment.succeeded', data: {} })).status).toBe(400);
  expect((await tell([])).status).toBe(400);
  const wrong = eventOf('payment.succeeded', orderId, { payment: { amount: '6800' } });
  expect((await tell(wrong)).status).toBe(400);
});

test('one of several signatures is enough, as during a rotation of secrets', async () => {
  const event = eventOf('payment.succeeded', orderId);
  const body = JSON.stringify(event);
  const { Webhook } = await import('standardwebhooks');
  const [id, at] = [newId('evt'), new Date()];
  const signatures = [newSecret(), shop.secret].map((secret) => new Webhook(secret).sign(id, at, body));
  const answer = await tell(event, { id, at, headers: { 'webhook-signature': signatures.join(' ') } });
  expect(answer.status).toBe(204);
  expect(await paidBy()).toBe(event.data.payment.id);
});

test('the same event again, also at the same time, is applied once', async () => {
  const event = eventOf('payment.succeeded', orderId);
  const id = newId('evt');
  const before = await eventsKnown();
  const answers = await Promise.all(Array.from({ length: 8 }, () => tell(event, { id })));
  expect(answers.map(({ status }) => status)).toEqual(Array(8).fill(204));
  expect((await tell(event, { id })).status).toBe(204);
  expect(await eventsKnown()).toBe(before + 1);
  const code = /<strong>(.*)<\/strong>/.exec(await page())?.[1];
  expect((await tell(event, { id })).status).toBe(204);
  expect(await page()).toContain(`<strong>${code}</strong>`);
});

test('an older event after a newer one changes nothing', async () => {
  const payment = { id: newId('pay') };
  // The money was on its way back already when the success arrives: no goods for it.
  const conflict = eventOf('payment.conflict', orderId, {
    version: 2,
    payment: { ...payment, orderUpdate: 'conflict' },
  });
  expect((await tell(conflict)).status).toBe(204);
  expect((await tell(eventOf('payment.succeeded', orderId, { version: 1, payment }))).status).toBe(204);
  expect(await paidBy()).toBeNull();
  expect(await page()).not.toContain('Pickup code');
  const outcomes = await queryOnce(
    shop.database.url,
    `select version, outcome from events where payment_id = '${payment.id}' order by version`,
  );
  expect(outcomes).toEqual([
    { version: 1, outcome: 'older' },
    { version: 2, outcome: 'applied' },
  ]);
});

test('a refund that overtakes the success carries it', async () => {
  const payment = { id: newId('pay') };
  const refund = eventOf('refund.succeeded', orderId, {
    version: 2,
    payment: { ...payment, orderUpdate: 'applied', refundedAmount: 800 },
  });
  expect((await tell(refund)).status).toBe(204);
  expect((await tell(eventOf('payment.succeeded', orderId, { version: 1, payment }))).status).toBe(204);
  expect(await paidBy()).toBe(payment.id);
  expect(await page()).toContain('CNY 8.00 of it went back to you');
});

test('of money that is all back nothing is handed out, whichever event says so first', async () => {
  const payment = { id: newId('pay') };
  const back = { ...payment, refundedAmount: 6800 };
  expect((await tell(eventOf('refund.succeeded', orderId, { version: 2, payment: back }))).status).toBe(204);
  expect((await tell(eventOf('payment.succeeded', orderId, { version: 1, payment }))).status).toBe(204);
  expect(await paidBy()).toBeNull();
  const applied = { status: 'succeeded', orderUpdate: 'applied', receivedAmount: 6800, refundedAmount: 6800 };
  answers.order = { status: 'refunded', payments: [applied] };
  const text = await page();
  expect(text).toContain('the money went back to you');
  expect(text).toContain('This order takes no payment any more');
  expect(text).not.toMatch(/Pickup code|Waiting for your payment|again|<button/);
  // The order is not paid: another payment pays it.
  const next = eventOf('payment.succeeded', orderId);
  expect((await tell(next)).status).toBe(204);
  expect(await paidBy()).toBe(next.data.payment.id);
});

/** A success that had to wait: nodrop sends it now, and it happened 11 s ago. */
const oldSuccess = () => {
  const event = eventOf('payment.succeeded', orderId);
  return { ...event, timestamp: new Date(Date.now() - 11_000).toISOString() };
};

test.each([
  ['all of its money went back', { orderUpdate: 'conflict', refundedAmount: 6800 }],
  [
    'all of its money went back after another shop process had agreed',
    { orderUpdate: 'applied', refundedAmount: 6800 },
  ],
  ['it does not pay the order any more', { orderUpdate: 'conflict' }],
  ['a person decides over it', { orderUpdate: 'review' }],
])('before goods go out by an old event its payment is read: %s', async (_, changes) => {
  const event = oldSuccess();
  answers.payment = { ...event.data.payment, ...changes };
  expect((await tell(event)).status).toBe(204);
  expect(paymentsRead).toEqual([event.data.payment.id]);
  expect(await paidBy()).toBeNull();
  expect(await page()).not.toContain('Pickup code');
  // What is newer still counts.
  const { payment } = event.data;
  const newer = { ...payment, orderUpdate: 'conflict', refundedAmount: 6800 };
  expect((await tell(eventOf('payment.conflict', orderId, { version: 2, payment: newer }))).status).toBe(204);
  expect(await paidBy()).toBeNull();
});

test('an old event whose payment still pays the order hands the goods out', async () => {
  const event = oldSuccess();
  answers.payment = { ...event.data.payment, refundedAmount: 800 };
  expect((await tell(event)).status).toBe(204);
  expect(await paidBy()).toBe(event.data.payment.id);
});

test('an old event whose payment cannot be read hands nothing out, and is told again', async () => {
  const event = oldSuccess();
  const id = newId('evt');
  answers.payment = 'away';
  expect((await tell(event, { id })).status).toBe(503);
  expect(await paidBy()).toBeNull();
  answers.payment = undefined;
  expect((await tell(event, { id })).status).toBe(204);
  expect(await paidBy()).toBe(event.data.payment.id);
});

test('nothing is read for an event that is told at once, or hands out nothing', async () => {
  const fresh = eventOf('payment.succeeded', orderId);
  expect((await tell(fresh, { at: new Date(fresh.timestamp) })).status).toBe(204);
  // Known already, however late it comes again.
  expect((await tell(fresh, { at: new Date(Date.parse(fresh.timestamp) + 60_000) })).status).toBe(204);
  const event = oldSuccess();
  const back = { ...event.data.payment, refundedAmount: 6800 };
  expect((await tell({ ...event, data: { ...event.data, payment: back } })).status).toBe(204);
  expect(paymentsRead).toEqual([]);
});

test('a success that does not say what came in is refused', async () => {
  const event = eventOf('payment.succeeded', orderId, { payment: { receivedAmount: null } });
  expect((await tell(event)).status).toBe(400);
  expect(await paidBy()).toBeNull();
});

test('a conflict of the payment that paid the order takes the goods back', async () => {
  const event = eventOf('payment.succeeded', orderId);
  expect((await tell(event)).status).toBe(204);
  expect(await page()).toContain('Pickup code');
  // The answer was lost for so long that an operator decided to refund it.
  const payment = { ...event.data.payment, orderUpdate: 'conflict' };
  expect((await tell(eventOf('payment.conflict', orderId, { version: 2, payment }))).status).toBe(204);
  expect(await paidBy()).toBeNull();
  expect(await page()).not.toContain('Pickup code');
  expect(await page()).toContain('the money is on its way back to you');
  const back = { ...payment, refundedAmount: 6800 };
  expect((await tell(eventOf('refund.succeeded', orderId, { version: 3, payment: back }))).status).toBe(204);
  expect(await page()).toContain('the money went back to you');
  // Told again by whoever lost it: older now.
  expect((await tell(event)).status).toBe(204);
  expect(await paidBy()).toBeNull();
});

test('a full refund takes the order off', async () => {
  const payment = { id: newId('pay') };
  await tell(eventOf('payment.succeeded', orderId, { payment }));
  await tell(
    eventOf('refund.succeeded', orderId, { version: 2, payment: { ...payment, refundedAmount: 6800 } }),
  );
  expect(await page()).toContain('Refunded');
  expect(await page()).not.toContain('Pickup code');
});

test('every answer that is not 2xx is logged with its reason', async () => {
  const logged = (line: string) => eventually(async () => shop.process.output.includes(line));
  const id = newId('evt');
  await tell(eventOf('payment.succeeded', 'order-1'), { id });
  await logged(`POST /nodrop/events (${id}) answered 404: {"code":"order_unknown"`);
  await send(shop.url, newSecret(), eventOf('payment.succeeded', orderId), { id });
  await logged(`POST /nodrop/events (${id}) answered 401: {"error":"No matching signature found"}`);
  await fetch(`${shop.url}/nodrop/elsewhere`);
  await logged('GET /nodrop/elsewhere (without an id) answered 404: There is nothing here.');
});

test('an unknown order is said to be that, and not to be gone', async () => {
  expect(await tell(eventOf('payment.succeeded', 'order-1'))).toEqual({
    status: 404,
    body: { code: 'order_unknown', error: 'There is no such order here.' },
  });
  expect((await readBack(shop.url, shop.secret, 'order-1')).status).toBe(404);
});

test('a second payment is told which one the order is paid by, every time it is told', async () => {
  const first = eventOf('payment.succeeded', orderId);
  await tell(first);
  const second = eventOf('payment.succeeded', orderId);
  const id = newId('evt');
  for (const _ of [1, 2]) {
    const answer = await tell(second, { id });
    expect(answer.status).toBe(409);
    expect(answer.body).toEqual({ paidPaymentId: first.data.payment.id });
  }
  expect(await paidBy()).toBe(first.data.payment.id);
  // nodrop sends the second one's money back, and says so.
  const payment = { ...second.data.payment, orderUpdate: 'conflict' };
  expect((await tell(eventOf('payment.conflict', orderId, { version: 2, payment }))).status).toBe(204);
  expect(await page()).toMatch(/Pickup code/);
  expect(await page()).toContain('You paid twice: the money is on its way back to you.');
});

test('two payments at the same time: exactly one pays the order', async () => {
  const events = Array.from({ length: 6 }, () => eventOf('payment.succeeded', orderId));
  const answers = await Promise.all(events.map((event) => tell(event)));
  const winner = await paidBy();
  expect(answers.map(({ status }) => status).sort()).toEqual([204, 409, 409, 409, 409, 409]);
  for (const { status, body } of answers) if (status === 409) expect(body.paidPaymentId).toBe(winner);
});

test('another amount or currency than the order has is neither applied nor given up', async () => {
  for (const payment of [{ amount: 1 }, { currency: 'JPY' }]) {
    expect((await tell(eventOf('payment.succeeded', orderId, { payment }))).status).toBe(422);
  }
  expect(await paidBy()).toBeNull();
});

test('what is told of an attempt at an earlier amount of the order is taken note of', async () => {
  const ended = { amount: 1, status: 'cancelled', orderUpdate: null };
  expect((await tell(eventOf('payment.cancelled', orderId, { payment: ended }))).status).toBe(204);
  for (const [type, orderUpdate] of [
    ['payment.review', 'review'],
    ['payment.conflict', 'conflict'],
    ['refund.succeeded', 'conflict'],
  ] as const)
    expect((await tell(eventOf(type, orderId, { payment: { amount: 1, orderUpdate } }))).status).toBe(204);
  expect(await paidBy()).toBeNull();
});

test('a cancelled order is gone for money, and not for what else is said', async () => {
  await queryOnce(shop.database.url, `update orders set cancelled_at = now() where id = '${orderId}'`);
  const event = eventOf('payment.succeeded', orderId);
  expect((await tell(event)).status).toBe(410);
  expect(await paidBy()).toBeNull();
  const back = { ...event.data.payment, orderUpdate: 'conflict', refundedAmount: 6800 };
  expect((await tell(eventOf('refund.succeeded', orderId, { version: 2, payment: back }))).status).toBe(204);
  expect(await page()).toContain('the money went back to you');
});

test('ends without money leave the order open, and money in review does not ask for more', async () => {
  const failed = { status: 'failed', orderUpdate: null };
  await tell(eventOf('payment.failed', orderId, { payment: failed }));
  answers.order = { status: 'unpaid', payments: [failed] };
  expect(await page()).toMatch(/Declined[\s\S]*nothing was charged[\s\S]*Try again/);
  await tell(eventOf('payment.review', orderId, { payment: { orderUpdate: 'review' } }));
  expect(await page()).toContain('Please do not pay again');
  expect(await page()).not.toContain('Try again');
  expect(await paidBy()).toBeNull();
});

const closed = { status: 'closed', orderUpdate: null };
test.each<[string, Answers['order']]>([
  ['cannot be reached', undefined],
  [
    'knows of another attempt',
    { status: 'paying', payments: [{ status: 'paying', orderUpdate: null }, closed] },
  ],
  ['is just making one', { status: 'unpaid', payments: [{ status: 'created', orderUpdate: null }, closed] }],
  [
    'has the money',
    { status: 'succeeded', payments: [{ status: 'succeeded', orderUpdate: 'pending' }, closed] },
  ],
  ['says what nobody knew', { status: 'thinking', payments: [closed] }],
])('every known attempt is over, and nodrop %s: not "nothing was charged"', async (_name, says) => {
  await tell(eventOf('payment.closed', orderId, { payment: closed }));
  answers.order = says;
  const text = await page();
  expect(text).toContain('Waiting for your payment');
  expect(text).not.toMatch(/charged|Not paid<|Try again/);
  answers.order = { status: 'closed', payments: [closed] };
  expect(await page()).toMatch(/Not paid<[\s\S]*nothing was charged/);
});

test.each([
  ['unpaid', true],
  ['closed', false],
  ['cancelled', false],
])('an order that is %s at nodrop, and nothing was charged: to be paid again? %s', async (status, isOpen) => {
  await tell(eventOf('payment.closed', orderId, { payment: closed }));
  answers.order = { status, payments: [closed] };
  const text = await page();
  expect(text).toMatch(/Not paid<[\s\S]*nothing was charged/);
  expect(/Try again<\/button>/.test(text)).toBe(isOpen);
  expect(text.includes('This order takes no payment any more.')).toBe(!isOpen);
  expect(text.includes('Cancel the order')).toBe(isOpen);
});

test('money that went back, and another attempt under way: not "pay again"', async () => {
  const back = { status: 'succeeded', orderUpdate: 'conflict' };
  await tell(eventOf('payment.conflict', orderId, { payment: { ...back, refundedAmount: 6800 } }));
  answers.order = { status: 'paying', payments: [{ status: 'paying', orderUpdate: null }, back] };
  expect(await page()).toMatch(/Waiting for your payment[\s\S]*the money went back to you/);
  expect(await page()).not.toContain('Pay again');
  answers.order = { status: 'unpaid', payments: [back] };
  expect(await page()).toMatch(/Not paid<[\s\S]*the money went back to you[\s\S]*Pay again/);
});

test('a type and a state nobody knew are kept, and are not taken for a failure', async () => {
  const payment = { status: 'thinking', orderUpdate: null };
  expect((await tell(eventOf('payment.thinking', orderId, { payment }))).status).toBe(204);
  expect(await page()).toContain('Waiting for your payment');
});

test('events of another kind are taken note of', async () => {
  const before = await eventsKnown();
  for (const data of [{}, { dispute: { id: 'd' } }, undefined])
    expect((await tell({ type: 'dispute.opened', data })).status).toBe(204);
  expect((await tell(eventOf('dispute.opened', orderId))).status).toBe(204);
  expect(await paidBy()).toBeNull();
  expect(await eventsKnown()).toBe(before);
});

test('an order with an id that no row can have is not found', async () => {
  expect((await readBack(shop.url, shop.secret, '\0')).status).toBe(404);
  for (const path of ['', '/revision'])
    expect((await fetch(`${shop.url}/orders/%00${path}`)).status).toBe(404);
  for (const path of ['/pay', '/cancel']) {
    const { status } = await fetch(`${shop.url}/orders/%00${path}`, { method: 'POST' });
    expect(status).toBe(404);
  }
});

test('reading back needs a signature as well', async () => {
  expect((await fetch(`${shop.url}/nodrop/orders/${orderId}`)).status).toBe(401);
  expect((await readBack(shop.url, newSecret(), orderId)).status).toBe(401);
});

test('kill -9 between verifying and committing loses nothing', async () => {
  const event = eventOf('payment.succeeded', orderId);
  const id = newId('evt');
  const holder = new Connection({ connectionString: shop.database.url });
  await holder.connect();
  await holder.query('begin');
  await holder.query('select from orders where id = $1 for update', [orderId]);
  const told = tell(event, { id }).catch((error: Error) => error);
  const waits = `select 1 from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`;
  await eventually(async () => (await queryOnce(shop.database.url, waits)).length > 0);
  expect(await shop.process.stop('SIGKILL')).toBe('SIGKILL');
  expect(await told).toBeInstanceOf(Error);
  await holder.query('commit');
  await holder.end();

  await shop.process.start();
  // Told again under the same id: it was not remembered as applied.
  expect(await paidBy()).toBeNull();
  expect((await tell(event, { id })).status).toBe(204);
  expect(await paidBy()).toBe(event.data.payment.id);
});

test('without its database it acknowledges nothing', async () => {
  const name = new URL(shop.database.url).pathname.slice(1);
  const admin = new URL(shop.database.url);
  admin.pathname = '/postgres';
  await queryOnce(admin.href, `alter database ${name} allow_connections false`);
  await queryOnce(
    admin.href,
    `select pg_terminate_backend(pid) from pg_stat_activity where datname = '${name}'`,
  );
  const event = eventOf('payment.succeeded', orderId);
  const id = newId('evt');
  expect((await tell(event, { id })).status).toBe(503);
  expect((await fetch(`${shop.url}/orders/${orderId}`)).status).toBe(503);
  await queryOnce(admin.href, `alter database ${name} allow_connections true`);
  expect((await tell(event, { id })).status).toBe(204);
  expect(await paidBy()).toBe(event.data.payment.id);
});

test('SIGTERM ends it cleanly, also while pages wait for news, and everything is there again', async () => {
  const event = eventOf('payment.succeeded', orderId);
  await tell(event);
  const revision = /data-revision="(\d+)"/.exec(await page())?.[1];
  const [{ since } = {}] = await queryOnce(shop.database.url, 'select clock_timestamp()::text as since');
  const waiting = fetch(`${shop.url}/orders/${orderId}/revision?seen=${revision}`);
  const asked = `select from pg_stat_activity where query like 'select revision%' and query_start > '${since}'`;
  await eventually(async () => (await queryOnce(shop.database.url, asked)).length > 0);
  expect(await shop.process.stop()).toBe(0);
  expect((await waiting).status).toBe(200);
  await shop.process.start();
  expect(await paidBy()).toBe(event.data.payment.id);
});

test('a page that waits is told at once', async () => {
  const revision = /data-revision="(\d+)"/.exec(await page())?.[1];
  const waiting = fetch(`${shop.url}/orders/${orderId}/revision?seen=${revision}`);
  await tell(eventOf('payment.succeeded', orderId));
  expect(await (await waiting).json()).not.toEqual({ revision: Number(revision) });
});

test.each([
  [{ SHOP_WEBHOOK_SECRET: '' }, /^SHOP_WEBHOOK_SECRET is missing: .*\.\n$/],
  [{ SHOP_WEBHOOK_SECRET: 'abc' }, /^SHOP_WEBHOOK_SECRET is wrong: .*\.\n$/],
  [{ SHOP_NODROP_URL: 'nodrop' }, /^SHOP_NODROP_URL is wrong: .*\.\n$/],
  [{ SHOP_PORT: '0x' }, /^SHOP_PORT is wrong: .*\.\n$/],
  [{ SHOP_DATABASE_URL: 'postgresql://127.0.0.1:1/shop' }, /^SHOP_DATABASE_URL cannot be used: .*\.\n$/],
])('a start with %j is one sentence', async (env, sentence) => {
  const good = {
    SHOP_PORT: String(await freePort()),
    SHOP_DATABASE_URL: shop.database.url,
    SHOP_NODROP_URL: 'http://127.0.0.1:1',
    SHOP_NODROP_KEY: 'sk_x',
    SHOP_WEBHOOK_SECRET: newSecret(),
  };
  const example = new Example('examples/shop/main.ts', { ...good, ...env }, async () => false);
  const child = example.run();
  expect(await new Promise((resolve) => child.once('close', resolve))).toBe(1);
  expect(example.output).toMatch(sentence);
});

test('a port that is taken is one sentence', async () => {
  const server = createServer();
  const port = await freePort();
  await new Promise<void>((resolve) => server.listen(port, '127.0.0.1', resolve));
  try {
    await expect(startShop({ SHOP_PORT: String(port) })).rejects.toThrow(
      /Port \d+ for the shop is taken by another program: .*SHOP_PORT/,
    );
  } finally {
    server.close();
  }
});

test('it speaks Chinese to who prefers it, and keeps what the customer chooses', async () => {
  const read = async (path: string, headers: Record<string, string> = {}) => {
    const response = await fetch(`${shop.url}${path}`, { headers });
    return { text: await response.text(), cookie: response.headers.get('set-cookie') };
  };
  const chinese = { 'accept-language': 'zh-CN,zh;q=0.9,en;q=0.8' };
  expect((await read('/')).text).toContain('<html lang="en">');
  const products = await read('/', chinese);
  expect([products.text, products.cookie]).toEqual([expect.stringContaining('<html lang="zh-Hans">'), null]);
  expect(products.text).toContain('aria-label="购买招牌拼配咖啡，CNY 68.00"');
  expect(products.text).toContain('<a class="language" href="?lang=en" lang="en">English</a>');

  // Chosen once, and kept for the pages after it.
  const chosen = await read(`/orders/${orderId}?lang=zh`);
  expect(chosen.text).toContain('尚未付款');
  expect(chosen.cookie).toBe('shop_lang=zh; Path=/; HttpOnly; SameSite=Lax');
  // A notice is not in the address of its order alone, and stays in the other language.
  const noticed = await read(`/orders/${orderId}?notice=away`);
  expect(noticed.text).toContain('The cashier cannot be reached right now.');
  const [, toChinese = ''] = /<a class="language" href="([^"]+)"/.exec(noticed.text) ?? [];
  expect(toChinese).toBe('?lang=zh&amp;notice=away');
  const said = await read(`/orders/${orderId}${toChinese.replaceAll('&amp;', '&')}`);
  expect(said.text).toContain('暂时无法连接收银台');
  expect(said.text).toContain('href="?lang=en&amp;notice=away"');
  const kept = { cookie: 'another=1; shop_lang=zh' };
  expect((await read(`/orders/${orderId}`, kept)).text).toContain('<html lang="zh-Hans">');
  expect((await read('/nothing', kept)).text).toContain('此地址没有内容。');
  expect((await read('/', { ...chinese, cookie: 'shop_lang=en' })).text).toContain('<html lang="en">');
  expect((await read('/', { cookie: 'shop_lang=xx' })).text).toContain('<html lang="en">');

  // What is bought has its name in the customer's language at the cashier too.
  const id = `shop_${randomBytes(12).toString('hex')}`;
  const body = new URLSearchParams({ order: id, product: 'teapot' });
  await fetch(`${shop.url}/orders`, { method: 'POST', body, headers: kept, redirect: 'manual' });
  const [row] = await queryOnce(shop.database.url, `select subject from orders where id = '${id}'`);
  expect(row?.subject).toBe('常滑烧急须壶');
  // And on its own page in the reader's.
  expect((await read(`/orders/${id}`)).text).toContain('<p class="name">Kyusu teapot</p>');
});

test('its files are compressed, and not sent again to who has them', async () => {
  for (const name of ['style.css', 'order.js', 'icon.svg']) {
    const answers = await Promise.all(
      ['br', 'gzip', 'identity'].map((accepted) =>
        fetch(`${shop.url}/${name}`, { headers: { 'accept-encoding': accepted } }),
      ),
    );
    const seen = answers.map(({ headers }) => [headers.get('content-encoding'), headers.get('vary')]);
    expect(seen).toEqual([
      ['br', 'Accept-Encoding'],
      ['gzip', 'Accept-Encoding'],
      [null, 'Accept-Encoding'],
    ]);
    // As fetch has unpacked them.
    expect(new Set(await Promise.all(answers.map((answer) => answer.text()))).size).toBe(1);
    const etag = answers[0]?.headers.get('etag') ?? '';
    // As a browser asks: fetch alone would have it sent anew.
    const headers = { 'accept-encoding': 'br', 'if-none-match': etag, 'cache-control': 'max-age=0' };
    const again = await fetch(`${shop.url}/${name}`, { headers });
    expect(again.status).toBe(304);
  }
});
