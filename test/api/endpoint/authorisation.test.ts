import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { runningTime } from '../../support/progress.ts';
import { pay, simulatorCallback, type TestApi } from '../support.ts';
import {
  api,
  ask,
  begin,
  end,
  endpoints,
  everything,
  expectRefused,
  guarded,
  later,
  name,
  open,
  PAID_ALREADY,
  PROVEN_OTHERWISE,
  PUBLIC,
  revokedKey,
  stranger,
  victim,
  victims,
} from './authorisation-support.ts';

// Sends to every route every credential that must not open it. Each request must be refused without any effect and
// without data. The cases come from the routes' own declarations, so a new route is included automatically.

test('the authorisation tests cover every route of the OpenAPI document', async () => {
  await begin();
  const { paths } = (await api.call('/openapi.json')).json;
  await end();
  const described = Object.entries<object>(paths).flatMap(([path, methods]) =>
    Object.keys(methods).map((method) => `${method.toUpperCase()} ${path}`),
  );
  expect(endpoints.map(name).sort()).toEqual(described.sort());
  expect(guarded.length).toBeGreaterThanOrEqual(10);
});

test('the routes that accept requests without a key are exactly the routes in this list', () => {
  expect(open.map(({ path }) => path).sort()).toEqual([...PUBLIC, ...PROVEN_OTHERWISE].sort());
});

const guardedByName = guarded.map((endpoint) => [name(endpoint), endpoint] as const);

describe.each(guardedByName)('the route %s', (_, endpoint) => {
  const { auth, path } = endpoint;
  const ownsPath = path.includes('{');
  const strangers = () =>
    auth === 'operator' ? [stranger.operatorKey] : [stranger.key, stranger.operatorKey];

  // Refused requests change nothing, so all cases share one set-up.
  describe('refused requests', () => {
    beforeAll(begin);
    afterAll(end);

    if (auth !== 'key or token') {
      test("a request with the client token of a victim's payment (403)", async () => {
        await expectRefused(() => ask(endpoint, victim.token), 403, /^forbidden$/);
      });
    }

    if (auth === 'operator') {
      test('a request with a merchant’s key if the route is only for operators (403)', async () => {
        await expectRefused(() => ask(endpoint, victim.key), 403, /^forbidden$/);
        await expectRefused(() => ask(endpoint, stranger.key), 403, /^forbidden$/);
      });
    }

    if (ownsPath) {
      test('a request with another merchant’s key (404)', async () => {
        for (const key of strangers()) await expectRefused(() => ask(endpoint, key), 404, /_not_found$/);
      });
    }

    test.each<[string, () => string | undefined]>([
      ['no key', () => undefined],
      ['a wrong key', () => `sk_${'x'.repeat(43)}`],
      ['an empty key', () => ''],
      ['a revoked key', () => revokedKey],
      ["a key's id", () => 'key_01JD7Z7C8Q6W4Y9V5T3R1P0N2M'],
    ])('a request with %s (401)', async (_name, key) => {
      await expectRefused(() => ask(endpoint, key()), 401, /^unauthorized$/);
    });

    test.each<[string, () => [string, TestApi]]>([
      ['another payment’s client token', () => [stranger.token, api]],
      ['an expired client token', () => [victim.token, later]],
      ['a made-up client token', () => [`ct_${'x'.repeat(43)}`, api]],
    ])('a request with %s (401 or 403)', async (_name, given) => {
      const [token, through] = given();
      const [status, code] = auth === 'key or token' ? [401, /^unauthorized$/] : [403, /^forbidden$/];
      await expectRefused(() => ask(endpoint, token, through), status as number, code as RegExp);
    });
  });

  describe('accepted requests', () => {
    beforeEach(begin);
    afterEach(end);

    if (auth === 'key or token') {
      test("a request with the payment's client token", async () => {
        const { status, text } = await ask(endpoint, victim.token);
        if (path in PAID_ALREADY)
          expect([status, text]).toEqual([409, expect.stringContaining('already_paid')]);
        else expect(status, text).toBeLessThan(300);
        // The answer to a client token contains the id of its own payment, and no other data of the merchant.
        for (const secret of victim.secrets) {
          if (secret !== victim.paymentId && secret !== victim.token) expect(text).not.toContain(secret);
        }
      });
    }

    if (!ownsPath) {
      test("a request with another merchant's key, but the answer contains no data of the victim", async () => {
        for (const key of strangers()) {
          // This route lists or creates objects. So the request succeeds, but its answer must not show the victim's
          // data.
          const before = await victims();
          const answer = await ask(endpoint, key);
          expect(answer.status, answer.text).toBeLessThan(300);
          for (const secret of victim.secrets) expect(answer.text).not.toContain(secret);
          expect(await victims()).toEqual(before);
        }
      });
    }

    // Checks that valid credentials are not refused. Otherwise a wrong path could be the reason for all refusals above.
    test("a request with the merchant's own key", async () => {
      const answer = await ask(endpoint, auth === 'operator' ? victim.operatorKey : victim.key);
      expect([401, 403, 404], answer.text).not.toContain(answer.status);
    });
  });
});

