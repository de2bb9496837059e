import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { describe, expect, test, vi } from 'vitest';
import { modeOf } from '../../../src/channels/stripe/declaration.ts';
import { ChannelError } from '../../../src/domain/channel.ts';
import { adapter, double, pay, refundOf, requests } from './adapter-support.ts';
import { ACCOUNT, accountOf, adapterAt, CREDENTIALS, created, errorOf, newTrade } from './support.ts';

/** Tests how the adapter behaves if Stripe's answer is missing or wrong, or if the account has an error. */

describe('listings', () => {
  /**
   * Makes the server list `total` sessions that are not nodrop's. The metadata of each session is as long as Stripe
   * allows.
   */
  async function listing(total: number) {
    let pages = 0;
    const metadata = Object.fromEntries(Array.from({ length: 50 }, (_, i) => [`k${i}`, 'x'.repeat(500)]));
    const server = createServer((request, response) => {
      pages += 1;
      const { searchParams } = new URL(request.url ?? '', 'http://stripe');
      const from = Number(searchParams.get('starting_after')?.split('_').at(-1) ?? 0);
      const limit = Math.min(Number(searchParams.get('limit')), total - from);
      const data = Array.from({ length: limit }, (_, i) => ({
        ...{
          id: `cs_test_${from + i + 1}`,
          object: 'checkout.session',
          status: 'open',
          payment_status: 'unpaid',
        },
        ...{ expires_at: 1_800_000_000, metadata },
      }));
      response.setHeader('content-type', 'application/json');
      response.end(JSON.stringify({ object: 'list', has_more: from + limit < total, data }, null, 2));
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const { port } = server.address() as AddressInfo;
    const find = () => adapterAt(`http://127.0.0.1:${port}`).findTrade?.(ACCOUNT, newTrade());
    return { find, pages: () => pages, stop: () => server.close() };
  }

  test('a listing of up to ten long pages is read to its end', async () => {
    const { find, pages, stop } = await listing(1_000);
    expect(await find()).toBe('absent');
    expect(pages()).toBe(10);
    stop();
  });

  test('if a listing has more pages than the adapter has time to read, the result is unknown', async () => {
    const { find, pages, stop } = await listing(1_001);
    expect(await errorOf(find() ?? Promise.resolve())).toMatchObject({ kind: 'unreachable' });
    expect(pages()).toBe(10);
    stop();
  });
});

describe('bad answers', () => {
  test.each([
    ['500', 'unreachable'],
    ['409', 'unreachable'],
    ['429', 'rate_limited'],
    ['403', 'misconfigured'],
    ['nonsense', 'garbage'],
    ['html', 'garbage'],
    ['number', 'garbage'],
    ['redirect', 'garbage'],
  ] as const)(
    'every call reports the fault "%s" as %s, and sends each request only once',
    async (kind, expected) => {
      const trade = await created(adapter);
      const paid = await created(adapter);
      await pay(paid);
      await double.tell('faults', [{ kind, of: '', times: 99 }]);
      await requests();
      const calls: (() => Promise<unknown>)[] = [
        () => adapter.createTrade(ACCOUNT, newTrade()),
        () => adapter.createTrade(ACCOUNT, newTrade({ method: 'payment_intent' })),
        () => adapter.queryTrade(ACCOUNT, trade),
        () => adapter.refundTrade(ACCOUNT, paid, refundOf()),
        () => adapter.queryRefund(ACCOUNT, paid, { ...refundOf(), channelRefundId: 're_1' }),
        () => adapter.checkAccount(ACCOUNT),
      ];
      for (const call of calls) expect(await errorOf(call())).toMatchObject({ kind: expected });
      expect(await requests()).toHaveLength(calls.length);
      expect(await errorOf(adapter.closeTrade(ACCOUNT, trade))).toMatchObject({ kind: expected });
    },
  );

  test('an answer 429 sets the delay before the next request', async () => {
    await double.tell('faults', [{ kind: '429', of: '', times: 1 }]);
    expect(await errorOf(adapter.createTrade(ACCOUNT, newTrade()))).toMatchObject({ retryAfterMs: 2_000 });
  });

  test('if Stripe replays an earlier answer 500, the error is marked as replayed', async () => {
    const trade = newTrade();
    await double.tell('faults', [{ kind: '500_stored', of: 'POST /v1/checkout/sessions', times: 1 }]);
    const first = await errorOf(adapter.createTrade(ACCOUNT, trade));
    expect(first).toMatchObject({ kind: 'unreachable', isReplayed: false });
    const second = await errorOf(adapter.createTrade(ACCOUNT, trade));
    expect(second).toMatchObject({ kind: 'unreachable', isReplayed: true, message: first.message });
    await double.tell('pruneKeys', {});
    await expect(created(adapter, trade)).resolves.toBeDefined();
  });

  test('if the connection fails, the adapter does not retry the call', async () => {
    const dead = adapterAt('http://127.0.0.1:9');
    expect(await errorOf(dead.createTrade(ACCOUNT, newTrade()))).toMatchObject({ kind: 'unreachable' });
  });

  test('an amount that Stripe refuses is reported as rejected', async () => {
    expect(await errorOf(adapter.createTrade(ACCOUNT, newTrade({ amount: 49 })))).toMatchObject({
      kind: 'rejected',
      message: expect.stringContaining('amount_too_small'),
    });
  });
});

describe('accounts', () => {
  test('an account is accepted if Stripe lists what the adapter needs', async () => {
    await expect(adapter.checkAccount(ACCOUNT)).resolves.toBeUndefined();
  });

  test('the error of checkAccount names the reason why an account does not work, and does not contain the key', async () => {
    const wrong = accountOf({ ...CREDENTIALS, secret_key: 'sk_test_canary' });
    const error = await errorOf(adapter.checkAccount(wrong));
    expect(error).toBeInstanceOf(ChannelError);
    expect(error.kind).toBe('misconfigured');
    expect(error.message).toMatch(/^Stripe refuses to list Checkout Sessions: /);
    expect(JSON.stringify([error.message, error.cause])).not.toContain('canary');
    await double.tell('faults', [{ kind: '403', of: 'GET /v1/disputes', times: 1 }]);
    expect((await errorOf(adapter.checkAccount(ACCOUNT))).message).toMatch(/refuses to list disputes/);
    const mixed = accountOf({ ...CREDENTIALS, publishable_key: 'pk_live_1' });
    expect((await errorOf(adapter.checkAccount(mixed))).message).toMatch(/two keys of the same mode/);
  });

  test.each([
    [400, 'is 7 min ahead of the channel'],
    [-400, 'is 7 min behind the channel'],
  ])("checkAccount reports a clock that differs by %i s from the channel's clock", async (seconds, words) => {
    vi.useFakeTimers({ toFake: ['Date'], now: Date.now() + seconds * 1000 });
    expect((await errorOf(adapter.checkAccount(ACCOUNT))).message).toContain(words);
  });

  test.each([
    ['sk_test_1', 'test'],
    ['rk_test_1', 'test'],
    ['sk_live_1', 'live'],
    ['rk_live_1', 'live'],
  ])('an account with the key %s has the mode %s', (secret_key, mode) => {
    expect(modeOf({ secret_key })).toBe(mode);
  });
});
