import { randomUUID } from 'node:crypto';
import fc from 'fast-check';
import { afterAll, beforeEach, describe, expect, test } from 'vitest';
import type { MethodDeclaration } from '../../../src/domain/channel.ts';
import { claimKey, keepResult, releaseKey } from '../../../src/ledger/idempotency.ts';
import { endPayment, recordAnswer } from '../../../src/ledger/payments.ts';
import { eventually } from '../../support/stack.ts';
import {
  type Answer,
  newKey,
  newOrderId,
  setUp,
  startTestApi,
  type TestApi,
  takingOnly,
  testChannels,
} from '../support.ts';

// Idempotency-Key: one request, however often and wherever it is sent, also when a process dies in the middle.

/** Two processes' worth of app on one database. */
const { database, api, key, merchantId } = await setUp();
const other = await startTestApi(database.url);
afterAll(() => other.close());
const usual = new Map<TestApi, TestApi['workflows']['onAwaitNextAction']>();
beforeEach(() => {
  for (const one of [api, other]) {
    if (!usual.has(one)) usual.set(one, one.workflows.onAwaitNextAction);
    one.workflows.onAwaitNextAction = usual.get(one) as TestApi['workflows']['onAwaitNextAction'];
    one.workflows.down = false;
    one.workflows.calls.length = 0;
  }
});

const newPayment = (change: object = {}) => ({
  order: { id: newOrderId(), amount: 1050, currency: 'CNY' },
  channel: 'simulator',
  ...change,
});
const send = (path: string, body: unknown, idempotencyKey: string, through = api, as = key) =>
  through.call(path, { key: as, body, headers: { 'idempotency-key': idempotencyKey } });
const pay = (body: unknown, idempotencyKey: string, through = api) =>
  send('/v1/payments', body, idempotencyKey, through);
const isReplayed = (answer: Answer) => answer.headers.get('idempotency-replayed');
const rowOf = (idempotencyKey: string) =>
  api.db.idempotencyKey.findUniqueOrThrow({ where: { merchantId_key: { merchantId, key: idempotencyKey } } });

describe('the same request again', () => {
  test('is answered the same, and says so', async () => {
    const [id, body] = [randomUUID(), newPayment()];
    const first = await pay(body, id);
    expect([first.status, isReplayed(first)]).toEqual([201, null]);
    const again = await pay(body, id, other);
    expect([again.status, isReplayed(again)]).toEqual([201, 'true']);
    expect(again.json).toEqual(first.json);
    expect(again.json.clientToken).toMatch(/^ct_/);
    expect(other.workflows.calls).toEqual([]);
    // Without a key it is the live payment, as ever.
    expect((await api.call('/v1/payments', { key, body })).status).toBe(200);

    const order = { id: newOrderId(), amount: 1, currency: 'JPY' };
    const made = await send('/v1/orders', order, `${id}-order`);
    const repeated = await send('/v1/orders', order, `${id}-order`, other);
    expect([made.status, repeated.status, isReplayed(repeated)]).toEqual([201, 201, 'true']);
    expect(repeated.json).toEqual(made.json);
  });

  test('is the same whatever the order of its names', async () => {
    const [id, body] = [randomUUID(), newPayment()];
    await pay(body, id);
    const { order, channel } = body;
    const turned = { channel, order: { currency: order.currency, amount: order.amount, id: order.id } };
    expect(isReplayed(await pay(turned, id))).toBe('true');
  });

  test('shows the same payment as it is by then: nobody is sent to pay what is over', async () => {
    const [id, body] = [randomUUID(), newPayment()];
    const { json: made } = await pay(body, id);
    await endPayment(api.db, made.id, 'closed', 'over', new Date());
    const again = await pay(body, id);
    expect([again.status, again.json.id, again.json.status, again.json.payUrl]).toEqual([
      201,
      made.id,
      'closed',
      null,
    ]);
  });

  test('of a refusal is the refusal', async () => {
    const id = randomUUID();
    const body = newPayment();
    await api.call('/v1/orders', { key, body: body.order });
    await api.call(`/v1/orders/${body.order.id}/cancel`, { key, body: {} });
    const first = await pay(body, id);
    expect([first.status, first.json.code]).toEqual([409, 'order_not_payable']);
    const again = await pay(body, id);
    expect([again.status, again.json.code, again.json.detail, isReplayed(again)]).toEqual([
      409,
      'order_not_payable',
      first.json.detail,
      'true',
    ]);
  });

  test('of what the channel rejected is the rejection', async () => {
    const [id, body] = [randomUUID(), newPayment()];
    api.workflows.onAwaitNextAction = async (payment) => {
      await recordAnswer(api.db, payment.id, { state: 'failed', reason: 'no' }, 'query', new Date());
      await endPayment(api.db, payment.id, 'failed', 'no', new Date());
      return true;
    };
    expect((await pay(body, id)).json.code).toBe('channel_rejected');
    const again = await pay(body, id);
    expect([again.status, again.json.code, isReplayed(again)]).toEqual([422, 'channel_rejected', 'true']);
    expect(await api.db.payment.count({ where: { orderId: body.order.id } })).toBe(1);
  });
});

