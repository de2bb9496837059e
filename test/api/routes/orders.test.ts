import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { order, orderPage } from '../../../src/api/schemas/order.ts';
import { endPayment } from '../../../src/ledger/payments.ts';
import { newKey, newOrderId, pay, setUp } from '../support.ts';

// Orders over HTTP: what is refused leaves no row, what is repeated changes nothing.

const { api, key } = await setUp();

const create = (body: unknown, as = key) => api.call('/v1/orders', { key: as, body });

describe('creating', () => {
  test('gives the order, and the same again gives the same order', async () => {
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

  test('of the same id with any other content is refused', async () => {
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
      // Where it comes along with a payment the fields are the order's there.
      const along = await api.call('/v1/payments', { key, body: { order, channel: 'simulator' } });
      expect([along.status, along.json.code]).toEqual([409, 'order_exists']);
      expect(along.json.errors).toEqual(paths.map((path) => error(path, 'order.')));
    }
  });

  test('how long it is to live is not content: the same order again is the one that is there', async () => {
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

  test('at once from all sides gives one order', async () => {
    const body = { id: newOrderId(), amount: 5, currency: 'JPY' };
    const answers = await Promise.all(Array.from({ length: 10 }, () => create(body)));
    expect(answers.map(({ status }) => status).sort()).toEqual([...Array(9).fill(200), 201]);
  });

  test('ids are the merchant’s own: another merchant has the same one', async () => {
    const other = await newKey(api.db);
    const id = newOrderId();
    expect((await create({ id, amount: 1, currency: 'CNY' })).status).toBe(201);
    expect((await create({ id, amount: 2, currency: 'CNY' }, other.key)).status).toBe(201);
    expect((await api.call(`/v1/orders/${id}`, { key })).json.amount).toBe(1);
    expect((await api.call(`/v1/orders/${id}`, { key: other.key })).json.amount).toBe(2);
  });
});

describe('amounts', () => {
  test('every whole number of minor units that JSON carries exactly is taken', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.oneof(
          fc.maxSafeNat().filter((n) => n > 0),
          fc.constantFrom(1, Number.MAX_SAFE_INTEGER),
        ),
        async (amount) => {
          const id = newOrderId();
          const answer = await create({ id, amount, currency: 'CNY' });
          expect(answer.status).toBe(201);
          expect(answer.json.amount).toBe(amount);
          const row = await api.db.order.findFirstOrThrow({ where: { id } });
          expect(row.amount).toBe(BigInt(amount));
        },
      ),
      { numRuns: 25 },
    );
  });

  // As text, because JSON.stringify would tidy up what clients really send.
  const literals = fc.oneof(
    fc.constantFrom(
      '0',
      '-0',
      '-1',
      '1e3',
      '1E2',
      '100.0',
      '1.0000000000000000001',
      '9007199254740992',
      '9007199254740993',
    ),
    fc.constantFrom(
      '1e400',
      '-1e400',
      '"100"',
      '"1e3"',
      '""',
      'null',
      'true',
      '[]',
      '[100]',
      '{}',
      '"NaN"',
      '"١"',
    ),
    fc
      .double({ noNaN: true, noDefaultInfinity: true })
      .filter((n) => !Number.isInteger(n))
      .map(String),
    fc.integer({ max: 0 }).map(String),
    fc.bigInt({ min: 2n ** 53n, max: 2n ** 200n }).map(String),
    fc.integer({ min: 1 }).map((n) => `"${n}"`),
    fc.integer({ min: 1 }).map((n) => `${n}.5`),
  );

  test.each([
    [
      '/v1/orders',
      'amount',
      (id: string, amount: string) => `{"id":"${id}","currency":"CNY","amount":${amount}}`,
    ],
    [
      '/v1/payments',
      'order.amount',
      (id: string, amount: string) =>
        `{"order":{"id":"${id}","currency":"CNY","amount":${amount}},"channel":"simulator"}`,
    ],
  ])('everything else is refused by POST %s, naming %s, and leaves no row', async (path, named, body) => {
    await fc.assert(
      fc.asyncProperty(literals, async (amount) => {
        const id = newOrderId();
        const answer = await api.call(path, {
          key,
          raw: body(id, amount),
          headers: { 'content-type': 'application/json' },
        });
        expect([answer.status, answer.json.code]).toEqual([422, 'invalid_request']);
        expect(answer.json.errors.map((error: { path: string }) => error.path)).toEqual([named]);
        expect(await api.db.order.count({ where: { id } })).toBe(0);
      }),
      { numRuns: 60 },
    );
  });

  test.each(['1', '1.5', '2.50', '1e3', '1e400', '-0.0'])('nor is the number %s a text', async (number) => {
    for (const [path, raw] of [
      ['id', `{"id":${number},"amount":1,"currency":"CNY"}`],
      ['subject', `{"id":"${newOrderId()}","amount":1,"currency":"CNY","subject":${number}}`],
      ['metadata.a', `{"id":"${newOrderId()}","amount":1,"currency":"CNY","metadata":{"a":${number}}}`],
    ] as const) {
      const answer = await api.call('/v1/orders', {
        key,
        raw,
        headers: { 'content-type': 'application/json' },
      });
      expect([answer.status, answer.json.errors?.map((error: { path: string }) => error.path)]).toEqual([
        422,
        [path],
      ]);
      expect(answer.json.detail).not.toContain('Infinity');
    }
  });

  test('digits inside texts are left alone', async () => {
    const subject = 'a "quoted\\" 1e3, 2.50 and \\u0041';
    const answer = await create({
      id: newOrderId(),
      amount: 1,
      currency: 'CNY',
      subject,
      metadata: { '1.5': '1e9' },
    });
    expect([answer.status, answer.json.subject, answer.json.metadata]).toEqual([
      201,
      subject,
      { '1.5': '1e9' },
    ]);
  });
});

