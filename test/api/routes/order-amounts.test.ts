import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { newKey, newOrderId, pay, settle, setUp } from '../support.ts';

// Tests amounts and currencies of orders over HTTP. The API refuses values that no channel accepts, and then stores
// nothing.

const { api, key } = await setUp();

const create = (body: unknown, as = key) => api.call('/v1/orders', { key: as, body });

describe('a withdrawn currency', () => {
  /** Sets this currency on a stored order, as if the order had been created before the currency was withdrawn. */
  const withdraw = (id: string, currency: string) =>
    api.db.order.updateMany({ where: { id }, data: { currency } });

  test.each([
    ...[
      'ANG',
      'BGN',
      'HRK',
      'CUC',
      'SLL',
      'ZWL',
      'BOV',
      'CHE',
      'CHW',
      'CLF',
      'COU',
      'MXV',
      'USN',
      'UYI',
      'UYW',
    ],
  ])('the currency %s is refused for a new order, by both routes that create orders', async (currency) => {
    const order = { id: newOrderId(), amount: 1050, currency };
    const alone = await create(order);
    expect([alone.status, alone.json.code, alone.json.errors[0].path]).toEqual([
      422,
      'invalid_request',
      'currency',
    ]);
    expect(alone.json.errors[0].message).toContain('a currency in use today');
    const inside = await api.call('/v1/payments', { key, body: { order, channel: 'simulator' } });
    expect([inside.status, inside.json.code, inside.json.errors[0].path]).toEqual([
      422,
      'invalid_request',
      'order.currency',
    ]);
    expect(await api.db.order.count({ where: { id: order.id } })).toBe(0);
  });

  test('the currencies that replaced withdrawn currencies are accepted', async () => {
    for (const currency of ['XCG', 'EUR', 'CUP', 'SLE', 'ZWG'])
      expect((await create({ id: newOrderId(), amount: 1050, currency })).status).toBe(201);
  });

  test('an existing order in a withdrawn currency can still be read, listed, created again, paid and refunded', async () => {
    const own = await newKey(api.db);
    const body = { id: newOrderId(), amount: 1050, currency: 'CNY' };
    await create(body, own.key);
    await withdraw(body.id, 'BGN');
    const again = { ...body, currency: 'BGN' };
    expect((await create(again, own.key)).status).toBe(200);
    const paid = await pay(api, own.key, { order: again });
    expect(paid.currency).toBe('BGN');
    await settle(api.db, paid.id, { currency: 'BGN' });
    const read = await api.call(`/v1/orders/${body.id}`, { key: own.key });
    expect(read.json).toMatchObject({ status: 'succeeded', currency: 'BGN' });
    expect(read.json.payments[0]).toMatchObject({ status: 'succeeded', receivedCurrency: 'BGN' });
    expect((await api.call('/v1/orders', { key: own.key })).json.data[0].currency).toBe('BGN');
    const [event] = (await api.call('/v1/events', { key: own.key })).json.data;
    expect(event.data.order).toMatchObject({ amount: 1050, currency: 'BGN' });
    const refunded = await api.call(`/v1/payments/${paid.id}/refunds`, {
      key: own.key,
      body: { amount: 50 },
      headers: { 'idempotency-key': newOrderId() },
    });
    expect([refunded.status, refunded.json.currency]).toEqual([201, 'BGN']);
    // Sentences on the timeline show the amount in the format of its currency.
    const timeline = await api.call(`/v1/payments/${paid.id}/timeline`, { key: own.key });
    expect(timeline.text).toContain('BGN 0.50');
  });
});

describe('amounts', () => {
  test('an amount may be any whole number of minor units that JSON represents exactly', async () => {
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

  // The body is sent as text, because JSON.stringify would write some numbers differently from real clients.
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
  ])(
    'POST %s refuses every invalid amount, names the field %s, and stores nothing',
    async (path, named, body) => {
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
    },
  );

  test.each(['1', '1.5', '2.50', '1e3', '1e400', '-0.0'])(
    'a text field rejects the number %s',
    async (number) => {
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
    },
  );

  test('text fields that contain digits and escapes are returned unchanged', async () => {
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
