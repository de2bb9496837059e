import { describe, expect, test } from 'vitest';
import { Dice } from '../../src/simulator/faults.ts';
import { eventually } from '../support/progress.ts';
import { ACCOUNT, call, newTrade, settleRefunds, start, tempFolder, tradeNamed } from './support.ts';

/** Tests the effect that each fault of the channel side has on the adapter. */

async function created(faults: object = {}) {
  const simulator = await start();
  const trade = newTrade();
  await simulator.adapter.createTrade(ACCOUNT, trade);
  await simulator.setFaults(faults);
  return { ...simulator, no: trade.outTradeNo, trade };
}

describe('faults', () => {
  test('with create.errorRate, a create request is answered 500 and no trade is created', async () => {
    const { adapter, ledger, setFaults } = await start();
    await setFaults({ create: { errorRate: 1 } });
    const creating = adapter.createTrade(ACCOUNT, newTrade());
    await expect(creating).rejects.toMatchObject({ kind: 'unreachable' });
    expect(await ledger()).toEqual([]);
  });

  test('with create.timeoutAfterAcceptRate, the trade is created without an answer, and a repeated request finds the trade', async () => {
    const { adapter, ledger, setFaults } = await start();
    await setFaults({ create: { timeoutAfterAcceptRate: 1 } });
    const trade = newTrade();
    const patience = new AbortController();
    const outcome = adapter.createTrade(ACCOUNT, trade, patience.signal).catch((error: unknown) => error);
    await eventually(async () => {
      expect(await ledger()).toMatchObject([{ state: 'NOTPAY', createdCount: 1 }]);
      return true;
    });
    patience.abort();
    expect(await outcome).toMatchObject({ kind: 'unreachable' });
    await setFaults({ create: { timeoutAfterAcceptRate: 0 } });
    expect(await adapter.createTrade(ACCOUNT, trade)).toMatchObject({ action: { type: 'redirect' } });
    expect(await ledger()).toMatchObject([{ createdCount: 2 }]);
  });

  test('the simulator can stop while it holds back an answer', async () => {
    const { adapter, ledger, setFaults, close } = await start();
    await setFaults({ create: { timeoutAfterAcceptRate: 1 } });
    const outcome = adapter.createTrade(ACCOUNT, newTrade()).catch((error: unknown) => error);
    await eventually(async () => {
      expect(await ledger()).toHaveLength(1);
      return true;
    });
    await close();
    expect(await outcome).toMatchObject({ kind: 'unreachable' });
  });

  test('with latencyMs, answers are late but correct', async () => {
    const { adapter, no, trade } = await created({ create: { latencyMs: 5 }, query: { latencyMs: 5 } });
    expect(await adapter.createTrade(ACCOUNT, trade)).toMatchObject({ action: { type: 'redirect' } });
    expect(await adapter.queryTrade(ACCOUNT, tradeNamed(no))).toEqual({ state: 'unpaid' });
  });

  test('with query.errorRate and close.errorRate, the channel is unreachable and the trade does not change', async () => {
    const { adapter, no, ledger } = await created({ query: { errorRate: 1 }, close: { errorRate: 1 } });
    await expect(adapter.queryTrade(ACCOUNT, tradeNamed(no))).rejects.toMatchObject({ kind: 'unreachable' });
    await expect(adapter.closeTrade(ACCOUNT, tradeNamed(no))).rejects.toMatchObject({ kind: 'unreachable' });
    expect(await ledger()).toMatchObject([{ state: 'NOTPAY' }]);
  });

  test('with close.ineffectiveRate, a trade is reported as closed, but can still be paid', async () => {
    const { adapter, no, pay, setFaults } = await created({ close: { ineffectiveRate: 1 } });
    expect(await adapter.closeTrade(ACCOUNT, tradeNamed(no))).toEqual({ state: 'closed' });
    expect(await adapter.queryTrade(ACCOUNT, tradeNamed(no))).toEqual({ state: 'closed' });
    await setFaults({ close: { ineffectiveRate: 0 } });
    expect(await adapter.closeTrade(ACCOUNT, tradeNamed(no))).toEqual({ state: 'closed' });
    expect(await pay(no)).toMatchObject({ status: 200, body: { state: 'SUCCESS' } });
    expect(await adapter.queryTrade(ACCOUNT, tradeNamed(no))).toMatchObject({ state: 'paid' });
  });

  test('with query.garbageRate, answers are truncated or have a wrong signature, and the adapter accepts none', async () => {
    const { adapter, no, url } = await created({ query: { garbageRate: 1 } });
    const readable: boolean[] = [];
    for (let round = 0; round < 12; round++) {
      await expect(adapter.queryTrade(ACCOUNT, tradeNamed(no))).rejects.toMatchObject({ kind: 'garbage' });
      readable.push(
        await call(url, 'GET', `/v1/trades/${no}`).then(
          () => true,
          () => false,
        ),
      );
    }
    expect(new Set(readable)).toEqual(new Set([true, false]));
  });

  test('with query.lagMs, a query still reports a paid trade as unpaid, but a close is answered "already paid"', async () => {
    const { adapter, no, pay, setFaults } = await created({ query: { lagMs: 3_600_000 } });
    await pay(no);
    expect(await adapter.queryTrade(ACCOUNT, tradeNamed(no))).toEqual({ state: 'unpaid' });
    expect(await adapter.closeTrade(ACCOUNT, tradeNamed(no))).toEqual({ state: 'already_paid' });
    await setFaults({ query: { lagMs: 0 } });
    expect(await adapter.queryTrade(ACCOUNT, tradeNamed(no))).toMatchObject({ state: 'paid' });
  });

  test('with refund.errorRate, a refund request is answered 500 and no refund is made', async () => {
    const { no, pay, url, ledger } = await created({ refund: { errorRate: 1 } });
    await pay(no);
    const body = JSON.stringify({ outRefundNo: 'r1', amount: 1 });
    expect(await call(url, 'POST', `/v1/trades/${no}/refunds`, body)).toMatchObject({ status: 500 });
    expect(await ledger()).toMatchObject([{ refunded: 0, state: 'SUCCESS' }]);
  });

  test('with refund.balanceTooLowRate, new refunds are refused, but a request for an existing refund is answered', async () => {
    const { no, pay, url, ledger, setFaults } = await created({ refund: { balanceTooLowRate: 1 } });
    await pay(no);
    const refund = (outRefundNo: string) =>
      call(url, 'POST', `/v1/trades/${no}/refunds`, JSON.stringify({ outRefundNo, amount: 1 }));
    const refused = { status: 409, body: { code: 'BALANCE_TOO_LOW' } };
    expect(await refund('r1')).toMatchObject(refused);
    expect(await call(url, 'GET', '/v1/refunds/r1')).toMatchObject({ status: 404 });
    expect(await ledger()).toMatchObject([{ refunded: 0, state: 'SUCCESS' }]);
    await setFaults({ refund: { balanceTooLowRate: 0 } });
    expect(await refund('r1')).toMatchObject({ status: 201, body: { state: 'SUCCESS' } });
    await setFaults({ refund: { balanceTooLowRate: 1 } });
    expect(await refund('r1')).toMatchObject({ status: 200, body: { state: 'SUCCESS' } });
    expect(await refund('r2')).toMatchObject(refused);
  });

  test('with refund.processingMs, a refund in process reduces the amount that is left, and is completed after a restart', async () => {
    const folder = tempFolder();
    const { adapter, setFaults, pay, url, close } = await start({ folder });
    const trade = newTrade();
    await adapter.createTrade(ACCOUNT, trade);
    await setFaults({ refund: { processingMs: 3_600_000 } });
    await pay(trade.outTradeNo);
    const path = `/v1/trades/${trade.outTradeNo}/refunds`;
    const refund = (outRefundNo: string) =>
      call(url, 'POST', path, JSON.stringify({ outRefundNo, amount: 600 }));
    expect(await refund('r1')).toMatchObject({ body: { state: 'PROCESSING' } });
    expect(await refund('r2')).toMatchObject({ status: 409, body: { code: 'REFUND_EXCEEDS_PAYMENT' } });
    expect((await call(url, 'GET', '/v1/refunds/r1')).body).toMatchObject({ state: 'PROCESSING' });
    await close();
    // Makes the refund due, as if an hour had passed.
    settleRefunds(folder);
    const { ledger } = await start({ folder });
    await eventually(async () => {
      expect(await ledger()).toMatchObject([{ refunded: 600, state: 'SUCCESS' }]);
      return true;
    });
  });

  test('with rateLimitPerSecond, requests of an account beyond the limit are answered 429 with Retry-After', async () => {
    const { adapter, adapterOf, no } = await created({ rateLimitPerSecond: 1 });
    const asked = await Promise.allSettled(
      Array.from({ length: 8 }, () => adapter.queryTrade(ACCOUNT, tradeNamed(no))),
    );
    const refused = asked.filter((outcome) => outcome.status === 'rejected');
    expect(refused.length).toBeGreaterThan(0);
    for (const { reason } of refused)
      expect(reason).toMatchObject({ kind: 'rate_limited', retryAfterMs: 1000 });
    expect(await adapterOf('simulator2').queryTrade(ACCOUNT, tradeNamed(no))).toEqual({
      state: 'unknown_trade',
    });
  });

  test('with the fault down, the channel is unreachable, but payers can still pay', async () => {
    const { adapter, no, pay, setFaults } = await created({ down: true });
    await expect(adapter.queryTrade(ACCOUNT, tradeNamed(no))).rejects.toMatchObject({ kind: 'unreachable' });
    expect((await pay(no)).status).toBe(200);
    await setFaults({ down: false });
    expect(await adapter.queryTrade(ACCOUNT, tradeNamed(no))).toMatchObject({ state: 'paid' });
  });
});

describe('random draws', () => {
  const names = Array.from({ length: 400 }, (_, index) => `p${index}`);
  const draw = (seed: number, order: readonly string[]) => {
    const dice = new Dice(() => seed);
    return new Set(order.filter((name) => dice.strikes(0.3, 'callback.drop', name)));
  };

  test('random draws depend on the seed and the trade, not on the order of arrival', () => {
    expect(draw(7, names)).toEqual(draw(7, names.toReversed()));
    expect(draw(7, names)).not.toEqual(draw(8, names));
  });

  test('the share of trades that random draws choose is close to the configured rate', () => {
    const { size } = draw(7, names);
    expect(size).toBeGreaterThan(80);
    expect(size).toBeLessThan(160);
  });
});
