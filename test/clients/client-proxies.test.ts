import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { createClient } from '../../clients/js/index.js';

// Tests the JavaScript client behind a proxy that interrupts streams or held answers.

describe('the client behind a proxy that interrupts streams or held polls', () => {
  const LOOKED_AT_MS = 600_000;
  const PAYMENT = { id: 'pay_1', status: 'paying', orderUpdate: null };
  const asJson = (status: number, body: object) =>
    new Response(JSON.stringify(body), {
      status,
      headers: { 'content-type': status === 200 ? 'application/json' : 'application/problem+json' },
    });
  const noSlot = async () =>
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

  /** A stream that sends one comment and then nothing. It ends after `lifeMs`, or never if `lifeMs` is not given. */
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

  /**
   * Waits ten simulated minutes.
   * @returns the times of the client's requests, in ms since the start
   */
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
    // The simulated service still answers after the client has aborted.
    await vi.advanceTimersByTimeAsync(10_000);
    await expect(result).rejects.toThrow('enough');
    return times;
  }

  const held = async (seconds: number) => {
    await new Promise((resolve) => setTimeout(resolve, seconds * 1000));
    return asJson(200, PAYMENT);
  };
  const gaps = (times: number[]) => times.slice(1).map((time, index) => time - (times[index] ?? 0));

  test('after each held poll the client pauses for 1 s', async () => {
    const { polls } = await asked(noSlot, held);
    // Each poll is held for 10 s and followed by a pause of 1 s.
    expect(new Set(gaps(polls).slice(2))).toEqual(new Set([11_000]));
  });

  test('if polls are answered immediately and report no change, the pauses between them grow', async () => {
    const { polls } = await asked(noSlot, async () => asJson(200, PAYMENT));
    expect(gaps(polls)[0]).toBe(1_000);
    expect(new Set(gaps(polls).slice(-20))).toEqual(new Set([15_000]));
  });

  test('if polls are answered immediately and report changes, the pauses between them stay at 1 s', async () => {
    let version = 0;
    const { polls } = await asked(noSlot, async () => asJson(200, { ...PAYMENT, amount: version++ }));
    expect(new Set(gaps(polls))).toEqual(new Set([1_000]));
  });

  test.each([
    ['falls silent after a comment', undefined],
    ['ends after a comment', 1_000],
  ])(
    'a stream that %s is retried at growing intervals, and the client polls in between',
    async (_, lifeMs) => {
      const { streams, polls } = await asked(async (signal) => stream(signal, lifeMs), held);
      expect(streams.length).toBeGreaterThan(2);
      expect(streams.length).toBeLessThanOrEqual(6);
      const [before = 0, last = 0] = streams.slice(-2);
      expect(last - before).toBeGreaterThanOrEqual(120_000);
      expect(polls.length).toBeGreaterThanOrEqual(30);
    },
  );

  /** Runs everything that can run while the clock stands still. */
  const settled = () => vi.advanceTimersByTimeAsync(0);

  test.each(['online', 'offline', 'a hint that fails'])(
    'this event aborts a running poll, and the client polls again immediately: %s',
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
          if (url.endsWith('/events')) return await noSlot();
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

  test('if a poll reports a new state and the payment then returns to its previous state, the next stream reports the previous state again', async () => {
    const open = { ...PAYMENT, orderState: 'open' };
    const undecided = { ...PAYMENT, orderState: 'undecided' };
    const leaving = new AbortController();
    const seen: (string | undefined)[] = [];
    let now = undecided;
    let cut = () => {};
    const result = createClient({
      baseUrl: 'https://pay.example',
      async fetch(url, init) {
        if (!url.endsWith('/events')) return asJson(200, now);
        const headers = init.headers as Record<string, string>;
        const id = now.orderState;
        // This stream behaves like the service's stream. The event id identifies the state, and a client that sends
        // this id as Last-Event-ID gets no event.
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
      onUpdate: ({ orderState }) => void seen.push(orderState),
    });
    result.catch(() => undefined);
    await settled();
    expect(seen).toEqual(['undecided']);
    now = open;
    cut();
    await settled();
    expect(seen).toEqual(['undecided', 'open']);
    now = undecided;
    await vi.advanceTimersByTimeAsync(1_000);
    expect(seen).toEqual(['undecided', 'open', 'undecided']);
    leaving.abort(new Error('enough'));
    await expect(result).rejects.toThrow('enough');
  });

  test('a stream that works but ends every 30 s is reopened immediately each time', async () => {
    const { streams } = await asked(async (signal) => stream(signal, 30_000), held);
    expect(Math.max(...gaps(streams))).toBeLessThan(35_000);
  });
});
