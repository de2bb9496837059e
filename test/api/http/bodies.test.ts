import { rmSync } from 'node:fs';
import { createServer, request } from 'node:http';
import type { AddressInfo } from 'node:net';
import { connect } from 'node:net';
import { gzipSync } from 'node:zlib';
import type { Pool } from 'pg';
import { pino } from 'pino';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createShop } from '../../../examples/shop/app.ts';
import type { Nodrop } from '../../../examples/shop/nodrop.ts';
import { createAdminApp } from '../../../src/api/admin/app.ts';
import { BODY_LIMIT } from '../../../src/api/http/body.ts';
import { listen, stopListening } from '../../../src/api/http/listen.ts';
import { problem } from '../../../src/api/schemas/common.ts';
import { startSimulator } from '../../../src/simulator/app.ts';
import { chunked, flood } from '../../support/flood.ts';
import { eventually, temporaryHome } from '../../support/stack.ts';
import { CHANNEL_SECRET, newOrderId, setUp } from '../support.ts';

// Tests that every listener stops reading a request body soon after the size limit, on every route. Beyond the limit, a
// listener reads only what arrives in a short grace period.

const { api, key } = await setUp();

/**
 * The largest number of bytes that a listener may read: the limit of a body, the data that arrives during the grace
 * period, and the data that Node reads ahead.
 */
const READ_AT_MOST = BODY_LIMIT + 256 * 1024 + 256 * 1024;
const HUGE = 'Content-Length: 2147483648';
const CHUNKED = 'Transfer-Encoding: chunked';
const BLOCK = Buffer.alloc(64 * 1024, 97);

const listeners: Record<string, string> = { api: api.url };
const left: (() => Promise<unknown>)[] = [];

beforeAll(async () => {
  const admin = await listen(
    createAdminApp(
      api.deps.metrics,
      () => Promise.reject(new Error('not called')),
      'https://pay.example',
      '127.0.0.1',
    ),
    '127.0.0.1',
    0,
    'PORT',
    'https://pay.example',
  );
  left.push(() => stopListening(admin.server, 0));
  const folder = temporaryHome();
  const simulator = await startSimulator({
    ...{ folder, secrets: { simulator: CHANNEL_SECRET }, host: '127.0.0.1', port: 0 },
    logger: pino({ level: 'silent' }),
  });
  left.push(async () => {
    await simulator.close();
    rmSync(folder, { recursive: true, force: true });
  });
  // The shop refuses these requests without using its database, so the test needs no real database.
  const app = createShop({} as Pool, {} as Nodrop, CHANNEL_SECRET, new AbortController().signal);
  const shop = createServer(app).on('checkContinue', app);
  await new Promise<void>((resolve) => shop.listen(0, '127.0.0.1', resolve));
  left.push(() => stopListening(shop, 0));
  listeners.admin = `http://127.0.0.1:${admin.port}`;
  listeners.simulator = simulator.url;
  listeners.shop = `http://127.0.0.1:${(shop.address() as AddressInfo).port}`;
});
afterAll(async () => {
  for (const end of left.toReversed()) await end();
});

const routes: readonly [listener: string, line: string][] = [
  ['api', 'POST /callbacks/simulator'],
  ['api', 'POST /callbacks/nobody'],
  ['api', 'POST /v1/orders'],
  ['api', 'POST /v1/payments/pay_1/hint'],
  ['api', 'GET /healthz'],
  ['api', 'GET /docs/assets/swagger-ui.css'],
  ['api', 'POST /nothing/here'],
  ['admin', 'GET /metrics'],
  ['admin', 'POST /nothing/here'],
  ['simulator', 'POST /v1/trades'],
  ['simulator', 'POST /pay/p1'],
  ['simulator', 'PUT /_control/faults'],
  ['simulator', 'POST /nothing/here'],
  ['shop', 'POST /nodrop/events'],
  ['shop', 'POST /orders'],
  ['shop', 'GET /healthz'],
];

const statusOf = (answer: string) => Number(/^HTTP\/1\.1 (\d+)/.exec(answer)?.[1]);

