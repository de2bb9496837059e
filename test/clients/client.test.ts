import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import {
  type CallOptions,
  type Connection,
  createClient,
  isFinal,
  NodropError,
  type PaymentForPayer,
} from '../../clients/js/index.js';
import { createServerClient } from '../../clients/js/server.js';
import { STREAMS } from '../../src/api/http/event-stream.ts';
import { isFinal as isFinalToUs, ORDER_UPDATES, PAYMENT_STATUSES } from '../../src/domain/states.ts';
import { storeCallback } from '../../src/ledger/callbacks.ts';
import { endPayment, settlePayment } from '../../src/ledger/payments.ts';
import { pay, startTestApi, type TestApi } from '../api/support.ts';
import { ofTrade } from '../support/callback.ts';
import { eventually } from '../support/stack.ts';
import { api, database, key, polls, statusesOf, streams, way } from './client-support.ts';
import { startWay, type Way } from './proxy.ts';

// Tests the JavaScript client against the real API, through a proxy that disturbs its connections.

/** Records in the ledger that the payment is paid, and updates its order. */
async function settle(id: string): Promise<void> {
  const { channelAccountId } = await api.db.payment.findUniqueOrThrow({ where: { id } });
  const now = new Date();
  const answer = {
    state: 'paid',
    channelPaymentId: `T${id}`,
    amount: 1050,
    currency: 'CNY',
    paidAt: now.toISOString(),
  } as const;
  const notification = ofTrade({ notificationId: `n-${id}`, outTradeNo: id, answer });
  await storeCallback(api.db, channelAccountId, notification, Buffer.from('{}'), now);
  await settlePayment(api.db, id, now);
}

/** A client that waits for a payment, and all the updates that the client gets. */
function waiter(made: { id: string; clientToken: string }, signal?: AbortSignal) {
  const client = createClient({ baseUrl: way.url });
  const updates: PaymentForPayer[] = [];
  const connections: Connection[] = [];
  const result = client.waitForResult(made.id, {
    token: made.clientToken,
    signal,
    onUpdate: (payment) => void updates.push(payment),
    onConnection: (connection) => void connections.push(connection),
  });
  result.catch(() => undefined);
  return { client, updates, connections, result };
}

