import { createHmac } from 'node:crypto';
import { createServer, type IncomingHttpHeaders, type Server, type ServerResponse } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import {
  createServer as createRawServer,
  type LookupFunction,
  type Server as RawServer,
  type Socket,
} from 'node:net';
import fc from 'fast-check';
import { Webhook } from 'standardwebhooks';
import { afterEach, describe, expect, test, vi } from 'vitest';
import { answerStart } from '../../src/order-service/answer-start.ts';
import { OrderServiceClient, type OrderServiceTarget, urlFault } from '../../src/order-service/client.ts';
import { newSecret } from '../../src/order-service/secrets.ts';
import { eventually, freePort } from '../support/stack.ts';
import { CERTIFICATE, PRIVATE_KEY } from './self-signed.ts';

// What an order service's answer means, against real servers: everything that is no definite answer is unknown.

const US = 'pay_01JD7Z7C8Q6W4Y9V5T3R1P0N2M';
const OTHER = 'pay_01JD7Z7C8Q6W4Y9V5T3R1P0N2N';
const SECRET = newSecret();
const BODY = JSON.stringify({ type: 'payment.succeeded', data: { order: { subject: 'Kaffee für 2 ☕' } } });

interface Heard {
  readonly method: string;
  readonly url: string;
  readonly headers: IncomingHttpHeaders;
  readonly body: string;
}

const open: (Server | RawServer)[] = [];
afterEach(async () => {
  for (const server of open.splice(0)) {
    if ('closeAllConnections' in server) server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  }
});

async function listening(server: Server | RawServer, host = '127.0.0.1'): Promise<number> {
  open.push(server);
  await new Promise<void>((resolve) => server.listen(0, host, resolve));
  return (server.address() as { port: number }).port;
}

/** A server that hears whole requests and answers as it is told. */
async function serve(answer: (response: ServerResponse, heard: Heard) => void) {
  const heard: Heard[] = [];
  const server = createServer(async (request, response) => {
    let body = '';
    for await (const chunk of request.setEncoding('utf8')) body += chunk;
    const one = { method: request.method ?? '', url: request.url ?? '', headers: request.headers, body };
    heard.push(one);
    answer(response, one);
  });
  const port = await listening(server);
  return { heard, port, url: `http://127.0.0.1:${port}/hooks` };
}

/** A server that does with a connection what HTTP has no words for. */
async function connect(onSocket: (socket: Socket) => void): Promise<string> {
  const sockets = new Set<Socket>();
  const server = createRawServer((socket) => {
    sockets.add(socket);
    socket.on('error', () => undefined).on('close', () => sockets.delete(socket));
    onSocket(socket);
  });
  server.once('close', () => undefined);
  const close = server.close.bind(server);
  server.close = (done) => {
    for (const socket of sockets) socket.destroy();
    return close(done);
  };
  return `http://127.0.0.1:${await listening(server)}/`;
}

const targetOf = (url: string, change: Partial<OrderServiceTarget> = {}): OrderServiceTarget => ({
  url,
  statusUrl: null,
  secrets: [SECRET],
  ...change,
});

const near = new OrderServiceClient({ allowPrivate: true });
const hasty = new OrderServiceClient({ allowPrivate: true, timeoutMs: 300 });
const guarded = new OrderServiceClient({ allowPrivate: false });

const tell = (url: string, client = near, at = new Date()) =>
  client.tell(targetOf(url), { id: 'evt_1', paymentId: US, body: BODY, at });

/** Without the time it took. */
async function told(url: string, client = near): Promise<object> {
  const { durationMs, ...answer } = await tell(url, client);
  expect(durationMs).toBeGreaterThanOrEqual(0);
  return answer;
}

const answering = (status: number, body: string | undefined, headers: Record<string, string> = {}) =>
  serve((response) => response.writeHead(status, headers).end(body));

describe('definite answers', () => {
  test.each([200, 201, 202, 204, 299])('%i is agreed, whatever it says', async (status) => {
    const { url } = await answering(status, status === 204 ? undefined : '<html>');
    const answer = status === 204 ? {} : { answer: '<html>' };
    expect(await told(url)).toEqual({ kind: 'agreed', statusCode: status, ...answer });
  });

  test('409 that names this payment is agreed', async () => {
    const answer = JSON.stringify({ paidPaymentId: US, more: 1 });
    const { url } = await answering(409, answer);
    expect(await told(url)).toEqual({ kind: 'agreed', statusCode: 409, answer });
  });

  test.each([OTHER, 'cash-12'])('409 that names %s is a conflict', async (paidPaymentId) => {
    const answer = JSON.stringify({ paidPaymentId });
    const { url } = await answering(409, answer);
    expect(await told(url)).toEqual({ kind: 'conflict', statusCode: 409, paidPaymentId, answer });
  });

  test('410 is gone', async () => {
    const { url } = await answering(410, 'no such order');
    expect(await told(url)).toEqual({ kind: 'gone', statusCode: 410, answer: 'no such order' });
  });

  test.each(['{"code":"gone"}', '{"code":["order_unknown"]}', '"order_unknown"', 'order_unknown'])(
    '410 without the code is gone: %s',
    async (body) => {
      const { url } = await answering(410, body);
      expect(await told(url)).toEqual({ kind: 'gone', statusCode: 410, answer: body });
    },
  );
});

