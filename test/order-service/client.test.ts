import { describe, expect, test } from 'vitest';
import { answerStart } from '../../src/order-service/answer-start.ts';
import { answering, hasty, near, SECRET, serve, targetOf, told, US } from './client-support.ts';

// Tests how the client interprets an order service's answers. The servers are real.

const OTHER = 'pay_01JD7Z7C8Q6W4Y9V5T3R1P0N2N';

describe('definite answers', () => {
  test.each([200, 201, 202, 204, 299])(
    'an answer %i has the outcome "agreed", whatever its body is',
    async (status) => {
      const { url } = await answering(status, status === 204 ? undefined : '<html>');
      const answer = status === 204 ? {} : { answer: '<html>' };
      expect(await told(url)).toEqual({ kind: 'agreed', statusCode: status, ...answer });
    },
  );

  test('an answer 409 that names this payment has the outcome "agreed"', async () => {
    const answer = JSON.stringify({ paidPaymentId: US, more: 1 });
    const { url } = await answering(409, answer);
    expect(await told(url)).toEqual({ kind: 'agreed', statusCode: 409, answer });
  });

  test.each([OTHER, 'cash-12'])('an answer 409 that names %s is a conflict', async (paidPaymentId) => {
    const answer = JSON.stringify({ paidPaymentId });
    const { url } = await answering(409, answer);
    expect(await told(url)).toEqual({ kind: 'conflict', statusCode: 409, paidPaymentId, answer });
  });

  test('an answer 410 means that the order is gone', async () => {
    const { url } = await answering(410, 'no such order');
    expect(await told(url)).toEqual({ kind: 'gone', statusCode: 410, answer: 'no such order' });
  });

  test.each(['{"code":"gone"}', '{"code":["order_unknown"]}', '"order_unknown"', 'order_unknown'])(
    'an answer 410 without the code order_unknown means that the order is gone: %s',
    async (body) => {
      const { url } = await answering(410, body);
      expect(await told(url)).toEqual({ kind: 'gone', statusCode: 410, answer: body });
    },
  );
});

describe('an order that the order service does not know', () => {
  test.each([
    [404, '{"code":"order_unknown"}'],
    [410, '{"type":"about:blank","status":410,"code":"order_unknown"}'],
  ])('is recognised by an answer %i with the body %s', async (status, body) => {
    const { url } = await answering(status, body);
    expect(await told(url)).toMatchObject({ kind: 'order_unknown', statusCode: status });
  });

  test('the Retry-After header of the answer is used', async () => {
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
  ])(
    'an answer 404 without the code order_unknown has the outcome "unknown", body number %#',
    async (body) => {
      const { url } = await answering(404, body);
      expect(await told(url)).toMatchObject({
        kind: 'unknown',
        statusCode: 404,
        reason: expect.stringContaining('404 without the code order_unknown'),
      });
    },
  );
});

describe('the stored start of an answer', () => {
  test.each([200, 409, 410, 422, 500])(
    'is stored as one line for an answer with status %i',
    async (status) => {
      const { url } = await answering(status, 'first\r\n\tsecond\u0000 ');
      expect(await told(url)).toMatchObject({ statusCode: status, answer: 'first second' });
    },
  );

  test('has at most 512 characters, even if the whole body has not been read', async () => {
    const { url } = await answering(500, '\u{1f600}'.repeat(100_000));
    expect(await told(url)).toMatchObject({ kind: 'unknown', answer: '\u{1f600}'.repeat(512) });
  });

  test.each([200, 500])('is missing for an answer with status %i that has no body', async (status) => {
    const { url } = await answering(status, '');
    expect(await told(url)).not.toHaveProperty('answer');
  });

  test('contains no signature and no secret, even if the order service returns the request', async () => {
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

  test("contains no secret, even if the secret is written without its prefix or in PHP's JSON escaping", () => {
    const secret = `whsec_${'ab/+'.repeat(8)}`;
    const bare = secret.slice('whsec_'.length);
    for (const written of [bare, bare.replaceAll('/', String.raw`\/`)])
      expect(answerStart(JSON.stringify({ secret: 0 }).replace('0', `"${written}"`), [secret])).toBe(
        '{"secret":"[removed]"}',
      );
  });

  test('is kept for the answer to a read-back', async () => {
    const { url } = await answering(404, 'no such page');
    const target = targetOf(url, { statusUrl: url });
    expect(await near.read(target, 'o', US, new Date())).toMatchObject({ answer: 'no such page' });
  });
});

describe('a read-back of an order', () => {
  const read = async (statusUrl: string | null, orderId = 'order-1', client = near) => {
    // `answer`, the stored beginning of the answer, is left out. Another test checks it.
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
        { kind: 'not_paid', reason: 'Read back: the order names no payment that paid it.' },
      ],
    ),
    ...['', 'paid', 'null', '[]', `"${US}"`].map((body): [string, object] => [
      body,
      { kind: 'unknown', reason: 'Read back: the answer is not a readable JSON object.' },
    ]),
    [
      JSON.stringify({ paidPaymentId: US, padding: 'x'.repeat(64 * 1024) }),
      { kind: 'unknown', reason: 'Read back: the answer is not a readable JSON object.' },
    ],
  ])('interprets an answer 200 by its body: %j', async (body, reading) => {
    const { url } = await answering(200, body);
    expect(await read(`${url}/{orderId}`)).toEqual(reading);
  });

  test.each([302, 404, 409, 410, 500])(
    'an answer %i to the read-back has the outcome "unknown"',
    async (status) => {
      const { url } = await answering(status, JSON.stringify({ paidPaymentId: US }));
      expect(await read(`${url}/{orderId}`)).toMatchObject({
        kind: 'unknown',
        reason: expect.stringMatching(new RegExp(`^Read back: It answered ${status}[.:]`)),
      });
    },
  );

  test('has the wait that the Retry-After header of an answer 429 or 503 contains', async () => {
    for (const status of [429, 503]) {
      const { url } = await answering(status, '', { 'retry-after': '120' });
      expect(await read(`${url}/{orderId}`)).toMatchObject({ kind: 'unknown', retryAfterMs: 120_000 });
    }
  });

  test('has an unknown outcome if no answer arrives or the status URL is missing', async () => {
    const { url } = await serve(() => undefined);
    expect(await read(`${url}/{orderId}`, 'o', hasty)).toEqual({
      kind: 'unknown',
      reason: 'Read back: It did not answer within 0.3 s.',
    });
    expect(await read(null)).toMatchObject({ kind: 'unknown' });
  });

  test('replaces every {orderId} in the status URL with the encoded id of the order', async () => {
    const { port, heard } = await answering(200, '{}');
    const url = `http://127.0.0.1:${port}/{orderId}/status?order={orderId}`;
    await read(url, 'a.b:c_d-1');
    await read(url, '../&x=1#é');
    expect(heard.map((one) => [one.method, one.url])).toEqual([
      ['GET', '/a.b%3Ac_d-1/status?order=a.b%3Ac_d-1'],
      ['GET', '/..%2F%26x%3D1%23%C3%A9/status?order=..%2F%26x%3D1%23%C3%A9'],
    ]);
  });

  test('uses a new message id for the signature of each read-back', async () => {
    const { url, heard } = await answering(200, '{}');
    await read(url);
    await read(url);
    const ids = heard.map(({ headers }) => headers['webhook-id']);
    expect(new Set(ids).size).toBe(2);
    for (const id of ids) expect(id).toMatch(/^read_[\w-]+$/);
  });
});