describe('waitForResult', () => {
  test('receives each state over the stream as soon as it changes', async () => {
    const made = await pay(api, key);
    const { result, updates, connections } = waiter(made);
    await eventually(() => updates.length === 1);
    expect(connections).toEqual(['live']);
    await settle(made.id);
    expect(await result).toMatchObject({ id: made.id, status: 'succeeded', orderUpdate: 'applied' });
    expect(statusesOf(updates)).toEqual(['paying', 'succeeded']);
    expect(way.requests.map(({ line }) => line)).toEqual([`GET /v1/payments/${made.id}/events`]);
  });

  test('sends the token in a header and never in a URL', async () => {
    const made = await pay(api, key);
    await settle(made.id);
    await waiter(made).result;
    expect(streams()[0]?.headers.authorization).toBe(`Bearer ${made.clientToken}`);
    for (const { line } of way.requests) expect(line).not.toContain('ct_');
  });

  test('resumes an interrupted stream after the last state that the client received', async () => {
    const made = await pay(api, key);
    const { result, updates } = waiter(made);
    await eventually(() => updates.length === 1);
    way.cut();
    await eventually(() => streams().length === 2);
    expect(streams()[1]?.headers['last-event-id']).toBeTruthy();
    way.cut();
    await settle(made.id);
    expect(await result).toMatchObject({ status: 'succeeded' });
    // The client did not report any state twice.
    expect(statusesOf(updates)).toEqual(['paying', 'succeeded']);
  });

  test.each(['buffer', 'refuse'] as const)('polls if the proxy is set to `%s` the stream', async (mode) => {
    way.mode = mode;
    const made = await pay(api, key);
    const { result, updates, connections } = waiter(made);
    await eventually(() => updates.length === 1);
    expect(connections).toEqual(['polling']);
    await eventually(() => polls().length === 2);
    await settle(made.id);
    expect(await result).toMatchObject({ status: 'succeeded' });
    expect(streams()).toHaveLength(1);
    expect(connections).toEqual(['polling']);
  });

  test('polls if the API has no free slot for the stream', async () => {
    const full = await startTestApi(database.url, { streams: { ...STREAMS, atMost: 0 } });
    const there = await startWay(full.url);
    try {
      const made = await pay(api, key);
      const connections: Connection[] = [];
      const result = createClient({ baseUrl: there.url }).waitForResult(made.id, {
        token: made.clientToken,
        onConnection: (connection) => void connections.push(connection),
      });
      await eventually(() => connections.length === 1);
      await settle(made.id);
      expect(await result).toMatchObject({ status: 'succeeded' });
      expect(connections).toEqual(['polling']);
      expect(there.requests.filter(({ line }) => line.endsWith('/events'))).toHaveLength(1);
    } finally {
      await there.close();
      await full.close();
    }
  });

  test('retries while the API cannot be reached', async () => {
    const made = await pay(api, key);
    const { result, updates, connections } = waiter(made);
    await eventually(() => updates.length === 1);
    way.mode = 'away';
    way.cut();
    // For about 20 s, the client alternately requests a stream and a poll, at growing intervals.
    const before = way.requests.length;
    await eventually(() => way.requests.length >= before + 14);
    expect(connections).toEqual(['live', 'away']);
    way.mode = 'pass';
    await settle(made.id);
    expect(await result).toMatchObject({ status: 'succeeded' });
    expect(statusesOf(updates)).toEqual(['paying', 'succeeded']);
  });

  test('starts even if the API cannot be reached yet', async () => {
    const made = await pay(api, key);
    way.mode = 'away';
    const { result, connections, updates } = waiter(made);
    await eventually(() => connections.includes('away'));
    expect(updates).toEqual([]);
    way.mode = 'pass';
    await settle(made.id);
    expect(await result).toMatchObject({ status: 'succeeded' });
  });

  describe('for an attempt that ended without money, while another attempt is undecided', () => {
    /**
     * Creates two live attempts at one order. The first attempt stays live, because the channel does not answer the
     * query that nodrop makes before it creates the second attempt.
     */
    async function two() {
      const first = await pay(api, key);
      const { onAskChannel } = api.workflows;
      api.workflows.onAskChannel = async () => false;
      try {
        const made = await api.call(`/v1/payments/${first.id}/switch`, {
          key: first.clientToken,
          body: { channel: 'simulator2' },
        });
        expect(made.status).toBe(201);
        return { first, second: made.json };
      } finally {
        api.workflows.onAskChannel = onAskChannel;
      }
    }
    const decline = (id: string) => endPayment(api.db, id, 'failed', 'declined', new Date());
    const seen = (updates: readonly PaymentForPayer[]) =>
      updates.map(({ status, orderState }) => `${status}, ${orderState}`);

    test.each([
      ['the other attempt pays', 'pass', settle, 'paid'],
      ['the other attempt pays', 'refuse', settle, 'paid'],
      ['the other attempt ends as well', 'pass', decline, 'open'],
    ] as const)('keeps waiting until %s (streams at the proxy: %s)', async (_, mode, act, orderState) => {
      way.mode = mode;
      const { first, second } = await two();
      await decline(first.id);
      const { result, updates } = waiter(first);
      await eventually(() => updates.length === 1);
      expect(seen(updates)).toEqual(['failed, undecided']);
      await act(second.id);
      expect(await result).toMatchObject({ id: first.id, status: 'failed', orderState });
    });

    test("does not wait for the other attempt if the caller uses a merchant's key", async () => {
      const { first } = await two();
      await decline(first.id);
      const client = createServerClient({ baseUrl: way.url, key });
      expect(await client.waitForResult(first.id)).toMatchObject({ status: 'failed' });
    });
  });

  test('ends when its signal is aborted, even if it polls or has no connection', async () => {
    const made = await pay(api, key);
    for (const mode of ['pass', 'refuse', 'away'] as const) {
      way.mode = mode;
      const leaving = new AbortController();
      const { result, connections } = waiter(made, leaving.signal);
      await eventually(() => connections.length > 0);
      const reason = new Error('the payer left');
      leaving.abort(reason);
      await expect(result).rejects.toBe(reason);
      const before = way.requests.length;
      await expect(waiter(made, leaving.signal).result).rejects.toBe(reason);
      expect(way.requests).toHaveLength(before);
    }
    await eventually(() => api.changes.waiting === 0);
  });

  test('rejects if the token is not the token of the payment', async () => {
    const made = await pay(api, key);
    for (const mode of ['pass', 'refuse'] as const) {
      way.mode = mode;
      const { result, updates } = waiter({ ...made, clientToken: 'ct_wrong' });
      await expect(result).rejects.toMatchObject({ name: 'NodropError', code: 'unauthorized', status: 401 });
      expect(updates).toEqual([]);
    }
  });

  test("works with a merchant's key, and then returns fields that a client token cannot read", async () => {
    const made = await pay(api, key);
    await settle(made.id);
    const client = createServerClient({ baseUrl: `${way.url}/`, key });
    expect(await client.waitForResult(made.id)).toMatchObject({ orderId: made.orderId, status: 'succeeded' });
    await expect(client.waitForResult('pay_nobody')).rejects.toMatchObject({ code: 'payment_not_found' });
  });

  test("does not retry the stream because of an error that the caller's callback throws", async () => {
    const made = await pay(api, key);
    await settle(made.id);
    const thrown: unknown[] = [];
    const note = (error: unknown) => void thrown.push(error);
    const others = process.listeners('uncaughtException');
    process.removeAllListeners('uncaughtException').on('uncaughtException', note);
    try {
      const mistake = new Error('a bug in the page');
      const result = await createClient({ baseUrl: way.url }).waitForResult(made.id, {
        token: made.clientToken,
        onUpdate() {
          throw mistake;
        },
      });
      expect(result.status).toBe('succeeded');
      expect(thrown).toEqual([mistake]);
      expect(way.requests).toHaveLength(1);
    } finally {
      process.removeAllListeners('uncaughtException');
      for (const other of others) process.on('uncaughtException', other);
    }
  });
});

