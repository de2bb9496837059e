import { createVerify } from 'node:crypto';
import { afterAll, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest';
import type { ChannelAdapter, NewTrade } from '../../../src/domain/channel.ts';
import { oracleFolder, startWechatpayDouble, type WechatpayDouble } from '../../doubles/wechatpay/start.ts';
import { accountOf, actionOf, errorOf, newAdapter, newTrade, refundOf } from './support.ts';

/** The adapter against a process that verifies every request, and signs every answer, by another implementation. */

const folder = oracleFolder();
let double: WechatpayDouble;
let adapter: ChannelAdapter;

beforeAll(async () => {
  if (folder !== undefined) double = await startWechatpayDouble(folder);
}, 30_000);
afterAll(async () => await double?.stop());
beforeEach(async () => {
  adapter = newAdapter();
  if (folder !== undefined) {
    await double.tell('rules', {
      ...{ refundsBecome: 'SUCCESS', reopensClosedRefunds: true, hasEnough: true },
      ...{ clockOffsetMs: 0, callbacks: 'lost' },
    });
  }
});

const direct = () => accountOf(double.accounts.direct);
const seen = async () => (await double.tell('seen', {})) as { method: string; path: string; body: string }[];
const lastBody = async () =>
  JSON.parse((await seen()).findLast(({ method }) => method === 'POST')?.body ?? '{}');

async function createdTrade(trade = newTrade()): Promise<NewTrade> {
  await adapter.createTrade(direct(), trade);
  return trade;
}

async function paidTrade(): Promise<NewTrade> {
  const trade = await createdTrade();
  expect(await double.tell('pay', { outTradeNo: trade.outTradeNo })).toBe(true);
  return trade;
}

describe.skipIf(folder === undefined)('orders', () => {
  test('native gives a QR code that lives two hours, from the payment alone', async () => {
    const trade = newTrade({ expiresAt: '2026-12-31T23:30:15.999Z', subject: '😀'.repeat(127) });
    const action = actionOf(await adapter.createTrade(direct(), trade));
    expect(action).toMatchObject({ type: 'qr', qr: expect.stringMatching(/^weixin:\/\//) });
    expect(Date.parse(action.expiresAt ?? '') - Date.now()).toBeGreaterThan(119 * 60_000);
    expect(await lastBody()).toEqual({
      appid: 'wx8888888888888888',
      mchid: '1900000109',
      description: '😀'.repeat(127),
      out_trade_no: trade.outTradeNo,
      time_expire: '2027-01-01T07:30:15+08:00',
      notify_url: trade.notifyUrl,
      amount: { total: 1990, currency: 'CNY' },
    });
  });

  test('the time has the zone of China in every zone', async () => {
    vi.stubEnv('TZ', 'America/New_York');
    try {
      await adapter.createTrade(direct(), newTrade({ expiresAt: '2026-12-31T16:00:00.000Z' }));
    } finally {
      vi.unstubAllEnvs();
    }
    expect((await lastBody()).time_expire).toBe('2027-01-01T00:00:00+08:00');
  });

  test('h5 tells the address of the payer, and comes back to the return address', async () => {
    const trade = newTrade({ method: 'h5' });
    const action = actionOf(await adapter.createTrade(direct(), trade));
    expect(action.type).toBe('redirect');
    expect(new URL(action.url ?? '').searchParams.get('redirect_url')).toBe(trade.returnUrl);
    expect(Date.parse(action.expiresAt ?? '') - Date.now()).toBeLessThanOrEqual(5 * 60_000);
    expect(await lastBody()).toMatchObject({
      scene_info: { payer_client_ip: '203.0.113.7', h5_info: { type: 'Wap' } },
    });
  });

  const signedBy = (lines: readonly string[], signature: string) =>
    createVerify('RSA-SHA256')
      .update(`${lines.join('\n')}\n`)
      .verify(double.accounts.direct.private_key ?? '', signature, 'base64');

  test('jsapi names the payer, and signs what WeixinJSBridge wants', async () => {
    const { type, params = {} } = actionOf(
      await adapter.createTrade(direct(), newTrade({ method: 'jsapi' })),
    );
    expect(type).toBe('sdk');
    expect(await lastBody()).toMatchObject({ payer: { openid: 'o-openid-1' } });
    const {
      appId = '',
      timeStamp = '',
      nonceStr = '',
      package: prepay = '',
      signType,
      paySign = '',
    } = params;
    expect(appId).toBe('wx8888888888888888');
    expect(signType).toBe('RSA');
    expect(prepay).toMatch(/^prepay_id=wx/);
    expect(signedBy([appId, timeStamp, nonceStr, prepay], paySign)).toBe(true);
  });

  test('app signs what the SDK wants', async () => {
    const { params = {} } = actionOf(await adapter.createTrade(direct(), newTrade({ method: 'app' })));
    const { appid = '', partnerid, prepayid = '', noncestr = '', timestamp = '', sign = '' } = params;
    expect({ appid, partnerid, package: params.package }).toEqual({
      ...{ appid: 'wx8888888888888888', partnerid: '1900000109', package: 'Sign=WXPay' },
    });
    expect(signedBy([appid, timestamp, noncestr, prepayid], sign)).toBe(true);
  });

  test('asked again it is the same order; one that is over gives no action; of other terms it is unknown', async () => {
    const trade = await createdTrade();
    expect(actionOf(await adapter.createTrade(direct(), trade)).type).toBe('qr');
    const other = await errorOf(adapter.createTrade(direct(), { ...trade, amount: 1 }));
    expect(other).toMatchObject({
      kind: 'unreachable',
      message: expect.stringContaining('OUT_TRADE_NO_USED'),
    });
    await double.tell('pay', { outTradeNo: trade.outTradeNo });
    expect(await adapter.createTrade(direct(), trade)).toBe('not_renewable');
    const closed = await createdTrade();
    await double.tell('setState', { outTradeNo: closed.outTradeNo, state: 'CLOSED' });
    expect(await adapter.createTrade(direct(), closed)).toBe('not_renewable');
  });

  test('states in the words of the port: a payment that failed can be tried again', async () => {
    const trade = await createdTrade();
    const { outTradeNo } = trade;
    const states = {
      ...{ NOTPAY: 'unpaid', USERPAYING: 'processing', ACCEPT: 'processing', PAYERROR: 'unpaid' },
      ...{ CLOSED: 'closed', REVOKED: 'closed' },
    };
    for (const [state, said] of Object.entries(states)) {
      await double.tell('setState', { outTradeNo, state });
      expect(await adapter.queryTrade(direct(), trade), state).toEqual({ state: said });
    }
    await double.tell('setState', { outTradeNo, state: 'NEW' });
    expect(await errorOf(adapter.queryTrade(direct(), trade))).toMatchObject({ kind: 'garbage' });
    await double.tell('setState', { outTradeNo, state: 'PAYERROR' });
    await double.tell('pay', { outTradeNo, payerTotal: 1500 });
    expect(await adapter.queryTrade(direct(), trade)).toMatchObject({
      ...{ state: 'paid', amount: 1990, currency: 'CNY', payerAmount: 1500 },
      paidAt: expect.stringMatching(/\+08:00$/),
    });
  });

  test('an order is closed after five minutes, and by what WeChat Pay then says of it', async () => {
    const young = await createdTrade();
    const answer = await adapter.closeTrade(direct(), young);
    expect(answer).toEqual({
      state: 'not_yet',
      until: new Date(Date.parse(young.createdAt) + 300_000).toISOString(),
    });
    // The payment was made long before its order was asked for.
    const askedAt = new Date(Date.now() - 60_000).toISOString();
    const late = await createdTrade(newTrade({ askedAt }, 6));
    expect(await adapter.closeTrade(direct(), late)).toEqual({
      state: 'not_yet',
      until: new Date(Date.parse(askedAt) + 300_000).toISOString(),
    });
    await double.tell('rules', { clockOffsetMs: -120_000 });
    const old = await createdTrade(newTrade({}, 6));
    await double.tell('rules', { clockOffsetMs: 0 });
    // By the clock of WeChat Pay it is too young: it refuses, which says nothing.
    expect(await errorOf(adapter.closeTrade(direct(), old))).toMatchObject({ kind: 'unreachable' });
    await double.tell('setState', { outTradeNo: old.outTradeNo, state: 'USERPAYING' });
    expect(await adapter.closeTrade(direct(), old)).toEqual({ state: 'processing' });
    await double.tell('setState', { outTradeNo: old.outTradeNo, state: 'CLOSED' });
    expect(await adapter.closeTrade(direct(), old)).toEqual({ state: 'closed' });
    const paid = await createdTrade(newTrade({}, 6));
    await double.tell('pay', { outTradeNo: paid.outTradeNo });
    expect(await adapter.closeTrade(direct(), paid)).toEqual({ state: 'already_paid' });
  });

  test('what WeChat Pay does not know is not closed, though it answers 204', async () => {
    expect(await adapter.closeTrade(direct(), newTrade({}, 6))).toEqual({ state: 'unknown_trade' });
    const asked = (await seen()).filter(({ path }) => path !== '/v3/certificates');
    expect(asked.slice(-2).map(({ method }) => method)).toEqual(['POST', 'GET']);
  });
});

describe.skipIf(folder === undefined)('refunds', () => {
  test('in process, then done; asked again it is the same; the order says no sum', async () => {
    const trade = await paidTrade();
    const refund = refundOf(trade);
    const first = await adapter.refundTrade(direct(), trade, refund);
    expect(first).toMatchObject({ state: 'processing', channelRefundId: expect.stringMatching(/^50300/) });
    expect(await adapter.refundTrade(direct(), trade, refund)).toEqual(first);
    await double.tell('finishRefunds', {});
    const done = await adapter.queryRefund(direct(), trade, refund);
    expect(done).toMatchObject({ state: 'succeeded', amount: 500, refundedAt: expect.any(String) });
    const answer = await adapter.queryTrade(direct(), trade);
    expect(answer).toMatchObject({ state: 'paid', amount: 1990 });
    expect(answer).not.toHaveProperty('refundedAmount');
    expect(answer).not.toHaveProperty('refunds');
    expect(await double.tell('books', { outTradeNo: trade.outTradeNo })).toMatchObject({ refunded: 500 });
  });

  test('in another currency than the payment is none of it', async () => {
    const trade = await paidTrade();
    const refund = refundOf(trade);
    await adapter.refundTrade(direct(), trade, refund);
    const inDollars = { ...trade, currency: 'USD' };
    expect(await errorOf(adapter.queryRefund(direct(), inDollars, refund))).toMatchObject({
      kind: 'garbage',
    });
    expect(await errorOf(adapter.refundTrade(direct(), inDollars, refund))).toMatchObject({
      kind: 'garbage',
    });
  });

  test('an abnormal one needs a person', async () => {
    await double.tell('rules', { refundsBecome: 'ABNORMAL' });
    const trade = await paidTrade();
    const refund = refundOf(trade);
    await adapter.refundTrade(direct(), trade, refund);
    await double.tell('finishRefunds', {});
    expect(await adapter.queryRefund(direct(), trade, refund)).toMatchObject({ state: 'needs_person' });
  });

  test('a closed one is asked for again under its number, and has failed when it stays closed', async () => {
    await double.tell('rules', { refundsBecome: 'CLOSED' });
    const trade = await paidTrade();
    const refund = refundOf(trade);
    await adapter.refundTrade(direct(), trade, refund);
    await double.tell('finishRefunds', {});
    expect(await adapter.queryRefund(direct(), trade, refund)).toMatchObject({ state: 'ask_again' });
    expect(await adapter.refundTrade(direct(), trade, refund)).toMatchObject({ state: 'processing' });
    await double.tell('finishRefunds', {});
    await double.tell('rules', { reopensClosedRefunds: false });
    expect(await adapter.refundTrade(direct(), trade, refund)).toMatchObject({
      ...{ state: 'failed', channelRefundId: expect.any(String), reason: expect.stringContaining('balance') },
    });
    expect(await double.tell('books', { outTradeNo: trade.outTradeNo })).toMatchObject({ refunded: 0 });
  });

  test('a refusal passes, and says of a number that is used what became of it', async () => {
    const trade = await paidTrade();
    await double.tell('rules', { hasEnough: false });
    const refund = refundOf(trade);
    expect(await errorOf(adapter.refundTrade(direct(), trade, refund))).toMatchObject({
      ...{ kind: 'not_now', message: expect.stringContaining('NOT_ENOUGH') },
    });
    await double.tell('rules', { hasEnough: true });
    await adapter.refundTrade(direct(), trade, refund);
    // INVALID_REQUEST, for the number has another amount.
    const other = await adapter.refundTrade(direct(), trade, { ...refund, amount: 600 });
    expect(other).toMatchObject({ state: 'processing' });
    const tooMuch = await errorOf(adapter.refundTrade(direct(), trade, refundOf(trade, 1990)));
    expect(tooMuch).toMatchObject({ kind: 'not_now', message: expect.stringContaining('INVALID_REQUEST') });
    expect(await adapter.queryRefund(direct(), trade, refundOf(trade))).toEqual({ state: 'unknown_refund' });
  });
});

describe.skipIf(folder === undefined)('whose keys', () => {
  test('an answer that is unsigned, wrongly signed, old or of an unknown key says nothing', async () => {
    const trade = await paidTrade();
    for (const kind of ['unsigned', 'wrong signature', 'unknown serial', 'old', 'nonsense'] as const) {
      await double.tell('fault', { kind, to: 'out-trade-no' });
      const error = await errorOf(adapter.queryTrade(direct(), trade));
      expect(error, kind).toMatchObject({ kind: 'garbage' });
    }
    // A refusal that is signed wrongly is none.
    await double.tell('fault', { kind: 'wrong signature', to: 'out-trade-no' });
    expect(await errorOf(adapter.queryTrade(direct(), newTrade()))).toMatchObject({ kind: 'garbage' });
    expect(await adapter.queryTrade(direct(), trade)).toMatchObject({ state: 'paid' });
  });

  const certificatesAsked = async () =>
    (await seen()).filter(({ path }) => path === '/v3/certificates').length;

  test('certificates are fetched once, anew for a new serial, and old ones count while they are given', async () => {
    const before = await certificatesAsked();
    const trades = await Promise.all([createdTrade(), createdTrade(), createdTrade()]);
    expect(await certificatesAsked()).toBe(before + 1);
    const [trade = newTrade()] = trades;
    vi.useFakeTimers({ toFake: ['Date'], now: Date.now() + 61_000 });
    try {
      await double.tell('rotate', {});
      expect(await adapter.queryTrade(direct(), trade)).toEqual({ state: 'unpaid' });
      expect(await certificatesAsked()).toBe(before + 2);
      await double.tell('signWithOldest', {});
      expect(await adapter.queryTrade(direct(), trade)).toEqual({ state: 'unpaid' });
      // A serial that nobody has is not looked for each time.
      await double.tell('fault', { kind: 'unknown serial', to: 'out-trade-no', times: 3 });
      for (let nth = 0; nth < 3; nth += 1) await errorOf(adapter.queryTrade(direct(), trade));
      expect(await certificatesAsked()).toBe(before + 2);
    } finally {
      vi.useRealTimers();
      await double.tell('signWithOldest', {});
    }
  });

  test('certificates are renewed when they are old, and a failure to is survived', async () => {
    const trade = await createdTrade();
    const before = await certificatesAsked();
    const later = Date.now() + 12 * 3_600_000 + 1;
    await double.tell('rules', { clockOffsetMs: 12 * 3_600_000 });
    vi.useFakeTimers({ toFake: ['Date'], now: later });
    try {
      // They are renewed beside what they are needed for; after a failure not at once again.
      let now = later;
      const failures: unknown[] = [];
      const asked = async () => {
        now += 2_001;
        vi.setSystemTime(now);
        await adapter.queryTrade(direct(), trade).catch((error: unknown) => failures.push(error));
        return await certificatesAsked();
      };
      await double.tell('faults', {
        faults: [
          { kind: 'status', to: '/v3/certificates' },
          // Nothing proves that: it says nothing of those that are known.
          { kind: 'status', to: '/v3/certificates', status: 404, code: 'RESOURCE_NOT_EXISTS' },
        ],
      });
      await expect.poll(asked, { timeout: 5_000 }).toBe(before + 3);
      expect(await asked()).toBe(before + 3);
      expect(failures).toEqual([]);
    } finally {
      vi.useRealTimers();
    }
  });

  test('a merchant that has no certificates is told to set the public key', async () => {
    await double.tell('fault', {
      ...{ kind: 'status', to: '/v3/certificates', status: 404, code: 'RESOURCE_NOT_EXISTS' },
    });
    expect(await errorOf(newAdapter().checkAccount(direct()))).toMatchObject({
      ...{ kind: 'misconfigured', message: expect.stringContaining('public_key_id') },
    });
  });

  test('certificates that are forged or changed are not taken', async () => {
    await double.tell('fault', { kind: 'other certificates', to: '/v3/certificates' });
    expect(await errorOf(newAdapter().createTrade(direct(), newTrade()))).toMatchObject({ kind: 'garbage' });
    await double.tell('fault', { kind: 'tampered certificates', to: '/v3/certificates' });
    expect(await errorOf(newAdapter().createTrade(direct(), newTrade()))).toMatchObject({
      ...{ kind: 'misconfigured', message: expect.stringContaining('api_v3_key') },
    });
    await double.tell('fault', { kind: 'wrong signature', to: '/v3/certificates' });
    expect(await errorOf(newAdapter().createTrade(direct(), newTrade()))).toMatchObject({ kind: 'garbage' });
  });

  test('in public-key mode answers are by that key, and no certificates are asked for', async () => {
    const before = await certificatesAsked();
    const modern = accountOf(double.accounts.modern);
    const trade = newTrade();
    await adapter.createTrade(modern, trade);
    expect(await adapter.queryTrade(modern, trade)).toEqual({ state: 'unpaid' });
    await adapter.checkAccount(modern);
    expect(await certificatesAsked()).toBe(before);
  });

  test('a service provider asks for whom it acts, and the payer of the right account', async () => {
    const { provider } = double.accounts;
    const trade = newTrade({ method: 'jsapi' });
    await adapter.createTrade(accountOf(provider), trade);
    expect(await lastBody()).toMatchObject({
      ...{ sp_mchid: '1900000112', sp_appid: 'wx6666666666666666', sub_mchid: '1900000201' },
      payer: { sp_openid: 'o-openid-1' },
    });
    await double.tell('pay', { outTradeNo: trade.outTradeNo });
    expect(await adapter.queryTrade(accountOf(provider), trade)).toMatchObject({ state: 'paid' });
    const refund = refundOf(trade);
    await adapter.refundTrade(accountOf(provider), trade, refund);
    expect(await adapter.queryRefund(accountOf(provider), trade, refund)).toMatchObject({
      state: 'processing',
    });
    const old = newTrade({}, 6);
    await double.tell('rules', { clockOffsetMs: -240_000 });
    await adapter.createTrade(accountOf(provider), old);
    await double.tell('rules', { clockOffsetMs: 240_000 });
    expect(await adapter.closeTrade(accountOf(provider), old)).toEqual({ state: 'closed' });
    const own = accountOf({ ...provider, sub_appid: 'wx5555555555555555' });
    const { params } = actionOf(await adapter.createTrade(own, newTrade({ method: 'app' })));
    expect(params).toMatchObject({ appid: 'wx5555555555555555', partnerid: '1900000201' });
    const { params: inPage } = actionOf(await adapter.createTrade(own, newTrade({ method: 'jsapi' })));
    expect(inPage).toMatchObject({ appId: 'wx5555555555555555' });
    expect(await lastBody()).toMatchObject({ payer: { sub_openid: 'o-openid-1' } });
  });
});

describe.skipIf(folder === undefined)('faults', () => {
  test('an order that was taken without an answer is the same when asked again', async () => {
    await createdTrade();
    const trade = newTrade();
    await double.tell('fault', { kind: 'acts, then silent', to: 'POST /v3/pay' });
    const controller = new AbortController();
    const asking = errorOf(adapter.createTrade(direct(), trade, controller.signal));
    await expect.poll(async () => await double.tell('books', trade)).toMatchObject({ trades: 1 });
    controller.abort(new Error('enough'));
    expect(await asking).toMatchObject({ kind: 'unreachable' });
    expect(actionOf(await adapter.createTrade(direct(), trade)).type).toBe('qr');
    expect(await double.tell('books', trade)).toMatchObject({ trades: 1 });
  });

  test('a call with all that it fetches ends in eight seconds', async () => {
    await double.tell('fault', { kind: 'silent', to: '/v3/certificates' });
    const began = performance.now();
    expect(await errorOf(newAdapter().createTrade(direct(), newTrade()))).toMatchObject({
      kind: 'unreachable',
    });
    expect(performance.now() - began).toBeLessThan(9_500);
  }, 15_000);

  test('what is about us is misconfigured, and says what', async () => {
    const { direct: right, stranger } = double.accounts;
    const wrong = {
      'private_key and the clock': stranger,
      'bind appid': { ...right, appid: 'wx0000000000000000' },
      api_v3_key: { ...right, api_v3_key: 'x'.repeat(32) },
      'private_key cannot be read': {
        ...right,
        private_key: '-----BEGIN PRIVATE KEY-----AAAA-----END PRIVATE KEY-----',
      },
      'belong together': { ...right, public_key_id: 'PUB_KEY_ID_1' },
      'needs sub_mchid': { ...right, sub_appid: 'wx8888888888888888' },
      'no serial_no': { ...right, serial_no: undefined as unknown as string },
    };
    for (const [says, credentials] of Object.entries(wrong)) {
      const given = Object.fromEntries(
        Object.entries(credentials).filter(([, value]) => value !== undefined),
      );
      const error = await errorOf(newAdapter().createTrade(accountOf(given), newTrade()));
      expect(error, says).toMatchObject({ kind: 'misconfigured', message: expect.stringContaining(says) });
    }
    await double.tell('rules', { clockOffsetMs: 900_000 });
    expect(await errorOf(newAdapter().checkAccount(direct()))).toMatchObject({
      ...{ kind: 'misconfigured', message: expect.stringMatching(/clock of this machine is \d+ s behind/) },
    });
  });

  test('an account that works is checked, and its key may come without line ends', async () => {
    const { direct: right, stranger } = double.accounts;
    const flat = { ...right, private_key: (right.private_key ?? '').replaceAll('\n', '') };
    const escaped = { ...right, private_key: (right.private_key ?? '').replaceAll('\n', '\\n') };
    const { pattern } = adapter.declaration.settings.find(({ name }) => name === 'private_key') ?? {};
    for (const given of [right, flat, escaped]) {
      expect(pattern?.[0].test(given.private_key ?? '')).toBe(true);
      await adapter.checkAccount(accountOf(given));
    }
    expect(await errorOf(adapter.checkAccount(accountOf(stranger, right)))).toMatchObject({
      kind: 'misconfigured',
    });
  });
});