describe('an order that is not known', () => {
  test.each([
    [404, '{"code":"order_unknown"}'],
    [410, '{"type":"about:blank","status":410,"code":"order_unknown"}'],
  ])('%i with the body %s', async (status, body) => {
    const { url } = await answering(status, body);
    expect(await told(url)).toMatchObject({ kind: 'order_unknown', statusCode: status });
  });

  test('Retry-After is heard', async () => {
    const body = '{"code":"order_unknown"}';
    const { url } = await answering(404, body, { 'retry-after': '60' });
    expect(await told(url)).toEqual({
      kind: 'order_unknown',
      statusCode: 404,
      retryAfterMs: 60_000,
      answer: body,
    });
  });

  test.each([
    '',
    ' \n',
    '{}',
    '{"error":"There is no such order."}',
    '{"code":"not_found"}',
    '<!doctype html><p>Cannot POST /hooks',
    '404 page not found',
    '[]',
    'null',
    `{"code":"order_unknown","a":"${'x'.repeat(65_536)}"}`,
  ])('404 without the code says nothing of the order: %#', async (body) => {
    const { url } = await answering(404, body);
    expect(await told(url)).toMatchObject({
      kind: 'unknown',
      statusCode: 404,
      reason: expect.stringContaining('404 without the code order_unknown'),
    });
  });
});

describe('the start of an answer', () => {
  test.each([200, 409, 410, 422, 500])('%i: it is given, on one line', async (status) => {
    const { url } = await answering(status, 'first\r\n\tsecond\u0000 ');
    expect(await told(url)).toMatchObject({ statusCode: status, answer: 'first second' });
  });

  test('of 512 characters, also of a body of which not all is read', async () => {
    const { url } = await answering(500, '\u{1f600}'.repeat(100_000));
    expect(await told(url)).toMatchObject({ kind: 'unknown', answer: '\u{1f600}'.repeat(512) });
  });

  test.each([200, 500])('%i without a body has none', async (status) => {
    const { url } = await answering(status, '');
    expect(await told(url)).not.toHaveProperty('answer');
  });

  test('of a service that echoes what it was sent: no signature and no secret', async () => {
    const { url } = await serve((response, { headers }) =>
      response.writeHead(500).end(JSON.stringify({ headers, escaped: JSON.stringify(headers) })),
    );
    const { answer } = (await told(url)) as { answer: string };
    expect(answer).toContain('[removed]');
    expect(answer).toContain('webhook-timestamp');
    const { heard, url: other } = await answering(500, SECRET);
    expect(await told(other)).toMatchObject({ answer: '[removed]' });
    expect(answer).not.toContain(String(heard[0]?.headers['webhook-signature']).slice(3, 20));
    expect(answer).not.toMatch(/v1,/);
  });

  test('a secret without its prefix is no more in it, also as PHP writes it in JSON', () => {
    const secret = `whsec_${'ab/+'.repeat(8)}`;
    const bare = secret.slice('whsec_'.length);
    for (const written of [bare, bare.replaceAll('/', String.raw`\/`)])
      expect(answerStart(JSON.stringify({ secret: 0 }).replace('0', `"${written}"`), [secret])).toBe(
        '{"secret":"[removed]"}',
      );
  });

  test('of a reading too', async () => {
    const { url } = await answering(404, 'no such page');
    const target = targetOf(url, { statusUrl: url });
    expect(await near.read(target, 'o', US, new Date())).toMatchObject({ answer: 'no such page' });
  });
});

