import { describe, expect, test } from 'vitest';
import { order, orderPage } from '../../../src/api/schemas/order.ts';
import { endPayment } from '../../../src/ledger/payments.ts';
import { eventually } from '../../support/stack.ts';
import { newKey, newOrderId, pay, setUp } from '../support.ts';

// Tests orders over HTTP. A refused request stores nothing, and a repeated request has no further effect.

const { api, key } = await setUp();

const create = (body: unknown, as = key) => api.call('/v1/orders', { key: as, body });

describe('creating an order', () => {
  test('returns the order, and a repeated request returns the same order', async () => {
    const body = {
      id: newOrderId(),
      amount: 1050,
      currency: 'CNY',
      metadata: { cart: 'c-1' },
      expiresInSeconds: 3600,
    };
    const first = await create(body);
    expect(first.status).toBe(201);
    expect(order.strict().parse(first.json)).toMatchObject({
      id: body.id,
      amount: 1050,
      currency: 'CNY',
      metadata: { cart: 'c-1' },
      status: 'unpaid',
      payments: [],
    });
    expect(first.json.subject).toBe(`Order ${body.id}`);
    expect(Date.parse(first.json.expiresAt) - Date.parse(first.json.createdAt)).toBe(3_600_000);
    const again = await create(body);
    expect(again.status).toBe(200);
    expect(again.json).toEqual(first.json);
  });

  test('is refused if an order with the same id but other content exists', async () => {
    const body = { id: newOrderId(), amount: 1050, currency: 'CNY', metadata: { cart: 'c-1' } };
    await create(body);
    const has = {
      amount: 'the order has 1050',
      currency: 'the order has CNY',
      subject: `the order has "Order ${body.id}"`,
      metadata: 'the order has other metadata',
    };
    const error = (path: keyof typeof has, at = '') => ({ path: `${at}${path}`, message: has[path] });
    for (const [change, paths] of [
      [{ amount: 1051 }, ['amount']],
      [{ currency: 'EUR' }, ['currency']],
      [{ subject: 'x' }, ['subject']],
      [{ metadata: { a: 'b' } }, ['metadata']],
      [{ metadata: undefined, amount: 7, currency: 'JPY', subject: 'y' }, Object.keys(has)],
    ] as [object, (keyof typeof has)[]][]) {
      const order = { ...body, ...change };
      const answer = await create(order);
      expect([answer.status, answer.json.code]).toEqual([409, 'order_exists']);
      expect(answer.json.errors).toEqual(paths.map((path) => error(path)));
      for (const path of paths) expect(answer.json.detail).toContain(path);
      // If the order is part of a request for a payment, the names of its fields begin with `order.`.
      const along = await api.call('/v1/payments', { key, body: { order, channel: 'simulator' } });
      expect([along.status, along.json.code]).toEqual([409, 'order_exists']);
      expect(along.json.errors).toEqual(paths.map((path) => error(path, 'order.')));
    }
  });

  test('the expiry of a repeated order may differ from the expiry of the stored order', async () => {
    const body = { id: newOrderId(), amount: 1050, currency: 'CNY', expiresInSeconds: 3600 };
    const first = await create(body);
    for (const expiresInSeconds of [60, 7200, undefined]) {
      const again = await create({ ...body, expiresInSeconds });
      expect([again.status, { ...again.json, payments: [] }]).toEqual([200, first.json]);
      const paid = await api.call('/v1/payments', {
        key,
        body: { order: { ...body, expiresInSeconds }, channel: 'simulator', expiresInSeconds: 86_400 },
      });
      expect([paid.status < 300, paid.json.expiresAt]).toEqual([true, first.json.expiresAt]);
      await endPayment(api.db, paid.json.id, 'closed', 'unpaid.', new Date());
    }
    const endless = { id: newOrderId(), amount: 1, currency: 'CNY' };
    await create(endless);
    const again = await create({ ...endless, expiresInSeconds: 60 });
    expect([again.status, again.json.expiresAt]).toEqual([200, null]);
  });

  test('concurrent requests with the same id create one order', async () => {
    const body = { id: newOrderId(), amount: 5, currency: 'JPY' };
    const answers = await Promise.all(Array.from({ length: 10 }, () => create(body)));
    expect(answers.map(({ status }) => status).sort()).toEqual([...Array(9).fill(200), 201]);
  });

  test('two merchants can have orders with the same id', async () => {
    const other = await newKey(api.db);
    const id = newOrderId();
    expect((await create({ id, amount: 1, currency: 'CNY' })).status).toBe(201);
    expect((await create({ id, amount: 2, currency: 'CNY' }, other.key)).status).toBe(201);
    expect((await api.call(`/v1/orders/${id}`, { key })).json.amount).toBe(1);
    expect((await api.call(`/v1/orders/${id}`, { key: other.key })).json.amount).toBe(2);
  });
});

