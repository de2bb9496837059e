import { randomUUID } from 'node:crypto';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { createEndpoints } from '../../../src/api/app.ts';
import type { Api } from '../../../src/api/deps.ts';
import type { Endpoint } from '../../../src/api/endpoint/endpoint.ts';
import { newDeliveryId, newEventId } from '../../../src/domain/ids.ts';
import { storeCallback } from '../../../src/ledger/callbacks.ts';
import { createApiKey, revokeApiKey } from '../../../src/ledger/merchants.ts';
import { settlePayment } from '../../../src/ledger/payments.ts';
import { ofTrade } from '../../support/callback.ts';
import { runningTime } from '../../support/progress.ts';
import { queryOnce, useDatabase } from '../../support/stack.ts';
import {
  type Answer,
  newKey,
  newOrderId,
  pay,
  simulatorCallback,
  startTestApi,
  type TestApi,
} from '../support.ts';

// Every route with every credential that must not open it: exactly the expected refusal, nothing done, nothing
// shown. Made of the routes' own declarations, so that a new route is in it by itself.

/** The declarations alone: nothing of it is called. */
const endpoints = createEndpoints({
  config: { api: { publicUrl: 'https://pay.example' } },
} as unknown as Api);
const guarded = endpoints.filter(({ auth }) => auth !== 'none');
const open = endpoints.filter(({ auth }) => auth === 'none');
const name = ({ method, path }: Endpoint) => `${method.toUpperCase()} ${path}`;

/** Open to everybody, as they say nothing of anybody. All other open routes are tested one by one below. */
const PUBLIC = ['/healthz', '/readyz', '/openapi.json', '/docs', '/docs/problems'];
const PROVEN_OTHERWISE = [
  '/callbacks/{channel}',
  '/callbacks/{channel}/{accountId}',
  '/callbacks/{channel}/{accountId}/{paymentId}/{proof}',
  '/return/{id}',
  '/checkout/{id}',
];

/** What a list must be asked for. */
const QUERIES: Readonly<Record<string, string>> = { '/v1/callbacks': '?unmatched=true' };

/** The victim's payment is paid: what opens to a token here is refused all the same. */
const PAID_ALREADY = { '/v1/payments/{id}/switch': true };

/** A merchant with something of everything, all of it somebody's secret. */
interface Victim {
  readonly merchantId: string;
  readonly key: string;
  readonly operatorKey: string;
  readonly orderId: string;
  readonly paymentId: string;
  readonly token: string;
  readonly refundId: string;
  readonly deliveryId: string;
  readonly expiresAt: number;
  /** Texts that nobody else may ever see. */
  readonly secrets: readonly string[];
}

const { databaseUrl } = useDatabase();
let api: TestApi;
/** The same a day after every token has ended. */
let later: TestApi;
let victim: Victim;
let stranger: Awaited<ReturnType<typeof newKey>> & { operatorKey: string; token: string };
let revokedKey: string;

/** Both APIs and everybody anew: after sixty wrong keys a minute an address gets 429. */
async function begin(): Promise<void> {
  api = await startTestApi(databaseUrl);
  victim = await newVictim();
  const now = new Date(victim.expiresAt + 24 * 3_600_000 + 1);
  later = await startTestApi(databaseUrl, { now: () => now });
  const made = await newKey(api.db);
  const { key: operatorKey } = await createApiKey(api.db, made.merchantId, 'operator');
  stranger = { ...made, operatorKey, token: (await pay(api, made.key)).clientToken };
  const revoked = await createApiKey(api.db, victim.merchantId, 'operator');
  await revokeApiKey(api.db, revoked.id, new Date());
  revokedKey = revoked.key;
  forgetCalls();
}

function forgetCalls(): void {
  for (const { workflows, deliveryWorkflows } of [api, later]) {
    workflows.calls.length = 0;
    deliveryWorkflows.calls.length = 0;
  }
}

async function end(): Promise<void> {
  await Promise.all([api.close(), later.close()]);
}

