import { randomBytes } from 'node:crypto';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { createSimulatorAdapter } from '../../../src/channels/simulator/adapter.ts';
import {
  ACCOUNT,
  call,
  newTrade,
  refundNamed,
  SECRETS,
  settleRefunds,
  signature,
  start,
  tempFolder,
  tradeNamed,
} from '../../simulator/support.ts';
import { eventually } from '../../support/progress.ts';

/** The adapter against the simulator, over HTTP: what nodrop learns of a trade, and what it refuses to believe. */

afterEach(() => {
  vi.useRealTimers();
});

describe('the way of a trade', () => {
  it('is unknown, then unpaid, then paid with the amount, the transaction and the time', async () => {
    const { adapter, pay, url } = await start();
    const trade = newTrade();
    expect(await adapter.queryTrade(ACCOUNT, tradeNamed(trade.outTradeNo))).toEqual({
      state: 'unknown_trade',
    });
    expect(await adapter.createTrade(ACCOUNT, trade)).toEqual({
      action: { type: 'redirect', url: `${url}/pay/${trade.outTradeNo}` },
    });
    expect(await adapter.queryTrade(ACCOUNT, tradeNamed(trade.outTradeNo))).toEqual({ state: 'unpaid' });
    expect(await pay(trade.outTradeNo)).toEqual({
      status: 200,
      body: { outTradeNo: trade.outTradeNo, state: 'SUCCESS' },
    });
    expect(await adapter.queryTrade(ACCOUNT, tradeNamed(trade.outTradeNo))).toEqual({
      state: 'paid',
      channelPaymentId: expect.stringMatching(/^sim_/),
      amount: 1050,
      currency: 'CNY',
      paidAt: expect.stringMatching(/^\d{4}-\d\d-\d\dT.*Z$/),
      refundedAmount: 0,
    });
    expect(await adapter.closeTrade(ACCOUNT, tradeNamed(trade.outTradeNo))).toEqual({
      state: 'already_paid',
    });
  });

  it('is failed for good when declined', async () => {
    const { adapter, pay } = await start();
    const trade = newTrade();
    await adapter.createTrade(ACCOUNT, trade);
    await pay(trade.outTradeNo, 'declined');
    expect(await adapter.queryTrade(ACCOUNT, tradeNamed(trade.outTradeNo))).toMatchObject({
      state: 'failed',
    });
    expect((await pay(trade.outTradeNo)).status).toBe(409);
  });

  it.each([
    ['success', 'paid'],
    ['declined', 'failed'],
  ] as const)(
    'is processing until a later %s decides, and cannot be closed meanwhile',
    async (result, state) => {
      const { adapter, pay } = await start();
      const trade = newTrade();
      await adapter.createTrade(ACCOUNT, trade);
      await pay(trade.outTradeNo, 'processing');
      expect(await adapter.queryTrade(ACCOUNT, tradeNamed(trade.outTradeNo))).toEqual({
        state: 'processing',
      });
      expect(await adapter.closeTrade(ACCOUNT, tradeNamed(trade.outTradeNo))).toEqual({
        state: 'processing',
      });
      await pay(trade.outTradeNo, result);
      expect(await adapter.queryTrade(ACCOUNT, tradeNamed(trade.outTradeNo))).toMatchObject({ state });
    },
  );

  it('closes, twice with the same answer, and is not payable any more', async () => {
    const { adapter, pay } = await start();
    const trade = newTrade();
    expect(await adapter.closeTrade(ACCOUNT, tradeNamed(trade.outTradeNo))).toEqual({
      state: 'unknown_trade',
    });
    await adapter.createTrade(ACCOUNT, trade);
    expect(await adapter.closeTrade(ACCOUNT, tradeNamed(trade.outTradeNo))).toEqual({ state: 'closed' });
    expect(await adapter.closeTrade(ACCOUNT, tradeNamed(trade.outTradeNo))).toEqual({ state: 'closed' });
    expect(await adapter.queryTrade(ACCOUNT, tradeNamed(trade.outTradeNo))).toEqual({ state: 'closed' });
    expect(await pay(trade.outTradeNo)).toMatchObject({ status: 409, body: { code: 'TRADE_CLOSED' } });
  });

  it('cannot be paid after its expiry, and stays unpaid until it is closed', async () => {
    const { adapter, pay } = await start();
    const trade = newTrade({ expiresAt: new Date(Date.now() - 1).toISOString() });
    await adapter.createTrade(ACCOUNT, trade);
    expect(await pay(trade.outTradeNo)).toMatchObject({ status: 409, body: { code: 'TRADE_EXPIRED' } });
    expect(await adapter.queryTrade(ACCOUNT, tradeNamed(trade.outTradeNo))).toEqual({ state: 'unpaid' });
    expect(await adapter.closeTrade(ACCOUNT, tradeNamed(trade.outTradeNo))).toEqual({ state: 'closed' });
  });

  it('shows money going back: in part, then in full', async () => {
    const { adapter, pay, url } = await start();
    const trade = newTrade();
    await adapter.createTrade(ACCOUNT, trade);
    const path = `/v1/trades/${trade.outTradeNo}/refunds`;
    const refund = (outRefundNo: string, amount: number) =>
      call(url, 'POST', path, JSON.stringify({ outRefundNo, amount }));

    expect(await refund('r1', 50)).toMatchObject({ status: 409, body: { code: 'TRADE_NOT_PAID' } });
    await pay(trade.outTradeNo);
    expect(await refund('r1', 50)).toMatchObject({ status: 201, body: { state: 'SUCCESS', amount: 50 } });
    expect(await refund('r1', 50)).toMatchObject({ status: 200 });
    expect(await refund('r1', 51)).toMatchObject({ status: 409, body: { code: 'OUT_REFUND_NO_USED' } });
    expect(await refund('r2', 1001)).toMatchObject({ status: 409, body: { code: 'REFUND_EXCEEDS_PAYMENT' } });
    const queried = () => adapter.queryTrade(ACCOUNT, tradeNamed(trade.outTradeNo));
    expect(await queried()).toMatchObject({ state: 'paid', amount: 1050, refundedAmount: 50 });
    await refund('r2', 1000);
    expect(await queried()).toMatchObject({ state: 'refunded', amount: 1050, refundedAmount: 1050 });
    expect(await adapter.closeTrade(ACCOUNT, tradeNamed(trade.outTradeNo))).toEqual({
      state: 'already_paid',
    });

    const day = new Date().toISOString().slice(0, 10);
    const statement = await call(url, 'GET', `/v1/statements/${day}`);
    const rows = statement.body.rows as { type: string; amount: number }[];
    expect(rows.map(({ type, amount }) => [type, amount])).toEqual([
      ['payment', 1050],
      ['refund', 50],
      ['refund', 1000],
    ]);
    expect((await call(url, 'GET', '/v1/refunds/r2')).body).toMatchObject({ amount: 1000, state: 'SUCCESS' });
  });
});