describe('everything else is unknown', () => {
  test.each([
    undefined,
    '',
    'conflict',
    `<!doctype html><p>409 {"paidPaymentId":"${US}"}</p>`,
    `{"paidPaymentId":"${US}"`,
    `{"paidPaymentId":"${US}"} trailing`,
    '{',
    '{}',
    'null',
    '[]',
    `"${US}"`,
    '{"paidPaymentId":null}',
    '{"paidPaymentId":""}',
    '{"paidPaymentId":7}',
    `{"paidPaymentId":["${US}"]}`,
    '{"paidPaymentId":"pay\\u0000"}',
    JSON.stringify({ paidPaymentId: 'x'.repeat(201) }),
    JSON.stringify({ paidPaymentId: US, padding: 'x'.repeat(64 * 1024) }),
  ])('409 with the body %#', async (body) => {
    const { url } = await answering(409, body);
    expect(await told(url)).toEqual({
      kind: 'unknown',
      statusCode: 409,
      reason: 'It answered 409 without saying which payment the order is paid by.',
      ...(body === undefined || body === '' ? {} : { answer: body.slice(0, 512) }),
    });
  });

  test.each([400, 401, 403, 408, 418, 422, 429, 500, 502, 503, 504])('%i', async (status) => {
    const { url } = await answering(status, JSON.stringify({ paidPaymentId: US }));
    expect(await told(url)).toEqual({
      kind: 'unknown',
      statusCode: status,
      reason: `It answered ${status}.`,
      answer: JSON.stringify({ paidPaymentId: US }),
    });
  });

  test.each([301, 302, 303, 307, 308])('%i, which is not followed', async (status) => {
    const target = await answering(200, '');
    const { url, heard } = await answering(status, '', { location: target.url });
    expect(await told(url)).toEqual({
      kind: 'unknown',
      statusCode: status,
      reason: `It answered ${status}: a redirect, which is not followed.`,
    });
    expect([heard.length, target.heard.length]).toEqual([1, 0]);
  });

  test('no answer in time', async () => {
    const { url } = await serve(() => undefined);
    expect(await told(url, hasty)).toEqual({
      kind: 'unknown',
      statusCode: null,
      reason: 'It did not answer within 0.3 s.',
    });
  });

  test('a connection nobody speaks on', async () => {
    const url = await connect(() => undefined);
    for (const address of [url, url.replace('http:', 'https:')]) {
      expect(await told(address, hasty)).toMatchObject({ reason: 'It did not answer within 0.3 s.' });
    }
  });

  test.each([200, 409, 410])('%i whose body does not end in time', async (status) => {
    const { url } = await serve((response) => response.writeHead(status).write('{'));
    expect(await told(url, hasty)).toEqual({
      kind: 'unknown',
      statusCode: null,
      reason: 'Its answer did not end within 0.3 s.',
    });
  });

  test('a body that drips: every byte comes soon, the end does not', async () => {
    const { url } = await serve((response) => {
      response.writeHead(200);
      const drip = setInterval(() => response.write(' '), 20);
      response.once('close', () => clearInterval(drip));
    });
    expect(await told(url, hasty)).toMatchObject({ reason: 'Its answer did not end within 0.3 s.' });
  });

  test('headers that drip', async () => {
    const url = await connect((socket) => {
      socket.write('HTTP/1.1 200 OK\r\n');
      const drip = setInterval(() => socket.write('a: b\r\n'), 20);
      socket.once('close', () => clearInterval(drip));
    });
    expect(await told(url, hasty)).toMatchObject({ reason: 'It did not answer within 0.3 s.' });
  });

  test('a connection that is reset instead of an answer', async () => {
    const url = await connect((socket) => socket.once('data', () => socket.resetAndDestroy()));
    expect(await told(url)).toEqual({
      kind: 'unknown',
      statusCode: null,
      reason: 'It closed the connection without an answer (ECONNRESET).',
    });
  });

  test.each([
    'HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{',
    'HTTP/1.1 409 X\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{',
  ])('an answer that breaks off: %j', async (head) => {
    const url = await connect((socket) => socket.once('data', () => socket.end(head)));
    const answer = await told(url);
    expect(answer).toMatchObject({ kind: 'unknown', statusCode: null });
    expect((answer as { reason: string }).reason).toMatch(
      /^Its answer (200|409) broke off \(ECONNRESET\)\.$/,
    );
  });

  test.each([
    'SSH-2.0-OpenSSH_9\r\n',
    'HTTP/1.1 abc\r\n\r\n',
    'HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n',
    `HTTP/1.1 200 OK\r\na: ${'x'.repeat(100_000)}\r\n\r\n`,
    'HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n',
  ])('what is no HTTP answer: %j', async (head) => {
    const url = await connect((socket) => socket.once('data', () => socket.end(head)));
    expect(await told(url, hasty)).toMatchObject({ kind: 'unknown', statusCode: null });
  });

  test('nobody there', async () => {
    expect(await told(`http://127.0.0.1:${await freePort()}/`)).toEqual({
      kind: 'unknown',
      statusCode: null,
      reason: 'It takes no connections (ECONNREFUSED).',
    });
  });

  test('a name that is not known', async () => {
    expect(await told('http://shop.invalid/')).toMatchObject({
      kind: 'unknown',
      statusCode: null,
      reason: expect.stringMatching(/^Its name (is not known|cannot be looked up now) \(\w+\)\.$/),
    });
  });

  test('a certificate nobody vouches for, and no TLS at all: the event is not sent', async () => {
    const heard: string[] = [];
    const tls = createTlsServer({ key: PRIVATE_KEY, cert: CERTIFICATE }, (request, response) => {
      heard.push(request.url ?? '');
      response.end();
    });
    const untrusted = await told(`https://127.0.0.1:${await listening(tls)}/`);
    const plain = await serve((response) => response.end());
    const none = await told(`https://127.0.0.1:${plain.port}/`);
    expect(untrusted).toMatchObject({
      kind: 'unknown',
      statusCode: null,
      reason: 'It cannot be reached (DEPTH_ZERO_SELF_SIGNED_CERT).',
    });
    expect(none).toMatchObject({
      kind: 'unknown',
      reason: expect.stringMatching(/^It cannot be reached \(.+\)\.$/),
    });
    expect([heard, plain.heard]).toEqual([[], []]);
  });

  test('no secret to sign with', async () => {
    const { url, heard } = await answering(200, '');
    const message = { id: 'evt_1', paymentId: US, body: BODY, at: new Date() };
    expect(await near.tell(targetOf(url, { secrets: [] }), message)).toMatchObject({
      kind: 'unknown',
      reason: expect.stringContaining('merchants rotate-secret'),
    });
    expect(heard).toEqual([]);
  });

  test('whatever bytes come back, nothing is thrown and nothing is made out to be an answer', async () => {
    let bytes = Buffer.alloc(0);
    const url = await connect((socket) => socket.once('data', () => socket.end(bytes)));
    const lines = fc.constantFrom(
      'HTTP/1.1 ',
      '200',
      '409',
      ' OK',
      '\r\n',
      '\r\n\r\n',
      'Content-Length: 5',
      '{}',
    );
    const garbled = fc.oneof(
      fc.uint8Array({ maxLength: 200 }).map((array) => Buffer.from(array)),
      fc.array(lines, { maxLength: 8 }).map((parts) => Buffer.from(parts.join(''))),
    );
    await fc.assert(
      fc.asyncProperty(garbled, async (given) => {
        bytes = given;
        // By chance it may be one.
        const possible = given.includes('HTTP/1.1 200') ? ['agreed', 'unknown'] : ['unknown'];
        expect(possible).toContain((await tell(url, hasty)).kind);
      }),
      { numRuns: 100 },
    );
  });
});