async function newVictim(): Promise<Victim> {
  const { key, merchantId } = await newKey(api.db);
  const { key: operatorKey } = await createApiKey(api.db, merchantId, 'operator');
  const mark = `secret-${randomUUID()}`;
  const orderId = newOrderId();
  const order = { id: orderId, amount: 1050, currency: 'CNY', subject: mark, metadata: { mark } };
  const paid = await pay(api, key, { order, metadata: { mark } });
  const account = await api.db.channelAccount.findFirstOrThrow({
    where: { merchantId, channel: 'simulator' },
  });
  const now = new Date();
  const answer = {
    state: 'paid',
    channelPaymentId: `T-${mark}`,
    amount: 1050,
    currency: 'CNY',
    paidAt: now.toISOString(),
  } as const;
  const callback = (outTradeNo: string) =>
    storeCallback(
      api.db,
      account.id,
      ofTrade({ notificationId: randomUUID(), outTradeNo, answer }),
      Buffer.from('{}'),
      now,
    );
  await callback(paid.id);
  await settlePayment(api.db, paid.id, now);
  const unmatched = await callback(`foreign_${Math.random().toString(36).slice(2)}`);
  const refundId = `re_${randomUUID().replaceAll('-', '').slice(0, 26)}`;
  await api.db.refund.create({
    data: { id: refundId, merchantId, paymentId: paid.id, amount: 1n, currency: 'CNY', reason: 'requested' },
  });
  const [eventId, deliveryId] = [newEventId(), newDeliveryId()];
  const event = { id: eventId, merchantId, paymentId: paid.id, type: 'refund.failed', version: 1_000 };
  await api.db.event.create({
    data: { ...event, data: { payment: { id: paid.id }, order: { id: orderId } } },
  });
  await api.db.delivery.create({
    data: {
      ...{ id: deliveryId, eventId, merchantId, paymentId: paid.id },
      log: { create: { outcome: 'unknown', detail: mark, durationMs: 1 } },
    },
  });
  return {
    ...{ merchantId, key, operatorKey, orderId, refundId, deliveryId },
    paymentId: paid.id,
    token: paid.clientToken,
    expiresAt: Date.parse(paid.expiresAt),
    secrets: [
      mark,
      orderId,
      paid.id,
      refundId,
      eventId,
      deliveryId,
      paid.clientToken,
      unmatched.outTradeNo,
      account.id,
      merchantId,
    ],
  };
}

/** What a path's `{id}` is of. */
function fill(path: string, { orderId, paymentId, refundId, deliveryId }: Victim): string {
  if (!path.includes('{')) return path + (QUERIES[path] ?? '');
  const kinds = {
    '/v1/orders/': orderId,
    '/v1/payments/': paymentId,
    '/v1/refunds/': refundId,
    '/v1/deliveries/': deliveryId,
  };
  const [, id] = Object.entries(kinds).find(([start]) => path.startsWith(start)) ?? [];
  if (id === undefined || path.split('{').length > 2) throw new Error(`Say in this test what is in ${path}.`);
  return path.replace('{id}', id);
}

function ask(endpoint: Endpoint, key: string | undefined, through = api): Promise<Answer> {
  const [example] = Object.values(endpoint.bodyExamples ?? {});
  const takesBody = typeof endpoint.body === 'object';
  if (takesBody && example === undefined) throw new Error(`Give ${name(endpoint)} an example of its body.`);
  return through.call(fill(endpoint.path, victim), {
    method: endpoint.method.toUpperCase(),
    headers: { 'idempotency-key': randomUUID() },
    ...(key === undefined ? {} : { key }),
    ...(takesBody ? { body: example?.value } : {}),
  });
}

/** Everything in the database, in one word a table. */
async function everything(): Promise<unknown> {
  const tables = await queryOnce(
    databaseUrl,
    "select tablename as name from pg_tables where schemaname = 'public' order by 1",
  );
  const digests = tables.map(
    ({ name: table }) =>
      `select '${table}' as name, md5(string_agg(r::text, '|' order by r::text)) as digest from "${table}" as r`,
  );
  return await queryOnce(databaseUrl, digests.join(' union all '));
}

/** Everything of the victim's. */
const victims = () =>
  api.db.merchant.findUniqueOrThrow({
    where: { id: victim.merchantId },
    include: {
      apiKeys: true,
      channelAccounts: { include: { callbacks: true, unverified: true } },
      orders: true,
      payments: { include: { timeline: true } },
      refunds: true,
      signingSecrets: true,
      events: true,
      deliveries: { include: { log: true } },
      idempotencyKeys: true,
    },
  });

/** What a refused request must be: this, and without effect or word of what is there. */
async function expectRefused(asking: () => Promise<Answer>, status: number, code: string | RegExp) {
  const before = await everything();
  const answer = await asking();
  expect(answer.status, answer.text).toBe(status);
  expect(answer.json.code).toMatch(code);
  expect(answer.headers.get('www-authenticate')).toBe(status === 401 ? 'Bearer realm="nodrop"' : null);
  for (const secret of victim.secrets) {
    // It says again what it was asked for.
    expect(answer.text.replaceAll(answer.json.instance, '').replaceAll(answer.json.detail, '')).not.toContain(
      secret,
    );
  }
  expect(await everything()).toEqual(before);
  for (const { workflows, deliveryWorkflows } of [api, later])
    expect([...workflows.calls, ...deliveryWorkflows.calls]).toEqual([]);
}

