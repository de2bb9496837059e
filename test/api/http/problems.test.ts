import { randomUUID } from 'node:crypto';
import { connect } from 'node:net';
import { describe, expect, test } from 'vitest';
import type { Api } from '../../../src/api/api-deps.ts';
import { createEndpoints } from '../../../src/api/app.ts';
import { BODY_LIMIT } from '../../../src/api/http/body.ts';
import { problem } from '../../../src/api/schemas/common.ts';
import { REFUSALS, type RefusalCode } from '../../../src/domain/refusal.ts';
import { createApiKey } from '../../../src/ledger/merchants.ts';
import { runningTime } from '../../support/progress.ts';
import { type Call, pay, setUp, startTestApi } from '../support.ts';

// Tests that every error of the API is a problem document with a stable code.

const { database, api, key, merchantId } = await setUp();
const { key: operatorKey } = await createApiKey(api.db, merchantId, 'operator');
/** Only the declarations of the routes are used here. No handler is called. */
const endpoints = createEndpoints({
  config: { api: { publicUrl: 'https://pay.example' } },
} as unknown as Api);

const json = { 'content-type': 'application/json' };

const cases: readonly [RefusalCode, string, Call][] = [
  ['not_found', '/nothing/here', {}],
  ['not_found', '/v1/nothing/x', {}],
  ['not_found', '/docs/assets/package.json', {}],
  ['method_not_allowed', '/v1/orders', { method: 'DELETE' }],
  ['method_not_allowed', '/v1/payments/pay_1', { method: 'PATCH' }],
  ['method_not_allowed', '/callbacks/simulator', { method: 'GET' }],
  ['bad_request', '/v1/orders', { raw: '{"id":', headers: json }],
  ['bad_request', '/v1/orders', { raw: '', method: 'POST', headers: json }],
  ['bad_request', '/v1/orders', { raw: new Uint8Array([0x22, 0xff, 0x22]), headers: json }],
  ['bad_request', '/v1/orders/%E0%A4%A', {}],
  ['bad_request', '/v1/orders', { raw: '{}', headers: { ...json, 'content-encoding': 'gzip' } }],
  ['unsupported_media_type', '/v1/orders', { raw: '{}', headers: { 'content-type': 'text/plain' } }],
  [
    'unsupported_media_type',
    '/v1/orders',
    { raw: 'a=1', headers: { 'content-type': 'application/x-www-form-urlencoded' } },
  ],
  [
    'unsupported_media_type',
    '/v1/orders',
    { raw: '{}', headers: { 'content-type': 'application/json; charset=latin1' } },
  ],
  ['unsupported_media_type', '/v1/orders', { raw: '{}', headers: { ...json, 'content-encoding': 'zip' } }],
  ['payload_too_large', '/v1/orders', { raw: `"${'x'.repeat(BODY_LIMIT)}"`, headers: json }],
  ['invalid_request', '/v1/orders', { raw: 'null', headers: json }],
  ['invalid_request', '/v1/orders', { raw: '[]', headers: json }],
  ['invalid_request', '/v1/orders', { raw: '{"__proto__":{"id":"x"}}', headers: json }],
  ['order_not_found', '/v1/orders/nobody', {}],
  ['payment_not_found', '/v1/payments/nobody', {}],
];