describe('routes that need no key', () => {
  beforeEach(begin);
  afterEach(end);

  test.each(PUBLIC)("%s shows no merchant's data", async (path) => {
    const { status, text } = await api.call(path);
    expect(status).toBe(200);
    for (const secret of victim.secrets) expect(text).not.toContain(secret);
  });

  test.each(['/callbacks/simulator', '/callbacks/simulator/ACCOUNT'])(
    'POST %s requires a signature',
    async (path) => {
      const [account] = (await victims()).channelAccounts;
      const kept = async () => [await victims(), await api.db.callback.count()];
      const { raw } = simulatorCallback(victim.paymentId);
      const before = await kept();
      const answer = await api.call(path.replace('ACCOUNT', account?.id ?? ''), {
        raw,
        // A valid key does not replace the callback's signature.
        headers: { authorization: `Bearer ${victim.operatorKey}` },
      });
      expect([answer.status, answer.json.code]).toEqual([401, 'callback_unverified']);
      expect(answer.text).not.toContain(victim.orderId);
      // Only the refused callback itself is recorded.
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
  ])('GET /checkout/{id} with %s returns the same page as for an unknown payment', async (_name, given) => {
    const [token, through] = given();
    const before = await everything();
    const answer = await through.call(`/checkout/${victim.paymentId}?token=${token}`);
    expect([answer.status, answer.headers.get('content-type')]).toEqual([404, 'text/html; charset=utf-8']);
    // The page is the same as the page for a payment that does not exist.
    expect(answer.text).toBe((await through.call('/checkout/pay_nobody?token=ct_x')).text);
    for (const secret of victim.secrets) expect(answer.text).not.toContain(secret);
    expect(await everything()).toEqual(before);
  });

  test('GET /checkout/{id} without a token returns the same empty page for every id', async () => {
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
  ])('GET /return/{id} with %s returns the same page as for an unknown payment', async (_name, given) => {
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

  test('can use the same order id, and each merchant sees only its own order', async () => {
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

  test('merchants see unmatched callbacks of their own accounts only', async () => {
    const list = async (key: string) => (await api.call('/v1/callbacks?unmatched=true', { key })).json;
    const [mine] = (await list(victim.operatorKey)).data;
    expect(victim.secrets).toContain(mine.outTradeNo);
    expect(await list(stranger.operatorKey)).toEqual({ data: [], nextCursor: null });
  });

  test("a merchant can neither wait for another merchant's order nor read another merchant's list with its cursor", async () => {
    const began = runningTime();
    const waited = await api.call(`/v1/orders/${victim.orderId}?wait=30`, { key: stranger.key });
    expect([waited.status, began() < 15_000]).toEqual([404, true]);
    await pay(api, victim.key);
    const { nextCursor } = (await api.call('/v1/payments?limit=1', { key: victim.key })).json;
    const page = (await api.call(`/v1/payments?cursor=${nextCursor}`, { key: stranger.key })).json;
    for (const { id } of page.data) expect(victim.secrets).not.toContain(id);
  });
});
