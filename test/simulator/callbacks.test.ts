import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { CallbackError } from '../../src/domain/channel.ts';
import { eventually } from '../support/progress.ts';
import {
  ACCOUNT,
  call,
  newTrade,
  type Received,
  receiver,
  SECRETS,
  signature,
  start,
  tempFolder,
  tradeNamed,
} from './support.ts';

/**
 * Tests the simulator's callbacks. Like a real channel's callbacks, they are signed, and may be repeated, lost or
 * forged.
 */

/** A simulator with one trade, which sends its callbacks to a receiver. */
async function scene(
  faults: object = {},
  answer?: (count: number) => number,
  callbackRetryMs?: readonly number[],
) {
  const shop = await receiver(answer);
  const folder = tempFolder();
  const simulator = await start({ folder, ...(callbackRetryMs === undefined ? {} : { callbackRetryMs }) });
  const trade = newTrade({ notifyUrl: shop.url });
  await simulator.adapter.createTrade(ACCOUNT, trade);
  await simulator.setFaults({ callback: faults });
  return { ...simulator, shop, trade, folder, no: trade.outTradeNo };
}

function only(received: readonly Received[]): Received {
  const [first] = received;
  if (first === undefined) throw new Error('no callback');
  return first;
}

function idOf(callback: Received): unknown {
  return callback.headers['webhook-id'];
}

describe('callbacks', () => {
  test('a callback that reports a success is verified and read by the adapter', async () => {
    const { shop, adapter, adapterOf, pay, no, ledger } = await scene();
    await pay(no);
    const callback = only(await shop.until(1));
    expect(callback.content.type).toBe('trade.succeeded');
    const { headers, rawBody } = callback;
    const signed = [headers['webhook-id'], headers['webhook-timestamp']].map(String) as [string, string];
    expect(headers['webhook-signature']).toBe(signature(SECRETS.simulator, ...signed, rawBody.toString()));
    expect(await adapter.verifyCallback(ACCOUNT, { headers, rawBody })).toEqual({
      kind: 'trade',
      notificationId: headers['webhook-id'],
      about: { outTradeNo: no },
      answer: await adapter.queryTrade(ACCOUNT, tradeNamed(no)),
    });
    expect(adapter.peekOutTradeNo(rawBody)).toBe(no);
    await expect(adapterOf('simulator2').verifyCallback(ACCOUNT, { headers, rawBody })).rejects.toThrow(
      CallbackError,
    );
    expect(await ledger()).toMatchObject([{ callbackAttempts: 1 }]);
  });

  test('a callback reports a decline', async () => {
    const { shop, adapter, pay, no } = await scene();
    await pay(no, 'declined');
    const { headers, rawBody, content } = only(await shop.until(1));
    expect(content.type).toBe('trade.failed');
    expect(await adapter.verifyCallback(ACCOUNT, { headers, rawBody })).toMatchObject({
      answer: { state: 'failed' },
    });
  });

  test('a callback reports a refund once it has succeeded', async () => {
    const { shop, adapter, pay, no, url, setFaults } = await scene();
    await pay(no);
    await setFaults({ refund: { processingMs: 20 } });
    const refund = JSON.stringify({ outRefundNo: 'r1', amount: 1050 });
    const made = await call(url, 'POST', `/v1/trades/${no}/refunds`, refund);
    expect(made.body).toMatchObject({ state: 'PROCESSING', refundedAt: null });
    const callbacks = await shop.until(2);
    const told = callbacks.find(({ content }) => content.type === 'refund.succeeded');
    expect(told?.content.data).toMatchObject({ outRefundNo: 'r1', refundAmount: 1050, state: 'REFUND' });
    expect(
      await adapter.verifyCallback(ACCOUNT, {
        headers: told?.headers ?? {},
        rawBody: told?.rawBody ?? Buffer.of(),
      }),
    ).toMatchObject({
      about: { outTradeNo: no },
      answer: { state: 'refunded', refundedAmount: 1050 },
      refund: {
        outRefundNo: 'r1',
        answer: { state: 'succeeded', channelRefundId: expect.stringMatching(/^simr_/), amount: 1050 },
      },
    });
    expect(await adapter.queryTrade(ACCOUNT, tradeNamed(no))).toMatchObject({ state: 'refunded' });
  });

  test('a callback is retried with the same id and a new signature until it is acknowledged', async () => {
    const { shop, adapter, pay, no, ledger } = await scene(
      {},
      (count) => (count < 3 ? 503 : 204),
      [1, 1, 1, 1],
    );
    await pay(no);
    const callbacks = await shop.until(3);
    expect(new Set(callbacks.map(idOf)).size).toBe(1);
    for (const { headers, rawBody } of callbacks) await adapter.verifyCallback(ACCOUNT, { headers, rawBody });
    expect(await ledger()).toMatchObject([{ callbackAttempts: 3 }]);
  });

  test('a callback that is answered with a redirect is sent again until its last attempt', async () => {
    const { shop, pay, no, trade, adapter } = await scene({}, () => 302, [1]);
    await pay(no);
    await shop.until(2);
    // Both callbacks of the later trade have arrived. A third callback of the first trade would have arrived before
    // them.
    const later = newTrade({ notifyUrl: trade.notifyUrl });
    await adapter.createTrade(ACCOUNT, later);
    await pay(later.outTradeNo);
    const callbacks = await shop.until(4);
    expect(callbacks.filter(({ content }) => content.data.outTradeNo === no)).toHaveLength(2);
  });

  test('a callback that is undelivered is sent after the next start', async () => {
    const hour = 3_600_000;
    const { shop, pay, no, close, folder } = await scene({}, (count) => (count === 1 ? 500 : 200), [
      hour,
      hour,
    ]);
    await pay(no);
    await shop.until(1);
    await close();
    // Makes all callbacks due, as if an hour had passed.
    const journal = join(folder, 'journal.jsonl');
    writeFileSync(journal, readFileSync(journal, 'utf8').replace(/"nextAt":\d+/g, '"nextAt":0'));
    await start({ folder });
    const [first, second] = await shop.until(2);
    expect(second && idOf(second)).toBe(first && idOf(first));
  });
});