const ORDER = { id: 'words-1', amount: 1990, currency: 'CNY' };
test.each<[string, unknown, [path: string, message: RegExp][]]>([
  [
    'POST /v1/payments',
    {},
    [
      ['channel', /^is required$/],
      ['orderId', /^give either orderId or order$/],
    ],
  ],
  [
    'POST /v1/payments',
    { order: { ...ORDER, amount: undefined }, channel: 'simulator' },
    [['order.amount', /^must be /]],
  ],
  [
    'POST /v1/payments',
    { order: { ...ORDER, currency: null }, channel: 'simulator' },
    [['order.currency', /^must be a string$/]],
  ],
  [
    'POST /v1/payments',
    { order: { ...ORDER, subject: '' }, channel: '' },
    [
      ['order.subject', /^must have 1 character or more$/],
      ['channel', /^must have 1 character or more$/],
    ],
  ],
  [
    'POST /v1/payments',
    { order: { ...ORDER, subject: 'x'.repeat(129) }, channel: 'simulator' },
    [['order.subject', /^must have at most 128 characters$/]],
  ],
  [
    'POST /v1/payments',
    { order: ORDER, channel: 'simulator', metadata: { a: 1 } },
    [['metadata.a', /^must be a string$/]],
  ],
  ['POST /v1/payments', { order: 'words-1', channel: 'simulator' }, [['order', /^must be a JSON object$/]]],
  [
    'POST /v1/payments',
    { order: ORDER, channel: 'simulator', return_url: 'https://shop.example/' },
    [['return_url', /^is not a known field: known are .*\breturnUrl\b/]],
  ],
  [
    'POST /v1/payments',
    { order: ORDER, channel: 'simulator', payer: { ip: 'localhost' } },
    [['payer.ip', /^must be an IPv4 or IPv6 address$/]],
  ],
  ['POST /v1/payments', [], [['', /^must be a JSON object$/]]],
  ['GET /v1/orders?limit=2&limit=3', undefined, [['limit', /^must be given once$/]]],
  ['GET /v1/orders?status=bad', undefined, [['status', /^must be one of unpaid, paying, /]]],
  ['GET /v1/orders?state=paying', undefined, [['state', /^is not a known field: known are .*\bstatus\b/]]],
])(
  'the answer names every invalid field and what to send instead: %s with the body %j',
  async (route, body, expected) => {
    const [method, path = ''] = route.split(' ');
    const { status, json: answer } = await api.call(path, { key, ...(method === 'GET' ? {} : { body }) });
    expect(status).toBe(422);
    expect(answer.errors.map((error: { path: string }) => error.path)).toEqual(expected.map(([at]) => at));
    for (const [i, [, message]] of expected.entries()) expect(answer.errors[i].message).toMatch(message);
    const [first] = answer.errors;
    expect(answer.detail).toBe(`${first.path || 'The request'}: ${first.message}.`);
  },
);

test("an unknown channel is refused with a list of the merchant's channels", async () => {
  const { status, json: answer } = await api.call('/v1/payments', {
    key,
    body: { order: ORDER, channel: 'Simulator' },
  });
  expect([status, answer.code]).toEqual([422, 'unknown_channel']);
  expect(answer.errors).toEqual([{ path: 'channel', message: 'must be one of simulator, simulator2' }]);
});

test("the list of the merchant's channels does not name a channel that the deployment no longer offers", async () => {
  const { deps } = api;
  const without = await startTestApi(database.url, {
    channels: new Map([...deps.channels].filter(([name]) => name !== 'simulator2')),
  });
  try {
    const body = { order: ORDER, channel: 'simulator2' };
    const { json: answer } = await without.call('/v1/payments', { key, body });
    expect(answer.errors).toEqual([{ path: 'channel', message: 'must be one of simulator' }]);
  } finally {
    await without.close();
  }
});

test('the answer to an unknown or badly encoded path explains how to correct the path', async () => {
  const missing = await api.call('/v1/payment', { key });
  expect(missing.json.detail).toMatch(/^Nothing exists at \/v1\/payment: .*\/docs /);
  const broken = await api.call('/v1/orders/50%', { key });
  expect(broken.json.detail).toMatch(/percent-encoded/);
});

test.each(cases)('%s: %s %j', async (code, path, call) => {
  const answer = await api.call(path, { key, ...call });
  expect(answer.headers.get('content-type')).toBe('application/problem+json; charset=utf-8');
  const { status, title } = REFUSALS[code];
  expect(problem.strict().parse(answer.json)).toMatchObject({
    code,
    status,
    title,
    type: `https://pay.example/docs/problems#${code}`,
    instance: path.split('?')[0],
    requestId: answer.headers.get('x-request-id'),
  });
  expect(answer.status).toBe(status);
});

describe('an id that the database cannot store', () => {
  for (const { method, path, auth, body, bodyExamples } of endpoints) {
    if (!path.includes('{')) continue;
    test.each(['%00', 'x%00', '%EF%BF%BF', "'", 'x'.repeat(300)])(
      `is not found: ${method} ${path} with %s`,
      async (id) => {
        const [example] = Object.values(bodyExamples ?? {});
        const answer = await api.call(path.replaceAll(/\{\w+\}/g, id), {
          method: method.toUpperCase(),
          ...(auth === 'none' ? {} : { key: operatorKey }),
          ...(typeof body === 'object' ? { body: example?.value ?? {} } : {}),
          headers: { 'idempotency-key': randomUUID() },
        });
        expect([answer.status, answer.json?.code ?? 'a page']).toEqual([
          path.startsWith('/checkout') ? 200 : 404,
          expect.stringMatching(/not_found$|^a page$/),
        ]);
      },
    );
  }
});

test('an answer 405 names the methods that the path allows', async () => {
  const allow = async (path: string) => (await api.call(path, { method: 'PUT' })).headers.get('allow');
  expect(await allow('/v1/orders')).toBe('POST, GET, HEAD, OPTIONS');
  expect(await allow('/v1/payments/x/hint')).toBe('POST, OPTIONS');
  expect((await api.call('/v1/orders', { method: 'OPTIONS' })).status).toBe(204);
});

