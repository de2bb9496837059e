import { describe, expect, test } from 'vitest';
import { ChannelError } from '../../src/domain/channel.ts';
import { automaticRefundId, externalRefundId, replacementRefundId } from '../../src/domain/ids.ts';
import { resolvePayment } from '../../src/ledger/operator-decision.ts';
import { toRefundSnapshot } from '../../src/ledger/payment-facts.ts';
import { requestRefund } from '../../src/ledger/refunds.ts';
import type { Payment } from '../../src/ledger/rows.ts';
import { NET_MS } from '../support/progress.ts';
import { atChannel, done, h, hooks, payTwice, refundsOf } from './refund-support.ts';

/**
 * Tests refused refunds. The amount of a refused refund is no longer reserved. If the refund was due, its attention
 * stays.
 */

test('if the channel finally refuses a refund, the refund fails and its amount can be requested again', async () => {
  const payment = await h.newPaid();
  h.onRefund = async () => ({ state: 'failed', reason: 'The payer has closed the account.' });
  const refund = await h.refund(payment);
  await done(refund.id);
  expect(await h.refundRow(refund.id)).toMatchObject({
    status: 'failed',
    failure: 'The payer has closed the account.',
  });
  expect(await h.row(payment.id)).toMatchObject({ refundedAmount: 0n, attention: null });
  expect(await h.orderStatus(payment)).toBe('succeeded');
  h.onRefund = undefined;
  await done((await h.refund(payment)).id);
  expect(await h.orderStatus(payment)).toBe('refunded');
});

test('if a refund request took effect but its answer was lost, a later refusal has no effect', async () => {
  const payment = await h.newPaid();
  let calls = 0;
  h.onRefund = async (ask) => {
    const answer = await ask();
    calls += 1;
    if (calls === 1) throw new ChannelError('unreachable', 'the answer got lost');
    if (calls === 2) throw new ChannelError('rejected', 'more than is left');
    return answer;
  };
  const refund = await h.refund(payment);
  await done(refund.id);
  expect(h.refundCalls(refund.id).map(({ call }) => call)).toEqual(['query', 'refund', 'refund', 'query']);
  expect(await h.refundRow(refund.id)).toMatchObject({ status: 'succeeded' });
  expect(await atChannel(payment)).toMatchObject({ refunded: 1990 });
});

test('a refused refund is not settled until a query of the trade shows which refunds exist', async () => {
  const payment = await h.newPaid();
  await h.refundElsewhere(payment, 1990);
  let calls = 0;
  h.onRefund = async (ask) => {
    calls += 1;
    try {
      return await ask();
    } finally {
      // The channel refuses the refund and answers "unknown refund". After that, it does not answer for a
      // while.
      if (calls === 2) await h.simulator.setFaults({ query: { errorRate: 1 } });
    }
  };
  const refund = await h.refund(payment, 1990);
  await h.pass(60);
  expect(await h.refundRow(refund.id)).toMatchObject({ status: 'created', settledAt: null });
  expect((await h.refundRow(refund.id)).unknownSince).not.toBeNull();
  await h.simulator.setFaults({ query: { errorRate: 0 } });
  await done(refund.id);
  expect(await h.refundRow(refund.id)).toMatchObject({ status: 'failed' });
  expect(await h.row(payment.id)).toMatchObject({ refundedAmount: 1990n });
  expect(await h.orderStatus(payment)).toBe('refunded');
  expect(await h.db.refund.findMany({ where: { paymentId: payment.id, reason: 'external' } })).toMatchObject([
    { status: 'succeeded', amount: 1990n },
  ]);
});

// After a message cancels an activity, the time-skipping server no longer skips time. The following tests do not need
// skipped time.

test('a refused automatic refund keeps its attention until the money is refunded in another way', async () => {
  h.onRefund = async () => ({ state: 'failed', reason: 'No longer possible.' });
  const { second, refund } = await payTwice();
  await h.untilRefund(refund.id, 'failed');
  expect(await h.row(second.id)).toMatchObject({ attention: 'refund_failing', refundedAmount: 0n });
  expect((await h.row(second.id)).attentionDetail).toContain('No longer possible.');
  // The whole amount is refunded directly at the channel, and the next query finds this refund.
  await h.refundElsewhere(second, 1990);
  await h.ask(second);
  expect(await h.row(second.id)).toMatchObject({ attention: null, refundedAmount: 1990n });
  expect(await h.db.refund.findMany({ where: { paymentId: second.id, reason: 'external' } })).toMatchObject([
    { status: 'succeeded', amount: 1990n },
  ]);
});

