import { createServer, type IncomingHttpHeaders } from 'node:http';
import type { AddressInfo } from 'node:net';
import { Webhook } from 'standardwebhooks';
import { afterEach, beforeEach, describe, expect, onTestFinished, test, vi } from 'vitest';
import {
  createServerClient,
  type NodropError,
  type ServerClient,
  verifyEvent,
  verifySignature,
} from '../../clients/js/server.js';
import { OrderServiceClient } from '../../src/order-service/client.ts';
import { newSecret } from '../../src/order-service/secrets.ts';

// Tests the client for servers against simulated answers: which calls the client retries, and which events it accepts.

describe('retries', () => {
  /**
   * Makes a call to a service that answers the first `times` requests with this refusal.
   * @returns the number of requests that the service got, and the client's result
   */
  async function asked(refusal: () => Response, times: number, call: (by: ServerClient) => Promise<unknown>) {
    let count = 0;
    const by = createServerClient({
      baseUrl: 'https://pay.example',
      key: 'sk_1',
      fetch: async () => {
        count += 1;
        return count <= times ? refusal() : Response.json({ id: 'pay_1' });
      },
    });
    const outcome = await call(by).catch((error: NodropError) => error.code);
    return { count, outcome };
  }
  const problem = (status: number, code: string, headers: Record<string, string> = {}) =>
    new Response(JSON.stringify({ status, code, title: '', type: '', detail: '', requestId: '1' }), {
      status,
      headers: { 'content-type': 'application/problem+json', ...headers },
    });
  const read = (by: ServerClient) => by.getPayment('pay_1');

  test.each([
    ['too_busy', () => problem(503, 'too_busy')],
    ['too_many_requests', () => problem(429, 'too_many_requests')],
    ['idempotency_key_in_progress', () => problem(409, 'idempotency_key_in_progress')],
    ['a gateway', () => new Response('<h1>Bad gateway</h1>', { status: 502 })],
  ])('a temporary refusal is retried: %s', async (_, refusal) => {
    expect(await asked(refusal, 1, read)).toEqual({ count: 2, outcome: { id: 'pay_1' } });
  });

  test('a temporary refusal is returned after three tries, or after one try if its Retry-After is too long', async () => {
    expect(await asked(() => problem(503, 'too_busy'), 9, read)).toEqual({ count: 3, outcome: 'too_busy' });
    const late = () => problem(503, 'too_busy', { 'retry-after': '600' });
    expect(await asked(late, 9, read)).toEqual({ count: 1, outcome: 'too_busy' });
  });

  test('a permanent refusal is never retried, and neither is a request to resolve a payment', async () => {
    const settled = () => problem(409, 'order_already_paid');
    expect(await asked(settled, 9, read)).toEqual({ count: 1, outcome: 'order_already_paid' });
    const decide = (by: ServerClient) => by.resolvePayment('pay_1', { action: 'accept', note: 'seen' });
    expect(await asked(() => problem(503, 'too_busy'), 9, decide)).toEqual({ count: 1, outcome: 'too_busy' });
  });
});