describe('calls of the client', () => {
  test('an error contains the code, the invalid fields and the request id', async () => {
    const client = createServerClient({ baseUrl: way.url, key });
    const wrong = client.createPayment({
      order: { id: 'x', amount: 0, currency: 'CNY' },
      channel: 'simulator',
    });
    const error = await wrong.catch((caught: unknown) => caught);
    expect(error).toBeInstanceOf(NodropError);
    expect(error).toMatchObject({ code: 'invalid_request', status: 422, requestId: expect.any(String) });
    expect((error as NodropError).errors[0]?.path).toBe('order.amount');
  });

  test('if there is no answer, or if the answer does not come from nodrop, the error has the code `no_answer`', async () => {
    const token = 'ct_1';
    const noAnswer = { name: 'NodropError', code: 'no_answer', status: undefined, errors: [] };
    way.mode = 'away';
    const client = createClient({ baseUrl: way.url });
    await expect(client.getPayment('pay_1', { token })).rejects.toMatchObject(noAnswer);
    const gateway = createClient({
      baseUrl: way.url,
      fetch: async () =>
        new Response('<h1>Bad gateway</h1>', { status: 502, headers: { 'retry-after': '7' } }),
    });
    await expect(gateway.getPayment('pay_1', { token })).rejects.toMatchObject({
      ...noAnswer,
      retryAfterSeconds: 7,
    });
    const captive = createClient({ baseUrl: way.url, fetch: async () => new Response('<h1>Log in</h1>') });
    await expect(captive.getPayment('pay_1', { token })).rejects.toMatchObject(noAnswer);
  });

  test('every call of a payer ends when its signal is aborted or its timeout has passed', async () => {
    const fetch = (_: string, { signal }: RequestInit) =>
      new Promise<Response>((_resolve, reject) => {
        signal?.addEventListener('abort', () => reject(signal.reason));
      });
    const client = createClient({ baseUrl: way.url, fetch });
    const calls = [
      (options: CallOptions) => client.getPayment('pay_1', { token: 'ct_1', ...options }),
      (options: CallOptions) => client.hint('pay_1', { token: 'ct_1', ...options }),
      (options: CallOptions) =>
        client.switchChannel('pay_1', { channel: 'simulator2' }, { token: 'ct_1', ...options }),
    ];
    for (const call of calls) {
      const leaving = new AbortController();
      const reason = new Error('the payer left');
      const left = call({ signal: leaving.signal });
      leaving.abort(reason);
      await expect(left).rejects.toBe(reason);
      await expect(call({ timeoutMs: 1 })).rejects.toMatchObject({ code: 'no_answer' });
    }
  });

  test('a hint is forwarded to the workflow, and makes a call that waits for the API try again immediately', async () => {
    const made = await pay(api, key);
    way.mode = 'away';
    const { client, connections, result, updates } = waiter(made);
    await eventually(() => connections.includes('away'));
    way.mode = 'pass';
    await client.hint(made.id, { token: made.clientToken });
    expect(api.workflows.named('hint').some(({ paymentId }) => paymentId === made.id)).toBe(true);
    await eventually(() => updates.length === 1);
    await settle(made.id);
    await result;
  });

  test('switching the channel creates another payment with its own token', async () => {
    const made = await pay(api, key);
    const client = createClient({ baseUrl: way.url });
    const other = await client.switchChannel(made.id, { channel: 'simulator2' }, { token: made.clientToken });
    expect(other).toMatchObject({ channel: 'simulator2', amount: made.amount, status: 'paying' });
    expect(other.id).not.toBe(made.id);
    const seen = await client.getPayment(other.id, { token: other.clientToken });
    expect(seen.id).toBe(other.id);
  });
});