describe('what is not definite is not kept:', () => {
  test('an order that exists with other content: it can be changed', async () => {
    const id = randomUUID();
    const order = { ...newPayment().order, subject: 'Two tickets' };
    const body = newPayment({ order });
    await api.call('/v1/orders', { key, body: { ...order, subject: 'Another' } });
    const first = await pay(body, id);
    expect([first.status, first.json.code, first.json.errors]).toEqual([
      409,
      'order_exists',
      [{ path: 'order.subject', message: 'the order has "Another"' }],
    ]);
    await api.call(`/v1/orders/${order.id}`, { key, method: 'PATCH', body: { subject: order.subject } });
    const again = await pay(body, id);
    expect([again.status, isReplayed(again)]).toEqual([201, null]);
  });

  test('Temporal that does not confirm', async () => {
    const [id, body] = [randomUUID(), newPayment()];
    api.workflows.down = true;
    expect((await pay(body, id)).json.code).toBe('temporal_unavailable');
    api.workflows.down = false;
    const again = await pay(body, id);
    // The row of the first time, which goes on.
    expect([again.status, isReplayed(again)]).toEqual([200, null]);
    expect(await api.db.payment.count({ where: { orderId: body.order.id } })).toBe(1);
    expect([(await pay(body, id)).status, isReplayed(await pay(body, id))]).toEqual([200, 'true']);
  });

  test('a channel that has not answered yet', async () => {
    const [id, body] = [randomUUID(), newPayment()];
    api.workflows.onAwaitNextAction = async () => false;
    const first = await pay(body, id);
    expect(first.status).toBe(202);
    const again = await pay(body, id, other);
    expect([again.status, again.json.id, isReplayed(again)]).toEqual([200, first.json.id, null]);
  });

  test('an attempt that is still ending', async () => {
    const [id, body] = [randomUUID(), newPayment()];
    const { id: live } = (await api.call('/v1/payments', { key, body })).json;
    await api.db.payment.update({ where: { id: live }, data: { cancelRequestedAt: new Date() } });
    expect((await pay(body, id)).json.code).toBe('attempt_unresolved');
    await endPayment(api.db, live, 'cancelled', 'asked for', new Date());
    expect((await pay(body, id)).status).toBe(201);
  });

  test('an order that is made next', async () => {
    const id = randomUUID();
    const body = { orderId: newOrderId(), channel: 'simulator' };
    expect((await pay(body, id)).json.code).toBe('order_not_found');
    await api.call('/v1/orders', { key, body: { id: body.orderId, amount: 1, currency: 'CNY' } });
    const again = await pay(body, id);
    expect([again.status, isReplayed(again)]).toEqual([201, null]);
  });

  test('a channel that is set up next, and a currency that it takes later', async () => {
    const channels = new Map(testChannels());
    const takes = (currencies: MethodDeclaration['currencies']) =>
      channels.set('simulator', takingOnly(currencies, testChannels().get('simulator')));
    const own = await startTestApi(database.url, { channels });
    try {
      const [id, body] = [randomUUID(), newPayment()];
      channels.delete('simulator');
      expect((await pay(body, id, own)).json.code).toBe('unknown_channel');
      takes({ JPY: {} });
      expect((await pay(body, id, own)).json.code).toBe('currency_not_supported');
      takes('any');
      const again = await pay(body, id, own);
      expect([again.status, isReplayed(again)]).toEqual([201, null]);
    } finally {
      await own.close();
    }
  });

  test('a request that is none: its key is free for the right one', async () => {
    const id = randomUUID();
    const wrong = await pay(newPayment({ method: 'teleport' }), id);
    expect([wrong.status, wrong.json.code]).toEqual([422, 'invalid_request']);
    expect((await pay(newPayment({ channel: 1 }), id)).status).toBe(422);
    expect((await pay(newPayment(), id)).status).toBe(201);
  });
});