test('JSON with a byte order mark or a vendor type is accepted', async () => {
  const raw = '\ufeff{"id":"bom","amount":1,"currency":"CNY"}';
  expect(
    (
      await api.call('/v1/orders', {
        key,
        raw,
        headers: { 'content-type': 'application/vnd.shop+json; charset="UTF-8"' },
      })
    ).status,
  ).toBe(201);
});

test('the page of problems explains every error code', async () => {
  const page = await api.call('/docs/problems');
  for (const code of Object.keys(REFUSALS)) expect(page.text).toContain(`id="${code}"`);
});

test('an internal error is answered 500 without internal details', async () => {
  const broken = await startTestApi(database.url, {
    now: () => {
      throw new Error('the clock fell off the wall');
    },
  });
  try {
    const answer = await broken.call('/v1/payments', { key });
    expect([answer.status, answer.json.code]).toEqual([500, 'internal_error']);
    expect(answer.text).not.toContain('clock');
    expect(broken.logged()).toContain('the clock fell off the wall');
  } finally {
    await broken.close();
  }
});

/**
 * Every answer must arrive within this time. It is much shorter than the 60 s that some requests ask the API to wait.
 */
const IN_TIME_MS = 20_000;

/**
 * Sends a text on a new connection.
 * @returns all data that the API sends before it closes this connection
 */
const exchange = (text: string) =>
  new Promise<string>((resolve, reject) => {
    const socket = connect(Number(new URL(api.url).port), '127.0.0.1', () => socket.write(text));
    let answer = '';
    socket.on('data', (data) => {
      answer += data;
    });
    socket.on('close', () => resolve(answer));
    socket.on('error', (error: NodeJS.ErrnoException) =>
      error.code === 'ECONNRESET' || error.code === 'EPIPE' ? resolve(answer) : reject(error),
    );
  });

test.each([
  ['not HTTP', 'nonsense\r\n\r\n', 'bad_request'],
  ['too many headers', `GET / HTTP/1.1\r\nhost: x\r\nx: ${'x'.repeat(20_000)}\r\n\r\n`, 'headers_too_large'],
] as const)(
  'a request with this fault gets a problem document, and the connection closes: %s',
  async (_what, text, code) => {
    const [head = '', body = ''] = (await exchange(text)).split('\r\n\r\n');
    expect(head).toMatch(new RegExp(`^HTTP/1.1 ${REFUSALS[code].status} `));
    expect(head).toContain('Content-Type: application/problem+json');
    const { requestId, ...said } = problem.strict().parse(JSON.parse(body));
    expect(said).toMatchObject({ code, type: `https://pay.example/docs/problems#${code}` });
    expect(head).toContain(`X-Request-Id: ${requestId}`);
  },
);

test('a few pipelined requests are answered, but too many pipelined requests end the connection', async () => {
  const { id } = await pay(api, key);
  const ask = (wait: number) =>
    `GET /v1/payments/${id}?wait=${wait} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer ${key}\r\n`;
  const nine = `${ask(0)}\r\n`.repeat(9);
  const few = await exchange(`${nine}${ask(0)}connection: close\r\n\r\n`);
  expect(few.match(/HTTP\/1.1 200/g)).toHaveLength(10);
  const began = runningTime();
  expect(await exchange(`${ask(60)}\r\n`.repeat(100))).toBe('');
  expect(began()).toBeLessThan(IN_TIME_MS);
});

test('a body with many errors is refused, and the answer lists the first 50 errors', async () => {
  const odd = Object.fromEntries(Array.from({ length: 1_000 }, (_, i) => [`f${i}`, i]));
  const answer = await api.call('/v1/orders', { key, body: { id: 'x', amount: 1, currency: 'CNY', ...odd } });
  expect([answer.status, answer.json.errors.length]).toEqual([422, 50]);
  const pairs = { id: 'x', amount: 1, currency: 'CNY', metadata: odd };
  expect((await api.call('/v1/orders', { key, body: pairs })).json.errors).toEqual([
    { path: 'metadata', message: 'must have at most 20 pairs' },
  ]);
});

test("every answer has security headers, and does not name the server's software", async () => {
  const { headers } = await api.call('/v1/orders', { key });
  expect(headers.get('content-security-policy')).toBe("default-src 'none';frame-ancestors 'none'");
  expect(headers.get('x-content-type-options')).toBe('nosniff');
  expect(headers.get('cache-control')).toBe('no-store');
  expect(headers.get('x-powered-by')).toBeNull();
});