describe('faults of callbacks', () => {
  test('with dropRate, no callback is sent although the trade is paid', async () => {
    const { shop, adapter, pay, no, trade, setFaults, ledger } = await scene({ dropRate: 1 });
    await pay(no);
    await setFaults({ callback: { dropRate: 0 } });
    const second = newTrade({ notifyUrl: trade.notifyUrl });
    await adapter.createTrade(ACCOUNT, second);
    await pay(second.outTradeNo);
    const callback = only(await shop.until(1));
    expect(callback.content.data.outTradeNo).toBe(second.outTradeNo);
    expect(await ledger()).toMatchObject([
      { outTradeNo: no, state: 'SUCCESS', callbackAttempts: 0 },
      { outTradeNo: second.outTradeNo, callbackAttempts: 1 },
    ]);
  });

  test('with duplicates, the configured number of extra copies is sent with the same id', async () => {
    const { shop, pay, no, ledger } = await scene({ duplicates: 2 });
    await pay(no);
    const callbacks = await shop.until(3);
    expect(new Set(callbacks.map(idOf)).size).toBe(1);
    expect(await ledger()).toMatchObject([{ callbackAttempts: 3 }]);
  });

  test('with corruptSignatureRate, every attempt has a wrong signature, but names the trade', async () => {
    const { shop, adapter, pay, no } = await scene({ corruptSignatureRate: 1 }, () => 401, [1]);
    await pay(no);
    for (const { headers, rawBody } of await shop.until(2)) {
      await expect(adapter.verifyCallback(ACCOUNT, { headers, rawBody })).rejects.toMatchObject({
        kind: 'unverified',
      });
      expect(adapter.peekOutTradeNo(rawBody)).toBe(no);
    }
  });

  test('with wrongAmountRate, a callback has a valid signature, but another amount than a query reports', async () => {
    const { shop, adapter, pay, no } = await scene({ wrongAmountRate: 1 });
    await pay(no);
    const { headers, rawBody } = only(await shop.until(1));
    expect(await adapter.verifyCallback(ACCOUNT, { headers, rawBody })).toMatchObject({
      answer: { amount: 1051 },
    });
    expect(await adapter.queryTrade(ACCOUNT, tradeNamed(no))).toMatchObject({ amount: 1050 });
  });

  test('with outOfOrder, an outdated callback with a valid signature follows the callback of the success', async () => {
    const { shop, adapter, pay, no } = await scene({ outOfOrder: true });
    await pay(no);
    const callbacks = await shop.until(2);
    const told = await Promise.all(
      callbacks.map(({ headers, rawBody }) => adapter.verifyCallback(ACCOUNT, { headers, rawBody })),
    );
    expect(told).toMatchObject([{ answer: { state: 'paid' } }, { answer: { state: 'processing' } }]);
    expect(new Set(callbacks.map(idOf)).size).toBe(2);
  });

  test('with delayMs, a callback is sent later, even after a restart', async () => {
    const { shop, pay, no, close, folder } = await scene({ delayMs: 3_600_000 });
    await pay(no);
    await close();
    expect(shop.received).toEqual([]);
    const journal = join(folder, 'journal.jsonl');
    writeFileSync(journal, readFileSync(journal, 'utf8').replace(/"nextAt":\d+/g, '"nextAt":0'));
    const { ledger } = await start({ folder });
    await shop.until(1);
    await eventually(async () => {
      expect(await ledger()).toMatchObject([{ callbackAttempts: 1 }]);
      return true;
    });
  });
});