test('another payload or route under the same key is refused and changes nothing', async () => {
  const [id, bare] = [randomUUID(), newPayment()];
  const body = { ...bare, metadata: { cart: 'c-1', from: 'web' } };
  await pay(body, id);
  const before = await api.db.payment.count();
  for (const [changed, paths] of [
    [{ ...body, order: { ...body.order, id: newOrderId() } }, ['order.id']],
    [{ ...body, metadata: { cart: 'c-2', from: 'web' } }, ['metadata.cart']],
    [{ ...body, metadata: { cart: 'c-1', to: 'app' } }, ['metadata.from', 'metadata.to']],
    [bare, ['metadata.cart', 'metadata.from']],
    [{ ...body, channel: 'simulator2' }, ['channel']],
    [{ ...body, returnUrl: 'https://shop.example/' }, ['returnUrl']],
    [{ orderId: body.order.id, channel: body.channel, metadata: body.metadata }, ['order.amount']],
  ] as const) {
    const answer = await pay(changed, id);
    expect([answer.status, answer.json.code]).toEqual([422, 'idempotency_key_reused']);
    const named = answer.json.errors.map(({ path }: { path: string }) => path);
    expect(named).toEqual(expect.arrayContaining([...paths]));
    if (!('orderId' in changed)) expect(named).toHaveLength(paths.length);
  }
  const route = await send('/v1/orders', body.order, id);
  expect([route.status, route.json.code, route.json.errors]).toEqual([
    422,
    'idempotency_key_reused',
    undefined,
  ]);
  expect(route.json.detail).toContain('POST /v1/payments');
  expect(await api.db.payment.count()).toBe(before);
});

test('a key from before its fields were kept is refused without naming any', async () => {
  const [id, body] = [randomUUID(), newPayment()];
  await pay(body, id);
  await api.db.idempotencyKey.updateMany({ where: { key: id }, data: { requestFields: {} } });
  const answer = await pay({ ...body, channel: 'simulator2' }, id);
  expect([answer.json.code, answer.json.errors]).toEqual(['idempotency_key_reused', undefined]);
});

test('also after something that was not definite, which may have begun', async () => {
  const id = randomUUID();
  api.workflows.down = true;
  await pay(newPayment(), id);
  api.workflows.down = false;
  expect((await pay(newPayment(), id)).json.code).toBe('idempotency_key_reused');
});

describe('of a switch', () => {
  const to = (channel: string) => ({ channel });
  const live = async () => (await api.call('/v1/payments', { key, body: newPayment() })).json;
  /** As the workflow of the attempt that is left does. */
  const closing = (one: TestApi) => {
    one.workflows.onAskChannel = async ({ id }) => {
      await recordAnswer(api.db, id, { state: 'unpaid' }, 'query', new Date());
      await endPayment(api.db, id, 'cancelled', 'a new attempt', new Date());
      return true;
    };
  };

  test('the same is answered the same, and another one is refused', async () => {
    closing(api);
    const [id, old] = [randomUUID(), await live()];
    const path = `/v1/payments/${old.id}/switch`;
    const first = await send(path, to('simulator2'), id);
    expect([first.status, isReplayed(first)]).toEqual([201, null]);
    await endPayment(api.db, first.json.id, 'closed', 'over', new Date());
    const again = await send(path, to('simulator2'), id, other);
    expect([again.status, again.json.id, again.json.status, isReplayed(again)]).toEqual([
      201,
      first.json.id,
      'closed',
      'true',
    ]);
    expect(again.json.clientToken).toBe(first.json.clientToken);
    for (const [at, body, field] of [
      [path, to('simulator'), 'channel'],
      [`/v1/payments/${(await live()).id}/switch`, to('simulator2'), 'id'],
    ] as const) {
      const { code, errors } = (await send(at, body, id)).json;
      expect([code, errors]).toMatchObject(['idempotency_key_reused', [{ path: field }]]);
    }
    expect(await api.db.payment.count({ where: { orderId: old.orderId } })).toBe(2);
  });

  test('the same is told to come back while it is in progress', async () => {
    const [id, old] = [randomUUID(), await live()];
    let go = () => {};
    const held = new Promise<void>((resolve) => {
      go = resolve;
    });
    closing(api);
    const ask = api.workflows.onAskChannel;
    api.workflows.onAskChannel = async (payment) => {
      await held;
      return await ask(payment);
    };
    const path = `/v1/payments/${old.id}/switch`;
    const first = send(path, to('simulator2'), id);
    await eventually(() => api.workflows.named('askChannel').length > 0);
    const meanwhile = await send(path, to('simulator2'), id, other);
    expect([meanwhile.status, meanwhile.json.code]).toEqual([409, 'idempotency_key_in_progress']);
    go();
    expect((await first).status).toBe(201);
  });

  test('with a client token it has no effect', async () => {
    const [id, old] = [randomUUID(), await live()];
    const path = `/v1/payments/${old.id}/switch`;
    for (const header of [id, id, 'a b'])
      expect((await send(path, to('simulator'), header, api, old.clientToken)).json.id).toBe(old.id);
    expect(await api.db.idempotencyKey.count({ where: { key: id } })).toBe(0);
  });
});