test.each([
  [200, 'agreed'],
  [409, 'unknown'],
  [410, 'gone'],
  [500, 'unknown'],
])('a body of %i without end is not read to its end', async (status, kind) => {
  const closed: Promise<void>[] = [];
  let poured = 0;
  const { url } = await serve((response) => {
    closed.push(new Promise((resolve) => response.once('close', () => resolve())));
    response.writeHead(status);
    // What it says first would count in a body that has an end.
    response.write(JSON.stringify({ paidPaymentId: US }));
    const pour = () => {
      do poured += 16_384;
      while (!response.destroyed && response.write(' '.repeat(16_384)));
      if (!response.destroyed) response.once('drain', pour);
    };
    pour();
  });
  expect(await told(url)).toMatchObject({ kind, statusCode: status });
  await Promise.all(closed);
  expect(closed).toHaveLength(1);
  // What buffers on the way took besides.
  expect(poured).toBeLessThan(20_000_000);
});

test('has 15 s for all of it, from the look-up of the name to the last byte', async () => {
  const now = (ms: number) => {
    vi.advanceTimersByTime(ms);
    return new Promise((resolve) => setImmediate(resolve));
  };
  let drip = () => {};
  const heard = new Promise<void>((resolve) => {
    drip = resolve;
  });
  const { port } = await serve((response) => {
    response.writeHead(200).write(' ');
    drip();
  });
  let found = () => {};
  const isAsked = new Promise<void>((resolve) => {
    found = resolve;
  });
  let answer = () => {};
  const lookup: LookupFunction = (_name, { all }, done) => {
    answer = () => (all ? done(null, [{ address: '127.0.0.1', family: 4 }]) : done(null, '127.0.0.1', 4));
    found();
  };
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
  try {
    const client = new OrderServiceClient({ allowPrivate: true, lookup });
    let isOver = false;
    const outcome = told(`http://shop.example:${port}/`, client).finally(() => {
      isOver = true;
    });
    await isAsked;
    await now(10_000);
    answer();
    await heard;
    await now(4_999);
    expect(isOver).toBe(false);
    await now(1);
    expect(await outcome).toMatchObject({
      kind: 'unknown',
      statusCode: null,
      reason: expect.stringMatching(/within 15 s\.$/),
    });
  } finally {
    vi.useRealTimers();
  }
});

