import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import {
  createServerClient,
  type Event,
  NodropError,
  type ServerClient,
  type WriteOptions,
} from '../../clients/js/server.js';
import { newKey, newOrderId, paidAnswer, settle, setUp } from '../api/support.ts';

// Tests the client for servers against the real API. The client's `fetch` loses requests and answers.

const { api, key } = await setUp();

const client = createServerClient({ baseUrl: api.url, key });
const newPayment = () => ({
  order: { id: newOrderId(), amount: 1050, currency: 'CNY' },
  channel: 'simulator',
});

/** Creates a payment and settles it as paid. */
async function paid(of: ServerClient = client) {
  const payment = await of.createPayment(newPayment());
  await settle(api.db, payment.id);
  return payment;
}

interface Sent {
  readonly method: string;
  readonly path: string;
  readonly query: URLSearchParams;
  readonly headers: Headers;
}

/**
 * A client of the real service that records its requests.
 * @param onAnswer is called after each answer with the number of the request, and throws an error to discard the answer
 */
function recorded(onAnswer: (nth: number) => void, as = key) {
  const sent: Sent[] = [];
  const recording = createServerClient({
    baseUrl: api.url,
    key: as,
    async fetch(url, init) {
      sent.push(requestOf(url, init));
      const nth = sent.length;
      const response = await fetch(url, init);
      onAnswer(nth);
      return response;
    },
  });
  return { client: recording, sent };
}

function requestOf(url: string, init: RequestInit): Sent {
  const { pathname, searchParams } = new URL(url);
  return {
    method: String(init.method),
    path: pathname,
    query: searchParams,
    headers: new Headers(init.headers),
  };
}

const lost = (...nths: number[]) => {
  return (nth: number) => {
    if (nths.includes(nth)) throw new Error('The connection broke.');
  };
};

const keysOf = (sent: readonly Sent[]) => sent.map(({ headers }) => headers.get('idempotency-key'));

async function all<T>(list: AsyncIterable<T>): Promise<T[]> {
  const found: T[] = [];
  for await (const one of list) found.push(one);
  return found;
}

