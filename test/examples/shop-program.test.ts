import { randomBytes } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { expect, test } from 'vitest';
import { Connection } from '../../src/ledger/connection.ts';
import { endConnections, eventually, freePort, queryOnce } from '../support/stack.ts';
import { deliver, eventsKnown, orderId, page, paidBy, shop } from './shop-events-support.ts';
import { Example, eventOf, newId, newSecret, readBack, send, startShop } from './support.ts';

// Tests the example shop as a program. Covers its forms and pages, and what happens when the shop, its database or a
// connection dies.

test('the shop keeps the order while nodrop cannot be reached, and pressing "Buy" twice creates one order', async () => {
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
    // The page must not mention a charge, because the shop does not know whether anything was charged.
    expect(text).not.toMatch(/charged/i);
  }
  expect(await queryOnce(shop.database.url, 'select id from orders')).toEqual(before);
});

test('an order is cancelled only after nodrop has confirmed that no money can arrive', async () => {
  const answer = await fetch(`${shop.url}/orders/${orderId}/cancel`, { method: 'POST' });
  expect(answer.url).toBe(`${shop.url}/orders/${orderId}?notice=unsettled`);
  expect((await deliver(eventOf('payment.succeeded', orderId))).status).toBe(204);
});

test("the example files import only each other, the client library and public packages, and none of nodrop's own code", () => {
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

test('the return of the payer to the shop does not mark the order as paid', async () => {
  const response = await fetch(`${shop.url}/orders/${orderId}?paymentId=${newId('pay')}&status=succeeded`);
  expect(await response.text()).not.toContain('Pickup code');
  expect(await paidBy()).toBeNull();
});

test.each([
  [
    'a signature with another secret',
    () => send(shop.url, newSecret(), eventOf('payment.succeeded', orderId)),
  ],
  [
    'a body that is not the signed one',
    () => deliver(eventOf('payment.succeeded', orderId), { headers: { 'webhook-id': newId('evt') } }),
  ],
  [
    'an old timestamp',
    () => deliver(eventOf('payment.succeeded', orderId), { at: new Date(Date.now() - 6 * 60_000) }),
  ],
  [
    'a timestamp of the future',
    () => deliver(eventOf('payment.succeeded', orderId), { at: new Date(Date.now() + 6 * 60_000) }),
  ],
  [
    'no signature',
    () => deliver(eventOf('payment.succeeded', orderId), { headers: { 'webhook-signature': '' } }),
  ],
])('a request is refused and has no effect because of %s', async (_name, act) => {
  const before = await eventsKnown();
  expect((await act()).status).toBe(401);
  expect(await paidBy()).toBeNull();
  expect(await eventsKnown()).toBe(before);
});

test('a request that is not an event is refused with one sentence, and has no effect', async () => {
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
])('a request for the path %s is answered with a readable page', async (path, status) => {
  for (const method of ['GET', 'POST']) {
    const response = await fetch(`${shop.url}${path}${method === 'POST' ? '/pay' : ''}`, { method });
    expect(response.status).toBe(status);
    const text = await response.text();
    expect(text).toMatch(/<h1>(Not found|Not understood)<\/h1>/);
    expect(text).not.toContain('alert(1)');
  }
});

test('a form with unexpected content creates no order', async () => {
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

test('text from the URL is never shown as a text of the shop or as HTML', async () => {
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

test('the shop acknowledges no event while its table is locked, and applies the event when it is redelivered', async () => {
  const client = new Connection({ connectionString: shop.database.url });
  await client.connect();
  const event = eventOf('payment.succeeded', orderId);
  const id = newId('evt');
  try {
    await client.query('begin');
    await client.query('lock table orders in access exclusive mode');
    const [delivered, read, shown] = await Promise.all([
      deliver(event, { id }),
      readBack(shop.url, shop.secret, orderId),
      fetch(`${shop.url}/orders/${orderId}`),
    ]);
    // The answer 503 means neither a conflict nor a missing order. So nodrop redelivers the event.
    expect([delivered.status, read.status, shown.status]).toEqual([503, 503, 503]);
    expect(await shown.text()).toContain('Please try again in a moment.');
  } finally {
    await client.end();
  }
  expect(await paidBy()).toBeNull();
  expect((await deliver(event, { id })).status).toBe(204);
  expect(await paidBy()).toBe(event.data.payment.id);
});

test('if the shop is killed while it applies an event, it has applied either the whole event or nothing', async () => {
  const client = new Connection({ connectionString: shop.database.url });
  await client.connect();
  const event = eventOf('payment.succeeded', orderId);
  const id = newId('evt');
  try {
    await client.query('begin');
    await client.query('select 1 from orders where id = $1 for update', [orderId]);
    const delivered = deliver(event, { id }).catch((error: Error) => error.name);
    // The shop has received the event, and waits for the lock of the order's row.
    await eventually(async () => {
      const waits =
        "select 1 from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'";
      return (await queryOnce(shop.database.url, waits)).length > 0;
    });
    await shop.process.stop('SIGKILL');
    expect(await delivered).toBe('TypeError');
  } finally {
    await client.end();
    await shop.process.start();
  }
  expect(await paidBy()).toBeNull();
  expect((await deliver(event, { id })).status).toBe(204);
  expect(await paidBy()).toBe(event.data.payment.id);
});

test('if PostgreSQL ends connections, the requests that use them fail, and the shop continues to run', async () => {
  const event = eventOf('payment.succeeded', orderId);
  let isOver = false;
  const keepDelivering = async () => {
    while (!isOver) await deliver(event).catch(() => undefined);
  };
  const deliverers = Array.from({ length: 20 }, keepDelivering);
  try {
    await endConnections(shop.database.url, 500, () => shop.process.hasEnded);
  } finally {
    isOver = true;
    await Promise.all(deliverers);
  }
  expect(shop.process.hasEnded, shop.process.output).toBe(false);
  await eventually(async () => (await deliver(event)).status === 204);
  expect(await paidBy()).toBe(event.data.payment.id);
});

test('an order id that PostgreSQL cannot store is answered as not found', async () => {
  expect((await readBack(shop.url, shop.secret, '\0')).status).toBe(404);
  for (const path of ['', '/revision'])
    expect((await fetch(`${shop.url}/orders/%00${path}`)).status).toBe(404);
  for (const path of ['/pay', '/cancel']) {
    const { status } = await fetch(`${shop.url}/orders/%00${path}`, { method: 'POST' });
    expect(status).toBe(404);
  }
});

test('a read-back without a valid signature is refused', async () => {
  expect((await fetch(`${shop.url}/nodrop/orders/${orderId}`)).status).toBe(401);
  expect((await readBack(shop.url, newSecret(), orderId)).status).toBe(401);
});

test('if the shop is killed with -9 after it verified an event and before it committed the event, nothing is lost', async () => {
  const event = eventOf('payment.succeeded', orderId);
  const id = newId('evt');
  const holder = new Connection({ connectionString: shop.database.url });
  await holder.connect();
  await holder.query('begin');
  await holder.query('select from orders where id = $1 for update', [orderId]);
  const delivered = deliver(event, { id }).catch((error: Error) => error);
  const waits = `select 1 from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`;
  await eventually(async () => (await queryOnce(shop.database.url, waits)).length > 0);
  expect(await shop.process.stop('SIGKILL')).toBe('SIGKILL');
  expect(await delivered).toBeInstanceOf(Error);
  await holder.query('commit');
  await holder.end();

  await shop.process.start();
  // The event is redelivered under the same id, because the shop has not stored it as applied.
  expect(await paidBy()).toBeNull();
  expect((await deliver(event, { id })).status).toBe(204);
  expect(await paidBy()).toBe(event.data.payment.id);
});

test('the shop acknowledges no event while it has no database', async () => {
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
  expect((await deliver(event, { id })).status).toBe(503);
  expect((await fetch(`${shop.url}/orders/${orderId}`)).status).toBe(503);
  await queryOnce(admin.href, `alter database ${name} allow_connections true`);
  expect((await deliver(event, { id })).status).toBe(204);
  expect(await paidBy()).toBe(event.data.payment.id);
});

test('SIGTERM ends the shop cleanly even if pages wait for a change, and loses nothing', async () => {
  const event = eventOf('payment.succeeded', orderId);
  await deliver(event);
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

test('a page that waits for a change gets an answer as soon as the order changes', async () => {
  const revision = /data-revision="(\d+)"/.exec(await page())?.[1];
  const waiting = fetch(`${shop.url}/orders/${orderId}/revision?seen=${revision}`);
  await deliver(eventOf('payment.succeeded', orderId));
  expect(await (await waiting).json()).not.toEqual({ revision: Number(revision) });
});

test.each([
  [{ SHOP_WEBHOOK_SECRET: '' }, /^SHOP_WEBHOOK_SECRET is missing: .*\.\n$/],
  [{ SHOP_WEBHOOK_SECRET: 'abc' }, /^SHOP_WEBHOOK_SECRET is wrong: .*\.\n$/],
  [{ SHOP_NODROP_URL: 'nodrop' }, /^SHOP_NODROP_URL is wrong: .*\.\n$/],
  [{ SHOP_PORT: '0x' }, /^SHOP_PORT is wrong: .*\.\n$/],
  [{ SHOP_DATABASE_URL: 'postgresql://127.0.0.1:1/shop' }, /^SHOP_DATABASE_URL cannot be used: .*\.\n$/],
])('a shop with the settings %j does not start, and prints one sentence', async (env, sentence) => {
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

test('if the port of the shop is in use, the shop prints one sentence and ends', async () => {
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

test("the shop shows Chinese to a browser that prefers Chinese, and remembers the customer's choice of language", async () => {
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

  // The customer chooses the language once, and the shop keeps it for later pages.
  const chosen = await read(`/orders/${orderId}?lang=zh`);
  expect(chosen.text).toContain('尚未付款');
  expect(chosen.cookie).toBe('shop_lang=zh; Path=/; HttpOnly; SameSite=Lax');
  // The notice on the page comes only from the URL's query. So the link to the other language must keep this query.
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

  // The cashier page also shows the product's name in the customer's language.
  const id = `shop_${randomBytes(12).toString('hex')}`;
  const body = new URLSearchParams({ order: id, product: 'teapot' });
  await fetch(`${shop.url}/orders`, { method: 'POST', body, headers: kept, redirect: 'manual' });
  const [row] = await queryOnce(shop.database.url, `select subject from orders where id = '${id}'`);
  expect(row?.subject).toBe('常滑烧急须壶');
  // The order's page shows the product's name in the language of the reader.
  expect((await read(`/orders/${id}`)).text).toContain('<p class="name">Kyusu teapot</p>');
});

test("the shop's files are compressed, and a browser that already has them gets the status 304", async () => {
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
    // The texts are equal, because fetch has already decompressed the answers.
    expect(new Set(await Promise.all(answers.map((answer) => answer.text()))).size).toBe(1);
    const etag = answers[0]?.headers.get('etag') ?? '';
    // These are the headers that a browser sends. By default, fetch would request a fresh copy.
    const headers = { 'accept-encoding': 'br', 'if-none-match': etag, 'cache-control': 'max-age=0' };
    const again = await fetch(`${shop.url}/${name}`, { headers });
    expect(again.status).toBe(304);
  }
});