describe('Retry-After', () => {
  const date = 'Sat, 21 Nov 2026 10:00:00 GMT';
  test.each<[Record<string, string>, number | undefined]>([
    [{ 'retry-after': '120' }, 120_000],
    [{ 'retry-after': '31536000' }, 86_400_000],
    [{ 'retry-after': '9'.repeat(400) }, 86_400_000],
    // By the service's own clock, wherever that stands.
    [{ 'retry-after': 'Sat, 21 Nov 2026 10:05:00 GMT', date }, 300_000],
    [{ 'retry-after': 'Mon, 23 Nov 2026 10:05:00 GMT', date }, 86_400_000],
    [{ 'retry-after': 'Fri, 31 Dec 9999 23:59:59 GMT' }, 86_400_000],
    [{ 'retry-after': 'Fri, 31 Dec 9999 23:59:59 GMT', date: 'yesterday' }, 86_400_000],
    [{ 'retry-after': 'Sat, 21 Nov 2026 09:00:00 GMT', date }, undefined],
    [{ 'retry-after': '0' }, undefined],
    [{ 'retry-after': '-5' }, undefined],
    [{ 'retry-after': '1.5' }, undefined],
    [{ 'retry-after': '1e9' }, undefined],
    [{ 'retry-after': 'soon' }, undefined],
    [{ 'retry-after': '' }, undefined],
    [{}, undefined],
  ])('%j', async (headers, retryAfterMs) => {
    for (const status of [503, 429, 409, 302]) {
      const { url } = await answering(status, '', headers);
      const answer = await told(url);
      expect(answer).toMatchObject({ kind: 'unknown', statusCode: status });
      expect((answer as { retryAfterMs?: number }).retryAfterMs).toBe(retryAfterMs);
    }
  });
});

describe('signatures', () => {
  test('are those of the published test vector', async () => {
    const { url, heard } = await answering(200, '');
    await near.tell(targetOf(url, { secrets: ['whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw'] }), {
      id: 'msg_p5jXN8AQM9LWM0D4loKWxJek',
      paymentId: US,
      body: '{"test": 2432232314}',
      at: new Date(1_614_265_330_999),
    });
    expect(heard[0]).toMatchObject({
      method: 'POST',
      url: '/hooks',
      body: '{"test": 2432232314}',
      headers: {
        'content-type': 'application/json',
        'webhook-id': 'msg_p5jXN8AQM9LWM0D4loKWxJek',
        'webhook-timestamp': '1614265330',
        'webhook-signature': 'v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=',
      },
    });
  });

  test('are one by every secret, the current one first; each of them is enough for the library', async () => {
    const secrets = [newSecret(), newSecret(), newSecret()];
    const { url, heard } = await answering(200, '');
    await near.tell(targetOf(url, { secrets }), { id: 'evt_1', paymentId: US, body: BODY, at: new Date() });
    const [{ headers, body } = { headers: {}, body: '' }] = heard;
    const given = headers as Record<string, string>;
    for (const secret of secrets) expect(new Webhook(secret).verify(body, given)).toEqual(JSON.parse(BODY));
    expect(() => new Webhook(newSecret()).verify(body, given)).toThrow('No matching signature');
    const first = given['webhook-signature']?.split(' ')[0] ?? '';
    expect(new Webhook(secrets[0] ?? '').verify(body, { ...given, 'webhook-signature': first })).toBeTruthy();
  });

  // https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md, by node:crypto alone.
  function verifies(secret: string, headers: IncomingHttpHeaders, body: string): boolean {
    const key = Buffer.from(secret.slice('whsec_'.length), 'base64');
    const text = `${headers['webhook-id']}.${headers['webhook-timestamp']}.${body}`;
    const expected = createHmac('sha256', key).update(text, 'utf8').digest('base64');
    const fresh = Math.abs(Date.now() / 1000 - Number(headers['webhook-timestamp'])) < 300;
    return fresh && String(headers['webhook-signature']).split(' ').includes(`v1,${expected}`);
  }

  test('verify for a consumer that shares no code with us, and for nothing that was changed', async () => {
    const secrets = [SECRET, newSecret()];
    const { url, heard } = await answering(200, '{"paidPaymentId":null}');
    const target = targetOf(url, { secrets, statusUrl: `${url}/{orderId}` });
    await near.tell(target, { id: 'evt_1', paymentId: US, body: BODY, at: new Date() });
    await near.read(target, 'order-1', US, new Date());
    expect(heard.map(({ body }) => body)).toEqual([BODY, '']);
    for (const { headers, body } of heard) {
      for (const secret of secrets) expect(verifies(secret, headers, body)).toBe(true);
      expect(verifies(newSecret(), headers, body)).toBe(false);
      expect(verifies(SECRET, headers, `${body} `)).toBe(false);
      expect(verifies(SECRET, { ...headers, 'webhook-id': 'evt_2' }, body)).toBe(false);
      expect(verifies(SECRET, { ...headers, 'webhook-timestamp': '1614265330' }, body)).toBe(false);
    }
  });

  test('no header but ours goes out, and no cookie or key', async () => {
    const { url, heard } = await answering(200, '');
    await tell(url);
    expect(Object.keys(heard[0]?.headers ?? {}).sort()).toEqual([
      'accept',
      'accept-encoding',
      'connection',
      'content-length',
      'content-type',
      'host',
      'user-agent',
      'webhook-id',
      'webhook-signature',
      'webhook-timestamp',
    ]);
  });
});