describe('order ids', () => {
  const ODD = [
    '#1001',
    'A/2026/11',
    '/',
    'Bestellung 7',
    '注文-1001',
    '訂單№7 / ü?',
    '100%',
    '%2F',
    'a?b=c&d=e#f',
    `it's "quoted" \\ [b](c) <i>`,
    '🛒7',
    '𠮷'.repeat(64),
  ];

  test.each(ODD)('the id %j is accepted, and every route finds the order', async (id) => {
    const path = `/v1/orders/${encodeURIComponent(id)}`;
    const made = await create({ id, amount: 1050, currency: 'CNY' });
    expect([made.status, made.json.id, made.json.subject]).toEqual([201, id, `Order ${id}`]);
    expect((await create({ id, amount: 1050, currency: 'CNY' })).status).toBe(200);
    expect((await api.call(path, { key })).json).toEqual(made.json);
    const paid = await pay(api, key, { order: undefined, orderId: id });
    expect(paid.orderId).toBe(id);
    const found = await api.call(`/v1/payments?orderId=${encodeURIComponent(id)}`, { key });
    expect(found.json.data.map((row: { id: string }) => row.id)).toEqual([paid.id]);
    // A list page that ends with this order has a cursor, and the next page starts after this order.
    const { nextCursor } = (await api.call('/v1/orders?limit=1', { key })).json;
    expect((await api.call(`/v1/orders?limit=1&cursor=${nextCursor}`, { key })).status).toBe(200);
    // A request that waits for the order is answered when the order changes.
    const waiting = api.call(`${path}?wait=60`, { key });
    const cancelling = api.call(`${path}/cancel`, { key, method: 'POST' });
    await eventually(
      async () => (await api.db.order.findFirst({ where: { id } }))?.cancelRequestedAt != null,
    );
    await endPayment(api.db, paid.id, 'cancelled', 'unpaid.', new Date());
    for (const answer of await Promise.all([cancelling, waiting]))
      expect([answer.status, answer.json.id, answer.json.status]).toEqual([200, id, 'cancelled']);
  });

  test('an invalid id is refused with the reason', async () => {
    for (const [id, message] of [
      ['x'.repeat(65), 'must have 1 to 64 characters'],
      ['a\nb', 'must consist of letters, marks, digits, punctuation, symbols, and spaces within'],
      ['a ', 'must not begin or end with a space'],
      ['..', 'must not be . or ..'],
      ['u\u0308', "must be in Unicode's form NFC"],
    ] as const) {
      const answer = await create({ id, amount: 1, currency: 'CNY' });
      expect([answer.status, answer.json.errors]).toEqual([422, [{ path: 'id', message }]]);
    }
  });

  test('ids that differ only in case, accent or percent-encoding belong to different orders', async () => {
    const own = await newKey(api.db);
    const ids = ['ü', 'U\u0308'.normalize('NFC'), 'u', 'a/b', 'a%2Fb', 'a%252Fb', 'A/b'];
    for (const [i, id] of ids.entries())
      expect((await create({ id, amount: i + 1, currency: 'CNY' }, own.key)).status).toBe(201);
    for (const [i, id] of ids.entries()) {
      const { json } = await api.call(`/v1/orders/${encodeURIComponent(id)}`, { key: own.key });
      expect(json).toMatchObject({ id, amount: i + 1 });
    }
  });

  test('if a proxy has decoded the slash in an id, the path is answered 404', async () => {
    await create({ id: 'p/q', amount: 1, currency: 'CNY' });
    await create({ id: 'p', amount: 1, currency: 'CNY' });
    const answer = await api.call('/v1/orders/p/q', { key });
    expect([answer.status, answer.json.code]).toEqual([404, 'not_found']);
  });

  test('the log shows the path of a request in its percent-encoded form', async () => {
    const id = 'log #1 / "x"\u00fc';
    await create({ id, amount: 1, currency: 'CNY' });
    await api.call(`/v1/orders/${encodeURIComponent(id)}`, { key });
    const line = await eventually(async () =>
      api
        .logged()
        .split('\n')
        .find((line) => line.includes('log%20%231')),
    );
    expect(JSON.parse(line ?? '').req.url).toBe(`/v1/orders/${encodeURIComponent(id)}`);
  });
});