test.each([
  ['id', { id: 'with space' }],
  ['id', { id: '' }],
  ['id', { id: 'x'.repeat(65) }],
  ['id', { id: '..' }],
  ['id', { id: 7 }],
  ['currency', { currency: 'cny' }],
  ['currency', { currency: 'XXX' }],
  ['currency', { currency: undefined }],
  ['subject', { subject: 'a\u0000b' }],
  ['subject', { subject: '\ud800' }],
  ['subject', { subject: 'x'.repeat(129) }],
  ['metadata.a', { metadata: { a: 1 } }],
  ['metadata.a', { metadata: { a: '\udc00' } }],
  ['metadata.k\u0000', { metadata: { 'k\u0000': 'v' } }],
  ['metadata', { metadata: Object.fromEntries(Array.from({ length: 21 }, (_, i) => [`k${i}`, 'v'])) }],
  ['expiresInSeconds', { expiresInSeconds: 59 }],
  ['expiresInSeconds', { expiresInSeconds: '60' }],
  ['expiresInSeconds', { expiresInSeconds: 1e10 }],
  ['ammount', { ammount: 1 }],
])('%s is named when it is wrong: %j', async (path, change) => {
  const id = newOrderId();
  const answer = await create({ id, amount: 1, currency: 'CNY', ...change });
  expect([answer.status, answer.json.code, answer.json.errors[0].path]).toEqual([
    422,
    'invalid_request',
    path,
  ]);
});

test('cancelled while a payment of it has not ended: 202, and the order says that it is wanted cancelled', async () => {
  const { orderId } = await pay(api, key);
  expect((await api.call(`/v1/orders/${orderId}`, { key })).json.cancelRequestedAt).toBeNull();
  const answer = await api.call(`/v1/orders/${orderId}/cancel`, { key, method: 'POST' });
  expect([answer.status, answer.json.status]).toEqual([202, 'paying']);
  const { cancelRequestedAt } = await api.db.order.findFirstOrThrow({ where: { id: orderId } });
  expect(answer.json.cancelRequestedAt).toBe(cancelRequestedAt?.toISOString());
});

describe('reading', () => {
  test('an order that is not there is 404, whatever its id looks like', async () => {
    for (const id of ['nobody', '%00', '%ED%A0%80x', 'a%20b', 'x'.repeat(500)]) {
      const answer = await api.call(`/v1/orders/${id}`, { key });
      expect([400, 404]).toContain(answer.status);
      if (answer.status === 404) expect(answer.json.code).toBe('order_not_found');
    }
  });

  test('pages are stable: rows that come in between neither hide nor repeat others', async () => {
    const own = await newKey(api.db);
    const ids: string[] = [];
    for (let i = 0; i < 7; i++) {
      const id = newOrderId();
      ids.unshift(id);
      await create({ id, amount: 1, currency: 'CNY' }, own.key);
    }
    // The worst case: all in the same millisecond.
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

  test('the list filters by status and shows nobody else’s orders', async () => {
    const own = await newKey(api.db);
    await create({ id: 'mine', amount: 1, currency: 'CNY' }, own.key);
    const list = async (query: string) =>
      (await api.call(`/v1/orders${query}`, { key: own.key })).json.data.length;
    expect(await list('')).toBe(1);
    expect(await list('?status=unpaid')).toBe(1);
    expect(await list('?status=succeeded')).toBe(0);
    // As forms send it.
    expect(await list('?status=')).toBe(1);
  });

  test.each([
    'limit=0',
    'limit=101',
    'limit=x',
    'cursor=zzz',
    'status=lost',
    'statuss=unpaid',
    'limit=1&limit=2',
  ])('the query %s is refused', async (query) => {
    const answer = await api.call(`/v1/orders?${query}`, { key });
    expect([answer.status, answer.json.code]).toEqual([422, 'invalid_request']);
    expect(answer.json.errors[0].path).toBe(query.split('=')[0]);
  });
});