describe('reading the order back', () => {
  const read = async (statusUrl: string | null, orderId = 'order-1', client = near) => {
    // What is kept of the answer has a test of its own.
    const {
      durationMs,
      answer: _,
      ...reading
    } = await client.read(targetOf('http://127.0.0.1:1/', { statusUrl }), orderId, US, new Date());
    expect(durationMs).toBeGreaterThanOrEqual(0);
    return reading;
  };

  test.each<[string, object]>([
    [JSON.stringify({ paidPaymentId: US, status: 'x' }), { kind: 'paid' }],
    [JSON.stringify({ paidPaymentId: OTHER }), { kind: 'conflict', paidPaymentId: OTHER }],
    ...['{}', '{"paidPaymentId":null}', '{"paidPaymentId":false}', '{"status":"paid"}'].map(
      (body): [string, object] => [
        body,
        { kind: 'not_paid', reason: 'Read back: the order names no payment that it is paid by.' },
      ],
    ),
    ...['', 'paid', 'null', '[]', `"${US}"`].map((body): [string, object] => [
      body,
      { kind: 'unknown', reason: 'Read back: the order is no readable JSON object.' },
    ]),
    [
      JSON.stringify({ paidPaymentId: US, padding: 'x'.repeat(64 * 1024) }),
      { kind: 'unknown', reason: 'Read back: the order is no readable JSON object.' },
    ],
  ])('200 %j', async (body, reading) => {
    const { url } = await answering(200, body);
    expect(await read(`${url}/{orderId}`)).toEqual(reading);
  });

  test.each([302, 404, 409, 410, 500])('%i says nothing of it', async (status) => {
    const { url } = await answering(status, JSON.stringify({ paidPaymentId: US }));
    expect(await read(`${url}/{orderId}`)).toMatchObject({
      kind: 'unknown',
      reason: expect.stringMatching(new RegExp(`^Read back: It answered ${status}[.:]`)),
    });
  });

  test('Retry-After of what is no order is handed on, as of an event', async () => {
    for (const status of [429, 503]) {
      const { url } = await answering(status, '', { 'retry-after': '120' });
      expect(await read(`${url}/{orderId}`)).toMatchObject({ kind: 'unknown', retryAfterMs: 120_000 });
    }
  });

  test('silence and a missing address are unknown', async () => {
    const { url } = await serve(() => undefined);
    expect(await read(`${url}/{orderId}`, 'o', hasty)).toEqual({
      kind: 'unknown',
      reason: 'Read back: It did not answer within 0.3 s.',
    });
    expect(await read(null)).toMatchObject({ kind: 'unknown' });
  });

  test('asks for this order, wherever its id stands', async () => {
    const { port, heard } = await answering(200, '{}');
    const url = `http://127.0.0.1:${port}/{orderId}/status?order={orderId}`;
    await read(url, 'a.b:c_d-1');
    await read(url, '../&x=1#é');
    expect(heard.map((one) => [one.method, one.url])).toEqual([
      ['GET', '/a.b%3Ac_d-1/status?order=a.b%3Ac_d-1'],
      ['GET', '/..%2F%26x%3D1%23%C3%A9/status?order=..%2F%26x%3D1%23%C3%A9'],
    ]);
  });

  test('is signed under an id of its own each time', async () => {
    const { url, heard } = await answering(200, '{}');
    await read(url);
    await read(url);
    const ids = heard.map(({ headers }) => headers['webhook-id']);
    expect(new Set(ids).size).toBe(2);
    for (const id of ids) expect(id).toMatch(/^read_[\w-]+$/);
  });
});

