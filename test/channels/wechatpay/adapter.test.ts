import { createVerify } from 'node:crypto';
import { describe, expect, test, vi } from 'vitest';
import {
  adapter,
  createdTrade,
  direct,
  double,
  folder,
  lastBody,
  paidTrade,
  seen,
} from './adapter-support.ts';
import { actionOf, errorOf, newTrade, refundOf } from './support.ts';

/**
 * Tests orders and refunds at a double that verifies every request and signs every answer. The double shares no code
 * with the adapter.
 */

describe.skipIf(folder === undefined)('orders', () => {
  test('the method native returns a QR code that is valid for two hours, and sends only data of the payment and its account', async () => {
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

  test("the expiry is sent in China's time zone, even if the process runs in another time zone", async () => {
    vi.stubEnv('TZ', 'America/New_York');
    try {
      await adapter.createTrade(direct(), newTrade({ expiresAt: '2026-12-31T16:00:00.000Z' }));
    } finally {
      vi.unstubAllEnvs();
    }
    expect((await lastBody()).time_expire).toBe('2027-01-01T00:00:00+08:00');
  });

  test("the method h5 sends the payer's IP address, and its link returns the payer to the return URL", async () => {
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

  test("the method jsapi sends the payer's openid, and signs the parameters for WeixinJSBridge", async () => {
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

  test("the method app signs the parameters for WeChat Pay's SDK", async () => {
    const { params = {} } = actionOf(await adapter.createTrade(direct(), newTrade({ method: 'app' })));
    const { appid = '', partnerid, prepayid = '', noncestr = '', timestamp = '', sign = '' } = params;
    expect({ appid, partnerid, package: params.package }).toEqual({
      ...{ appid: 'wx8888888888888888', partnerid: '1900000109', package: 'Sign=WXPay' },
    });
    expect(signedBy([appid, timestamp, noncestr, prepayid], sign)).toBe(true);
  });

  test("a repeated create request returns the order's next action, or not_renewable if the order is paid or closed", async () => {
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

  test('each known state of WeChat Pay is mapped to a state of nodrop, and an unknown state is garbage', async () => {
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

  test("the close of an order is answered not_yet until five minutes after the create request, and later with the order's state", async () => {
    const young = await createdTrade();
    const answer = await adapter.closeTrade(direct(), young);
    expect(answer).toEqual({
      state: 'not_yet',
      until: new Date(Date.parse(young.createdAt) + 300_000).toISOString(),
    });
    // nodrop created this payment long before it requested the order at WeChat Pay.
    const askedAt = new Date(Date.now() - 60_000).toISOString();
    const late = await createdTrade(newTrade({ askedAt }, 6));
    expect(await adapter.closeTrade(direct(), late)).toEqual({
      state: 'not_yet',
      until: new Date(Date.parse(askedAt) + 300_000).toISOString(),
    });
    await double.tell('rules', { clockOffsetMs: -120_000 });
    const old = await createdTrade(newTrade({}, 6));
    await double.tell('rules', { clockOffsetMs: 0 });
    // By WeChat Pay's clock the order is too young to be closed. The refusal does not show nodrop the state of the
    // order.
    expect(await errorOf(adapter.closeTrade(direct(), old))).toMatchObject({ kind: 'unreachable' });
    await double.tell('setState', { outTradeNo: old.outTradeNo, state: 'USERPAYING' });
    expect(await adapter.closeTrade(direct(), old)).toEqual({ state: 'processing' });
    await double.tell('setState', { outTradeNo: old.outTradeNo, state: 'CLOSED' });
    expect(await adapter.closeTrade(direct(), old)).toEqual({ state: 'closed' });
    const paid = await createdTrade(newTrade({}, 6));
    await double.tell('pay', { outTradeNo: paid.outTradeNo });
    expect(await adapter.closeTrade(direct(), paid)).toEqual({ state: 'already_paid' });
  });

  test('the close of an unknown order is answered unknown_trade, although WeChat Pay answers 204', async () => {
    expect(await adapter.closeTrade(direct(), newTrade({}, 6))).toEqual({ state: 'unknown_trade' });
    const asked = (await seen()).filter(({ path }) => path !== '/v3/certificates');
    expect(asked.slice(-2).map(({ method }) => method)).toEqual(['POST', 'GET']);
  });
});

describe.skipIf(folder === undefined)('refunds', () => {
  test('a repeated refund request returns the same refund, which is first in process and later succeeds', async () => {
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

  test("a refund is rejected if its currency differs from the payment's currency", async () => {
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

  test('an abnormal refund needs an operator', async () => {
    await double.tell('rules', { refundsBecome: 'ABNORMAL' });
    const trade = await paidTrade();
    const refund = refundOf(trade);
    await adapter.refundTrade(direct(), trade, refund);
    await double.tell('finishRefunds', {});
    expect(await adapter.queryRefund(direct(), trade, refund)).toMatchObject({ state: 'needs_person' });
  });

  test('a refund that WeChat Pay has closed is requested again with the same number, and fails if WeChat Pay closes it again', async () => {
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

  test('if WeChat Pay refuses a refund whose number already exists, the adapter reports the existing refund, and otherwise the refusal is temporary', async () => {
    const trade = await paidTrade();
    await double.tell('rules', { hasEnough: false });
    const refund = refundOf(trade);
    expect(await errorOf(adapter.refundTrade(direct(), trade, refund))).toMatchObject({
      ...{ kind: 'not_now', message: expect.stringContaining('NOT_ENOUGH') },
    });
    await double.tell('rules', { hasEnough: true });
    await adapter.refundTrade(direct(), trade, refund);
    // WeChat Pay answers INVALID_REQUEST, because the refund with this number has another amount.
    const other = await adapter.refundTrade(direct(), trade, { ...refund, amount: 600 });
    expect(other).toMatchObject({ state: 'processing' });
    const tooMuch = await errorOf(adapter.refundTrade(direct(), trade, refundOf(trade, 1990)));
    expect(tooMuch).toMatchObject({ kind: 'not_now', message: expect.stringContaining('INVALID_REQUEST') });
    expect(await adapter.queryRefund(direct(), trade, refundOf(trade))).toEqual({ state: 'unknown_refund' });
  });
});