describe.concurrent.each(routes)(
  'the limit of the request body: server %s, request "%s"',
  (listener, line) => {
    test('a body whose Content-Length is too large is refused before it is read', async () => {
      const { answer, read } = await flood(listeners[listener] ?? '', {
        head: [`${line} HTTP/1.1`, HUGE, 'Content-Type: application/json'],
        chunk: BLOCK,
      });
      expect(statusOf(answer)).toBe(413);
      expect(answer).toMatch(/\r\nConnection: close\r\n/i);
      expect(read).toBeLessThan(READ_AT_MOST - BODY_LIMIT);
    });

    test('a body without a Content-Length is read up to the limit, and then the connection is closed', async () => {
      const { answer, read } = await flood(listeners[listener] ?? '', {
        head: [`${line} HTTP/1.1`, CHUNKED, 'Content-Type: application/json', `Authorization: Bearer ${key}`],
        chunk: chunked(BLOCK),
      });
      expect(statusOf(answer)).toBeGreaterThanOrEqual(200);
      expect(read).toBeLessThan(READ_AT_MOST);
    });

    test('a request with `Expect: 100-continue` and a large body is refused, and never gets "100 Continue"', async () => {
      const { answer, read } = await flood(listeners[listener] ?? '', {
        head: [`${line} HTTP/1.1`, HUGE, 'Expect: 100-continue'],
      });
      expect(answer.match(/HTTP\/1\.1 \d+/g)).toEqual(['HTTP/1.1 413']);
      expect(read).toBeLessThan(1_000);
    });
  },
);

const problemIn = (answer: string) => {
  const [head = '', body = ''] = answer.split('\r\n\r\n');
  expect(head).toContain('Content-Type: application/problem+json');
  return problem.strict().parse(JSON.parse(body));
};

test('if the body of a request is too large, the API and the admin listener answer with a problem document', async () => {
  for (const [listener, path] of [
    ['api', '/callbacks/simulator'],
    ['api', '/nothing'],
    ['admin', '/metrics'],
  ] as const) {
    const { answer } = await flood(listeners[listener] ?? '', {
      head: [`POST ${path} HTTP/1.1`, HUGE],
      chunk: BLOCK,
    });
    expect(problemIn(answer)).toMatchObject({ code: 'payload_too_large', status: 413, instance: path });
  }
});

describe.concurrent.each([
  ['uncompressed', '', BLOCK],
  // The test sends this compressed block of zeros repeatedly. The limit applies to the compressed bytes and to the
  // decompressed bytes.
  ['compressed', 'Content-Encoding: gzip', gzipSync(Buffer.alloc(16 * 1024 * 1024))],
  // No parser can decode a body in this encoding.
  ['in an unknown encoding', 'Content-Encoding: zip', BLOCK],
])('a large body without a Content-Length, %s', (_name, encoding, data) => {
  test.each([false, true])(
    'is refused before it is read completely (sent chunk by chunk: %s)',
    async (drips) => {
      const { answer, read } = await flood(api.url, {
        head: ['POST /callbacks/simulator HTTP/1.1', CHUNKED, ...(encoding === '' ? [] : [encoding])],
        chunk: chunked(data),
        drips,
      });
      const { code } = problemIn(answer);
      expect(code).toBe(
        encoding.endsWith('zip') && !encoding.endsWith('gzip')
          ? 'unsupported_media_type'
          : 'payload_too_large',
      );
      expect(read).toBeLessThan(READ_AT_MOST);
    },
  );
});

test('a small compressed body that decompresses to a large body is refused', async () => {
  const raw = new Uint8Array(gzipSync(Buffer.alloc(64 * 1024 * 1024)));
  const answer = await api.call('/callbacks/simulator', { raw, headers: { 'content-encoding': 'gzip' } });
  expect([answer.status, answer.json.code]).toEqual([413, 'payload_too_large']);
});