describe('addresses that are not the world’s', () => {
  const REFUSED =
    'It was not called: its address is private, and NODROP_ALLOW_PRIVATE_ORDER_SERVICES does not allow that.';

  test.each([
    '127.0.0.1',
    '127.8.9.10',
    '[::1]',
    '[::]',
    '0.0.0.0',
    '[::ffff:127.0.0.1]',
    '[::ffff:7f00:1]',
    '[::ffff:10.0.0.1]',
    '10.0.0.1',
    '172.16.0.1',
    '192.168.1.1',
    '100.64.0.1',
    '169.254.169.254',
    '[fc00::1]',
    '[fd12:3456::1]',
    '[fe80::1]',
    '[64:ff9b::7f00:1]',
    '[2002:7f00:1::]',
    '224.0.0.1',
    '255.255.255.255',
    // The same in other words.
    'localhost',
    'LOCALHOST',
    '2130706433',
    '0x7f000001',
    '0177.0.0.1',
    '127.1',
    '127.0.0.1.',
    '017700000001',
    '[::ffff:0:127.0.0.1]',
    '①②⑦.0.0.1',
  ])('%s is refused, told or read, and nobody is connected to', async (host) => {
    const connected: Socket[] = [];
    const server = createServer((_, response) => response.end(JSON.stringify({ paidPaymentId: US })));
    server.on('connection', (socket) => connected.push(socket));
    const port = await listening(server, '::');
    for (const protocol of ['http', 'https']) {
      const url = `${protocol}://${host}:${port}/`;
      expect(await told(url, guarded)).toEqual({ kind: 'unknown', statusCode: null, reason: REFUSED });
      const target = targetOf('https://shop.example/', { statusUrl: `${url}{orderId}` });
      expect(await guarded.read(target, 'order-1', US, new Date())).toMatchObject({
        kind: 'unknown',
        reason: `Read back: ${REFUSED}`,
      });
    }
    expect(connected).toEqual([]);
  });

  /** What names lead to. */
  const leadingTo = (...addresses: { address: string; family: number }[]): { lookup: LookupFunction } => ({
    lookup: (_name, { all }, done) => {
      if (all) done(null, addresses);
      else done(null, addresses[0]?.address ?? '', addresses[0]?.family);
    },
  });

  test.each([
    [[{ address: '127.0.0.1', family: 4 }]],
    [[{ address: '169.254.169.254', family: 4 }]],
    [[{ address: 'fd00::1', family: 6 }]],
    [[{ address: '::ffff:127.0.0.1', family: 6 }]],
    [[{ address: '::ffff:7f00:1', family: 6 }]],
    [[{ address: '::1', family: 6 }]],
    [[{ address: '::', family: 6 }]],
    [[{ address: '0.0.0.0', family: 4 }]],
    [[{ address: '64:ff9b::7f00:1', family: 6 }]],
    // One of several is enough: which of them is taken is not ours to say.
    [
      [
        { address: '93.184.216.34', family: 4 },
        { address: '127.0.0.1', family: 4 },
      ],
    ],
  ])('a public name that leads to %j is refused', async (addresses) => {
    const { heard, port } = await answering(200, '');
    const client = new OrderServiceClient({ allowPrivate: false, ...leadingTo(...addresses) });
    expect(await told(`http://shop.example:${port}/`, client)).toMatchObject({ reason: REFUSED });
    expect(heard).toEqual([]);
  });

  test('a name is looked at on every call: it may lead elsewhere by now', async () => {
    const { heard, port } = await answering(200, '');
    const url = `http://shop.example:${port}/`;
    const addresses = [{ address: '127.0.0.1', family: 4 }];
    const lookup: LookupFunction = (...args) => leadingTo(...addresses).lookup(...args);
    // Of one client, which remembers none of them.
    const client = new OrderServiceClient({ allowPrivate: true, lookup });
    expect(await told(url, client)).toMatchObject({ kind: 'agreed' });
    addresses[0] = { address: '169.254.1.1', family: 4 };
    expect(await told(url, client)).toMatchObject({
      kind: 'unknown',
      reason: "It was not called: its address is link-local or the cloud's own, which is never allowed.",
    });
    addresses[0] = { address: '127.0.0.1', family: 4 };
    expect(await told(url, client)).toMatchObject({ kind: 'agreed' });
    expect(heard).toHaveLength(2);
  });

  test('are taken where the deployment allows them', async () => {
    const answer = JSON.stringify({ paidPaymentId: US });
    const { port, heard } = await answering(200, answer);
    for (const host of ['127.0.0.1', 'localhost', '2130706433', '[::ffff:127.0.0.1]']) {
      const url = `http://${host}:${port}/`;
      expect(await told(url)).toEqual({ kind: 'agreed', statusCode: 200, answer });
      expect((await near.read(targetOf(url, { statusUrl: url }), 'o', US, new Date())).kind).toBe('paid');
    }
    expect(heard).toHaveLength(8);
  });

  test.each([
    [
      [
        '169.254.169.254',
        '[fe80::1]',
        '[fd00:ec2::254]',
        '[::ffff:169.254.169.254]',
        '[64:ff9b::169.254.169.254]',
        '0xa9fea9fe',
      ],
      false,
    ],
    [['169.254.169.254', '[fe80::1]', '[64:ff9b::a9fe:a9fe]', '100.100.100.200'], true],
  ])(
    "link-local ones and a cloud's own never are: %j, https alone for public ones: %s",
    async (hosts, httpsOnly) => {
      const client = new OrderServiceClient({ allowPrivate: true, httpsOnly });
      const reason =
        "It was not called: its address is link-local or the cloud's own, which is never allowed.";
      for (const host of hosts) expect(await told(`http://${host}/`, client)).toMatchObject({ reason });
      const lookup = leadingTo({ address: '127.0.0.1', family: 4 }, { address: '169.254.1.1', family: 4 });
      const named = new OrderServiceClient({ allowPrivate: true, httpsOnly, ...lookup });
      for (const protocol of ['http', 'https'])
        expect(await told(`${protocol}://shop.example/`, named)).toMatchObject({ reason });
    },
  );

  test('where https is required, http is for them alone', async () => {
    const { port, heard } = await answering(200, '');
    const client = new OrderServiceClient({ allowPrivate: true, httpsOnly: true });
    expect(await told(`http://127.0.0.1:${port}/`, client)).toEqual({ kind: 'agreed', statusCode: 200 });
    const reason = 'It was not called: its address is public, where only https will do.';
    expect(await told(`http://93.184.216.34:${port}/`, client)).toMatchObject({ reason });
    const lookup = leadingTo({ address: '93.184.216.34', family: 4 });
    const named = new OrderServiceClient({ allowPrivate: true, httpsOnly: true, ...lookup });
    expect(await told(`http://shop.example:${port}/`, named)).toMatchObject({ reason });
    expect(heard).toHaveLength(1);
  });
});

