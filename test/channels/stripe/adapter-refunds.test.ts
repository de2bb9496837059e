import { describe, expect, test } from 'vitest';
import type { PaidAnswer } from '../../../src/domain/channel.ts';
import { adapter, double, METHODS, pay, refundOf, requests } from './adapter-support.ts';
import { ACCOUNT, created, errorOf, newTrade } from './support.ts';

/** Tests the refund requests that nodrop sends to Stripe, and how it maps the answers. */

describe.each(METHODS)('refunds of payments with the method %s', (method) => {
  const paidTrade = async () => {
    const trade = await created(adapter, newTrade({ method }));
    return { trade, payment: await pay(trade) };
  };

  test('two partial refunds of the whole amount succeed, and each refund can be queried by its id or its number', async () => {
    const { trade } = await paidTrade();
    const [one, two] = [refundOf({ amount: 50 }), refundOf({ amount: 1000 })];
    const first = await adapter.refundTrade(ACCOUNT, trade, one);
    expect(first).toMatchObject({ state: 'succeeded', amount: 50 });
    expect(await adapter.queryTrade(ACCOUNT, trade)).toMatchObject({
      state: 'paid',
      refunds: [{ outRefundNo: one.outRefundNo, amount: 50, state: 'succeeded' }],
    });
    await adapter.refundTrade(ACCOUNT, trade, two);
    expect(await adapter.queryTrade(ACCOUNT, trade)).toMatchObject({ state: 'refunded' });
    expect(await adapter.queryRefund(ACCOUNT, trade, one)).toEqual(first);
    const { channelRefundId } = first as { channelRefundId: string };
    expect(await adapter.queryRefund(ACCOUNT, trade, { ...one, channelRefundId })).toEqual(first);
    expect(await adapter.queryRefund(ACCOUNT, trade, refundOf())).toEqual({ state: 'unknown_refund' });
  });

  test('only one refund is made under a number, even if a repeated request has another amount or Stripe has forgotten the key', async () => {
    const { trade } = await paidTrade();
    const refund = refundOf();
    const first = await adapter.refundTrade(ACCOUNT, trade, refund);
    expect(await adapter.refundTrade(ACCOUNT, trade, refund)).toEqual(first);
    expect(await adapter.refundTrade(ACCOUNT, trade, { ...refund, amount: 1000 })).toEqual(first);
    await double.tell('pruneKeys', {});
    await requests();
    expect(await errorOf(adapter.refundTrade(ACCOUNT, trade, refund))).toMatchObject({ kind: 'rejected' });
    expect((await requests()).filter(({ path: at }) => at.startsWith('/v1/refunds'))).toHaveLength(1);
    expect(await adapter.queryRefund(ACCOUNT, trade, refund)).toEqual(first);
  });

  test('if the payment intent is known, each call about a refund sends only one request', async () => {
    const { trade, payment } = await paidTrade();
    const known = { ...trade, channelPaymentId: payment };
    const refund = refundOf();
    await requests();
    const { channelRefundId } = (await adapter.refundTrade(ACCOUNT, known, refund)) as {
      channelRefundId: string;
    };
    await adapter.queryRefund(ACCOUNT, known, refund);
    await adapter.queryRefund(ACCOUNT, known, { ...refund, channelRefundId });
    expect((await requests()).map((sent) => sent.path.split('?')[0])).toEqual([
      ...['/v1/refunds', '/v1/refunds', `/v1/refunds/${channelRefundId}`],
    ]);
    await adapter.queryTrade(ACCOUNT, known);
    // Stripe allows 25 requests a second (https://docs.stripe.com/rate-limits). The adapter's own limit counts calls,
    // and a query may send several requests.
    expect((await requests()).length * adapter.declaration.rateLimit.perSecond).toBeLessThanOrEqual(25);
  });

  test('a refund can be queried by its id even with another number, but only as a refund of its own payment', async () => {
    const { trade } = await paidTrade();
    const answer = await adapter.refundTrade(ACCOUNT, trade, refundOf({ amount: 50 }));
    const { channelRefundId } = answer as { channelRefundId: string };
    const atAnother = { outRefundNo: 'ref_2', channelRefundId };
    expect(await adapter.queryRefund(ACCOUNT, trade, atAnother)).toEqual(answer);
    const other = await paidTrade();
    expect(await errorOf(adapter.queryRefund(ACCOUNT, other.trade, atAnother))).toMatchObject({
      kind: 'garbage',
    });
  });

  test('if the balance is too low for a refund, Stripe replays the refusal until it forgets the key', async () => {
    const { trade } = await paidTrade();
    const refund = refundOf();
    await double.tell('balance', { isPoor: true });
    const refused = () => errorOf(adapter.refundTrade(ACCOUNT, trade, refund));
    expect(await refused()).toMatchObject({ kind: 'not_now', isReplayed: false });
    await double.tell('balance', { isPoor: false });
    expect(await refused()).toMatchObject({ kind: 'not_now', isReplayed: true });
    await double.tell('pruneKeys', {});
    expect(await adapter.refundTrade(ACCOUNT, trade, refund)).toMatchObject({ state: 'succeeded' });
  });

  test('the amount of a refund or dispute that has a fraction of a minor unit is rounded, and the payment can still be read', async () => {
    const trade = await created(adapter, newTrade({ method, currency: 'ISK', amount: 1000 }));
    const payment = await pay(trade);
    await double.tell('dashboardRefund', { payment, amount: 150 });
    await double.tell('dispute', { payment, status: 'lost', dueBy: 1_800_000_000, amount: 40 });
    expect(await adapter.queryTrade(ACCOUNT, trade)).toMatchObject({
      ...{ state: 'paid', amount: 1000, currency: 'ISK' },
      refunds: [{ amount: 2, state: 'succeeded' }],
      disputes: [{ amount: 1, currency: 'ISK', state: 'lost' }],
    });
  });

  test('a refund of more than the amount that is left is rejected', async () => {
    const { trade } = await paidTrade();
    await adapter.refundTrade(ACCOUNT, trade, refundOf({ amount: 1000 }));
    const error = await errorOf(adapter.refundTrade(ACCOUNT, trade, refundOf({ amount: 51 })));
    expect(error).toMatchObject({ kind: 'rejected' });
  });

  test('if the answer to a refund request is lost, a query and a repeated request find the refund', async () => {
    const { trade } = await paidTrade();
    const refund = refundOf();
    await double.tell('faults', [{ kind: 'accepted', of: 'POST /v1/refunds', times: 1 }]);
    const call = adapter.refundTrade(ACCOUNT, trade, refund, AbortSignal.timeout(500));
    expect(await errorOf(call)).toMatchObject({ kind: 'unreachable' });
    expect(await adapter.queryRefund(ACCOUNT, trade, refund)).toMatchObject({ state: 'succeeded' });
    expect(await adapter.refundTrade(ACCOUNT, trade, refund)).toMatchObject({ state: 'succeeded' });
  });

  test('a refund in process already has an id, and can still fail', async () => {
    await double.tell('refundPlan', { status: 'pending', pendingReason: 'processing' });
    const { trade } = await paidTrade();
    const refund = refundOf();
    const answer = await adapter.refundTrade(ACCOUNT, trade, refund);
    expect(answer).toEqual({ state: 'processing', channelRefundId: expect.stringMatching(/^re_/) });
    const { channelRefundId: id } = answer as { channelRefundId: string };
    await double.tell('changeRefund', { id, status: 'failed', failureReason: 'insufficient_funds' });
    expect(await adapter.queryRefund(ACCOUNT, trade, refund)).toMatchObject({
      state: 'failed',
      reason: 'insufficient_funds',
    });
    expect(await adapter.queryTrade(ACCOUNT, trade)).toMatchObject({
      state: 'paid',
      refunds: [{ id, state: 'failed' }],
    });
  });

  test('a refund is reported as reversed if the bank returns it', async () => {
    const { trade } = await paidTrade();
    const refund = refundOf();
    const { channelRefundId: id } = (await adapter.refundTrade(ACCOUNT, trade, refund)) as {
      channelRefundId: string;
    };
    await double.tell('changeRefund', { id, status: 'failed', failureReason: 'expired_or_canceled_card' });
    expect(await adapter.queryRefund(ACCOUNT, trade, refund)).toMatchObject({
      state: 'reversed',
      reason: 'expired_or_canceled_card',
    });
    expect(await adapter.queryTrade(ACCOUNT, trade)).toMatchObject({
      state: 'paid',
      refunds: [{ id, state: 'reversed' }],
    });
  });

  test.each([[{ status: 'requires_action' }], [{ status: 'pending', pendingReason: 'insufficient_funds' }]])(
    'a refund is reported as needing a person if Stripe answers %o',
    async (plan) => {
      await double.tell('refundPlan', plan);
      const { trade } = await paidTrade();
      expect(await adapter.refundTrade(ACCOUNT, trade, refundOf())).toMatchObject({ state: 'needs_person' });
    },
  );

  test('the answer to a query lists refunds that were made in the dashboard, and both open and decided disputes', async () => {
    const { trade, payment } = await paidTrade();
    await double.tell('dashboardRefund', { payment, amount: 200 });
    const { id } = (await double.tell('dispute', {
      payment,
      status: 'needs_response',
      dueBy: 1_800_000_000,
    })) as { id: string };
    const answer = await adapter.queryTrade(ACCOUNT, trade);
    expect(answer).toMatchObject({
      refunds: [{ amount: 200, state: 'succeeded' }],
      disputes: [
        {
          id,
          amount: 1050,
          currency: 'EUR',
          state: 'open',
          reason: 'fraudulent',
          respondBy: '2027-01-15T08:00:00.000Z',
        },
      ],
    });
    expect((answer as PaidAnswer).refunds?.[0]).not.toHaveProperty('outRefundNo');
    await double.tell('changeDispute', { id, status: 'lost' });
    const decided = await adapter.queryTrade(ACCOUNT, trade);
    expect(decided).toMatchObject({ disputes: [{ id, state: 'lost' }] });
    expect((decided as PaidAnswer).disputes?.[0]).not.toHaveProperty('respondBy');
    expect((decided as PaidAnswer).disputes?.[0]).not.toHaveProperty('isInquiry');
    await double.tell('dispute', {
      payment,
      status: 'warning_needs_response',
      dueBy: 1_800_000_000,
      amount: 50,
    });
    const { disputes = [] } = (await adapter.queryTrade(ACCOUNT, trade)) as PaidAnswer;
    expect(disputes).toHaveLength(2);
    expect(disputes).toEqual(
      expect.arrayContaining([
        expect.objectContaining({ id, state: 'lost' }),
        expect.objectContaining({ amount: 50, state: 'open', isInquiry: true }),
      ]),
    );
  });
});