test('every route of the document is here', async () => {
  await begin();
  const { paths } = (await api.call('/openapi.json')).json;
  await end();
  const described = Object.entries<object>(paths).flatMap(([path, methods]) =>
    Object.keys(methods).map((method) => `${method.toUpperCase()} ${path}`),
  );
  expect(endpoints.map(name).sort()).toEqual(described.sort());
  expect(guarded.length).toBeGreaterThanOrEqual(10);
});

test('a route that asks for no key is on the list of those that may', () => {
  expect(open.map(({ path }) => path).sort()).toEqual([...PUBLIC, ...PROVEN_OTHERWISE].sort());
});

describe.each(guarded.map((endpoint) => [name(endpoint), endpoint] as const))('%s', (_, endpoint) => {
  const { auth, path } = endpoint;
  const ownsPath = path.includes('{');
  const strangers = () =>
    auth === 'operator' ? [stranger.operatorKey] : [stranger.key, stranger.operatorKey];

  // What is refused changes nothing, so that one set-up serves all of it.
  describe('refuses', () => {
    beforeAll(begin);
    afterAll(end);

    test.each<[string, () => string | undefined]>([
      ['no key', () => undefined],
      ['a wrong key', () => `sk_${'x'.repeat(43)}`],
      ['an empty key', () => ''],
      ['a revoked key', () => revokedKey],
      ['the id of a key', () => 'key_01JD7Z7C8Q6W4Y9V5T3R1P0N2M'],
    ])('%s: 401', async (_name, key) => {
      await expectRefused(() => ask(endpoint, key()), 401, /^unauthorized$/);
    });

    test.each<[string, () => [string, TestApi]]>([
      ['another payment’s client token', () => [stranger.token, api]],
      ['an expired client token', () => [victim.token, later]],
      ['a made-up client token', () => [`ct_${'x'.repeat(43)}`, api]],
    ])('%s', async (_name, given) => {
      const [token, through] = given();
      const [status, code] = auth === 'key or token' ? [401, /^unauthorized$/] : [403, /^forbidden$/];
      await expectRefused(() => ask(endpoint, token, through), status as number, code as RegExp);
    });

    if (auth !== 'key or token') {
      test('its own client token', async () => {
        await expectRefused(() => ask(endpoint, victim.token), 403, /^forbidden$/);
      });
    }

    if (auth === 'operator') {
      test('a merchant’s key: 403', async () => {
        await expectRefused(() => ask(endpoint, victim.key), 403, /^forbidden$/);
        await expectRefused(() => ask(endpoint, stranger.key), 403, /^forbidden$/);
      });
    }

    if (ownsPath) {
      test('another merchant’s key', async () => {
        for (const key of strangers()) await expectRefused(() => ask(endpoint, key), 404, /_not_found$/);
      });
    }
  });

  describe('lets in', () => {
    beforeEach(begin);
    afterEach(end);

    if (auth === 'key or token') {
      test('its own client token', async () => {
        const { status, text } = await ask(endpoint, victim.token);
        if (path in PAID_ALREADY)
          expect([status, text]).toEqual([409, expect.stringContaining('already_paid')]);
        else expect(status, text).toBeLessThan(300);
        // It opens the payment, and nothing else of its merchant's.
        for (const secret of victim.secrets) {
          if (secret !== victim.paymentId && secret !== victim.token) expect(text).not.toContain(secret);
        }
      });
    }

    if (!ownsPath) {
      test('another merchant’s key, to what is its own', async () => {
        for (const key of strangers()) {
          // A list or a creation.
          const before = await victims();
          const answer = await ask(endpoint, key);
          expect(answer.status, answer.text).toBeLessThan(300);
          for (const secret of victim.secrets) expect(answer.text).not.toContain(secret);
          expect(await victims()).toEqual(before);
        }
      });
    }

    // Else all of the above could be true of an address that is wrong.
    test('its own key', async () => {
      const answer = await ask(endpoint, auth === 'operator' ? victim.operatorKey : victim.key);
      expect([401, 403, 404], answer.text).not.toContain(answer.status);
    });
  });
});