describe('the operations', () => {
  interface Operation {
    readonly operationId: string;
    readonly security?: readonly object[];
    readonly parameters?: readonly { readonly in: string }[];
    readonly requestBody?: object;
  }
  const document = JSON.parse(readFileSync(new URL('../../docs/openapi.json', import.meta.url), 'utf8'));
  const operations = Object.entries<Record<string, Operation>>(document.paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, operation]) => ({ path, method: method.toUpperCase(), operation })),
  );
  const ofServers = operations
    .filter(({ operation }) => operation.security?.some((one) => 'key' in one))
    // The client offers `waitForResult` in place of this operation.
    .filter(({ operation }) => operation.operationId !== 'streamPayment')
    .map((one) => [one.operation.operationId, one] as const);

  /** Calls the client's method for this operation, with every argument that the method accepts. */
  async function callOf(
    by: ServerClient,
    { path, method, operation }: (typeof operations)[number],
    options: WriteOptions,
  ) {
    const call = by[operation.operationId as keyof ServerClient] as (...args: unknown[]) => unknown;
    const hasQuery = operation.parameters?.some((one) => one.in === 'query') === true;
    const isList = method === 'GET' && hasQuery && !/^get(Order|Payment)$/.test(operation.operationId);
    const result = call(
      ...(path.includes('{id}') ? ['A/7 ü'] : []),
      ...(operation.requestBody === undefined ? [] : [{ some: 'body' }]),
      ...(isList ? [{ limit: 7 }] : []),
      options,
    );
    return isList ? await all(result as AsyncIterable<unknown>) : await result;
  }

  test('the client has a method for every operation of the OpenAPI document', () => {
    expect(ofServers.length).toBeGreaterThan(20);
    const methods = Object.keys(client).filter((name) => !['waitForResult', 'followEvents'].includes(name));
    expect(methods.toSorted()).toEqual(ofServers.map(([name]) => name).toSorted());
  });

  test.each(ofServers)(
    'the request of %s matches the OpenAPI document, and a write has an idempotency key',
    async (_, one) => {
      const sent: Sent[] = [];
      const recording = createServerClient({
        baseUrl: 'https://pay.example/',
        key: 'sk_1',
        async fetch(url, init) {
          sent.push(requestOf(url, init));
          expect(init.body).toEqual(one.operation.requestBody === undefined ? undefined : '{"some":"body"}');
          return Response.json({ data: [], nextCursor: null });
        },
      });
      const isRefund = one.operation.operationId === 'createRefund';
      await callOf(recording, one, isRefund ? { idempotencyKey: 'return-1-of-pay_1' } : {});
      expect(sent).toHaveLength(1);
      expect(sent[0]?.method).toBe(one.method);
      expect(sent[0]?.path).toBe(one.path.replace('{id}', 'A%2F7%20%C3%BC'));
      expect(sent[0]?.headers.get('authorization')).toBe('Bearer sk_1');
      expect(keysOf(sent)).toEqual([
        one.method === 'GET' ? null : expect.stringMatching(/^[\x21-\x7e]{16,}$/),
      ]);
    },
  );

  test.each(ofServers)(
    'the call %s ends when its signal is aborted or its timeout has passed',
    async (_, one) => {
      const hanging = createServerClient({
        baseUrl: 'https://pay.example',
        key: 'sk_1',
        fetch: (_url, { signal }) =>
          new Promise((_resolve, reject) => {
            signal?.addEventListener('abort', () => reject(signal.reason));
          }),
      });
      const leaving = new AbortController();
      const idempotencyKey = 'one-key-of-ours-1';
      const left = callOf(hanging, one, { signal: leaving.signal, idempotencyKey });
      const reason = new Error('the server stops');
      leaving.abort(reason);
      await expect(left).rejects.toBe(reason);
      await expect(callOf(hanging, one, { timeoutMs: 1, idempotencyKey })).rejects.toMatchObject({
        code: 'no_answer',
      });
    },
  );
});

describe('a payment', () => {
  test('is created with a client token and a checkout URL, and can be read, hinted, queried, switched to another channel and cancelled', async () => {
    const made = await client.createPayment(newPayment());
    expect(made.clientToken).toMatch(/^ct_/);
    expect(made.checkoutUrl).toContain(made.clientToken);
    expect(await client.getPayment(made.id)).toMatchObject({ id: made.id, clientToken: null });
    expect(await client.hintPayment(made.id)).toBeUndefined();
    expect(await client.queryPayment(made.id)).toMatchObject({ id: made.id });
    const other = await client.switchPayment(made.id, { channel: 'simulator2' });
    expect(other).toMatchObject({ channel: 'simulator2', clientToken: expect.stringMatching(/^ct_/) });
    await expect(client.createPayment({ orderId: newOrderId(), channel: 'simulator' })).rejects.toMatchObject(
      { code: 'order_not_found', status: 404 },
    );
  });

  test('a refusal has the fields of the problem document, and is not retried', async () => {
    const { client: recording, sent } = recorded(() => undefined);
    const wrong = recording.createPayment({
      ...newPayment(),
      order: { id: 'x', amount: 0, currency: 'CNY' },
    });
    const error = await wrong.catch((caught: unknown) => caught);
    expect(error).toBeInstanceOf(NodropError);
    expect(error).toMatchObject({
      name: 'NodropError',
      code: 'invalid_request',
      status: 422,
      type: expect.stringContaining('/docs/problems'),
      title: expect.any(String),
      instance: '/v1/payments',
      requestId: expect.any(String),
      errors: [{ path: 'order.amount', message: expect.any(String) }],
      retryAfterSeconds: undefined,
    });
    expect(sent).toHaveLength(1);
  });

  test('if the answer to a create request is lost, the client repeats the request with the same key, and only one payment exists', async () => {
    const { client: recording, sent } = recorded(lost(1));
    const wanted = newPayment();
    const made = await recording.createPayment(wanted);
    expect(sent).toHaveLength(2);
    expect(new Set(keysOf(sent)).size).toBe(1);
    expect((await client.getOrder(wanted.order.id)).payments.map(({ id }) => id)).toEqual([made.id]);
    await recording.createPayment(newPayment());
    expect(new Set(keysOf(sent)).size).toBe(2);
  });
});

