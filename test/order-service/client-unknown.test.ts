import { createServer as createTlsServer } from 'node:https';
import { createServer as createRawServer, type LookupFunction, type Socket } from 'node:net';
import fc from 'fast-check';
import { describe, expect, test, vi } from 'vitest';
import { OrderServiceClient } from '../../src/order-service/client.ts';
import { freePort } from '../support/stack.ts';
import {
  answering,
  BODY,
  hasty,
  listening,
  near,
  serve,
  targetOf,
  tell,
  told,
  US,
} from './client-support.ts';
import { CERTIFICATE, PRIVATE_KEY } from './self-signed.ts';

// Tests that the outcome of a call is unknown if the order service gives no definite answer, whatever fails and
// whenever it fails.

/** A server that uses the TCP connection directly, so that a test can make it misbehave. */
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

describe('the outcome is unknown after', () => {
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
  ])('an answer 409 without a readable id of a payment, body number %#', async (body) => {
    const { url } = await answering(409, body);
    expect(await told(url)).toEqual({
      kind: 'unknown',
      statusCode: 409,
      reason: 'It answered 409 without naming the payment that paid the order.',
      ...(body === undefined || body === '' ? {} : { answer: body.slice(0, 512) }),
    });
  });

  test.each([400, 401, 403, 408, 418, 422, 429, 500, 502, 503, 504])(
    'an answer with status %i',
    async (status) => {
      const { url } = await answering(status, JSON.stringify({ paidPaymentId: US }));
      expect(await told(url)).toEqual({
        kind: 'unknown',
        statusCode: status,
        reason: `It answered ${status}.`,
        answer: JSON.stringify({ paidPaymentId: US }),
      });
    },
  );

  test.each([301, 302, 303, 307, 308])('a redirect %i, which nodrop does not follow', async (status) => {
    const target = await answering(200, '');
    const { url, heard } = await answering(status, '', { location: target.url });
    expect(await told(url)).toEqual({
      kind: 'unknown',
      statusCode: status,
      reason: `It answered ${status}: a redirect, which is not followed.`,
    });
    expect([heard.length, target.heard.length]).toEqual([1, 0]);
  });

  test('a timeout without an answer', async () => {
    const { url } = await serve(() => undefined);
    expect(await told(url, hasty)).toEqual({
      kind: 'unknown',
      statusCode: null,
      reason: 'It did not answer within 0.3 s.',
    });
  });

  test('a connection on which the server sends nothing', async () => {
    const url = await connect(() => undefined);
    for (const address of [url, url.replace('http:', 'https:')]) {
      expect(await told(address, hasty)).toMatchObject({ reason: 'It did not answer within 0.3 s.' });
    }
  });

  test.each([200, 409, 410])('an answer with status %i whose body does not end in time', async (status) => {
    const { url } = await serve((response) => response.writeHead(status).write('{'));
    expect(await told(url, hasty)).toEqual({
      kind: 'unknown',
      statusCode: null,
      reason: 'Its answer did not end within 0.3 s.',
    });
  });

  test('a body that arrives slowly and ends too late', async () => {
    const { url } = await serve((response) => {
      response.writeHead(200);
      const drip = setInterval(() => response.write(' '), 20);
      response.once('close', () => clearInterval(drip));
    });
    expect(await told(url, hasty)).toMatchObject({ reason: 'Its answer did not end within 0.3 s.' });
  });

  test('headers that arrive slowly', async () => {
    const url = await connect((socket) => {
      socket.write('HTTP/1.1 200 OK\r\n');
      const drip = setInterval(() => socket.write('a: b\r\n'), 20);
      socket.once('close', () => clearInterval(drip));
    });
    expect(await told(url, hasty)).toMatchObject({ reason: 'It did not answer within 0.3 s.' });
  });

  test('a connection that is reset before an answer arrives', async () => {
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
  ])('an answer that ends too early: %j', async (head) => {
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
  ])('an answer that is not HTTP: %j', async (head) => {
    const url = await connect((socket) => socket.once('data', () => socket.end(head)));
    expect(await told(url, hasty)).toMatchObject({ kind: 'unknown', statusCode: null });
  });

  test('a refused connection', async () => {
    expect(await told(`http://127.0.0.1:${await freePort()}/`)).toEqual({
      kind: 'unknown',
      statusCode: null,
      reason: 'It refused the connection (ECONNREFUSED).',
    });
  });

  test('a host name that cannot be resolved', async () => {
    expect(await told('http://shop.invalid/')).toMatchObject({
      kind: 'unknown',
      statusCode: null,
      reason: expect.stringMatching(/^Its name (is not known|cannot be looked up now) \(\w+\)\.$/),
    });
  });

  test('an untrusted certificate or a server without TLS, to which the event is not sent', async () => {
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

  test('a call without a signing secret, which is not sent', async () => {
    const { url, heard } = await answering(200, '');
    const message = { id: 'evt_1', paymentId: US, body: BODY, at: new Date() };
    expect(await near.deliver(targetOf(url, { secrets: [] }), message)).toMatchObject({
      kind: 'unknown',
      reason: expect.stringContaining('merchants rotate-secret'),
    });
    expect(heard).toEqual([]);
  });

  test('an answer of random bytes, which causes no exception', async () => {
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
        // Random bytes could form a valid answer by chance.
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
])(
  'if the body of an answer with status %i never ends, the client stops reading it',
  async (status, kind) => {
    const closed: Promise<void>[] = [];
    let poured = 0;
    const { url } = await serve((response) => {
      closed.push(new Promise((resolve) => response.once('close', () => resolve())));
      response.writeHead(status);
      // This is only the first part of the body. If the body ended here, it would be a valid answer.
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
    // The server can send more than the limit, because bytes in network buffers are sent but not read.
    expect(poured).toBeLessThan(20_000_000);
  },
);

test('a call times out 15 s after its start, and this time includes the DNS lookup and the last byte of the answer', async () => {
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
    // nodrop compares a date in Retry-After with the answer's Date header. So a wrong clock of the order service has no
    // effect.
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
  ])('the headers %j lead to a wait of %s ms', async (headers, retryAfterMs) => {
    for (const status of [503, 429, 409, 302]) {
      const { url } = await answering(status, '', headers);
      const answer = await told(url);
      expect(answer).toMatchObject({ kind: 'unknown', statusCode: status });
      expect((answer as { retryAfterMs?: number }).retryAfterMs).toBe(retryAfterMs);
    }
  });
});
