import { randomBytes } from 'node:crypto';
import { afterAll, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest';
import type { ChannelAdapter, NewTrade } from '../../../src/domain/channel.ts';
import { oracleFolder, startWechatpayDouble, type WechatpayDouble } from '../../doubles/wechatpay/start.ts';
import { serve } from '../contract/http.ts';
import { accountOf, errorOf, newAdapter, newTrade, refundOf, requestOf } from './support.ts';

/** Tests callbacks that an implementation other than nodrop's has encrypted and signed. */

const folder = oracleFolder();
let double: WechatpayDouble;
let adapter: ChannelAdapter;

beforeAll(async () => {
  if (folder !== undefined) double = await startWechatpayDouble(folder);
});
afterAll(async () => await double?.stop());
beforeEach(async () => {
  adapter = newAdapter();
  if (folder !== undefined) await double.tell('rules', { callbacks: 'lost', refundsBecome: 'SUCCESS' });
});

type Name = keyof WechatpayDouble['accounts'];
const account = (name: Name = 'direct') => accountOf(double.accounts[name]);

async function paid(name: Name = 'direct', changes: Partial<NewTrade> = {}): Promise<NewTrade> {
  const trade = newTrade(changes);
  await adapter.createTrade(account(name), trade);
  await double.tell('pay', { outTradeNo: trade.outTradeNo });
  return trade;
}

type Made = { readonly headers: Record<string, string>; readonly body: string };
const made = async ({ outTradeNo }: NewTrade, given: object = {}) =>
  (await double.tell('callback', { outTradeNo, ...given })) as Made;

const refused = async (request: Made, name: Name = 'direct') =>
  await errorOf(adapter.verifyCallback(account(name), requestOf(request)));

describe.skipIf(folder === undefined)('callbacks about payments', () => {
  test("a callback that is verified with a certificate or the public key contains nodrop's number and WeChat Pay's id of the payment", async () => {
    for (const name of ['direct', 'modern', 'provider'] as const) {
      const trade = await paid(name);
      const { body, headers } = await made(trade);
      expect(headers['wechatpay-serial']?.startsWith('PUB_KEY_ID_'), name).toBe(name === 'modern');
      expect(await adapter.verifyCallback(account(name), requestOf({ body, headers })), name).toEqual({
        kind: 'trade',
        notificationId: JSON.parse(body).id,
        about: { outTradeNo: trade.outTradeNo },
        answer: {
          ...{ state: 'paid', amount: 1990, currency: 'CNY', payerAmount: 1990 },
          channelPaymentId: expect.stringMatching(/^42000/),
          paidAt: expect.stringMatching(/\+08:00$/),
        },
      });
    }
  });

  test('a callback about a refunded payment is a proven notice, which makes nodrop query WeChat Pay', async () => {
    const trade = await paid();
    const request = requestOf(await made(trade, { content: { trade_state: 'REFUND' } }));
    expect(await adapter.verifyCallback(account(), request)).toMatchObject({
      ...{ kind: 'notice', about: { outTradeNo: trade.outTradeNo }, isProven: true },
    });
  });

  test('a callback with a wrong amount is verified and reports that amount, because the ledger compares it', async () => {
    const trade = await paid();
    const request = await made(trade, { content: { amount: { total: 1, currency: 'CNY' } } });
    expect(await adapter.verifyCallback(account(), requestOf(request))).toMatchObject({
      answer: { amount: 1 },
    });
  });

  test('a callback for another merchant or key is refused, but a callback for another appid is treated as a proven notice', async () => {
    const trade = await paid();
    const wrong = {
      'another merchant': { content: { mchid: '1900000110' } },
      'another key': { apiV3Key: randomBytes(16).toString('hex') },
    };
    for (const [says, given] of Object.entries(wrong)) {
      expect(await refused(await made(trade, given)), says).toMatchObject({
        ...{ name: 'CallbackError', kind: 'unverified', message: expect.stringContaining(says) },
      });
    }
    const ofAnother = await made(await paid('other'));
    expect(await refused(ofAnother)).toMatchObject({ kind: 'unverified' });
    const sub = await made(await paid('provider'), { content: { sub_mchid: '1900000202' } });
    expect(await refused(sub, 'provider')).toMatchObject({ kind: 'unverified' });
    // The merchant's own code created this order with another account or another app of the merchant.
    const appids = { direct: { appid: 'wx0000000000000000' }, provider: { sp_appid: 'wx0000000000000000' } };
    for (const name of ['direct', 'provider'] as const) {
      const other = await paid(name);
      const request = requestOf(await made(other, { content: appids[name] }));
      expect(await adapter.verifyCallback(account(name), request), name).toEqual({
        ...{ kind: 'notice', isProven: true, about: { outTradeNo: other.outTradeNo } },
        notificationId: expect.any(String),
      });
    }
  });

  test('a callback is refused if its time is more than five minutes before or after the current time', async () => {
    const trade = await paid();
    for (const atOffsetMs of [-290_000, 290_000]) {
      const request = requestOf(await made(trade, { atOffsetMs }));
      expect(await adapter.verifyCallback(account(), request)).toMatchObject({ kind: 'trade' });
    }
    expect((await refused(await made(trade, { atOffsetMs: -310_000 }))).message).toContain('too old');
    expect((await refused(await made(trade, { atOffsetMs: 310_000 }))).message).toContain('future');
  });

  test('a callback that arrives more than 10 min after the payment is a notice, because the payment may have been refunded since then', async () => {
    const trade = await paid();
    const about = { outTradeNo: trade.outTradeNo };
    const paidAgo = (ms: number) => ({ success_time: new Date(Date.now() - ms).toISOString() });
    const verify = async (content: object) =>
      await adapter.verifyCallback(account(), requestOf(await made(trade, { content })));
    expect(await verify(paidAgo(9 * 60_000))).toMatchObject({ kind: 'trade', about });
    const late = await verify(paidAgo(11 * 60_000));
    expect(late).toMatchObject({ kind: 'notice', about, isProven: true });
    expect(late).not.toHaveProperty('answer');
  });

  test('a callback with a changed resource is refused, even if the signature of the callback is valid', async () => {
    const trade = await paid();
    const { body } = await made(trade);
    const content = JSON.parse(body) as { resource: Record<string, string> };
    const { ciphertext = '', nonce = '' } = content.resource;
    const bytes = Buffer.from(ciphertext, 'base64');
    const flipped = (at: number) => {
      const changed = Buffer.from(bytes);
      changed[at] = (changed[at] ?? 0) ^ 1;
      return changed.toString('base64');
    };
    const changes = {
      'the first byte': { ciphertext: flipped(0) },
      'the last byte of the tag': { ciphertext: flipped(bytes.length - 1) },
      'no tag': { ciphertext: bytes.subarray(0, -16).toString('base64') },
      'a short tag': { ciphertext: bytes.subarray(0, -4).toString('base64') },
      'the associated data': { associated_data: 'refund' },
      'no associated data': { associated_data: undefined },
      'the nonce': { nonce: `${nonce.slice(1)}0` },
      'a long nonce': { nonce: `${nonce}0` },
    };
    const { mchid = '' } = double.accounts.direct;
    for (const [what, change] of Object.entries(changes)) {
      const changed = JSON.stringify({ ...content, resource: { ...content.resource, ...change } });
      const headers = await double.tell('sign', { mchid, body: changed, atMs: Date.now() });
      const error = await refused({ headers, body: changed } as Made);
      expect(error, what).toMatchObject({ name: 'CallbackError', kind: 'unverified' });
    }
  });

  test('a callback is refused if its signature is missing, is of another type or key, or is a probe of WeChat Pay', async () => {
    const trade = await paid();
    const { headers, body } = await made(trade);
    const probe = `WECHATPAY/SIGNTEST/${headers['wechatpay-signature']?.slice(19)}`;
    const changes: Record<string, string | undefined>[] = [
      { 'wechatpay-signature': probe },
      { 'wechatpay-signature': undefined },
      { 'wechatpay-serial': 'A'.repeat(40) },
      { 'wechatpay-serial': 'PUB_KEY_ID_0000000000' },
      { 'wechatpay-serial': '../../etc' },
      { 'wechatpay-signature-type': 'WECHATPAY2-SM2-WITH-SM3' },
      { 'wechatpay-nonce': undefined },
      { 'wechatpay-timestamp': 'now' },
    ];
    for (const change of changes) {
      const changed = { headers: { ...headers, ...change }, body } as Made;
      expect(await refused(changed), JSON.stringify(change)).toMatchObject({ kind: 'unverified' });
    }
    const { message } = await refused({ headers: { ...headers, 'wechatpay-signature': probe }, body });
    expect(message).toContain('is testing whether');
    for (const outcome of ['refused', 'unreadable'] as const)
      expect(adapter.acknowledge?.(outcome).status).toBe(401);
    expect(adapter.acknowledge?.('stored').status).toBe(200);
    expect(adapter.peekOutTradeNo(Buffer.from(body))).toBeUndefined();
  });

  test('a callback that is signed with the old certificate is verified until WeChat Pay no longer lists this certificate', async () => {
    const trade = await paid();
    const old = await made(trade);
    const both = accountOf(double.accounts.other, double.accounts.direct);
    expect(await adapter.verifyCallback(both, requestOf(old))).toMatchObject({ kind: 'trade' });
    await double.tell('rotate', {});
    const fresh = await made(trade);
    expect(fresh.headers['wechatpay-serial']).not.toBe(old.headers['wechatpay-serial']);
    adapter = newAdapter();
    for (const request of [old, fresh]) {
      expect(await adapter.verifyCallback(account(), requestOf(request))).toMatchObject({ kind: 'trade' });
    }
    await double.tell('retire', {});
    adapter = newAdapter();
    expect(await refused(old)).toMatchObject({ kind: 'unverified' });
    expect(await adapter.verifyCallback(account(), requestOf(fresh))).toMatchObject({ kind: 'trade' });
  });

  test("if some of an account's credentials cannot be read, nodrop still verifies callbacks with the account's other credentials", async () => {
    const request = requestOf(await made(await paid()));
    const { direct } = double.accounts;
    const broken = [
      { ...direct, public_key_id: 'PUB_KEY_ID_1' },
      { ...direct, private_key: '-----BEGIN PRIVATE KEY-----AAAA-----END PRIVATE KEY-----' },
      { ...direct, api_v3_key: 'short' },
    ];
    for (const credentials of broken) {
      const rotated = accountOf(credentials, direct);
      expect(await adapter.verifyCallback(rotated, request)).toMatchObject({ kind: 'trade' });
      const alone = await errorOf(adapter.verifyCallback(accountOf(credentials), request));
      expect(alone).toMatchObject({ name: 'CallbackError', kind: 'unverified' });
    }
  });

  test('a callback that is signed with a known certificate is verified without waiting for the list of certificates', async () => {
    const trade = await paid();
    await adapter.verifyCallback(account(), requestOf(await made(trade)));
    await double.tell('rules', { clockOffsetMs: 12 * 3_600_000 });
    // The test freezes timers, so a request for the list of certificates could not time out.
    vi.useFakeTimers({ toFake: ['Date', 'setTimeout'], now: Date.now() + 12 * 3_600_000 + 1 });
    try {
      await double.tell('fault', { kind: 'silent', to: '/v3/certificates' });
      for (let nth = 0; nth < 2; nth += 1) {
        const request = requestOf(await made(trade));
        await adapter.verifyCallback(account(), request);
      }
    } finally {
      vi.useRealTimers();
      await double.tell('rules', { clockOffsetMs: 0 });
    }
  });

  test('if certificates cannot be fetched, a callback is refused in time, and WeChat Pay sends it again later', async () => {
    const request = requestOf(await made(await paid()));
    const fresh = newAdapter();
    await double.tell('fault', { kind: 'silent', to: '/v3/certificates' });
    const error = await errorOf(fresh.verifyCallback(account(), request));
    expect(error).toMatchObject({ kind: 'unverified', message: expect.stringContaining('certificates') });
    await double.tell('fault', { kind: 'status', to: '/v3/certificates' });
    await errorOf(newAdapter().verifyCallback(account(), request));
    expect(await newAdapter().verifyCallback(account(), request)).toMatchObject({ kind: 'trade' });
  });
});

describe.skipIf(folder === undefined)('other callbacks', () => {
  test("a callback about a refund contains nodrop's number and WeChat Pay's id of the refund, even if the refund has not succeeded", async () => {
    const states = { SUCCESS: 'succeeded', ABNORMAL: 'needs_person', CLOSED: 'ask_again' } as const;
    for (const name of ['direct', 'provider'] as const) {
      for (const [status, state] of Object.entries(states)) {
        const trade = await paid(name);
        const refund = refundOf(trade);
        await double.tell('rules', {
          refundsBecome: status as keyof typeof states,
          callbacks: 'sent',
        });
        // No address for refund callbacks is set at the merchant platform.
        const received = await receiving(async (notifyUrl) => {
          await adapter.refundTrade(account(name), trade, { ...refund, notifyUrl });
          await double.tell('finishRefunds', {});
        });
        expect(await adapter.verifyCallback(account(name), received), `${name} ${status}`).toMatchObject({
          kind: 'refund',
          about: { outTradeNo: trade.outTradeNo },
          refund: { outRefundNo: refund.outRefundNo, channelRefundId: expect.any(String), answer: { state } },
        });
      }
    }
  });

  test('a callback about another product is ignored, and a callback with an invalid value is malformed', async () => {
    const trade = await paid();
    const other = requestOf(await made(trade, { eventType: 'PAYSCORE.USER_OPEN_SERVICE' }));
    expect(await adapter.verifyCallback(account(), other)).toMatchObject({ kind: 'ignored' });
    // Callbacks can arrive in any order. If a callback reports a state other than a successful payment, nodrop queries
    // the order.
    for (const trade_state of ['USERPAYING', 'REFUND']) {
      const request = requestOf(await made(trade, { content: { trade_state } }));
      expect(await adapter.verifyCallback(account(), request)).toMatchObject({ kind: 'notice' });
    }
    expect(await refused(await made(trade, { content: { success_time: 'yesterday' } }))).toMatchObject({
      kind: 'malformed',
    });
  });

  test('a callback that is sent twice has the same notification id each time', async () => {
    await double.tell('rules', { callbacks: 'doubled' });
    const ids = new Set<string>();
    let count = 0;
    const server = await serve(async ({ headers, body }) => {
      const verified = await adapter.verifyCallback(account(), { headers, rawBody: Buffer.from(body) });
      ids.add(verified.notificationId);
      count += 1;
      return { status: 200, body: '{}' };
    });
    try {
      await paid('direct', { notifyUrl: `${server.url}/callbacks` });
      await expect.poll(() => count).toBe(2);
      expect(ids.size).toBe(1);
      await double.tell('rules', { callbacks: 'held' });
      await paid('direct', { notifyUrl: `${server.url}/callbacks` });
      await double.tell('release', {});
      await expect.poll(() => count).toBe(3);
      expect(ids.size).toBe(2);
    } finally {
      server.close();
    }
  });
});

/** Returns the first callback that the double sends because of `work`. */
async function receiving(work: (url: string) => Promise<void>) {
  const received: { headers: Readonly<Record<string, string>>; rawBody: Buffer }[] = [];
  const server = await serve(async ({ headers, body }) => {
    received.push({ headers, rawBody: Buffer.from(body) });
    return { status: 204, body: '' };
  });
  try {
    await work(`${server.url}/refunds`);
    return await expect
      .poll(() => received[0])
      .toBeDefined()
      .then(() => received[0] ?? { headers: {}, rawBody: Buffer.alloc(0) });
  } finally {
    server.close();
  }
}