describe('routes that ask for no key', () => {
  beforeEach(begin);
  afterEach(end);

  test.each(PUBLIC)('%s says nothing of anybody', async (path) => {
    const { status, text } = await api.call(path);
    expect(status).toBe(200);
    for (const secret of victim.secrets) expect(text).not.toContain(secret);
  });

  test.each(['/callbacks/simulator', '/callbacks/simulator/ACCOUNT'])(
    'POST %s asks for a signature',
    async (path) => {
      const [account] = (await victims()).channelAccounts;
      const kept = async () => [await victims(), await api.db.callback.count()];
      const { raw } = simulatorCallback(victim.paymentId);
      const before = await kept();
      const answer = await api.call(path.replace('ACCOUNT', account?.id ?? ''), {
        raw,
        // No key opens it either.
        headers: { authorization: `Bearer ${victim.operatorKey}` },
      });
      expect([answer.status, answer.json.code]).toEqual([401, 'callback_unverified']);
      expect(answer.text).not.toContain(victim.orderId);
      // That somebody tried is on record; nothing else is.
      await api.unverified.flush();
      await api.db.unverifiedCallback.deleteMany();
      expect(await kept()).toEqual(before);
      expect(api.workflows.calls).toEqual([]);
    },
  );

  test.each<[string, () => [string, TestApi]]>([
    ['a wrong token', () => [`ct_${'x'.repeat(43)}`, api]],
    ['an empty token', () => ['', api]],
    ['another payment’s token', () => [stranger.token, api]],
    ['an expired token', () => [victim.token, later]],
    ['its merchant’s key', () => [victim.key, api]],
  ])('GET /checkout/{id} with %s', async (_name, given) => {
    const [token, through] = given();
    const before = await everything();
    const answer = await through.call(`/checkout/${victim.paymentId}?token=${token}`);
    expect([answer.status, answer.headers.get('content-type')]).toEqual([404, 'text/html; charset=utf-8']);
    // The very page that an address of nothing gives.
    expect(answer.text).toBe((await through.call('/checkout/pay_nobody?token=ct_x')).text);
    for (const secret of victim.secrets) expect(answer.text).not.toContain(secret);
    expect(await everything()).toEqual(before);
  });

  test('GET /checkout/{id} without a token is the same empty page for everything', async () => {
    const answer = await api.call(`/checkout/${victim.paymentId}`);
    expect(answer.status).toBe(200);
    expect(answer.text).toBe((await api.call('/checkout/pay_nobody')).text);
    for (const secret of victim.secrets) expect(answer.text).not.toContain(secret);
  });

  test.each<[string, () => [string | undefined, TestApi]]>([
    ['no token', () => [undefined, api]],
    ['a wrong token', () => [`ct_${'x'.repeat(43)}`, api]],
    ['another payment’s token', () => [stranger.token, api]],
    ['an expired token', () => [victim.token, later]],
    ['its merchant’s key', () => [victim.key, api]],
  ])('GET /return/{id} with %s', async (_name, given) => {
    const [token, through] = given();
    const query = token === undefined ? '' : `?token=${token}`;
    const answer = await through.call(`/return/${victim.paymentId}${query}`);
    expect(answer.status).toBe(404);
    expect(answer.text).toBe((await api.call(`/return/pay_nobody${query}`)).text);
    for (const secret of victim.secrets) expect(answer.text).not.toContain(secret);
  });
});

describe('two merchants', () => {
  beforeEach(begin);
  afterEach(end);

  test('have orders of the same id, and neither learns of the other’s', async () => {
    const own = { id: victim.orderId, amount: 7, currency: 'EUR' };
    const before = await victims();
    const made = await api.call('/v1/orders', { key: stranger.key, body: own });
    expect([made.status, made.json.amount]).toEqual([201, 7]);
    const paying = { orderId: own.id, channel: 'simulator' };
    expect((await api.call('/v1/payments', { key: stranger.key, body: paying })).status).toBe(201);
    expect((await api.call(`/v1/orders/${own.id}`, { key: stranger.key })).json.payments).toHaveLength(1);
    expect((await api.call(`/v1/payments?orderId=${own.id}`, { key: stranger.key })).json.data).toHaveLength(
      1,
    );
    expect(await victims()).toEqual(before);
  });

  test('see their own callbacks that match nothing', async () => {
    const list = async (key: string) => (await api.call('/v1/callbacks?unmatched=true', { key })).json;
    const [mine] = (await list(victim.operatorKey)).data;
    expect(victim.secrets).toContain(mine.outTradeNo);
    expect(await list(stranger.operatorKey)).toEqual({ data: [], nextCursor: null });
  });

  test('a wait for another’s order ends at once, and a cursor of another’s list opens nothing', async () => {
    const began = runningTime();
    const waited = await api.call(`/v1/orders/${victim.orderId}?wait=30`, { key: stranger.key });
    expect([waited.status, began() < 15_000]).toEqual([404, true]);
    await pay(api, victim.key);
    const { nextCursor } = (await api.call('/v1/payments?limit=1', { key: victim.key })).json;
    const page = (await api.call(`/v1/payments?cursor=${nextCursor}`, { key: stranger.key })).json;
    for (const { id } of page.data) expect(victim.secrets).not.toContain(id);
  });
});
