import { readFileSync } from 'node:fs';
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
import { pay, setUp, startTestApi, type TestApi } from '../api/support.ts';
import { ofTrade } from '../support/callback.ts';
import { eventually } from '../support/stack.ts';
import { startWay, type Way } from './proxy.ts';

// The JavaScript client against the real API, with something on the way that misbehaves.

const { database, api, key } = await setUp();
let way: Way;

beforeEach(async () => {
  way = await startWay(api.url);
});
afterEach(async () => {
  await way.close();
});

/** The money comes in, and the order is paid. */
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

/** Somebody who waits for a payment, and all that he is told. */
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

/** The statuses, without the moment between money on record and its settlement, which is told or not. */
const told = (updates: readonly PaymentForPayer[]) =>
  updates
    .filter(({ status, orderState }) => status !== 'paying' || orderState !== 'undecided')
    .map(({ status }) => status);

const streams = () => way.requests.filter(({ line }) => line.endsWith('/events'));
const polls = () => way.requests.filter(({ line }) => /^GET .*\/pay_\w+(\?wait=\d+)?$/.test(line));

describe('waitForResult', () => {
  test('is told at once over the stream, of every state', async () => {
    const made = await pay(api, key);
    const { result, updates, connections } = waiter(made);
    await eventually(() => updates.length === 1);
    expect(connections).toEqual(['live']);
    await settle(made.id);
    expect(await result).toMatchObject({ id: made.id, status: 'succeeded', orderUpdate: 'applied' });
    expect(told(updates)).toEqual(['paying', 'succeeded']);
    expect(way.requests.map(({ line }) => line)).toEqual([`GET /v1/payments/${made.id}/events`]);
  });

  test('has the token in a header and in no address', async () => {
    const made = await pay(api, key);
    await settle(made.id);
    await waiter(made).result;
    expect(streams()[0]?.headers.authorization).toBe(`Bearer ${made.clientToken}`);
    for (const { line } of way.requests) expect(line).not.toContain('ct_');
  });

  test('a stream that is cut in the middle is taken up again where it was', async () => {
    const made = await pay(api, key);
    const { result, updates } = waiter(made);
    await eventually(() => updates.length === 1);
    way.cut();
    await eventually(() => streams().length === 2);
    expect(streams()[1]?.headers['last-event-id']).toBeTruthy();
    way.cut();
    await settle(made.id);
    expect(await result).toMatchObject({ status: 'succeeded' });
    // The same state was told once.
    expect(told(updates)).toEqual(['paying', 'succeeded']);
  });

  test.each(['buffer', 'refuse'] as const)('polls where a proxy %ss the stream', async (mode) => {
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

  test('polls where the API has no place for the stream', async () => {
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

  test('goes on while the API is away, however often it asks in vain', async () => {
    const made = await pay(api, key);
    const { result, updates, connections } = waiter(made);
    await eventually(() => updates.length === 1);
    way.mode = 'away';
    way.cut();
    // Stream and state by turns, at growing intervals: about 20 s.
    const before = way.requests.length;
    await eventually(() => way.requests.length >= before + 14);
    expect(connections).toEqual(['live', 'away']);
    way.mode = 'pass';
    await settle(made.id);
    expect(await result).toMatchObject({ status: 'succeeded' });
    expect(told(updates)).toEqual(['paying', 'succeeded']);
  });

  test('starts while the API is away', async () => {
    const made = await pay(api, key);
    way.mode = 'away';
    const { result, connections, updates } = waiter(made);
    await eventually(() => connections.includes('away'));
    expect(updates).toEqual([]);
    way.mode = 'pass';
    await settle(made.id);
    expect(await result).toMatchObject({ status: 'succeeded' });
  });

  describe('at the end of an attempt without money, while another one is undecided', () => {
    /** Two live attempts of one order: the channel was silent about the first when the second was made. */
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
      ['the other one pays', 'pass', settle, 'paid'],
      ['the other one pays', 'refuse', settle, 'paid'],
      ['the other one ends as well', 'pass', decline, 'open'],
    ] as const)('waits on until %s (%s)', async (_, mode, act, orderState) => {
      way.mode = mode;
      const { first, second } = await two();
      await decline(first.id);
      const { result, updates } = waiter(first);
      await eventually(() => updates.length === 1);
      expect(seen(updates)).toEqual(['failed, undecided']);
      await act(second.id);
      expect(await result).toMatchObject({ id: first.id, status: 'failed', orderState });
    });

    test('with a key it is the attempt alone', async () => {
      const { first } = await two();
      await decline(first.id);
      const client = createServerClient({ baseUrl: way.url, key });
      expect(await client.waitForResult(first.id)).toMatchObject({ status: 'failed' });
    });
  });

  test('ends when it is aborted, wherever it is', async () => {
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

  test('ends when the token opens nothing', async () => {
    const made = await pay(api, key);
    for (const mode of ['pass', 'refuse'] as const) {
      way.mode = mode;
      const { result, updates } = waiter({ ...made, clientToken: 'ct_wrong' });
      await expect(result).rejects.toMatchObject({ name: 'NodropError', code: 'unauthorized', status: 401 });
      expect(updates).toEqual([]);
    }
  });

  test('is with a key as well, which sees more', async () => {
    const made = await pay(api, key);
    await settle(made.id);
    const client = createServerClient({ baseUrl: `${way.url}/`, key });
    expect(await client.waitForResult(made.id)).toMatchObject({ orderId: made.orderId, status: 'succeeded' });
    await expect(client.waitForResult('pay_nobody')).rejects.toMatchObject({ code: 'payment_not_found' });
  });

  test('what its caller throws is not taken for a broken stream', async () => {
    const made = await pay(api, key);
    await settle(made.id);
    const thrown: unknown[] = [];
    const note = (error: unknown) => void thrown.push(error);
    const others = process.listeners('uncaughtException');
    process.removeAllListeners('uncaughtException').on('uncaughtException', note);
    try {
      const mistake = new Error('a mistake of the page');
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

describe('the other calls', () => {
  test('a refusal says its code, what is wrong and which request it was', async () => {
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

  test('what is not the service’s own word is no refusal', async () => {
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

  test('every call of a payer ends with its signal, and when its time is up', async () => {
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

  test('a hint reaches the workflow, and wakes who waits', async () => {
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

  test('another channel is another payment with a token of its own', async () => {
    const made = await pay(api, key);
    const client = createClient({ baseUrl: way.url });
    const other = await client.switchChannel(made.id, { channel: 'simulator2' }, { token: made.clientToken });
    expect(other).toMatchObject({ channel: 'simulator2', amount: made.amount, status: 'paying' });
    expect(other.id).not.toBe(made.id);
    const seen = await client.getPayment(other.id, { token: other.clientToken });
    expect(seen.id).toBe(other.id);
  });
});

describe('a stream that the service ends because it has lived long enough', () => {
  /** Longer than a stream must work to be taken up again at once, shorter than a heartbeat: one step of the clock. */
  const LIFETIME_MS = 12_000;
  /** The longest rest before the next stream. */
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

  test('is taken up again where it was, and what happens between the two is told', async () => {
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
    // It asks once, and rests.
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

test('final is what is final to the service', () => {
  for (const status of PAYMENT_STATUSES)
    for (const orderUpdate of [null, ...ORDER_UPDATES])
      expect(isFinal({ status, orderUpdate })).toBe(isFinalToUs(status, orderUpdate));
  expect(isFinal({ status: 'a new one', orderUpdate: null })).toBe(false);
});

describe('where something on the way lets streams or held answers through by halves', () => {
  const LOOKED_AT_MS = 600_000;
  const PAYMENT = { id: 'pay_1', status: 'paying', orderUpdate: null };
  const asJson = (status: number, body: object) =>
    new Response(JSON.stringify(body), {
      status,
      headers: { 'content-type': status === 200 ? 'application/json' : 'application/problem+json' },
    });
  const noRoom = async () =>
    asJson(503, { code: 'too_many_readers', status: 503, detail: '', requestId: '' });

  beforeEach(() => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'Date'] });
    vi.spyOn(Math, 'random').mockReturnValue(0.5);
  });
  afterEach(() => {
    vi.useRealTimers();
    vi.restoreAllMocks();
    vi.unstubAllGlobals();
  });

  /** A stream that gives a comment, and then nothing; it ends after that time, or never. */
  function stream(signal: AbortSignal, lifeMs?: number): Response {
    const body = new ReadableStream({
      start(controller) {
        controller.enqueue(new TextEncoder().encode(':\n\n'));
        const end = lifeMs === undefined ? undefined : setTimeout(() => controller.close(), lifeMs);
        signal.addEventListener('abort', () => {
          clearTimeout(end);
          controller.error(signal.reason);
        });
      },
    });
    return new Response(body, { headers: { 'content-type': 'text/event-stream' } });
  }

  /** Waits for ten minutes of the clock. @returns when it asked, in ms since the beginning. */
  async function asked(
    onStream: (signal: AbortSignal) => Promise<Response>,
    onPoll: (waitSeconds: number) => Promise<Response>,
  ) {
    const times = { streams: [] as number[], polls: [] as number[] };
    const began = Date.now();
    const leaving = new AbortController();
    const result = createClient({
      baseUrl: 'https://pay.example',
      async fetch(url, { signal }) {
        const isStream = url.endsWith('/events');
        times[isStream ? 'streams' : 'polls'].push(Date.now() - began);
        if (isStream) return await onStream(signal as AbortSignal);
        return await onPoll(Number(new URL(url).searchParams.get('wait') ?? 0));
      },
    }).waitForResult('pay_1', { token: 'ct_1', signal: leaving.signal });
    result.catch(() => undefined);
    await vi.advanceTimersByTimeAsync(LOOKED_AT_MS);
    leaving.abort(new Error('enough'));
    // This service answers also whoever has gone.
    await vi.advanceTimersByTimeAsync(10_000);
    await expect(result).rejects.toThrow('enough');
    return times;
  }

  const held = async (seconds: number) => {
    await new Promise((resolve) => setTimeout(resolve, seconds * 1000));
    return asJson(200, PAYMENT);
  };
  const gaps = (times: number[]) => times.slice(1).map((time, index) => time - (times[index] ?? 0));

  test('polls that are held follow one another', async () => {
    const { polls } = await asked(noRoom, held);
    // Ten seconds held, one of rest; now and then the stream is tried.
    expect(new Set(gaps(polls).slice(2))).toEqual(new Set([11_000]));
  });

  test('polls that are answered at once with nothing new become rarer', async () => {
    const { polls } = await asked(noRoom, async () => asJson(200, PAYMENT));
    expect(gaps(polls)[0]).toBe(1_000);
    expect(new Set(gaps(polls).slice(-20))).toEqual(new Set([15_000]));
  });

  test('a poll that is answered at once with news is followed by the next', async () => {
    let version = 0;
    const { polls } = await asked(noRoom, async () => asJson(200, { ...PAYMENT, amount: version++ }));
    expect(new Set(gaps(polls))).toEqual(new Set([1_000]));
  });

  test.each([
    ['falls silent after a comment', undefined],
    ['ends after a comment', 1_000],
  ])('a stream that %s is tried ever more rarely, and polls do its work', async (_, lifeMs) => {
    const { streams, polls } = await asked(async (signal) => stream(signal, lifeMs), held);
    expect(streams.length).toBeGreaterThan(2);
    expect(streams.length).toBeLessThanOrEqual(6);
    const [before = 0, last = 0] = streams.slice(-2);
    expect(last - before).toBeGreaterThanOrEqual(120_000);
    expect(polls.length).toBeGreaterThanOrEqual(30);
  });

  /** Lets through what has nothing to wait for. */
  const settled = () => vi.advanceTimersByTimeAsync(0);

  test.each(['online', 'offline', 'a hint that fails'])(
    'a poll under way is left at once for another one: %s',
    async (news) => {
      const page = new EventTarget();
      vi.stubGlobal('addEventListener', page.addEventListener.bind(page));
      vi.stubGlobal('removeEventListener', page.removeEventListener.bind(page));
      const polls: { wait: string | null; signal: AbortSignal }[] = [];
      let isDead = false;
      const client = createClient({
        baseUrl: 'https://pay.example',
        async fetch(url, { signal }) {
          if (url.endsWith('/hint')) throw new TypeError('failed');
          if (url.endsWith('/events')) return await noRoom();
          const wait = new URL(url).searchParams.get('wait');
          polls.push({ wait, signal: signal as AbortSignal });
          if (wait === null) return asJson(200, isDead ? { ...PAYMENT, status: 'failed' } : PAYMENT);
          return await new Promise((_, reject) =>
            signal?.addEventListener('abort', () => reject(signal.reason)),
          );
        },
      });
      const result = client.waitForResult('pay_1', { token: 'ct_1' });
      await vi.advanceTimersByTimeAsync(1_000);
      expect(polls.map(({ wait }) => wait)).toEqual([null, '10']);
      isDead = true;
      if (news.startsWith('a')) await client.hint('pay_1', { token: 'ct_1' }).catch(() => undefined);
      else page.dispatchEvent(new Event(news));
      await settled();
      expect(polls.map(({ wait }) => wait)).toEqual([null, '10', null]);
      expect(polls[1]?.signal.aborted).toBe(true);
      expect(await result).toMatchObject({ status: 'failed' });
    },
  );

  test('a state that came back after a poll had told another one is told again by the next stream', async () => {
    const open = { ...PAYMENT, orderState: 'open' };
    const undecided = { ...PAYMENT, orderState: 'undecided' };
    const leaving = new AbortController();
    const told: (string | undefined)[] = [];
    let now = undecided;
    let cut = () => {};
    const result = createClient({
      baseUrl: 'https://pay.example',
      async fetch(url, init) {
        if (!url.endsWith('/events')) return asJson(200, now);
        const headers = init.headers as Record<string, string>;
        const id = now.orderState;
        // As the service does: its id says which state it was, and who has that is told nothing.
        const event =
          headers['last-event-id'] === id ? ':' : `event: payment\nid: ${id}\ndata: ${JSON.stringify(now)}`;
        const body = new ReadableStream({
          start(controller) {
            controller.enqueue(new TextEncoder().encode(`${event}\n\n`));
            cut = () => controller.error(new TypeError('cut'));
            init.signal?.addEventListener('abort', () => controller.error(leaving.signal.reason));
          },
        });
        return new Response(body, { headers: { 'content-type': 'text/event-stream' } });
      },
    }).waitForResult('pay_1', {
      token: 'ct_1',
      signal: leaving.signal,
      onUpdate: ({ orderState }) => void told.push(orderState),
    });
    result.catch(() => undefined);
    await settled();
    expect(told).toEqual(['undecided']);
    now = open;
    cut();
    await settled();
    expect(told).toEqual(['undecided', 'open']);
    now = undecided;
    await vi.advanceTimersByTimeAsync(1_000);
    expect(told).toEqual(['undecided', 'open', 'undecided']);
    leaving.abort(new Error('enough'));
    await expect(result).rejects.toThrow('enough');
  });

  test('a stream that works and is ended now and then is taken up again each time', async () => {
    const { streams } = await asked(async (signal) => stream(signal, 30_000), held);
    expect(Math.max(...gaps(streams))).toBeLessThan(35_000);
  });
});

describe('in a page of a browser', () => {
  const PAYMENT = { id: 'pay_1', status: 'paying', orderUpdate: null };
  const asJson = (body: object) =>
    new Response(JSON.stringify(body), { headers: { 'content-type': 'application/json' } });

  /** What the client sees of a page: whether it is seen itself. */
  class Page extends EventTarget {
    visibilityState = 'visible';
    turn(state: 'visible' | 'hidden') {
      this.visibilityState = state;
      this.dispatchEvent(new Event('visibilitychange'));
    }
  }
  let page: Page;

  beforeEach(() => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'Date'] });
    vi.spyOn(Math, 'random').mockReturnValue(0.5);
    page = new Page();
    vi.stubGlobal('document', page);
    vi.stubGlobal('navigator', {});
  });
  afterEach(() => {
    vi.useRealTimers();
    vi.restoreAllMocks();
    vi.unstubAllGlobals();
  });

  /** Somebody who waits, and what is asked for him. A stream gives a comment; an answer that is held never comes. */
  function waits({ answer = (): object => PAYMENT, hasRoom = true } = {}) {
    const leaving = new AbortController();
    const asked: { what: 'stream' | 'poll' | 'held poll'; at: number; signal: AbortSignal }[] = [];
    const result = createClient({
      baseUrl: 'https://pay.example',
      async fetch(url, init) {
        const signal = init.signal as AbortSignal;
        const isHeld = new URL(url).searchParams.has('wait');
        const what = url.endsWith('/events') ? 'stream' : isHeld ? 'held poll' : 'poll';
        asked.push({ what, at: Date.now(), signal });
        if (what === 'poll') return asJson(answer());
        if (what === 'held poll')
          return await new Promise((_, reject) =>
            signal.addEventListener('abort', () => reject(signal.reason)),
          );
        if (!hasRoom) return new Response(null, { status: 503 });
        const body = new ReadableStream({
          start(controller) {
            controller.enqueue(new TextEncoder().encode(':\n\n'));
            signal.addEventListener('abort', () => controller.error(signal.reason));
          },
        });
        return new Response(body, { headers: { 'content-type': 'text/event-stream' } });
      },
    }).waitForResult('pay_1', { token: 'ct_1', signal: leaving.signal });
    result.catch(() => undefined);
    return {
      asked,
      whats: () => asked.map(({ what }) => what),
      async leave() {
        leaving.abort(new Error('enough'));
        await expect(result).rejects.toThrow('enough');
      },
    };
  }

  const gaps = (asked: readonly { at: number }[]) =>
    asked.slice(1).map(({ at }, index) => at - (asked[index]?.at ?? 0));
  const settled = () => vi.advanceTimersByTimeAsync(0);

  test('one that is hidden polls ever more rarely, and no answer is held', async () => {
    page.turn('hidden');
    const { asked, whats, leave } = waits();
    await vi.advanceTimersByTimeAsync(600_000);
    expect(new Set(whats())).toEqual(new Set(['poll']));
    expect(gaps(asked)[0]).toBe(1_000);
    expect(new Set(gaps(asked).slice(-20))).toEqual(new Set([15_000]));
    await leave();
  });

  test('one that is hidden and is told something new asks again soon', async () => {
    page.turn('hidden');
    let version = 0;
    const { asked, leave } = waits({ answer: () => ({ ...PAYMENT, amount: version++ }) });
    await vi.advanceTimersByTimeAsync(60_000);
    expect(new Set(gaps(asked))).toEqual(new Set([1_000]));
    await leave();
  });

  test('one that is hidden gives its stream back at once, and takes one when it is seen again', async () => {
    const { asked, whats, leave } = waits();
    await settled();
    expect(whats()).toEqual(['stream']);
    page.turn('hidden');
    await settled();
    expect(asked[0]?.signal.aborted).toBe(true);
    expect(whats()).toEqual(['stream', 'poll']);
    await vi.advanceTimersByTimeAsync(60_000);
    expect(new Set(whats().slice(1))).toEqual(new Set(['poll']));
    const before = asked.length;
    page.turn('visible');
    await settled();
    expect(whats().slice(before)).toEqual(['stream']);
    await leave();
  });

  test('one that is hidden leaves an answer that is held', async () => {
    const { asked, whats, leave } = waits({ hasRoom: false });
    await vi.advanceTimersByTimeAsync(1_000);
    expect(whats()).toEqual(['stream', 'poll', 'held poll']);
    page.turn('hidden');
    await vi.advanceTimersByTimeAsync(60_000);
    expect(asked[2]?.signal.aborted).toBe(true);
    expect(new Set(whats().slice(3))).toEqual(new Set(['poll']));
    await leave();
  });

  test('leaves nothing behind in the page when the wait ends', async () => {
    const added = vi.spyOn(page, 'addEventListener');
    const removed = vi.spyOn(page, 'removeEventListener');
    const { leave } = waits();
    await settled();
    await leave();
    expect(added.mock.calls.length).toBeGreaterThan(0);
    expect(removed.mock.calls).toEqual(expect.arrayContaining(added.mock.calls));
  });

  test('one that may not lock streams all the same', async () => {
    const request = async () => {
      throw new DOMException('Access to the Locks API is denied in this context.', 'SecurityError');
    };
    vi.stubGlobal('navigator', { locks: { request } });
    const { whats, leave } = waits();
    await vi.advanceTimersByTimeAsync(1_000);
    expect(whats()).toContain('stream');
    await leave();
  });

  describe('with Web Locks', () => {
    interface Asked {
      readonly name: string;
      readonly signal: AbortSignal;
      /** Gives the lock. @returns what it is kept for: nothing, when it is given back at once */
      readonly grant: () => Promise<unknown> | undefined;
    }
    let locks: Asked[];

    beforeEach(() => {
      locks = [];
      const request = (name: string, { signal }: { signal: AbortSignal }, grant: Asked['grant']) => {
        locks.push({ name, signal, grant });
        return new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason)));
      };
      vi.stubGlobal('navigator', { locks: { request } });
    });

    test('one whose locks are taken polls, however long, and no answer is held', async () => {
      const { whats, leave } = waits();
      await vi.advanceTimersByTimeAsync(600_000);
      expect(new Set(whats())).toEqual(new Set(['poll']));
      // Asked for once, and waited for.
      expect(locks.map(({ name }) => name)).toEqual(
        [0, 1, 2].map((place) => `nodrop-stream-${place} https://pay.example`),
      );
      await leave();
      expect(locks.map(({ signal }) => signal.aborted)).toEqual([true, true, true]);
    });

    test('one that is given a lock streams at once, waits for no other, and gives it back when it is hidden', async () => {
      const { whats, leave } = waits();
      await vi.advanceTimersByTimeAsync(60_000);
      const [first, second] = locks;
      const before = whats().length;
      let isKept = true;
      void second?.grant()?.then(() => {
        isKept = false;
      });
      await settled();
      expect(isKept).toBe(true);
      expect(whats().slice(before)).toEqual(['stream']);
      expect(first?.signal.aborted).toBe(true);
      // It was on its way already.
      expect(first?.grant()).toBeUndefined();
      page.turn('hidden');
      await settled();
      expect(isKept).toBe(false);
      expect(whats().slice(before)).toEqual(['stream', 'poll']);
      expect(locks).toHaveLength(3);
      page.turn('visible');
      expect(locks).toHaveLength(6);
      await leave();
    });

    test('one that is given a lock while it asks streams without a pause', async () => {
      let isGiven = false;
      const { whats, leave } = waits({
        answer() {
          if (!isGiven) void locks[0]?.grant();
          isGiven = true;
          return PAYMENT;
        },
      });
      await settled();
      expect(whats()).toEqual(['poll', 'stream']);
      await leave();
    });

    test('one that is hidden waits for none', async () => {
      page.turn('hidden');
      const { leave } = waits();
      await vi.advanceTimersByTimeAsync(60_000);
      expect(locks).toEqual([]);
      await leave();
    });
  });

  test('outside of pages everybody has a stream, also where there are Web Locks', async () => {
    vi.unstubAllGlobals();
    const request = vi.fn();
    vi.stubGlobal('navigator', { locks: { request } });
    const waiters = Array.from({ length: 7 }, () => waits());
    await settled();
    for (const { whats } of waiters) expect(whats()).toEqual(['stream']);
    expect(request).not.toHaveBeenCalled();
    for (const { leave } of waiters) await leave();
  });
});

describe('the files', () => {
  const read = (name: string) => readFileSync(new URL(`../../clients/js/${name}`, import.meta.url), 'utf8');
  // Comments take their types from the file beside it.
  const codeOf = (name: string) => read(name).replaceAll(/\/\*[\s\S]*?\*\/|^\s*\/\/.*$/gm, '');

  test('need nothing but themselves: the payer’s imports no other, and the package depends on none', () => {
    const code = codeOf('index.js');
    expect(code).toContain('export function createClient');
    expect(code).not.toMatch(/\bimport\b|\brequire\s*\(|\bfrom\s*['"]/);
    const imports = [...codeOf('server.js').matchAll(/from '(.*)'/g)].map(([, path]) => path);
    for (const path of imports) expect(path).toMatch(/^(node:.*|\.\/index\.js)$/);
    for (const types of ['index.d.ts', 'server.d.ts', 'api.d.ts'])
      expect(read(types)).not.toMatch(/(from|import\()\s*['"](?!\.\/)/);
    expect(Object.keys(JSON.parse(read('package.json'))).filter((name) => /depend/i.test(name))).toEqual([]);
  });

  test('of the payer’s part are no larger than before there was another one: the cashier page loads them', () => {
    expect(Buffer.byteLength(read('index.js'))).toBeLessThanOrEqual(22_727);
  });

  test('of the payer’s part take no key', async () => {
    const sent: Headers[] = [];
    const options = {
      baseUrl: 'https://pay.example',
      key: 'sk_1',
      async fetch(_: string, { headers }: RequestInit) {
        sent.push(new Headers(headers));
        return Response.json({});
      },
    };
    await createClient(options).getPayment('pay_1', { token: '' });
    expect(sent.map((headers) => headers.get('authorization'))).toEqual([null]);
  });
});