test('if the channel refuses a refund of a recovered order, an attention is raised and no automatic refund follows', async () => {
  h.onRefund = async () => ({ state: 'failed', reason: 'No longer possible.' });
  const { second, refund } = await payTwice();
  await h.untilRefund(refund.id, 'failed');
  await h.loseRefunds(second);
  await h.db.order.update({
    where: { merchantId_id: { merchantId: second.merchantId, id: second.orderId } },
    data: { recoveredAt: new Date(await h.now()) },
  });
  const requested = await h.refund(second, 500);
  await h.untilRefund(requested.id, 'failed');
  expect(await refundsOf(second)).toEqual([[requested.id, 500n, 'requested', 'failed']]);
  expect(await h.row(second.id)).toMatchObject({ attention: 'refund_failing' });
  expect((await h.row(second.id)).attentionDetail).toContain('No longer possible.');
  // An operator's decision clears the attention.
  h.onRefund = undefined;
  const { merchantId } = second;
  const now = new Date(await h.now());
  const { refunds } = await resolvePayment(h.db, merchantId, second.id, 'refund', 'decided', now);
  expect(refunds).toMatchObject([{ amount: 1990n }]);
  expect(await h.row(second.id)).toMatchObject({ attention: 'order_conflict' });
});

describe('the channel refuses to refund all remaining money, because a part was refunded at the channel', () => {
  /**
   * Starts a refund's workflow as the sweep does.
   * @returns the refund's row after the workflow has ended
   */
  const startRest = async (payment: Payment, id: string | null) => {
    await h.refundWorkflows.start(toRefundSnapshot(await h.refundRow(id ?? 'none'), payment), NET_MS);
    await done(id ?? 'none');
    return await h.refundRow(id ?? 'none');
  };

  test('if the refused refund is automatic, a refund of the remaining amount replaces it', async () => {
    hooks.beforeRefund = [
      async () => {
        const { payment } = await h.db.refund.findFirstOrThrow({
          where: { reason: 'duplicate_payment' },
          orderBy: { createdAt: 'desc' },
          include: { payment: true },
        });
        await h.refundElsewhere(payment, 300);
      },
    ];
    const { second, refund } = await payTwice();
    await h.untilRefund(refund.id, 'failed');
    const rest = automaticRefundId(second.id, 2);
    expect(await refundsOf(second)).toEqual([
      [refund.id, 1990n, 'duplicate_payment', 'failed'],
      [rest, 1690n, 'duplicate_payment', 'created'],
      [externalRefundId(second.id), 300n, 'external', 'succeeded'],
    ]);
    expect(await h.refundRow(refund.id)).toMatchObject({ replacedBy: rest });
    // The refund of the remaining money is not settled yet, so no attention is raised.
    expect(await h.row(second.id)).toMatchObject({ attention: 'order_conflict', refundedAmount: 300n });
    expect(await startRest(second, rest)).toMatchObject({ status: 'succeeded', replacedBy: null });
    expect(await h.row(second.id)).toMatchObject({ attention: null, refundedAmount: 1990n });
    expect(await atChannel(second)).toMatchObject({ state: 'REFUND', refunded: 1990 });
  });

  test('if nodrop already knew the refund at the channel, the refused automatic refund is not replaced', async () => {
    const payment = await h.newPaid();
    await h.refundElsewhere(payment, 300);
    h.onRefund = async () => ({ state: 'failed', reason: 'No longer possible.' });
    const refund = await h.owe(payment);
    await done(refund.id);
    expect(await refundsOf(payment)).toEqual([
      [refund.id, 1690n, 'late_payment', 'failed'],
      [externalRefundId(payment.id), 300n, 'external', 'succeeded'],
    ]);
    expect(await h.refundRow(refund.id)).toMatchObject({ replacedBy: null });
  });

  test('if the merchant requested the refused refund, a refund of the remaining amount replaces it, and a repeated request returns the refused refund', async () => {
    const payment = await h.newPaid();
    hooks.beforeRefund = [() => h.refundElsewhere(payment, 300), () => h.refundElsewhere(payment, 200)];
    const request = { amount: undefined, note: undefined, idempotencyKey: 'rest-1' };
    const first = await h.refund(payment, undefined, request.idempotencyKey);
    await done(first.id);
    const { replacedBy, status } = await h.refundRow(first.id);
    expect([status, replacedBy]).toEqual(['failed', replacementRefundId(first.id)]);
    expect(await h.db.refund.findUnique({ where: { id: replacedBy ?? '' } })).toMatchObject({
      ...{ status: 'created', amount: 1690n, reason: 'requested', idempotencyKey: null },
    });
    // Each refused refund is replaced only once.
    const second = await startRest(payment, replacedBy);
    expect(second).toMatchObject({ status: 'failed', replacedBy: replacementRefundId(second.id) });
    const third = await startRest(payment, second.replacedBy);
    expect(third).toMatchObject({ status: 'succeeded', amount: 1490n, replacedBy: null });
    expect(await h.row(payment.id)).toMatchObject({ refundedAmount: 1990n });
    expect(await h.orderStatus(payment)).toBe('refunded');
    expect(await atChannel(payment)).toMatchObject({ state: 'REFUND', refunded: 1990 });
    expect(await h.db.refund.count({ where: { paymentId: payment.id } })).toBe(5);
    const again = await requestRefund(h.db, payment.id, request, new Date(await h.now()));
    expect(again).toMatchObject({ created: false, refund: { id: first.id, status: 'failed', replacedBy } });
    // The events come in this sequence. The event of a replaced refund contains the id of its replacement.
    const events = await h.db.event.findMany({
      where: { paymentId: payment.id, type: { startsWith: 'refund.' } },
      orderBy: { version: 'asc' },
    });
    const told = events.map(({ type, data }) => {
      const { refund } = data as { refund: { id: string; amount: number; replacedBy: string | null } };
      return [type, refund.id, refund.amount, refund.replacedBy];
    });
    expect(told).toEqual([
      ['refund.succeeded', externalRefundId(payment.id), 300, null],
      ['refund.failed', first.id, 1990, second.id],
      ['refund.succeeded', externalRefundId(payment.id, 2), 200, null],
      ['refund.failed', second.id, 1690, third.id],
      ['refund.succeeded', third.id, 1490, null],
    ]);
  });

  test.each(['requested', 'owed'])(
    'a refused refund (%s) of a recovered order is replaced, because the decision to refund all money was already made',
    async (kind) => {
      const payment = await h.newPaid();
      const { merchantId, orderId: id } = payment;
      const recovered = { recoveredAt: new Date(await h.now()) };
      await h.db.order.update({ where: { merchantId_id: { merchantId, id } }, data: recovered });
      hooks.beforeRefund = [() => h.refundElsewhere(payment, 300)];
      const refund = kind === 'owed' ? await h.owe(payment) : await h.refund(payment);
      await done(refund.id);
      const { replacedBy } = await h.refundRow(refund.id);
      expect(await startRest(payment, replacedBy)).toMatchObject({ status: 'succeeded', amount: 1690n });
    },
  );

  test('if the payment is disputed, the refused refund is not replaced, because the channel decides about the remaining amount', async () => {
    const payment = await h.newPaid();
    const disputed = { attention: 'disputed', attentionSince: new Date(await h.now()) };
    hooks.beforeRefund = [
      async () => {
        await h.refundElsewhere(payment, 300);
        await h.db.payment.update({ where: { id: payment.id }, data: disputed });
      },
    ];
    const refund = await h.refund(payment);
    await done(refund.id);
    expect(await h.refundRow(refund.id)).toMatchObject({ status: 'failed', replacedBy: null });
    expect(await h.row(payment.id)).toMatchObject({ attention: 'disputed', refundedAmount: 300n });
  });

  test('a refused refund is not replaced if all money is refunded, if the request named an amount, or if the refusal has another reason', async () => {
    const all = await h.newPaid();
    hooks.beforeRefund = [() => h.refundElsewhere(all, 1990)];
    const gone = await h.refund(all);
    await done(gone.id);
    const named = await h.newPaid();
    hooks.beforeRefund = [() => h.refundElsewhere(named, 300)];
    const fixed = await h.refund(named, 1990);
    await done(fixed.id);
    const other = await h.newPaid();
    await h.refundElsewhere(other, 300);
    h.onRefund = async () => ({ state: 'failed', reason: 'The payer has closed the account.' });
    const refused = await h.refund(other);
    await done(refused.id);
    for (const [{ id: paymentId }, { id }] of [
      [all, gone],
      [named, fixed],
      [other, refused],
    ] as const) {
      expect(await h.refundRow(id)).toMatchObject({ status: 'failed', replacedBy: null });
      expect(await h.db.refund.count({ where: { paymentId, reason: { not: 'external' } } })).toBe(1);
    }
  });
});

test('if a refund of a fixed amount is refused after a refund at the channel, the refunded amount contains only the refund at the channel', async () => {
  const payment = await h.newPaid();
  await h.refundElsewhere(payment, 1000);
  const refund = await h.refund(payment, 1990);
  await done(refund.id);
  expect(await h.refundRow(refund.id)).toMatchObject({ status: 'failed' });
  expect(await h.row(payment.id)).toMatchObject({ refundedAmount: 1000n, attention: 'channel_reversed' });
});