describe('giving money back', () => {
  it('is one refund however often it is asked for, in process until it has gone through', async () => {
    const folder = tempFolder();
    const { adapter, pay, setFaults, close } = await start({ folder });
    const trade = newTrade();
    const { outTradeNo } = trade;
    await adapter.createTrade(ACCOUNT, trade);
    const terms = { ...refundNamed('r1'), amount: 600, currency: 'CNY', total: 1050 };
    expect(await adapter.queryRefund(ACCOUNT, tradeNamed(outTradeNo), refundNamed('r1'))).toEqual({
      state: 'unknown_refund',
    });
    await expect(adapter.refundTrade(ACCOUNT, tradeNamed(outTradeNo), terms)).rejects.toMatchObject({
      kind: 'rejected',
    });
    await pay(outTradeNo);
    await setFaults({ refund: { processingMs: 3_600_000 } });
    expect(await adapter.refundTrade(ACCOUNT, tradeNamed(outTradeNo), terms)).toEqual({
      state: 'processing',
    });
    expect(await adapter.refundTrade(ACCOUNT, tradeNamed(outTradeNo), terms)).toEqual({
      state: 'processing',
    });
    await close();
    settleRefunds(folder);
    const { adapter: later, ledger } = await start({ folder });
    await eventually(async () => {
      expect(await later.queryRefund(ACCOUNT, tradeNamed(outTradeNo), refundNamed('r1'))).toEqual({
        state: 'succeeded',
        channelRefundId: expect.stringMatching(/^simr_/),
        amount: 600,
        refundedAt: expect.stringMatching(/Z$/),
      });
      return true;
    });
    expect(await later.refundTrade(ACCOUNT, tradeNamed(outTradeNo), terms)).toMatchObject({
      state: 'succeeded',
    });
    expect(await ledger()).toMatchObject([{ refunded: 600 }]);
  });

  it('is refused for now while the balance is too low, and given back under the same number later', async () => {
    const { adapter, pay, setFaults, ledger } = await start();
    const trade = newTrade();
    const { outTradeNo } = trade;
    await adapter.createTrade(ACCOUNT, trade);
    await pay(outTradeNo);
    const refund = { ...refundNamed('r1'), amount: 600, currency: 'CNY', total: 1050 };
    await setFaults({ refund: { balanceTooLowRate: 1 } });
    const refusal = { kind: 'not_now', message: expect.stringContaining('BALANCE_TOO_LOW') };
    await expect(adapter.refundTrade(ACCOUNT, tradeNamed(outTradeNo), refund)).rejects.toMatchObject(refusal);
    expect(await adapter.queryRefund(ACCOUNT, tradeNamed(outTradeNo), refundNamed('r1'))).toEqual({
      state: 'unknown_refund',
    });
    await setFaults({ refund: { balanceTooLowRate: 0 } });
    expect(await adapter.refundTrade(ACCOUNT, tradeNamed(outTradeNo), refund)).toMatchObject({
      state: 'succeeded',
      amount: 600,
    });
    expect(await ledger()).toMatchObject([{ refunded: 600 }]);
  });

  it('is refused for good beyond what is left; a number used before says what it gave back', async () => {
    const { adapter, pay, ledger } = await start();
    const trade = newTrade();
    const { outTradeNo } = trade;
    await adapter.createTrade(ACCOUNT, trade);
    await pay(outTradeNo);
    const refund = (outRefundNo: string, amount: number) =>
      adapter.refundTrade(ACCOUNT, tradeNamed(outTradeNo), {
        ...refundNamed(outRefundNo),
        amount,
        currency: 'CNY',
        total: 1050,
      });
    await expect(refund('r1', 1051)).rejects.toMatchObject({ kind: 'rejected' });
    expect(await refund('r2', 500)).toMatchObject({ state: 'succeeded', amount: 500 });
    expect(await refund('r2', 501)).toMatchObject({ state: 'succeeded', amount: 500 });
    expect(await ledger()).toMatchObject([{ refunded: 500 }]);
    // Somebody else's trade under the number asked for is no answer.
    await expect(
      adapter.queryRefund(ACCOUNT, tradeNamed('another'), refundNamed('r2')),
    ).rejects.toMatchObject({ kind: 'garbage' });
  });
});

