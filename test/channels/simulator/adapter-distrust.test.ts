import { randomBytes } from 'node:crypto';
import { afterEach, describe, expect, test, vi } from 'vitest';
import { ACCOUNT, call, newTrade, SECRETS, signature, start, tradeNamed } from '../../simulator/support.ts';
import { createSimulatorAdapter } from '../../support/simulator-adapter.ts';

/** Tests over HTTP which messages the adapter and the simulator refuse from each other. */

afterEach(() => {
  vi.useRealTimers();
});

describe('the simulator', () => {
  const path = '/v1/trades/p1';
  const otherSecret = `whsec_${randomBytes(32).toString('base64')}`;
  test.each([
    ['a signature with another secret', { secret: otherSecret }],
    ["the other account's name", { account: 'simulator2' }],
    ['an unknown account', { account: 'nobody' }],
    ['a request that is six minutes old', { timestamp: Math.floor(Date.now() / 1000) - 360 }],
    ['a request from six minutes in the future', { timestamp: Math.floor(Date.now() / 1000) + 360 }],
    ['a signature for another path', { signedAs: 'GET /v1/trades/p2' }],
    ['a signature for another method', { signedAs: `POST ${path}` }],
  ])('the simulator refuses %s', async (_, options) => {
    const { url } = await start();
    const answer = await call(url, 'GET', path, '', options);
    expect(answer).toMatchObject({ status: 401, body: { code: 'SIGN_ERROR' } });
  });

  test('the simulator refuses bodies that are not JSON or larger than 256 KiB', async () => {
    const { url } = await start();
    expect(await call(url, 'POST', '/v1/trades', '{"a"')).toMatchObject({ status: 400 });
    expect(await call(url, 'POST', '/v1/trades', `"${'x'.repeat(256 * 1024)}"`)).toMatchObject({
      status: 413,
      body: { code: 'BODY_TOO_LARGE' },
    });
  });
});