test('a key is its merchant’s own', async () => {
  const [id, body] = [randomUUID(), newPayment()];
  const mine = await pay(body, id);
  const stranger = await newKey(api.db);
  const theirs = await send('/v1/payments', body, id, api, stranger.key);
  expect([theirs.status, isReplayed(theirs)]).toEqual([201, null]);
  expect(theirs.json.id).not.toBe(mine.json.id);
  // The merchant's second key is the same merchant.
  const { key: second } = await newKey(
    api.db,
    'operator',
    (await api.db.merchant.findUniqueOrThrow({ where: { id: merchantId } })).name,
  );
  const again = await send('/v1/payments', body, id, api, second);
  expect([again.status, again.json.id, isReplayed(again)]).toEqual([201, mine.json.id, 'true']);
});

test.each(['', ' ', 'a b', 'ключ', 'x'.repeat(256), 'a\tb'])('the key %j is refused', async (bad) => {
  // As bytes: fetch sends no others.
  const answer = await send('/v1/payments', newPayment(), Buffer.from(bad).toString('latin1'));
  // Blanks at the ends of a header are no part of it.
  expect([answer.status, answer.json.code]).toEqual([400, 'bad_request']);
  expect(answer.json.detail).toContain('Idempotency-Key');
});

test('every visible character may be in one, and 255 of them', async () => {
  const id = String.fromCharCode(...Array.from({ length: 94 }, (_, i) => 33 + i)).padEnd(255, 'x');
  const body = newPayment();
  expect((await pay(body, id)).status).toBe(201);
  expect(isReplayed(await pay(body, id))).toBe('true');
});

describe('in progress', () => {
  test('the same request is told to come back', async () => {
    const [id, body] = [randomUUID(), newPayment()];
    const create = api.workflows.onAwaitNextAction;
    let go = () => {};
    const held = new Promise<void>((resolve) => {
      go = resolve;
    });
    api.workflows.onAwaitNextAction = async (payment) => {
      await held;
      return await create(payment);
    };
    const first = pay(body, id);
    await eventually(() => api.workflows.named('start').length > 0);
    const meanwhile = await pay(body, id, other);
    expect([meanwhile.status, meanwhile.json.code]).toEqual([409, 'idempotency_key_in_progress']);
    expect(Number(meanwhile.headers.get('retry-after'))).toBeGreaterThan(0);
    go();
    expect((await first).status).toBe(201);
    expect(isReplayed(await pay(body, id, other))).toBe('true');
  });

  test('of many at once on two processes one runs, and all others say the same or come back', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.record({ second: fc.boolean(), delayMs: fc.integer({ min: 0, max: 40 }) }), {
          minLength: 2,
          maxLength: 12,
        }),
        async (requests) => {
          const [id, body] = [randomUUID(), newPayment()];
          const answers = await Promise.all(
            requests.map(async ({ second, delayMs }) => {
              await new Promise((resolve) => setTimeout(resolve, delayMs));
              return await pay(body, id, second ? other : api);
            }),
          );
          const ended = answers.filter(({ status }) => status !== 409);
          expect(ended.length).toBeGreaterThan(0);
          for (const answer of ended) {
            expect(answer.status).toBe(201);
            expect(answer.json).toEqual(ended[0]?.json);
          }
          expect(ended.filter((answer) => isReplayed(answer) === null)).toHaveLength(1);
          for (const answer of answers.filter(({ status }) => status === 409))
            expect(answer.json.code).toBe('idempotency_key_in_progress');
          expect(await api.db.payment.count({ where: { orderId: body.order.id } })).toBe(1);
          const last = await pay(body, id);
          expect([last.status, isReplayed(last)]).toEqual([201, 'true']);
        },
      ),
      { numRuns: 25 },
    );
  });
});

