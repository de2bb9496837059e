import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { describe, expect, onTestFinished, test, vi } from 'vitest';
import { declaration } from '../../../src/channels/alipay/declaration.ts';
import type { NewTrade } from '../../../src/domain/channel.ts';
import { oracleFolder } from '../../doubles/alipay/start.ts';
import { account, double, METHODS, query, refundOf, seen } from './adapter-support.ts';
import {
  accountOf,
  adapter,
  errorOf,
  linkOf,
  named,
  newTrade,
  open,
  paid,
  pay,
  settingsOf,
  signedAnswer,
} from './support.ts';

/**
 * Tests trades and refunds at a double that verifies every request and signs every answer. The double shares no code
 * with the adapter.
 */

describe.skipIf(oracleFolder() === undefined)('the Alipay adapter', () => {
  describe.each(METHODS)('trades with the method %s', (method) => {
    test('a trade is unknown until the payer opens the link, then unpaid, and then paid with its amount, number and time', async () => {
      const trade = newTrade({ method });
      const link = await linkOf(adapter, account, trade);
      expect(await query(trade)).toEqual({ state: 'unknown_trade' });
      expect(await adapter.closeTrade(account, trade)).toEqual({ state: 'unknown_trade' });
      await open(link);
      expect(await query(trade)).toEqual({ state: 'unpaid' });
      const before = Date.now();
      expect(await pay(link)).toBe(true);
      const answer = await query(trade);
      expect(answer).toEqual({
        state: 'paid',
        channelPaymentId: expect.stringMatching(/^\d{20,}$/),
        amount: 1050,
        currency: 'CNY',
        payerAmount: 1050,
        paidAt: expect.stringMatching(/Z$/),
      });
      const { paidAt } = answer as { paidAt: string };
      expect(Math.abs(Date.parse(paidAt) - before)).toBeLessThan(10_000);
      expect(await adapter.closeTrade(account, trade)).toEqual({ state: 'already_paid' });
    });

    test('a trade that its payer has opened can be closed, and can no longer be paid afterwards', async () => {
      const trade = newTrade({ method });
      const link = await linkOf(adapter, account, trade);
      await open(link);
      expect(await adapter.closeTrade(account, trade)).toEqual({ state: 'closed' });
      expect(await adapter.closeTrade(account, trade)).toEqual({ state: 'closed' });
      expect(await query(trade)).toEqual({ state: 'closed' });
      expect(await pay(link)).toBe(false);
    });

    test('if a close finds no trade because no payer has opened the link, the trade can still be paid until the link expires', async () => {
      const [late, dead] = [newTrade({ method }), newTrade({ method })];
      const [lateLink, deadLink] = [
        await linkOf(adapter, account, late),
        await linkOf(adapter, account, dead),
      ];
      expect(await adapter.closeTrade(account, late)).toEqual({ state: 'unknown_trade' });
      expect(declaration.unknownTradeCanBePaid).toBe(true);
      expect(await pay(lateLink)).toBe(true);
      expect(await query(late)).toMatchObject({ state: 'paid' });
      await double.tell('clock', { offsetMs: 15 * 60_000 });
      expect(await pay(deadLink)).toBe(false);
    });

    test('the adapter sends the expiry in Beijing time, the amount in yuan, and the subject without characters that Alipay refuses', async () => {
      const trade = newTrade({
        method,
        amount: 10,
        subject: 'Käse & Wein / 50% = 半价 🎟',
        createdAt: '2026-11-27T15:59:30.900Z',
        expiresAt: '2026-11-27T16:29:30.900Z',
      });
      const now = Date.parse(trade.createdAt);
      await double.tell('clock', { offsetMs: now - Date.now() });
      vi.useFakeTimers({ toFake: ['Date'], now });
      const link = await linkOf(adapter, account, trade).finally(() => vi.useRealTimers());
      const [asked] = await seen();
      const params = asked?.params ?? Object.fromEntries(new URL(link).searchParams);
      expect(JSON.parse(params.biz_content ?? '')).toMatchObject({
        out_trade_no: trade.outTradeNo,
        total_amount: '0.10',
        subject: 'Käse   Wein   50%   半价 🎟',
        time_expire: '2026-11-28 00:29:30',
      });
      expect(params).toMatchObject({ timestamp: '2026-11-27 23:59:30', sign_type: 'RSA2', charset: 'utf-8' });
      await open(link);
      expect(await double.tell('books', named(trade))).toMatchObject({ asked: '0.10' });
    });
  });

  test('createTrade returns the same link each time, even an hour later', async () => {
    const trade = newTrade();
    const first = await linkOf(adapter, account, trade);
    vi.useFakeTimers({ toFake: ['Date'], now: Date.now() + 3_600_000 });
    expect(await linkOf(adapter, account, trade).finally(() => vi.useRealTimers())).toBe(first);
    // The adapter sends the expiry unchanged. nodrop never passes an expiry that is too short for Alipay
    // (src/domain/create.ts).
    const { time_expire } = JSON.parse(new URL(first).searchParams.get('biz_content') ?? '') as {
      time_expire: string;
    };
    const ends = Date.parse(`${time_expire.replace(' ', 'T')}+08:00`);
    expect(ends).toBe(Math.floor(Date.parse(trade.expiresAt) / 1000) * 1000);
  });

  test('a repeated createTrade returns the same QR code, or not_renewable if the trade is closed', async () => {
    const trade = newTrade({ method: 'precreate' });
    const link = await linkOf(adapter, account, trade);
    expect(await linkOf(adapter, account, trade)).toBe(link);
    await open(link);
    await adapter.closeTrade(account, trade);
    expect(await adapter.createTrade(account, trade)).toBe('not_renewable');
  });

  describe('QR codes', () => {
    const create = (trade: NewTrade, signal?: AbortSignal) => adapter.createTrade(account, trade, signal);
    const of = 'alipay.trade.precreate';

    test('if the answer to a create call is lost, the repeated call returns the code of the same trade', async () => {
      const trade = newTrade({ method: 'precreate' });
      await double.tell('faults', [{ kind: 'accepted', of }]);
      expect(await errorOf(create(trade, AbortSignal.timeout(1_000)))).toMatchObject({ kind: 'unreachable' });
      const link = await linkOf(adapter, account, trade);
      expect(await pay(link)).toBe(true);
      expect(await query(trade)).toMatchObject({ state: 'paid', amount: 1050 });
      const [one, two] = (await seen()).map(({ params }) => params.biz_content);
      expect(two).toBe(one);
    });

    test.each([
      ['ACQ.EXIST_FORBIDDEN_WORD', '40004', 'rejected'],
      ['ACQ.SYSTEM_ERROR', '40004', 'unreachable'],
      ['ACQ.CONTEXT_INCONSISTENT', '40004', 'unreachable'],
      ['isp.unknow-error', '20000', 'unreachable'],
      ['isv.app-call-limited', '40005', 'rate_limited'],
      ['isv.insufficient-isv-permissions', '40006', 'misconfigured'],
    ])(
      'if Alipay refuses a create call with the sub-code %s and the code %s, the error is %s',
      async (subCode, code, kind) => {
        await double.tell('faults', [{ kind: 'refused', of, code, subCode }]);
        expect(await errorOf(create(newTrade({ method: 'precreate' })))).toMatchObject({ kind });
      },
    );
  });

  describe('refunds', () => {
    test('a trade that is refunded in two parts ends in the state refunded, although Alipay calls such a trade closed', async () => {
      const trade = await paid(adapter, account);
      const part = refundOf({ amount: 350 });
      expect(await adapter.queryRefund(account, trade, part)).toEqual({ state: 'unknown_refund' });
      expect(await adapter.refundTrade(account, trade, part)).toMatchObject({
        state: 'succeeded',
        amount: 350,
      });
      expect(await adapter.queryRefund(account, trade, part)).toEqual({
        state: 'succeeded',
        channelRefundId: part.outRefundNo,
        amount: 350,
        refundedAt: expect.stringMatching(/Z$/),
      });
      expect(await query(trade)).toMatchObject({ state: 'paid' });
      expect(await adapter.refundTrade(account, trade, refundOf({ amount: 700 }))).toMatchObject({
        amount: 700,
      });
      expect(await double.tell('books', named(trade))).toMatchObject({
        status: 'TRADE_CLOSED',
        refunded: '10.50',
      });
      expect(await query(trade)).toMatchObject({ state: 'refunded', amount: 1050, refundedAmount: 1050 });
      expect(await adapter.closeTrade(account, trade)).toEqual({ state: 'already_paid' });
    });

    test('a repeated refund request returns the first refund, even if the request has another amount', async () => {
      const trade = await paid(adapter, account);
      const refund = refundOf({ amount: 350 });
      await adapter.refundTrade(account, trade, refund);
      const same = { state: 'succeeded', channelRefundId: refund.outRefundNo, amount: 350 };
      expect(await adapter.refundTrade(account, trade, refund)).toMatchObject(same);
      expect(await adapter.refundTrade(account, trade, { ...refund, amount: 700 })).toMatchObject(same);
      expect(await double.tell('books', named(trade))).toMatchObject({ refunded: '3.50' });
    });

    test('if the answer to a refund request is lost, the repeated request does not refund the money again', async () => {
      const trade = await paid(adapter, account);
      const refund = refundOf();
      await double.tell('faults', [{ kind: 'accepted', of: 'alipay.trade.refund' }]);
      const lost = await errorOf(adapter.refundTrade(account, trade, refund, AbortSignal.timeout(1_000)));
      expect(lost).toMatchObject({ kind: 'unreachable' });
      expect(await adapter.refundTrade(account, trade, refund)).toMatchObject({
        state: 'succeeded',
        amount: 1050,
      });
      expect(await double.tell('books', named(trade))).toMatchObject({ refunded: '10.50' });
    });

    test('if a trade is refunded in full, but not by known refunds, a requested refund is reported as in process', async () => {
      const trade = await paid(adapter, account);
      await adapter.refundTrade(account, trade, refundOf({ amount: 350 }));
      // The double makes this refund under a number that the adapter does not know. So a query by the adapter's own
      // refund number finds nothing, as if the refund did not appear yet.
      await double.tell('refund', { ...named(trade), amount: '7.00' });
      const refund = refundOf({ amount: 700, otherRefunds: 350 });
      expect(await adapter.refundTrade(account, trade, refund)).toEqual({
        ...{ state: 'processing', channelRefundId: refund.outRefundNo },
      });
      const over = adapter.refundTrade(account, trade, { ...refund, otherRefunds: 351 });
      expect(await errorOf(over)).toMatchObject({ kind: 'rejected' });
    });

    test('a refund of more than the amount that is left is rejected, even if that amount is zero', async () => {
      const trade = await paid(adapter, account);
      const over = adapter.refundTrade(account, trade, refundOf({ amount: 1051 }));
      expect(await errorOf(over)).toMatchObject({ kind: 'rejected' });
      await adapter.refundTrade(account, trade, refundOf());
      const second = refundOf({ otherRefunds: 1050 });
      expect(await errorOf(adapter.refundTrade(account, trade, second))).toMatchObject({ kind: 'rejected' });
      const finished = await paid(adapter, account);
      await double.tell('finish', named(finished));
      expect(await errorOf(adapter.refundTrade(account, finished, refundOf()))).toMatchObject({
        kind: 'rejected',
      });
    });

    test('a refund is refused only temporarily while the trade is unpaid or the balance is too low', async () => {
      const trade = newTrade();
      const link = await linkOf(adapter, account, trade);
      await open(link);
      expect(await errorOf(adapter.refundTrade(account, trade, refundOf()))).toMatchObject({
        kind: 'unreachable',
      });
      await pay(link);
      await double.tell('balance', { isLow: true });
      expect(await errorOf(adapter.refundTrade(account, trade, refundOf()))).toMatchObject({
        kind: 'not_now',
      });
    });
  });

  describe('answers', () => {
    test.each([
      ['error', 'unreachable'],
      ['nonsense', 'garbage'],
      ['tampered', 'garbage'],
      ['tampered amount', 'garbage'],
      ['unsigned', 'garbage'],
    ])('if an answer has the fault "%s", the error is %s', async (kind, expected) => {
      const trade = newTrade();
      await open(await linkOf(adapter, account, trade));
      await double.tell('faults', [{ kind }]);
      expect(await errorOf(query(trade))).toMatchObject({ kind: expected });
      expect(await query(trade)).toEqual({ state: 'unpaid' });
    });

    test('an answer about another trade is rejected', async () => {
      const [one, other] = [await paid(adapter, account), newTrade()];
      // Alipay has signed the answer, but the answer is about a trade that was not requested.
      const gateway = createServer((_, response) => {
        const content = {
          out_trade_no: one.outTradeNo,
          trade_no: '1',
          trade_status: 'WAIT_BUYER_PAY',
          total_amount: '10.50',
        };
        response.end(
          signedAnswer(
            'alipay_trade_query_response',
            { code: '10000', msg: 'Success', ...content },
            double.keys.alipayPrivateKey,
          ),
        );
      });
      await once(gateway.listen(0, '127.0.0.1'), 'listening');
      onTestFinished(() => void gateway.close());
      const { port } = gateway.address() as AddressInfo;
      const asked = accountOf({ ...settingsOf(double), gateway: `http://127.0.0.1:${port}/gateway.do` });
      expect(await errorOf(adapter.queryTrade(asked, other))).toMatchObject({
        kind: 'garbage',
        message: expect.stringContaining('another trade'),
      });
    });
  });
});