describe('the adapter', () => {
  const NO = 'p1';
  const trade = {
    outTradeNo: NO,
    state: 'SUCCESS',
    amount: 1050,
    currency: 'CNY',
    transactionId: 'sim_1',
    paidAt: '2026-01-01T00:00:00.000Z',
    refunded: 0,
  };

  interface Answer {
    readonly status?: number;
    readonly body?: string;
    readonly secret?: string;
    readonly requestId?: string;
    readonly signed?: boolean;
    readonly headers?: Record<string, string>;
  }

  /**
   * An adapter whose channel returns this answer. The answer is signed as the protocol requires, unless the options
   * say otherwise.
   */
  function answering({ status = 200, body = JSON.stringify(trade), ...answer }: Answer) {
    const fake: typeof fetch = async (_url, init) => {
      const id = answer.requestId ?? new Headers(init?.headers).get('webhook-id') ?? '';
      const timestamp = Math.floor(Date.now() / 1000);
      const payload = `${status} ${id}\n${body}`;
      const signed = {
        'webhook-id': id,
        'webhook-timestamp': String(timestamp),
        'webhook-signature': signature(answer.secret ?? SECRETS.simulator, id, timestamp, payload),
      };
      return new Response(body, {
        status,
        headers: answer.signed === false ? {} : { ...signed, ...answer.headers },
      });
    };
    const options = { baseUrl: 'http://channel', secret: SECRETS.simulator, fetch: fake };
    return createSimulatorAdapter({ name: 'simulator', ...options });
  }

  test('an answer with a valid signature is accepted', async () => {
    expect(await answering({}).queryTrade(ACCOUNT, tradeNamed(NO))).toMatchObject({
      state: 'paid',
      amount: 1050,
    });
  });

  test.each<[string, Answer]>([
    ['an answer without a signature', { signed: false }],
    ['an answer signed with another secret', { secret: SECRETS.simulator2 }],
    ['an answer replayed from another request', { requestId: 'req_old' }],
    ['a truncated answer', { body: JSON.stringify(trade).slice(0, 40) }],
    ['an answer about another trade', { body: JSON.stringify({ ...trade, outTradeNo: 'p2' }) }],
    ['an unknown state', { body: JSON.stringify({ ...trade, state: 'GONE' }) }],
    ['a fractional amount', { body: JSON.stringify({ ...trade, amount: 10.5 }) }],
    ['an amount beyond 2^53-1', { body: JSON.stringify({ ...trade, amount: 2 ** 53 }) }],
    ['an amount as text', { body: JSON.stringify({ ...trade, amount: '1050' }) }],
    ['an unknown currency', { body: JSON.stringify({ ...trade, currency: 'ABC' }) }],
    ['paid without a time', { body: JSON.stringify({ ...trade, paidAt: null }) }],
    ['an unsigned 404', { status: 404, body: '{"code":"TRADE_NOT_FOUND","message":""}', signed: false }],
    ['an answer of more than 1 MiB', { body: `${JSON.stringify(trade)}${' '.repeat(1024 * 1024)}` }],
    ['a redirect', { status: 302, body: '', signed: false }],
  ])('rejects %s as garbage', async (_, answer) => {
    await expect(answering(answer).queryTrade(ACCOUNT, tradeNamed(NO))).rejects.toMatchObject({
      kind: 'garbage',
    });
  });

  test('an unsigned refusal of create or close is never definite', async () => {
    const refusal = (code: string) => JSON.stringify({ code, message: '' });
    const creating = answering({ status: 400, body: refusal('PARAM_ERROR'), signed: false });
    await expect(creating.createTrade(ACCOUNT, newTrade())).rejects.toMatchObject({ kind: 'garbage' });
    const closing = answering({ status: 409, body: refusal('ORDERPAID'), signed: false });
    await expect(closing.closeTrade(ACCOUNT, tradeNamed(NO))).rejects.toMatchObject({ kind: 'garbage' });
  });

  test('the adapter reads at most 1 MiB of an answer, and reports an endless refusal as garbage', async () => {
    let sent = 0;
    let cancelled = false;
    const endless: typeof fetch = async () => {
      const body = new ReadableStream<Uint8Array>({
        pull(controller) {
          sent += 64 * 1024;
          controller.enqueue(new Uint8Array(64 * 1024));
        },
        cancel() {
          cancelled = true;
        },
      });
      return new Response(body, { status: 400 });
    };
    const options = { baseUrl: 'http://channel', secret: SECRETS.simulator, fetch: endless };
    const adapter = createSimulatorAdapter({ name: 'simulator', ...options });
    await expect(adapter.createTrade(ACCOUNT, newTrade())).rejects.toMatchObject({
      kind: 'garbage',
      message: expect.stringContaining('more than'),
    });
    expect(cancelled).toBe(true);
    expect(sent).toBeLessThan(1.5 * 1024 * 1024);
    expect(
      await answering({ body: `${JSON.stringify(trade)}${' '.repeat(1_000_000)}` }).queryTrade(
        ACCOUNT,
        tradeNamed(NO),
      ),
    ).toMatchObject({ state: 'paid' });
  });

  test('an answer 429 with Retry-After sets the delay before the next request', async () => {
    const adapter = answering({ status: 429, headers: { 'retry-after': '3' } });
    const limited = { kind: 'rate_limited', retryAfterMs: 3000 };
    await expect(adapter.queryTrade(ACCOUNT, tradeNamed(NO))).rejects.toMatchObject(limited);
  });

  test('a wrong secret is reported as misconfigured, never as a definite refusal', async () => {
    const { adapterOf } = await start();
    const wrong = adapterOf('simulator', SECRETS.simulator2);
    const unknown = { kind: 'misconfigured', message: expect.stringContaining('check the secret') };
    await expect(wrong.createTrade(ACCOUNT, newTrade())).rejects.toMatchObject(unknown);
    await expect(wrong.queryTrade(ACCOUNT, tradeNamed(NO))).rejects.toMatchObject(unknown);
  });

  test.each([
    [600_000, /clock of this machine is 10 min behind the channel's/],
    [-90_000, /clock of this machine is 9[01] s ahead of the channel's/],
    [20_000, /check the secret of simulator$/],
  ])(
    "if the channel's clock differs by %i ms and the channel refuses a request, the error names the clock or the secret as the cause",
    async (off, sentence) => {
      const date = new Date(Date.now() + off).toUTCString();
      const refused = answering({ status: 401, headers: { date } }).queryTrade(ACCOUNT, tradeNamed(NO));
      await expect(refused).rejects.toMatchObject({
        kind: 'misconfigured',
        message: expect.stringMatching(sentence),
      });
      await expect(refused).rejects.not.toMatchObject({
        message: expect.stringContaining(SECRETS.simulator),
      });
    },
  );

  test('a call without an answer ends after 8 s, or immediately when it is aborted', async () => {
    const silent: typeof fetch = (_url, init) =>
      new Promise((_, reject) => {
        const { signal } = init ?? {};
        if (signal?.aborted) reject(signal.reason);
        signal?.addEventListener('abort', () => reject(signal.reason));
      });
    const adapter = createSimulatorAdapter({
      name: 'simulator',
      baseUrl: 'http://channel',
      secret: SECRETS.simulator,
      fetch: silent,
    });
    const aborted = adapter.queryTrade(ACCOUNT, tradeNamed(NO), AbortSignal.abort());
    await expect(aborted).rejects.toMatchObject({ kind: 'unreachable' });
    vi.useFakeTimers();
    const outcome = adapter.queryTrade(ACCOUNT, tradeNamed(NO)).catch((error: unknown) => error);
    await vi.advanceTimersByTimeAsync(8_000);
    expect(await outcome).toMatchObject({ kind: 'unreachable', message: expect.stringContaining('in time') });
  });
});
