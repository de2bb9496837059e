import { describe, expect, test } from 'vitest';
import { DEVELOPMENT_KEY, isDevelopmentKeyAccepted } from '../../../src/api/endpoint/auth.ts';
import { payerPayment } from '../../../src/api/schemas/payment.ts';
import { clientToken } from '../../../src/client-token.ts';
import { isLoopback } from '../../../src/loopback.ts';
import { newKey, pay, SECRET, setUp, startTestApi } from '../support.ts';

// Tests which routes each key, client token and development key may use.

const { database, api, key } = await setUp();

describe('API keys', () => {
  test.each([
    undefined,
    'Bearer',
    'Bearer ',
    'Basic c2s6',
    'Bearer sk_wrong',
    'Bearer a b',
    `Bearer sk_${'x'.repeat(500)}`,
    `Bearer ${DEVELOPMENT_KEY}`,
  ])('the header Authorization "%s" is answered with 401 and a challenge', async (authorization) => {
    const answer = await api.call('/v1/orders', {
      headers: authorization === undefined ? {} : { authorization },
    });
    expect([answer.status, answer.json.code]).toEqual([401, 'unauthorized']);
    expect(answer.headers.get('www-authenticate')).toBe('Bearer realm="nodrop"');
  });

  test('the key is checked first, so the body of a request with a wrong key is not read', async () => {
    const answer = await api.call('/v1/orders', { raw: '{', headers: { 'content-type': 'text/plain' } });
    expect(answer.status).toBe(401);
  });

  test('a revoked key is refused', async () => {
    const revoked = await newKey(api.db);
    await api.db.apiKey.updateMany({
      where: { merchantId: revoked.merchantId },
      data: { revokedAt: new Date() },
    });
    expect((await api.call('/v1/orders', { key: revoked.key })).status).toBe(401);
  });
});

describe('a client token', () => {
  const GRACE_END = 24 * 3_600_000;

  test('opens its own payment, and does not show the fields that are only for the merchant', async () => {
    const made = await pay(api, key, { metadata: { secret: 'yes' } });
    const answer = await api.call(`/v1/payments/${made.id}?wait=0`, { key: made.clientToken });
    expect(answer.status).toBe(200);
    expect(payerPayment.strict().parse(answer.json)).toMatchObject({
      id: made.id,
      status: 'paying',
      payUrl: made.payUrl,
    });
    expect(answer.text).not.toContain('secret');
    expect(answer.text).not.toContain(made.orderId);
    expect(
      (await api.call(`/v1/payments/${made.id}/hint`, { key: made.clientToken, method: 'POST' })).status,
    ).toBe(202);
  });

  test("the client token is derived from the deployment's secret, and only its hash is stored", async () => {
    const made = await pay(api, key);
    expect(made.clientToken).toBe(clientToken(SECRET, made.id));
    const row = await api.db.payment.findUniqueOrThrow({ where: { id: made.id } });
    expect(
      JSON.stringify(row, (_, value) => (typeof value === 'bigint' ? String(value) : value)),
    ).not.toContain(made.clientToken);
  });

  test.each([
    ['GET', '/v1/payments'],
    ['POST', '/v1/payments'],
    ['GET', '/v1/payments/ID/timeline'],
    ['POST', '/v1/payments/ID/query'],
    ['GET', '/v1/orders'],
    ['POST', '/v1/orders'],
    ['GET', '/v1/orders/ORDER'],
  ])('a client token does not authorise the request %s %s', async (method, path) => {
    const made = await pay(api, key);
    const answer = await api.call(path.replace('ID', made.id).replace('ORDER', made.orderId), {
      key: made.clientToken,
      method,
    });
    expect([answer.status, answer.json.code]).toEqual([403, 'forbidden']);
  });

  test('opens no other payment, and gets the same refusal whether or not the other payment exists', async () => {
    const [mine, other] = [await pay(api, key), await pay(api, key)];
    for (const id of [other.id, 'pay_nobody']) {
      for (const [path, method] of [
        ['', 'GET'],
        ['/hint', 'POST'],
      ] as const) {
        const answer = await api.call(`/v1/payments/${id}${path}`, { key: mine.clientToken, method });
        expect([answer.status, answer.json.code]).toEqual([401, 'unauthorized']);
        expect(answer.json.detail).toBe('This token does not open this payment, or has expired.');
      }
    }
  });

  test("expires a day after the payment's expiry", async () => {
    const made = await pay(api, key);
    let now = Date.parse(made.expiresAt) + GRACE_END - 1;
    const later = await startTestApi(database.url, { now: () => new Date(now) });
    try {
      expect((await later.call(`/v1/payments/${made.id}`, { key: made.clientToken })).status).toBe(200);
      expect((await later.call(`/return/${made.id}?token=${made.clientToken}`)).status).toBe(303);
      expect((await later.call(`/checkout/${made.id}?token=${made.clientToken}`)).status).toBe(200);
      now += 1;
      expect((await later.call(`/v1/payments/${made.id}`, { key: made.clientToken })).status).toBe(401);
      expect((await later.call(`/return/${made.id}?token=${made.clientToken}`)).status).toBe(404);
      expect((await later.call(`/checkout/${made.id}?token=${made.clientToken}`)).status).toBe(404);
    } finally {
      await later.close();
    }
  });
});

