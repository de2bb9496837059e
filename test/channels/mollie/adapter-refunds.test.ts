import { describe, expect, test } from 'vitest';
import { adapter, double, paid, query } from './adapter-support.ts';
import { ACCOUNT, created, errorOf, idOf, refundOf, stateOf } from './support.ts';

/** Tests refunds at Mollie in every state, and a chargeback. The contract suite covers everything else. */

describe('refunds', () => {
  test.each([
    ['refunded', { state: 'succeeded', amount: 400 }, 'succeeded'],
    ['failed', { state: 'failed' }, 'failed'],
    ['canceled', { state: 'failed' }, 'failed'],
    ['queued', { state: 'needs_person', reason: expect.stringContaining('balance') }, 'processing'],
  ] as const)('a refund with the status %s has the right state', async (becomes, answer, listed) => {
    const trade = await paid();
    await double.tell('refundPlan', { becomes });
    const refund = refundOf(trade);
    const asked = await adapter.refundTrade(ACCOUNT, trade, refund);
    expect(asked.state).toBe(becomes === 'queued' ? 'needs_person' : 'processing');
    await double.tell('finishRefunds', {});
    expect(await adapter.queryRefund(ACCOUNT, trade, refund)).toMatchObject(answer);
    expect(await query(trade)).toMatchObject({
      state: 'paid',
      refunds: [{ outRefundNo: refund.outRefundNo, amount: 400, state: listed }],
    });
  });

  test('a refund that was made in the dashboard is listed without a nodrop refund number', async () => {
    const trade = await paid();
    await double.tell('dashboardRefund', { payment: idOf(trade), amount: 1050 });
    await double.tell('finishRefunds', {});
    const answer = await query(trade);
    expect(answer).toMatchObject({ state: 'refunded', refunds: [{ amount: 1050, state: 'succeeded' }] });
    if (answer.state === 'refunded') expect(answer.refunds?.[0]).not.toHaveProperty('outRefundNo');
  });

  test('a second refund of the same amount is refused for an hour and accepted afterwards', async () => {
    const trade = await paid();
    await adapter.refundTrade(ACCOUNT, trade, refundOf(trade));
    const twin = refundOf(trade);
    expect((await errorOf(adapter.refundTrade(ACCOUNT, trade, twin))).kind).toBe('not_now');
    expect(await adapter.queryRefund(ACCOUNT, trade, twin)).toEqual({ state: 'unknown_refund' });
    await double.tell('clock', { offsetMs: 61 * 60_000 });
    expect((await adapter.refundTrade(ACCOUNT, trade, twin)).state).toBe('processing');
  });

  test('a refund of more than the remaining amount is rejected', async () => {
    const trade = await paid();
    const error = await errorOf(adapter.refundTrade(ACCOUNT, trade, refundOf(trade, { amount: 1051 })));
    expect(error).toMatchObject({ kind: 'rejected', message: expect.stringContaining('cannot be refunded') });
  });

  test('if Mollie has forgotten the key of a refund, a repeated request finds the existing refund and creates no second refund', async () => {
    const trade = await paid();
    const refund = refundOf(trade, { amount: 1050 });
    await adapter.refundTrade(ACCOUNT, trade, refund);
    await double.tell('pruneKeys', {});
    expect((await adapter.refundTrade(ACCOUNT, trade, refund)).state).toBe('processing');
    expect((await stateOf(double)).refunds).toHaveLength(1);
  });

  test("the result of a refund request for an unpaid payment is unknown, because Mollie's refusal is not listed as definite", async () => {
    const trade = await created(adapter);
    expect((await errorOf(adapter.refundTrade(ACCOUNT, trade, refundOf(trade)))).kind).toBe('unreachable');
  });
});

test('a chargeback is reported as lost until it is reversed', async () => {
  const trade = await paid();
  await double.tell('chargeback', { payment: idOf(trade), amount: 500 });
  const { chargebacks } = await stateOf(double);
  const [{ id } = { id: '' }] = chargebacks;
  expect(await query(trade)).toMatchObject({
    state: 'paid',
    disputes: [{ id, amount: 500, currency: 'EUR', state: 'lost' }],
  });
  await double.tell('reverse', { chargeback: id });
  expect(await query(trade)).toMatchObject({ disputes: [{ id, state: 'won' }] });
});