describe('a refund', () => {
  test('a refund without an idempotency key is refused before a request is sent, because a repeated call would make another refund', async () => {
    const { client: recording, sent } = recorded(() => undefined);
    const refuse = recording.createRefund as (...args: unknown[]) => Promise<unknown>;
    for (const options of [undefined, {}, { idempotencyKey: undefined }, { idempotencyKey: '' }]) {
      const error = await refuse('pay_1', { amount: 300 }, options).catch((caught: unknown) => caught);
      expect(error).toBeInstanceOf(TypeError);
      expect(String(error)).toContain('idempotencyKey');
    }
    expect(sent).toEqual([]);
  });

  test('a partial refund is made once, even if all answers are lost and another process repeats the request with the same key', async () => {
    const { id } = await paid();
    const options = { idempotencyKey: `return-of-${id}` };
    const { client: recording, sent } = recorded(lost(1, 2, 3));
    const asked = recording.createRefund(id, { amount: 300 }, options);
    await expect(asked).rejects.toMatchObject({ code: 'no_answer', status: undefined, ...options });
    expect(new Set(keysOf(sent))).toEqual(new Set([options.idempotencyKey]));
    const later = createServerClient({ baseUrl: api.url, key });
    const refund = await later.createRefund(id, { amount: 300 }, options);
    expect(refund).toMatchObject({ paymentId: id, amount: 300, status: 'created' });
    expect((await all(client.listRefunds(id))).map((one) => one.id)).toEqual([refund.id]);
    expect(await client.getRefund(refund.id)).toEqual(refund);
  });

  test('a refund of the whole remaining amount needs no amount, and accepts an idempotency key of the caller', async () => {
    const { id } = await paid();
    const options = { idempotencyKey: `return-${id}` };
    const refund = await client.createRefund(id, {}, options);
    expect(refund.amount).toBe(1050);
    expect((await client.createRefund(id, {}, options)).id).toBe(refund.id);
  });
});

describe('an order', () => {
  test('can be created, changed, read and cancelled', async () => {
    const order = { id: `A/7 ${newOrderId()}`, amount: 1990, currency: 'CNY' };
    expect(await client.createOrder(order)).toMatchObject({ ...order, status: 'unpaid' });
    expect(await client.changeOrder(order.id, { amount: 2500 })).toMatchObject({ amount: 2500 });
    expect(await client.getOrder(order.id, { wait: 0 })).toMatchObject({ id: order.id, payments: [] });
    expect((await client.cancelOrder(order.id)).status).toBe('cancelled');
  });

  test('a paid order cannot be cancelled, and the refusal gives this reason', async () => {
    const { orderId } = await paid();
    await expect(client.cancelOrder(orderId)).rejects.toMatchObject({ code: 'order_already_paid' });
  });
});

describe('lists', () => {
  test('a list is read page by page, and only the pages that the caller needs are requested', async () => {
    const mine = await newKey(api.db);
    const { client: recording, sent } = recorded(() => undefined, mine.key);
    const ids: string[] = [];
    for (let made = 0; made < 5; made++) ids.unshift((await recording.createPayment(newPayment())).id);
    sent.length = 0;

    expect((await all(recording.listPayments({ limit: 2 }))).map(({ id }) => id)).toEqual(ids);
    expect(sent).toHaveLength(3);
    expect((await all(recording.listOrders({ limit: 2 }))).length).toBe(5);
    expect(await all(recording.listOrders({ status: 'cancelled' }))).toEqual([]);

    sent.length = 0;
    for await (const { id } of recording.listPayments({ limit: 2 })) if (id === ids[1]) break;
    expect(sent).toHaveLength(1);

    const page = await recording.listPayments({ limit: 2 }).page();
    const next = await recording.listPayments({ limit: 2, cursor: page.nextCursor ?? undefined }).page();
    expect([...page.data, ...next.data].map(({ id }) => id)).toEqual(ids.slice(0, 4));
    expect(await all(recording.listPayments({ attention: true }))).toEqual([]);
    expect((await all(recording.getTimeline(ids[0] ?? ''))).length).toBeGreaterThan(0);
  });
});