describe('pages of other origins', () => {
  const ask = (path: string, method: string) =>
    api.call(path, {
      method,
      headers: {
        origin: 'https://shop.example',
        'access-control-request-method': 'GET',
        'access-control-request-headers': 'authorization',
      },
    });

  test.each(['/v1/payments/pay_1', '/v1/payments/pay_1/hint'])(
    'a page of another origin may call %s, without cookies',
    async (path) => {
      const preflight = await ask(path, 'OPTIONS');
      expect(preflight.status).toBe(204);
      expect(preflight.headers.get('access-control-allow-origin')).toBe('*');
      expect(preflight.headers.get('access-control-allow-headers')).toContain('Authorization');
      expect(preflight.headers.get('access-control-allow-credentials')).toBeNull();
      // Pages of other origins must also be able to read refusals.
      const refused = await ask(path, path.endsWith('hint') ? 'POST' : 'GET');
      expect([refused.status, refused.headers.get('access-control-allow-origin')]).toEqual([401, '*']);
    },
  );

  test.each([
    '/v1/payments',
    '/v1/orders',
    '/v1/payments/pay_1/timeline',
    '/v1/payments/pay_1/query',
    '/callbacks/simulator',
  ])('a page of another origin may not call %s', async (path) => {
    for (const method of ['OPTIONS', 'GET', 'POST']) {
      expect((await ask(path, method)).headers.get('access-control-allow-origin')).toBeNull();
    }
  });
});

describe('the development key', () => {
  const loopbackConfig = {
    mode: 'test' as const,
    embeddedDatabase: true,
    api: { host: '127.0.0.1', port: 3000, publicUrl: 'http://127.0.0.1:3000', trustedProxies: [] },
  };
  const request = (remoteAddress: string, headers: Record<string, string> = { host: '127.0.0.1:3000' }) =>
    ({ headers, socket: { remoteAddress } }) as unknown as Parameters<typeof isDevelopmentKeyAccepted>[1];

  test("on the embedded stack the development key is an operator's key of the merchant demo, and is never stored", async () => {
    const embedded = await startTestApi(database.url, { config: { ...api.deps.config, ...loopbackConfig } });
    try {
      const made = await pay(embedded, DEVELOPMENT_KEY);
      expect(made.temporalUrl).toContain('payment%2F');
      const demo = await embedded.db.merchant.findUniqueOrThrow({
        where: { name: 'demo' },
        include: { apiKeys: true, channelAccounts: true },
      });
      expect(demo.apiKeys).toEqual([]);
      expect(demo.channelAccounts.map(({ channel }) => channel).sort()).toEqual(['simulator', 'simulator2']);
      expect(
        (
          await embedded.call('/v1/orders', {
            key: DEVELOPMENT_KEY,
            headers: { 'x-forwarded-for': '127.0.0.1' },
          })
        ).status,
      ).toBe(401);
    } finally {
      await embedded.close();
    }
  });

  test('the development key is accepted only in a test deployment with the embedded database, on loopback addresses and host names', () => {
    const accepted = (config: object, from = request('127.0.0.1')) =>
      isDevelopmentKeyAccepted({ ...loopbackConfig, ...config }, from);
    expect(accepted({})).toBe(true);
    expect(
      accepted(
        { api: { ...loopbackConfig.api, host: '::1' } },
        request('::ffff:127.0.0.1', { host: 'localhost:3000' }),
      ),
    ).toBe(true);
    expect(accepted({}, request('::1', { host: '[::1]:3000' }))).toBe(true);
    expect(accepted({ mode: 'live' })).toBe(false);
    expect(accepted({ embeddedDatabase: false })).toBe(false);
    expect(accepted({ api: { ...loopbackConfig.api, host: '0.0.0.0' } })).toBe(false);
    expect(accepted({}, request('10.0.0.7'))).toBe(false);
    expect(accepted({}, request('127.0.0.1', { host: 'evil.example' }))).toBe(false);
    expect(accepted({}, request('127.0.0.1', {}))).toBe(false);
    expect(accepted({ api: { ...loopbackConfig.api, publicUrl: 'https://pay.example' } })).toBe(false);
  });

  test.each([
    ['forwarded', 'for=1.2.3.4', false],
    ['x-forwarded-for', '127.0.0.1', false],
    ['x-forwarded-proto', 'https', false],
    ['x-real-ip', '127.0.0.1', false],
    ['via', '1.1 proxy', false],
    ['origin', 'https://evil.example', false],
    ['origin', 'http://127.0.0.1.evil.example', false],
    ['origin', 'null', false],
    ['origin', 'http://localhost:8080', true],
    ['origin', 'http://[::1]:3000', true],
  ])(
    'for a request with the header "%s: %s", isDevelopmentKeyAccepted returns %s',
    (name, value, expected) => {
      const asked = request('127.0.0.1', { host: 'localhost', [name]: value });
      expect(isDevelopmentKeyAccepted(loopbackConfig, asked)).toBe(expected);
    },
  );

  test.each([
    ['127.0.0.1', true],
    ['127.9.9.9', true],
    ['::1', true],
    ['[::1]', true],
    ['::ffff:127.0.0.1', true],
    ['localhost', true],
    ['0.0.0.0', false],
    ['::', false],
    ['127.0.0.1.evil.example', false],
    ['', false],
  ])('for the host "%s", isLoopback returns %s', (host, expected) => {
    expect(isLoopback(host)).toBe(expected);
  });
});