describe('a process that died', () => {
  /** As kill -9 leaves a key: its request began and never ended. */
  async function begin(id: string, body: object, at: Date): Promise<void> {
    const stranger = await newKey(api.db);
    await send('/v1/payments', body, id, api, stranger.key);
    const { requestHash } = await api.db.idempotencyKey.findFirstOrThrow({ where: { key: id } });
    const request = { merchantId, key: id, route: 'POST /v1/payments', requestHash, fields: {} };
    expect((await claimKey(api.db, request, at)).kind).toBe('ours');
  }

  test.each([
    ['before it did anything', false],
    ['after its payment was made', true],
  ])('%s: the lease protects it, and after that the same request runs again', async (_, made) => {
    const [id, body] = [randomUUID(), newPayment()];
    const first = made ? await api.call('/v1/payments', { key, body }) : undefined;
    const began = Date.now();
    await begin(id, body, new Date(began));
    let sinceMs = 59_900;
    const after = await startTestApi(database.url, { now: () => new Date(began + sinceMs) });
    try {
      const early = await pay(body, id, after);
      expect([early.status, early.json.code]).toEqual([409, 'idempotency_key_in_progress']);
      sinceMs = 60_100;
      const again = await pay(body, id, after);
      expect([again.status, isReplayed(again)]).toEqual([made ? 200 : 201, null]);
      if (first !== undefined) expect(again.json.id).toBe(first.json.id);
      expect(isReplayed(await pay(body, id, after))).toBe('true');
      expect(await api.db.payment.count({ where: { merchantId, orderId: body.order.id } })).toBe(1);
    } finally {
      await after.close();
    }
  });

  test('or only lost its lease: what it finds then changes nothing', async () => {
    const request = {
      merchantId,
      key: randomUUID(),
      route: 'POST /v1/payments',
      requestHash: 'x',
      fields: {},
    };
    const at = Date.now();
    const slow = await claimKey(api.db, request, new Date(at));
    const next = await claimKey(api.db, request, new Date(at + 60_000));
    if (slow.kind !== 'ours' || next.kind !== 'ours') throw new Error(`${slow.kind} ${next.kind}`);
    await keepResult(api.db, slow.lease, { status: 201, made: 'pay_slow' });
    await releaseKey(api.db, slow.lease);
    expect((await claimKey(api.db, request, new Date(at + 60_001))).kind).toBe('in_progress');
    await keepResult(api.db, next.lease, { status: 201, made: 'pay_next' });
    await releaseKey(api.db, next.lease);
    expect(await claimKey(api.db, request, new Date(at + 60_002))).toEqual({
      kind: 'done',
      result: { status: 201, made: 'pay_next' },
    });
  });

  test('of several that wait for it one takes over', async () => {
    const request = {
      merchantId,
      key: randomUUID(),
      route: 'POST /v1/payments',
      requestHash: 'x',
      fields: {},
    };
    const at = Date.now();
    await claimKey(api.db, request, new Date(at));
    const claims = await Promise.all(
      Array.from({ length: 8 }, (_, i) =>
        claimKey((i % 2 ? api : other).db, request, new Date(at + 60_000 + i)),
      ),
    );
    expect(claims.map(({ kind }) => kind).sort()).toEqual([...Array(7).fill('in_progress'), 'ours']);
  });
});

test('what is kept holds no token and no address to pay at', async () => {
  const id = randomUUID();
  const { json } = await pay(newPayment({ payer: { ip: '192.0.2.7' } }), id);
  const kept = JSON.stringify(await rowOf(id));
  expect(kept).toContain(json.id);
  for (const secret of [json.clientToken, json.payUrl, '192.0.2.7']) expect(kept).not.toContain(secret);
});

test('the document says it', async () => {
  const { paths } = (await api.call('/openapi.json')).json;
  for (const path of ['/v1/orders', '/v1/payments', '/v1/payments/{id}/switch']) {
    const { parameters, responses } = paths[path].post;
    const headers = parameters.filter((one: { in: string }) => one.in === 'header');
    expect(headers).toMatchObject([{ in: 'header', name: 'idempotency-key', required: false }]);
    expect(Object.keys(responses[201].headers)).toEqual(['idempotency-replayed']);
    expect(responses[409].content['application/problem+json'].examples).toHaveProperty(
      'idempotency_key_in_progress',
    );
    expect(responses[422].content['application/problem+json'].examples).toHaveProperty(
      'idempotency_key_reused',
    );
  }
});