describe('the feed', () => {
  test('can be read from its start or from a cursor to its end', async () => {
    const mine = createServerClient({ baseUrl: api.url, key: (await newKey(api.db)).key });
    const first = await paid(mine);
    const second = await paid(mine);
    const paymentsOf = (events: readonly Event[]) => events.map(({ data }) => data.payment.id);
    expect(paymentsOf(await all(mine.listEvents({ limit: 1 })))).toEqual([first.id, second.id]);
    const { nextCursor, data } = await mine.listEvents({ limit: 1 }).page();
    expect(paymentsOf(data)).toEqual([first.id]);
    expect(data[0]).toMatchObject({ type: 'payment.succeeded', data: { payment: { status: 'succeeded' } } });
    expect(paymentsOf(await all(mine.listEvents({ after: nextCursor })))).toEqual([second.id]);
  });

  test('can be followed beyond its end until the caller stops, even if some answers are lost', async () => {
    const mine = await newKey(api.db);
    const { client: recording, sent } = recorded(lost(2, 3, 4), mine.key);
    const own = createServerClient({ baseUrl: api.url, key: mine.key });
    const first = await paid(own);
    const leaving = new AbortController();
    const pages = recording.followEvents({ limit: 1 }, { signal: leaving.signal })[Symbol.asyncIterator]();

    const before = (await pages.next()).value;
    expect(before?.data[0]?.data.payment.id).toBe(first.id);
    const coming = pages.next();
    const second = await paid(own);
    expect((await coming).value?.data[0]?.data.payment.id).toBe(second.id);
    expect(sent.length).toBeGreaterThan(4);
    expect(sent.at(-1)?.query.get('after')).toBe(before?.nextCursor);

    const waiting = pages.next();
    leaving.abort(new Error('the server stops'));
    await expect(waiting).rejects.toThrow('the server stops');
  });

  test('a cursor of another merchant is refused', async () => {
    await paid();
    const { nextCursor } = await client.listEvents().page();
    const stranger = createServerClient({ baseUrl: api.url, key: (await newKey(api.db)).key });
    const refused = { status: 410, code: 'cursor_expired' };
    await expect(all(stranger.followEvents({ after: nextCursor }))).rejects.toMatchObject(refused);
  });
});

test('the server client can list and redeliver deliveries', async () => {
  const mine = await newKey(api.db);
  await api.db.merchant.update({
    where: { id: mine.merchantId },
    data: { orderServiceUrl: 'https://shop.example/nodrop' },
  });
  const own = createServerClient({ baseUrl: api.url, key: mine.key });
  const { id } = await paid(own);
  const [delivery] = await all(own.listPaymentDeliveries(id));
  expect(delivery).toMatchObject({ paymentId: id, type: 'payment.succeeded', status: 'pending' });
  expect(await all(own.listDeliveries({ status: 'pending' }))).toEqual([delivery]);
  expect((await own.redeliver(delivery?.id ?? '')).id).toBe(delivery?.id);
  expect(await own.redeliverMany({ status: 'pending' })).toMatchObject({ count: 1, nextSince: null });
});

test('a server client cannot be created without a key', () => {
  for (const missing of [undefined, ''])
    expect(() => createServerClient({ baseUrl: api.url, key: missing })).toThrow(TypeError);
});

test('waitForResult returns the paid payment', async () => {
  const { id } = await paid();
  expect(await client.waitForResult(id)).toMatchObject({
    id,
    status: 'succeeded',
    receivedAmount: paidAnswer().amount,
  });
});