describe('verifyCallback', () => {
  const now = () => Math.floor(Date.now() / 1000);
  const good = {
    type: 'trade.succeeded',
    data: {
      outTradeNo: 'p1',
      state: 'SUCCESS',
      amount: 1050,
      currency: 'CNY',
      transactionId: 'sim_1',
      paidAt: '2026-01-01T00:00:00.000Z',
    },
  };

  async function verify(
    content: unknown,
    timestamp: number | string = now(),
    change: Record<string, string> = {},
  ) {
    const { adapter } = await start();
    const body = typeof content === 'string' ? content : JSON.stringify(content);
    const headers = {
      'webhook-id': 'msg_1',
      'webhook-timestamp': String(timestamp),
      'webhook-signature': signature(SECRETS.simulator, 'msg_1', timestamp, body),
      ...change,
    };
    return await adapter.verifyCallback(ACCOUNT, { headers, rawBody: Buffer.from(body) });
  }

  test('verifyCallback accepts a callback if one of its signatures is valid', async () => {
    const timestamp = now();
    const right = signature(SECRETS.simulator, 'msg_1', timestamp, JSON.stringify(good));
    const several = { 'webhook-signature': `v1,AAAA v2,x ${right}` };
    expect(await verify(good, timestamp, several)).toMatchObject({
      notificationId: 'msg_1',
      about: { outTradeNo: 'p1' },
    });
  });

  test.each<[string, () => Promise<unknown>]>([
    ['no signature', () => verify(good, now(), { 'webhook-signature': '' })],
    ['no id', () => verify(good, now(), { 'webhook-id': '' })],
    ['another id', () => verify(good, now(), { 'webhook-id': 'msg_2' })],
    ['a half signature', () => verify(good, now(), { 'webhook-signature': 'v1' })],
    ['a changed time', () => verify(good, now(), { 'webhook-timestamp': String(now() - 1) })],
    ['a replayed old callback', () => verify(good, now() - 301)],
    ['a callback from the future', () => verify(good, now() + 302)],
    ['no time', () => verify(good, 'soon')],
  ])('rejects a callback as unverified: %s', async (_, attempt) => {
    await expect(attempt()).rejects.toMatchObject({ name: 'CallbackError', kind: 'unverified' });
  });

  test.each<[string, unknown]>([
    ['not JSON', '{"type":'],
    ['an empty body', ''],
    ['no data', { type: 'trade.succeeded' }],
    ['an unknown state', { ...good, data: { ...good.data, state: 'WON' } }],
    ['an amount of 0', { ...good, data: { ...good.data, amount: 0 } }],
    ['paid without a transaction', { ...good, data: { ...good.data, transactionId: null } }],
  ])('rejects a validly signed callback as malformed: %s', async (_, content) => {
    await expect(verify(content)).rejects.toMatchObject({ name: 'CallbackError', kind: 'malformed' });
  });
});