describe('a stream that the service ends after its maximum lifetime', () => {
  /**
   * How long a stream lives in these tests. The time is long enough that the client reopens the stream immediately,
   * and shorter than the time between two heartbeats.
   */
  const LIFETIME_MS = 12_000;
  /** The longest pause of the client before it opens the next stream. */
  const REST_MS = 1_200;

  let brief: TestApi;
  let short: Way;
  beforeEach(async () => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'Date'] });
    brief = await startTestApi(database.url, { streams: { ...STREAMS, lifetimeMs: LIFETIME_MS } });
    short = await startWay(brief.url);
    await eventually(() => brief.changes.listening);
  });
  afterEach(async () => {
    await short.close();
    await brief.close();
    vi.useRealTimers();
  });

  const paths = () => short.requests.map(({ line }) => line.replace(/^GET .*pay_\w+/, ''));

  test('is resumed after its last state, and changes that happen before the next stream are reported', async () => {
    const made = await pay(brief, key);
    const updates: PaymentForPayer[] = [];
    const connections: Connection[] = [];
    const result = createClient({ baseUrl: short.url }).waitForResult(made.id, {
      token: made.clientToken,
      onUpdate: (payment) => void updates.push(payment),
      onConnection: (connection) => void connections.push(connection),
    });
    await eventually(() => updates.length === 1);
    await vi.advanceTimersByTimeAsync(LIFETIME_MS);
    // The client polls once and then pauses.
    await eventually(() => connections.includes('polling'));
    expect(paths()).toEqual(['/events', '']);
    await settle(made.id);
    await vi.advanceTimersByTimeAsync(REST_MS);
    expect(await result).toMatchObject({ status: 'succeeded', orderUpdate: 'applied' });
    expect(paths()).toEqual(['/events', '', '/events']);
    expect(short.requests[2]?.headers['last-event-id']).toBeTruthy();
    expect(updates.map(({ status }) => status)).toEqual(['paying', 'succeeded']);
    expect(connections).toEqual(['live', 'polling', 'live']);
  });
});

test('the client and the service agree on which states are final', () => {
  for (const status of PAYMENT_STATUSES)
    for (const orderUpdate of [null, ...ORDER_UPDATES])
      expect(isFinal({ status, orderUpdate })).toBe(isFinalToUs(status, orderUpdate));
  expect(isFinal({ status: 'a new one', orderUpdate: null })).toBe(false);
});