describe('creating twice', () => {
  it('returns the same trade for the same content and counts the calls', async () => {
    const { adapter, ledger } = await start();
    const trade = newTrade();
    const actions = await Promise.all([1, 2, 3].map(() => adapter.createTrade(ACCOUNT, trade)));
    expect(new Set(actions.map((created) => JSON.stringify(created))).size).toBe(1);
    expect(await ledger()).toMatchObject([{ outTradeNo: trade.outTradeNo, createdCount: 3 }]);
  });

  it('refuses other content and the other account, which says nothing final of the trade', async () => {
    const { adapter, adapterOf } = await start();
    const trade = newTrade();
    await adapter.createTrade(ACCOUNT, trade);
    const refusal = { kind: 'unreachable', message: expect.stringContaining('OUT_TRADE_NO_USED') };
    await expect(adapter.createTrade(ACCOUNT, { ...trade, amount: 1 })).rejects.toMatchObject(refusal);
    await expect(adapterOf('simulator2').createTrade(ACCOUNT, trade)).rejects.toMatchObject(refusal);
    expect(await adapterOf('simulator2').queryTrade(ACCOUNT, tradeNamed(trade.outTradeNo))).toEqual({
      state: 'unknown_trade',
    });
  });

  it('is rejected for good when the terms make no sense', async () => {
    const { adapter, ledger } = await start();
    const creating = adapter.createTrade(ACCOUNT, newTrade({ currency: 'XXX' }));
    await expect(creating).rejects.toMatchObject({ kind: 'rejected' });
    expect(await ledger()).toEqual([]);
  });
});

