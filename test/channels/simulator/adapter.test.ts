import { afterEach, describe, expect, test, vi } from 'vitest';
import {
  ACCOUNT,
  call,
  newTrade,
  refundNamed,
  settleRefunds,
  start,
  tempFolder,
  tradeNamed,
} from '../../simulator/support.ts';
import { eventually } from '../../support/progress.ts';

/** Tests the adapter against the simulator over HTTP, and how nodrop learns the state of a trade. */

afterEach(() => {
  vi.useRealTimers();
});

describe('trades', () => {
  test('a trade is first unknown, then unpaid, and then paid with its amount, transaction and time', async () => {
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

  test('a declined trade has failed and can no longer be paid', async () => {
    const { adapter, pay } = await start();
    const trade = newTrade();
    await adapter.createTrade(ACCOUNT, trade);
    await pay(trade.outTradeNo, 'declined');
    expect(await adapter.queryTrade(ACCOUNT, tradeNamed(trade.outTradeNo))).toMatchObject({
      state: 'failed',
    });
    expect((await pay(trade.outTradeNo)).status).toBe(409);
  });

  test.each([
    ['success', 'paid'],
    ['declined', 'failed'],
  ] as const)(
    'a trade is processing until a result (%s) arrives, and cannot be closed before',
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

  test('a closed trade can no longer be paid, and closing it again gets the same answer', async () => {
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

  test('a trade cannot be paid after its expiry, and stays unpaid until it is closed', async () => {
    const { adapter, pay } = await start();
    const trade = newTrade({ expiresAt: new Date(Date.now() - 1).toISOString() });
    await adapter.createTrade(ACCOUNT, trade);
    expect(await pay(trade.outTradeNo)).toMatchObject({ status: 409, body: { code: 'TRADE_EXPIRED' } });
    expect(await adapter.queryTrade(ACCOUNT, tradeNamed(trade.outTradeNo))).toEqual({ state: 'unpaid' });
    expect(await adapter.closeTrade(ACCOUNT, tradeNamed(trade.outTradeNo))).toEqual({ state: 'closed' });
  });

  test('a trade shows first a partial refund and then a full refund', async () => {
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

describe('refunds', () => {
  test('a repeated refund request returns the same refund, which is in process until it succeeds', async () => {
    const folder = tempFolder();
    const { adapter, pay, setFaults, close } = await start({ folder });
    const trade = newTrade();
    const { outTradeNo } = trade;
    await adapter.createTrade(ACCOUNT, trade);
    const terms = { ...refundNamed('r1'), attempt: 1, amount: 600, currency: 'CNY', total: 1050 };
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

  test('a refund that is refused because of a low balance can succeed later with the same number', async () => {
    const { adapter, pay, setFaults, ledger } = await start();
    const trade = newTrade();
    const { outTradeNo } = trade;
    await adapter.createTrade(ACCOUNT, trade);
    await pay(outTradeNo);
    const refund = { ...refundNamed('r1'), attempt: 1, amount: 600, currency: 'CNY', total: 1050 };
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

  test('a refund of more than the remaining amount is rejected, and a request with a used number returns the first refund', async () => {
    const { adapter, pay, ledger } = await start();
    const trade = newTrade();
    const { outTradeNo } = trade;
    await adapter.createTrade(ACCOUNT, trade);
    await pay(outTradeNo);
    const refund = (outRefundNo: string, amount: number) =>
      adapter.refundTrade(ACCOUNT, tradeNamed(outTradeNo), {
        ...refundNamed(outRefundNo),
        attempt: 1,
        amount,
        currency: 'CNY',
        total: 1050,
      });
    await expect(refund('r1', 1051)).rejects.toMatchObject({ kind: 'rejected' });
    expect(await refund('r2', 500)).toMatchObject({ state: 'succeeded', amount: 500 });
    expect(await refund('r2', 501)).toMatchObject({ state: 'succeeded', amount: 500 });
    expect(await ledger()).toMatchObject([{ refunded: 500 }]);
    // The adapter does not accept an answer about a refund of another trade.
    await expect(
      adapter.queryRefund(ACCOUNT, tradeNamed('another'), refundNamed('r2')),
    ).rejects.toMatchObject({ kind: 'garbage' });
  });
});

describe('creating a trade twice', () => {
  test('a repeated create with the same content returns the same trade', async () => {
    const { adapter, ledger } = await start();
    const trade = newTrade();
    const actions = await Promise.all([1, 2, 3].map(() => adapter.createTrade(ACCOUNT, trade)));
    expect(new Set(actions.map((created) => JSON.stringify(created))).size).toBe(1);
    expect(await ledger()).toMatchObject([{ outTradeNo: trade.outTradeNo, createdCount: 3 }]);
  });

  test('a repeated create with other terms or another account is refused, but the refusal is not definite', async () => {
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

  test('a create with invalid terms is rejected', async () => {
    const { adapter, ledger } = await start();
    const creating = adapter.createTrade(ACCOUNT, newTrade({ currency: 'XXX' }));
    await expect(creating).rejects.toMatchObject({ kind: 'rejected' });
    expect(await ledger()).toEqual([]);
  });
});