describe('the refusal of a large body', () => {
  test('reaches a client that reads the answer while it sends the body', async () => {
    const answer = await api.call('/callbacks/simulator', { raw: new Uint8Array(8 * 1024 * 1024) });
    expect([answer.status, answer.json.code]).toEqual([413, 'payload_too_large']);
  });

  test.each([
    ['with a length', [`Content-Length: ${BODY_LIMIT + BLOCK.length}`], BLOCK],
    ['without a length', [CHUNKED], chunked(BLOCK)],
  ])(
    'reaches a client that sends the whole body, %s, before it reads the answer',
    async (_name, head, chunk) => {
      const { answer } = await flood(api.url, {
        head: ['POST /callbacks/simulator HTTP/1.1', ...head],
        ...{ chunk, times: BODY_LIMIT / BLOCK.length + 1, sendsFirst: true },
      });
      expect(problemIn(answer).code).toBe('payload_too_large');
    },
  );

  test('can be read by a page of another origin if the route allows such pages', async () => {
    const answer = await api.call('/v1/payments/pay_1/switch', { raw: new Uint8Array(BODY_LIMIT + 1) });
    expect(answer.status).toBe(413);
    expect(answer.headers.get('access-control-allow-origin')).toBe('*');
  });
});

test('if a request is refused and its connection closes, the bytes that follow are not read as another request', async () => {
  const order = JSON.stringify({ id: newOrderId(), amount: 1, currency: 'CNY' });
  const smuggled = [
    ...['POST /v1/orders HTTP/1.1', 'Host: x', `Authorization: Bearer ${key}`],
    ...['Content-Type: application/json', `Content-Length: ${order.length}`, '', order],
  ].join('\r\n');
  await flood(api.url, {
    head: ['POST /callbacks/simulator HTTP/1.1', `Content-Length: ${BODY_LIMIT + 1}`],
    chunk: Buffer.concat([Buffer.alloc(BODY_LIMIT + 1), Buffer.from(smuggled)]),
    times: 1,
  });
  expect(await api.db.order.count()).toBe(0);
});

/**
 * Sends requests on one connection. Each request is sent after the answer to the previous one.
 * @returns the status lines of the answers
 */
async function sendInTurn(requests: readonly string[]): Promise<(string | undefined)[]> {
  const socket = connect(Number(new URL(api.url).port), '127.0.0.1');
  let answer = '';
  socket.on('data', (data) => {
    answer += data;
  });
  const lines = () => [...answer.matchAll(/HTTP\/1\.1 \d+/g)].map(([line]) => line);
  for (const [i, text] of requests.entries()) {
    socket.write(text);
    await eventually(() => lines().length > i);
  }
  socket.destroy();
  return lines();
}

test('the connection stays open if a body without a Content-Length is read to its end', async () => {
  const body = JSON.stringify({ id: newOrderId(), amount: 1, currency: 'CNY' });
  const ask = [
    ...['POST /v1/orders HTTP/1.1', 'Host: x', `Authorization: Bearer ${key}`],
    ...['Content-Type: application/json', CHUNKED, '', `${body.length.toString(16)}`, body, '0', '', ''],
  ].join('\r\n');
  expect(await sendInTurn([ask, ask, ask])).toEqual(['HTTP/1.1 201', 'HTTP/1.1 200', 'HTTP/1.1 200']);
});

test('`Expect: 100-continue` gets "100 Continue" if the body will be read, but not if the request is refused', async () => {
  const ask = (headers: Record<string, string>) =>
    new Promise<readonly [number | undefined, boolean]>((resolve, reject) => {
      const body = JSON.stringify({ id: newOrderId(), amount: 1, currency: 'CNY' });
      let gotContinue = false;
      const sent = request(`${api.url}/v1/orders`, {
        method: 'POST',
        headers: {
          ...{ 'content-type': 'application/json', 'content-length': body.length, expect: '100-continue' },
          ...headers,
        },
      });
      sent.on('continue', () => {
        gotContinue = true;
        sent.end(body);
      });
      sent.on('response', (response) => {
        response.resume();
        resolve([response.statusCode, gotContinue]);
        sent.destroy();
      });
      sent.on('error', reject);
      sent.flushHeaders();
    });
  expect(await ask({ authorization: `Bearer ${key}` })).toEqual([201, true]);
  expect(await ask({ authorization: 'Bearer sk_nobody' })).toEqual([401, false]);
});

test.each(['api', 'admin', 'simulator'])(
  'the listener %s answers a request with two Host headers with 400',
  async (listener) => {
    for (const second of ['Host: y', 'hOST: x']) {
      const { answer } = await flood(listeners[listener] ?? '', {
        head: ['GET /healthz HTTP/1.1', 'Connection: close', second],
      });
      expect(statusOf(answer)).toBe(400);
      expect(answer).toContain('Send one Host header.');
    }
  },
);