describe('URLs', () => {
  test.each<[string, string | undefined]>([
    ['https://shop.example/hooks?a=1', undefined],
    ['http://shop.example', undefined],
    ['shop.example', 'is no URL'],
    ['', 'is no URL'],
    ['ftp://shop.example/', 'must be an http or https URL'],
    ['file:///etc/passwd', 'must be an http or https URL'],
    ['javascript:alert(1)', 'must be an http or https URL'],
    ['https://user@shop.example/', 'must have no user name or password: events are signed'],
    ['https://:pass@shop.example/', 'must have no user name or password: events are signed'],
    ['https://shop.example/#top', 'must have no #'],
  ])('%s', async (url, fault) => {
    expect(urlFault(url, {})).toBe(fault);
    if (fault === undefined) return;
    expect(await told(url)).toEqual({
      kind: 'unknown',
      statusCode: null,
      reason: `It was not called: its address ${fault}.`,
    });
  });

  test('http is refused where only https will do, also when it is on record', async () => {
    expect(urlFault('http://shop.example/', { httpsOnly: true })).toBe('must be an https URL');
    expect(urlFault('https://shop.example/', { httpsOnly: true })).toBeUndefined();
    const { url, heard } = await answering(200, '');
    const strict = new OrderServiceClient({ allowPrivate: false, httpsOnly: true });
    expect(await told(url, strict)).toMatchObject({
      reason: 'It was not called: its address must be an https URL.',
    });
    expect(heard).toEqual([]);
  });
});

test('calls do not wait for each other', async () => {
  const held: ServerResponse[] = [];
  const { url } = await serve((response) => {
    held.push(response);
  });
  const all = Promise.all(Array.from({ length: 50 }, () => tell(url)));
  await eventually(() => held.length === 50);
  for (const response of held) response.end();
  expect((await all).every(({ kind }) => kind === 'agreed')).toBe(true);
});
