import { readFileSync } from 'node:fs';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { createClient } from '../../clients/js/index.js';
import './client-support.ts';

// Tests the JavaScript client in a browser page that is hidden, frozen or offline. Also tests the files that the page
// loads.

describe('the client in a browser page', () => {
  const PAYMENT = { id: 'pay_1', status: 'paying', orderUpdate: null };
  const asJson = (body: object) =>
    new Response(JSON.stringify(body), { headers: { 'content-type': 'application/json' } });

  /** The part of a page that the client reads: whether the page is visible. */
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

  /**
   * Starts a client that waits for a payment, and records its requests. A stream sends one comment. A held poll is
   * never answered.
   */
  function waits({ answer = (): object => PAYMENT, hasSlot = true } = {}) {
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
        if (!hasSlot) return new Response(null, { status: 503 });
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

  test('a hidden page polls at growing intervals, and none of its polls is a held poll', async () => {
    page.turn('hidden');
    const { asked, whats, leave } = waits();
    await vi.advanceTimersByTimeAsync(600_000);
    expect(new Set(whats())).toEqual(new Set(['poll']));
    expect(gaps(asked)[0]).toBe(1_000);
    expect(new Set(gaps(asked).slice(-20))).toEqual(new Set([15_000]));
    await leave();
  });

  test('a hidden page polls again after 1 s as long as each poll reports a change', async () => {
    page.turn('hidden');
    let version = 0;
    const { asked, leave } = waits({ answer: () => ({ ...PAYMENT, amount: version++ }) });
    await vi.advanceTimersByTimeAsync(60_000);
    expect(new Set(gaps(asked))).toEqual(new Set([1_000]));
    await leave();
  });

  test('a page that becomes hidden closes its stream immediately, and opens a stream again when it becomes visible', async () => {
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

  test('a page that becomes hidden aborts a held poll', async () => {
    const { asked, whats, leave } = waits({ hasSlot: false });
    await vi.advanceTimersByTimeAsync(1_000);
    expect(whats()).toEqual(['stream', 'poll', 'held poll']);
    page.turn('hidden');
    await vi.advanceTimersByTimeAsync(60_000);
    expect(asked[2]?.signal.aborted).toBe(true);
    expect(new Set(whats().slice(3))).toEqual(new Set(['poll']));
    await leave();
  });

  test('when a wait ends, the client has removed all of its listeners from the page', async () => {
    const added = vi.spyOn(page, 'addEventListener');
    const removed = vi.spyOn(page, 'removeEventListener');
    const { leave } = waits();
    await settled();
    await leave();
    expect(added.mock.calls.length).toBeGreaterThan(0);
    expect(removed.mock.calls).toEqual(expect.arrayContaining(added.mock.calls));
  });

  test('a page that is not allowed to use Web Locks uses a stream without a lock', async () => {
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
      /**
       * Grants the lock.
       * @returns a promise that ends when the lock is released; undefined if the lock is released immediately
       */
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

    test('while other pages have all the locks, a page polls, and none of its polls is a held poll', async () => {
      const { whats, leave } = waits();
      await vi.advanceTimersByTimeAsync(600_000);
      expect(new Set(whats())).toEqual(new Set(['poll']));
      // The client requests each lock once, and the request stays open.
      expect(locks.map(({ name }) => name)).toEqual(
        [0, 1, 2].map((place) => `nodrop-stream-${place} https://pay.example`),
      );
      await leave();
      expect(locks.map(({ signal }) => signal.aborted)).toEqual([true, true, true]);
    });

    test('a page that gets a lock opens a stream and cancels its other lock requests, and a page that becomes hidden releases its lock', async () => {
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
      // The client has aborted its request for the first lock. If the lock is granted anyway, the client releases it
      // immediately.
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

    test('a page that gets a lock while it polls opens its stream without a pause', async () => {
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

    test('a hidden page requests no locks', async () => {
      page.turn('hidden');
      const { leave } = waits();
      await vi.advanceTimersByTimeAsync(60_000);
      expect(locks).toEqual([]);
      await leave();
    });
  });

  test('a client outside a page always uses a stream without a lock, even if the environment has Web Locks', async () => {
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

describe('the files of the package', () => {
  const read = (name: string) => readFileSync(new URL(`../../clients/js/${name}`, import.meta.url), 'utf8');
  // Comments are removed first, because types in comments may import other files.
  const codeOf = (name: string) => read(name).replaceAll(/\/\*[\s\S]*?\*\/|^\s*\/\/.*$/gm, '');

  test('have no dependencies, and index.js imports no other file', () => {
    const code = codeOf('index.js');
    expect(code).toContain('export function createClient');
    expect(code).not.toMatch(/\bimport\b|\brequire\s*\(|\bfrom\s*['"]/);
    const imports = [...codeOf('server.js').matchAll(/from '(.*)'/g)].map(([, path]) => path);
    for (const path of imports) expect(path).toMatch(/^(node:.*|\.\/index\.js)$/);
    for (const types of ['index.d.ts', 'server.d.ts', 'api.d.ts'])
      expect(read(types)).not.toMatch(/(from|import\()\s*['"](?!\.\/)/);
    expect(Object.keys(JSON.parse(read('package.json'))).filter((name) => /depend/i.test(name))).toEqual([]);
  });

  test('index.js has a size limit, because the cashier page loads it', () => {
    expect(Buffer.byteLength(read('index.js'))).toBeLessThanOrEqual(22_727);
  });

  test("the payer's client never sends a key", async () => {
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