test.each([
  ['id', { id: ' a' }],
  ['id', { id: 'e\u0301' }],
  ['id', { id: 'a\u202eb' }],
  ['id', { id: 'a\ud800' }],
  ['id', { id: '' }],
  ['id', { id: 'x'.repeat(65) }],
  ['id', { id: '..' }],
  ['id', { id: 7 }],
  ['currency', { currency: 'cny' }],
  ['currency', { currency: 'XXX' }],
  ['currency', { currency: 'DEM' }],
  ['currency', { currency: undefined }],
  ['subject', { subject: 'a\u0000b' }],
  ['subject', { subject: '\ud800' }],
  ['subject', { subject: 'x'.repeat(129) }],
  ['subject', { subject: 'Two \u202estekcit' }],
  ['subject', { subject: '\u2067Tickets\u2069' }],
  ['subject', { subject: ' \u200b\u3164' }],
  ['metadata.a', { metadata: { a: 1 } }],
  ['metadata.a', { metadata: { a: '\udc00' } }],
  ['metadata.k\u0000', { metadata: { 'k\u0000': 'v' } }],
  ['metadata', { metadata: Object.fromEntries(Array.from({ length: 21 }, (_, i) => [`k${i}`, 'v'])) }],
  ['expiresInSeconds', { expiresInSeconds: 4 }],
  ['expiresInSeconds', { expiresInSeconds: '60' }],
  ['expiresInSeconds', { expiresInSeconds: 1e10 }],
  ['ammount', { ammount: 1 }],
])('an order with a wrong %s is refused, and the answer names the field: %j', async (path, change) => {
  const id = newOrderId();
  const answer = await create({ id, amount: 1, currency: 'CNY', ...change });
  expect([answer.status, answer.json.code, answer.json.errors[0].path]).toEqual([
    422,
    'invalid_request',
    path,
  ]);
});

test('a cancellation while a payment is live is answered 202, and the order then shows that its cancellation is requested', async () => {
  const { orderId } = await pay(api, key);
  expect((await api.call(`/v1/orders/${orderId}`, { key })).json.cancelRequestedAt).toBeNull();
  const answer = await api.call(`/v1/orders/${orderId}/cancel`, { key, method: 'POST' });
  expect([answer.status, answer.json.status]).toEqual([202, 'paying']);
  const { cancelRequestedAt } = await api.db.order.findFirstOrThrow({ where: { id: orderId } });
  expect(answer.json.cancelRequestedAt).toBe(cancelRequestedAt?.toISOString());
});

describe('reading orders', () => {
  test('a request for an unknown order is refused, whatever the order id looks like', async () => {
    for (const id of ['nobody', '%00', '%ED%A0%80x', 'a%20b', 'x'.repeat(500)]) {
      const answer = await api.call(`/v1/orders/${id}`, { key });
      expect([400, 404]).toContain(answer.status);
      if (answer.status === 404) expect(answer.json.code).toBe('order_not_found');
    }
  });

  test('if new orders are created while pages are read, no order is missing from the pages or appears twice', async () => {
    const own = await newKey(api.db);
    const ids: string[] = [];
    for (let i = 0; i < 7; i++) {
      const id = newOrderId();
      ids.unshift(id);
      await create({ id, amount: 1, currency: 'CNY' }, own.key);
    }
    // All orders were created in the same millisecond, which is the hardest case for reading them in pages.
    await api.db.order.updateMany({
      where: { merchantId: own.merchantId },
      data: { createdAt: new Date(1_700_000_000_000) },
    });
    const seen: string[] = [];
    let cursor: string | null = '';
    do {
      const page: { data: { id: string }[]; nextCursor: string | null } = orderPage.parse(
        (await api.call(`/v1/orders?limit=3${cursor === '' ? '' : `&cursor=${cursor}`}`, { key: own.key }))
          .json,
      );
      seen.push(...page.data.map(({ id }) => id));
      cursor = page.nextCursor;
      await create({ id: newOrderId(), amount: 1, currency: 'CNY' }, own.key);
    } while (cursor !== null);
    expect(seen).toEqual([...ids].sort().reverse());
  });

  test('the list filters orders by status, and contains no orders of other merchants', async () => {
    const own = await newKey(api.db);
    await create({ id: 'mine', amount: 1, currency: 'CNY' }, own.key);
    const list = async (query: string) =>
      (await api.call(`/v1/orders${query}`, { key: own.key })).json.data.length;
    expect(await list('')).toBe(1);
    expect(await list('?status=unpaid')).toBe(1);
    expect(await list('?status=succeeded')).toBe(0);
  });

  test.each([
    'limit=0',
    'limit=101',
    'limit=x',
    'cursor=zzz',
    'status=lost',
    'status=',
    'limit=',
    'cursor=',
    'statuss=unpaid',
    'limit=1&limit=2',
  ])('the query string %s is refused', async (query) => {
    const answer = await api.call(`/v1/orders?${query}`, { key });
    expect([answer.status, answer.json.code]).toEqual([422, 'invalid_request']);
    expect(answer.json.errors[0].path).toBe(query.split('=')[0]);
  });
});