describe('verifyEvent', () => {
  const secret = newSecret();
  const body = JSON.stringify({
    type: 'payment.succeeded',
    timestamp: '2026-11-21T10:00:02.113Z',
    data: { version: 7, payment: { id: 'pay_1' }, order: { id: 'Tee für 2 ☕' } },
  });
  const ID = 'evt_1';
  // Only Date stands still, and timers run. So a signature does not become too old on a slow machine.
  const now = Math.floor(Date.UTC(2026, 10, 21, 10) / 1000);
  beforeEach(() => {
    vi.useFakeTimers({ toFake: ['Date'], now: now * 1000 });
  });
  afterEach(() => {
    vi.useRealTimers();
  });
  const headersOf = (by = secret, at = now, of = body) => ({
    'webhook-id': ID,
    'webhook-timestamp': String(at),
    'webhook-signature': new Webhook(by).sign(ID, new Date(at * 1000), of),
  });
  const UNVERIFIED = expect.objectContaining({ name: 'NodropError', code: 'event_unverified', status: 401 });
  const errorOf = (act: () => unknown) => {
    try {
      return act();
    } catch (error) {
      return error;
    }
  };

  test("reads an event that nodrop itself has signed, and accepts the signature of nodrop's read-back request", async () => {
    const received: { headers: IncomingHttpHeaders; body: Buffer }[] = [];
    const server = createServer(async (request, response) => {
      const chunks: Buffer[] = [];
      for await (const chunk of request) chunks.push(chunk);
      received.push({ headers: request.headers, body: Buffer.concat(chunks) });
      response.setHeader('content-type', 'application/json').end('{"paidPaymentId":"pay_1"}');
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    onTestFinished(() => void server.close());
    const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/`;
    const target = { url, statusUrl: `${url}{orderId}`, secrets: [newSecret(), secret] };
    const sender = new OrderServiceClient({ allowPrivate: true });
    await sender.deliver(target, { id: ID, paymentId: 'pay_1', body, at: new Date() });
    await sender.read(target, 'order-1', 'pay_1', new Date());

    const [event, readBack] = received;
    const seen = verifyEvent({ ...(event ?? expect.unreachable()), secret });
    expect(seen).toEqual({ ...JSON.parse(body), id: ID, sentAt: expect.any(Date) });
    if (seen.type.startsWith('payment.')) expect(seen.data.payment.id).toBe('pay_1');
    expect(verifySignature({ ...(readBack ?? expect.unreachable()), secret }).id).toMatch(/^read_/);
    expect(errorOf(() => verifyEvent({ ...(event ?? expect.unreachable()), secret: newSecret() }))).toEqual(
      UNVERIFIED,
    );
  });

  test('accepts the body as text or bytes, and the headers as a Headers object or a plain object', () => {
    for (const given of [body, Buffer.from(body), new TextEncoder().encode(body)])
      for (const headers of [headersOf(), new Headers(headersOf())])
        expect(verifyEvent({ body: given, headers, secret })).toMatchObject({
          id: ID,
          sentAt: new Date(now * 1000),
        });
  });

  test('accepts several signatures if one of them matches', () => {
    const others = `v1,${Buffer.alloc(32).toString('base64')} v1a,abc v1, v1`;
    const headers = headersOf();
    headers['webhook-signature'] = `${others} ${headers['webhook-signature']}`;
    expect(verifyEvent({ body, headers, secret }).id).toBe(ID);
  });

  const signature = () => headersOf()['webhook-signature'];
  test.each<[string, () => { body?: string; headers?: object; secret?: string }]>([
    ['another secret', () => ({ secret: newSecret() })],
    ['another body', () => ({ body: `${body} ` })],
    ['another id', () => ({ headers: { 'webhook-id': 'evt_2' } })],
    ['another timestamp', () => ({ headers: { 'webhook-timestamp': String(now + 1) } })],
    [
      'another version of the scheme',
      () => ({ headers: { 'webhook-signature': signature().replace('v1,', 'v2,') } }),
    ],
    ['a truncated signature', () => ({ headers: { 'webhook-signature': signature().slice(0, 30) } })],
    ['no signature', () => ({ headers: { 'webhook-signature': undefined } })],
    ['no id', () => ({ headers: { 'webhook-id': undefined } })],
    ['no timestamp', () => ({ headers: { 'webhook-timestamp': '' } })],
    [
      'two signatures in two headers',
      () => ({ headers: { 'webhook-signature': [signature(), signature()] } }),
    ],
    ['a timestamp more than 5 minutes old', () => ({ headers: headersOf(secret, now - 310) })],
    ['a timestamp in the future', () => ({ headers: headersOf(secret, now + 330) })],
  ])('refuses %s', (_, change) => {
    const { headers, ...others } = change();
    const request = { body, secret, ...others, headers: { ...headersOf(), ...headers } };
    expect(errorOf(() => verifyEvent(request))).toEqual(UNVERIFIED);
    expect(verifyEvent({ body, headers: headersOf(), secret }).id).toBe(ID);
  });

  test('uses the tolerance that the option `toleranceSeconds` sets', () => {
    const headers = headersOf(secret, now - 310);
    expect(verifyEvent({ body, headers, secret, toleranceSeconds: 3_600 }).id).toBe(ID);
    const fresh = { body, headers: headersOf(secret, now - 100), secret };
    expect(errorOf(() => verifyEvent({ ...fresh, toleranceSeconds: 50 }))).toEqual(UNVERIFIED);
  });

  test('returns the `test` field, which marks a test event', () => {
    const text = JSON.stringify({ ...JSON.parse(body), test: true });
    expect(verifyEvent({ body: text, headers: headersOf(secret, now, text), secret }).test).toBe(true);
    expect(verifyEvent({ body, headers: headersOf(), secret }).test).toBeUndefined();
  });

  test.each([
    ...['', 'no JSON', 'null', '[]', '{"type":"payment.succeeded"}'],
    '{"type":"payment.succeeded","timestamp":"2026-11-21T10:00:02.113Z","data":null}',
  ])('rejects a signed body that is not an event: %j', (text) => {
    const error = errorOf(() => verifyEvent({ body: text, headers: headersOf(secret, now, text), secret }));
    expect(error).toMatchObject({ name: 'NodropError', code: 'event_malformed', status: 400 });
  });

  test('throws a TypeError instead of `event_unverified` if the caller passes no secret or a parsed body', () => {
    const headers = headersOf();
    for (const missing of [undefined, '', 'whsec_'])
      expect(() => verifyEvent({ body, headers, secret: missing })).toThrow(TypeError);
    // The signature covers the raw body, so the parsed body is not accepted.
    expect(() => verifyEvent({ body: JSON.parse(body), headers, secret })).toThrow(TypeError);
  });
});