describe('what the simulator does not believe', () => {
  const path = '/v1/trades/p1';
  const otherSecret = `whsec_${randomBytes(32).toString('base64')}`;
  it.each([
    ['a signature by another secret', { secret: otherSecret }],
    ["the other account's name", { account: 'simulator2' }],
    ['an unknown account', { account: 'nobody' }],
    ['a request of six minutes ago', { timestamp: Math.floor(Date.now() / 1000) - 360 }],
    ['a request of six minutes ahead', { timestamp: Math.floor(Date.now() / 1000) + 360 }],
    ['a signature for another path', { signedAs: 'GET /v1/trades/p2' }],
    ['a signature for another method', { signedAs: `POST ${path}` }],
  ])('%s', async (_, options) => {
    const { url } = await start();
    const answer = await call(url, 'GET', path, '', options);
    expect(answer).toMatchObject({ status: 401, body: { code: 'SIGN_ERROR' } });
  });

  it('bodies that are not JSON or larger than 256 KiB', async () => {
    const { url } = await start();
    expect(await call(url, 'POST', '/v1/trades', '{"a"')).toMatchObject({ status: 400 });
    expect(await call(url, 'POST', '/v1/trades', `"${'x'.repeat(256 * 1024)}"`)).toMatchObject({
      status: 413,
      body: { code: 'BODY_TOO_LARGE' },
    });
  });
});

describe('what the adapter does not believe', () => {
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

  /** An adapter whose channel gives this answer, signed as the protocol says unless told otherwise. */
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

  it('takes a well-signed answer (the control of the cases below)', async () => {
    expect(await answering({}).queryTrade(ACCOUNT, tradeNamed(NO))).toMatchObject({
      state: 'paid',
      amount: 1050,
    });
  });

  it.each<[string, Answer]>([
    ['an answer without a signature', { signed: false }],
    ['an answer signed by somebody else', { secret: SECRETS.simulator2 }],
    ['an answer replayed from another request', { requestId: 'req_old' }],
    ['a truncated answer', { body: JSON.stringify(trade).slice(0, 40) }],
    ['an answer on another trade', { body: JSON.stringify({ ...trade, outTradeNo: 'p2' }) }],
    ['an unknown state', { body: JSON.stringify({ ...trade, state: 'GONE' }) }],
    ['a fractional amount', { body: JSON.stringify({ ...trade, amount: 10.5 }) }],
    ['an amount beyond 2^53-1', { body: JSON.stringify({ ...trade, amount: 2 ** 53 }) }],
    ['an amount as text', { body: JSON.stringify({ ...trade, amount: '1050' }) }],
    ['an unknown currency', { body: JSON.stringify({ ...trade, currency: 'ABC' }) }],
    ['paid without a time', { body: JSON.stringify({ ...trade, paidAt: null }) }],
    ['an unsigned 404', { status: 404, body: '{"code":"TRADE_NOT_FOUND","message":""}', signed: false }],
    ['an answer of more than 1 MiB', { body: `${JSON.stringify(trade)}${' '.repeat(1024 * 1024)}` }],
    ['a redirect', { status: 302, body: '', signed: false }],
  ])('%s is garbage', async (_, answer) => {
    await expect(answering(answer).queryTrade(ACCOUNT, tradeNamed(NO))).rejects.toMatchObject({
      kind: 'garbage',
    });
  });

  it('never takes an unsigned refusal to create or to close for a definite one', async () => {
    const refusal = (code: string) => JSON.stringify({ code, message: '' });
    const creating = answering({ status: 400, body: refusal('PARAM_ERROR'), signed: false });
    await expect(creating.createTrade(ACCOUNT, newTrade())).rejects.toMatchObject({ kind: 'garbage' });
    const closing = answering({ status: 409, body: refusal('ORDERPAID'), signed: false });
    await expect(closing.closeTrade(ACCOUNT, tradeNamed(NO))).rejects.toMatchObject({ kind: 'garbage' });
  });

  it('reads no more than 1 MiB of an answer, and takes an endless refusal for no definite one', async () => {
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

  it('waits as long as a 429 says', async () => {
    const adapter = answering({ status: 429, headers: { 'retry-after': '3' } });
    const limited = { kind: 'rate_limited', retryAfterMs: 3000 };
    await expect(adapter.queryTrade(ACCOUNT, tradeNamed(NO))).rejects.toMatchObject(limited);
  });

  it('treats a wrong secret as ours to mend, never as a refusal', async () => {
    const { adapterOf } = await start();
    const wrong = adapterOf('simulator', SECRETS.simulator2);
    const unknown = { kind: 'misconfigured', message: expect.stringContaining('check the secret') };
    await expect(wrong.createTrade(ACCOUNT, newTrade())).rejects.toMatchObject(unknown);
    await expect(wrong.queryTrade(ACCOUNT, tradeNamed(NO))).rejects.toMatchObject(unknown);
  });

  it('gives up after 8 s without an answer, and at once when told to', async () => {
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
