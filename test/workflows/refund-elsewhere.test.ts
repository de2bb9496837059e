import { describe, expect, test } from 'vitest';
import type { RefundAnswer } from '../../src/domain/channel.ts';
import { externalRefundId, requestedRefundId } from '../../src/domain/ids.ts';
import { resolvePayment } from '../../src/ledger/operator-decision.ts';
import { recordAnswer, settlePayment } from '../../src/ledger/payments.ts';
import { requestRefund } from '../../src/ledger/refunds.ts';
import type { Payment } from '../../src/ledger/rows.ts';
import { eventually } from '../support/progress.ts';
import { atChannel, done, h, hooks, processing, refundsOf } from './refund-support.ts';

/**
 * Tests that nodrop finds refunds at the channel that it did not request. It records each of them once, and raises an
 * attention.
 */

test('if the channel reports two refunds whose sum exceeds the received amount, they are recorded only up to the received amount', async () => {
  const payment = await h.newPaid();
  h.onRefund = processing;
  const [one, other] = [await h.refund(payment, 400), await h.refund(payment, 600)];
  for (const { id } of [one, other]) await h.untilRefund(id, 'processing');
  h.onRefund = async (ask) => ({ ...(await ask()), amount: 1990 }) as RefundAnswer;
  for (const { id } of [one, other]) await done(id);
  const rows = await h.db.refund.findMany({ where: { paymentId: payment.id } });
  expect(rows.map(({ amount, status }) => `${amount} ${status}`).sort()).toEqual([
    ...['0 succeeded', '1990 succeeded'],
  ]);
  expect(await h.row(payment.id)).toMatchObject({ refundedAmount: 1990n, attention: 'amount_mismatch' });
});

test('if an external refund was attributed to an open refund of nodrop, the external refund is found when nodrop’s refund is settled', async () => {
  const payment = await h.newPaid();
  h.onRefund = processing;
  const refund = await h.refund(payment, 500);
  await h.untilRefund(refund.id, 'processing');
  await h.refundElsewhere(payment, 400);
  await h.callback(payment, { refundedAmount: 400 });
  await h.env.client.workflow.getHandle(`payment/${payment.id}`).result();
  expect(await h.row(payment.id)).toMatchObject({ refundedAmount: 0n });
  // A query settles nodrop's refund, because its callback never arrives.
  h.onRefund = undefined;
  await done(refund.id);
  expect(await h.row(payment.id)).toMatchObject({ refundedAmount: 900n, attention: 'channel_reversed' });
  expect(await h.db.refund.findMany({ where: { paymentId: payment.id, reason: 'external' } })).toMatchObject([
    { status: 'succeeded', amount: 400n },
  ]);
});

test('if a processing refund whose row was lost is recorded as external, a repeated request does not count the refund twice', async () => {
  const payment = await h.newPaid();
  const { merchantId, id: paymentId } = payment;
  const id = requestedRefundId({ merchantId, paymentId, idempotencyKey: 'lost-6', amount: 400 });
  await h.simulator.setFaults({ refund: { processingMs: 5_000 } });
  await h.refundElsewhere(payment, 400, id);
  // The refunded sum that this channel reports includes refunds in process.
  const now = new Date(await h.now());
  const paid = { state: 'paid', channelPaymentId: 'trx', paidAt: now.toISOString() } as const;
  const sum = { ...paid, amount: 1990, currency: 'CNY', refundedAmount: 400 } as const;
  await recordAnswer(h.db, paymentId, sum, 'query', now);
  expect(await h.row(paymentId)).toMatchObject({ refundedAmount: 400n });
  await h.refund(payment, 400, 'lost-6');
  await h.untilRefund(id, 'processing');
  await done(id);
  expect(await atChannel(payment)).toMatchObject({ refunded: 400 });
  expect(await refundsOf(payment)).toEqual([
    [id, 400n, 'requested', 'succeeded'],
    [externalRefundId(payment.id), 400n, 'external', 'failed'],
  ]);
  expect(await h.row(payment.id)).toMatchObject({ refundedAmount: 400n, attention: null });
});

test('if the channel refunds more than nodrop requested and the excess was recorded as external, the money is counted only once', async () => {
  const payment = await h.newPaid();
  const { merchantId, id: paymentId } = payment;
  const id = requestedRefundId({ merchantId, paymentId, idempotencyKey: 'other-2', amount: 400 });
  h.onRefund = async () => {
    if ((await atChannel(payment))?.refunded === 0) await h.refundElsewhere(payment, 500, id);
    return { state: 'processing' };
  };
  await h.refund(payment, 400, 'other-2');
  await h.untilRefund(id, 'processing');
  await h.ask(payment);
  expect(await h.row(payment.id)).toMatchObject({ refundedAmount: 100n, attention: 'channel_reversed' });
  h.onRefund = undefined;
  await done(id);
  expect(await h.refundRow(id)).toMatchObject({ amount: 500n, askedAmount: 400n });
  expect(await h.row(payment.id)).toMatchObject({ refundedAmount: 500n, attention: 'amount_mismatch' });
});

// After a message cancels an activity, the time-skipping server no longer skips time. The following tests do not need
// skipped time.

describe('a refund of all remaining money after a refund was made at the channel', () => {
  test('an automatic refund requests only the remaining amount', async () => {
    const payment = await h.newPaid();
    await h.refundElsewhere(payment, 300);
    const refund = await h.owe(payment);
    await done(refund.id);
    expect(h.refundCalls(refund.id).map(({ call }) => call)).toEqual(['query', 'refund']);
    expect(await h.refundRow(refund.id)).toMatchObject({
      ...{ status: 'succeeded', amount: 1690n, askedAmount: null },
    });
    expect(await h.row(payment.id)).toMatchObject({ refundedAmount: 1990n });
    expect(await atChannel(payment)).toMatchObject({ state: 'REFUND', refunded: 1990 });
    expect(await h.timeline(payment.id)).toContain(
      `refund: Refund ${refund.id} was lowered by CNY 3.00 to CNY 16.90, because the difference was given back already.`,
    );
  });

  test('a requested refund is sent with only the remaining amount, and a repeated request returns the same refund', async () => {
    const payment = await h.newPaid();
    await h.refundElsewhere(payment, 300);
    const refund = await h.refund(payment, undefined, 'left-1');
    await done(refund.id);
    expect(await h.refundRow(refund.id)).toMatchObject({ status: 'succeeded', amount: 1690n });
    const same = { amount: undefined, note: undefined, idempotencyKey: 'left-1' };
    const again = await requestRefund(h.db, payment.id, same, new Date(await h.now()));
    expect(again).toMatchObject({ refund: { id: refund.id }, created: false });
    expect(await atChannel(payment)).toMatchObject({ refunded: 1990 });
  });

  test('if no money remains, the refund fails without a request to the channel', async () => {
    const payment = await h.newPaid();
    await h.refundElsewhere(payment, 1990);
    const refund = await h.owe(payment);
    await done(refund.id);
    expect(h.refundCalls(refund.id).map(({ call }) => call)).toEqual(['query']);
    expect(await h.refundRow(refund.id)).toMatchObject({
      ...{ status: 'failed', amount: 1990n, askedAt: null },
      failure:
        'All of the money was given back, or other refunds give it back: the channel was not asked for this refund.',
    });
    expect(await h.row(payment.id)).toMatchObject({ refundedAmount: 1990n });
    expect(await h.orderStatus(payment)).toBe('refunded');
  });
});

test('if a refund from before a loss of the database takes effect between the first two queries, its amount is counted only once', async () => {
  const payment = await h.newPaid();
  const { merchantId, id: paymentId } = payment;
  const key = { merchantId, paymentId, idempotencyKey: 'between-1', amount: 400 };
  hooks.onQueried = () => h.refundElsewhere(payment, 400, requestedRefundId(key));
  const refund = await h.refund(payment, 400, 'between-1');
  await done(refund.id);
  expect(hooks.onQueried).toBeUndefined();
  expect(await atChannel(payment)).toMatchObject({ refunded: 400 });
  expect(await refundsOf(payment)).toEqual([[refund.id, 400n, 'requested', 'succeeded']]);
  expect(await h.row(payment.id)).toMatchObject({ refundedAmount: 400n });
});

test('each refund that was made at the channel is recorded once by a query, and an attention is raised', async () => {
  const payment = await h.newPaid();
  await h.refundElsewhere(payment, 300);
  for (let i = 0; i < 2; i++) await h.ask(payment);
  expect(await h.row(payment.id)).toMatchObject({ refundedAmount: 300n, attention: 'channel_reversed' });
  expect((await h.row(payment.id)).attentionDetail).toContain('CNY 3.00 was refunded at the channel');
  await h.refundElsewhere(payment, 1690);
  for (let i = 0; i < 2; i++) await h.ask(payment);
  const refunds = await h.db.refund.findMany({ where: { paymentId: payment.id }, orderBy: { id: 'asc' } });
  const ulid = payment.id.slice('pay_'.length);
  expect(refunds.map(({ id, amount, reason, status }) => [id, amount, reason, status])).toEqual([
    [`rx_${ulid}`, 300n, 'external', 'succeeded'],
    [`rx_${ulid}002`, 1690n, 'external', 'succeeded'],
  ]);
  expect(await h.row(payment.id)).toMatchObject({ refundedAmount: 1990n });
  expect(await h.orderStatus(payment)).toBe('refunded');
});

test('a refund that a callback reports is recorded, and a refund that the paid answer reports reduces the automatic refund', async () => {
  const payment = await h.newPaid();
  const trx = { channelPaymentId: 'trx', refundedAmount: 400 };
  // If an answer reports a wrong total amount of the trade, nodrop does not trust the refunds in this answer.
  for (const id of ['n-other', 'n-another']) await h.callback(payment, { ...trx, amount: 1 }, id);
  await h.callback(payment, trx, 'n-refund');
  await h.callback(payment, trx, 'n-refund');
  await eventually(async () => (await h.row(payment.id)).refundedAmount === 400n);
  expect(await h.row(payment.id)).toMatchObject({ attention: 'channel_reversed' });
  // The timeline mentions the untrusted answer once.
  expect((await h.timeline(payment.id)).filter((entry) => entry.includes('was settled with'))).toEqual([
    'query: The channel reports CNY 0.01, but the payment was settled with CNY 19.90: ignored.',
  ]);

  const first = await h.newPayment();
  const second = await h.newPayment({ orderId: first.orderId, channel: 'simulator2' });
  const run = await h.start(first);
  await h.simulator.pay(first.id);
  await h.callback(first);
  await run.result();
  await h.db.payment.update({
    where: { id: second.id },
    data: {
      channelAnswer: {
        state: 'paid',
        channelPaymentId: 'trx2',
        amount: 1990,
        currency: 'CNY',
        paidAt: new Date().toISOString(),
        refundedAmount: 990,
        by: 'query',
      },
    },
  });
  await settlePayment(h.db, second.id, new Date(await h.now()));
  const refunds = await h.db.refund.findMany({ where: { paymentId: second.id }, orderBy: { reason: 'asc' } });
  expect(refunds).toMatchObject([
    { reason: 'duplicate_payment', amount: 1000n, status: 'created' },
    { reason: 'external', amount: 990n, status: 'succeeded' },
  ]);
});

describe('refunds at the channel that nodrop does not know after a loss of its database', () => {
  test('a repeated request has the same refund number, so that the refund is found, and neither made nor counted twice', async () => {
    const payment = await h.newPaid();
    const first = await h.refund(payment, 400, 'lost-1');
    await done(first.id);
    await h.loseRefunds(payment);
    const again = await h.refund(payment, 400, 'lost-1');
    expect(again.id).toBe(first.id);
    await done(again.id);
    expect(await atChannel(payment)).toMatchObject({ refunded: 400 });
    expect(h.refundCalls(first.id).filter(({ call }) => call === 'refund')).toHaveLength(1);
    expect(await h.row(payment.id)).toMatchObject({ refundedAmount: 400n, attention: null });
    expect(await refundsOf(payment)).toEqual([[first.id, 400n, 'requested', 'succeeded']]);
  });

  test('before another refund is sent to the channel, the unknown refund is recorded as external', async () => {
    const payment = await h.newPaid();
    await done((await h.refund(payment, 400, 'lost-2')).id);
    await h.loseRefunds(payment);
    let before: unknown;
    h.onRefund = async (ask) => {
      before ??= { rows: await refundsOf(payment), row: await h.row(payment.id) };
      return await ask();
    };
    const refund = await h.refund(payment, 500, 'lost-3');
    await done(refund.id);
    const external = [externalRefundId(payment.id), 400n, 'external', 'succeeded'];
    expect(before).toMatchObject({
      rows: [[refund.id, 500n, 'requested', 'created'], external],
      row: { refundedAmount: 400n, attention: 'channel_reversed' },
    });
    expect(await atChannel(payment)).toMatchObject({ refunded: 900 });
    expect(await refundsOf(payment)).toEqual([[refund.id, 500n, 'requested', 'succeeded'], external]);
    expect(await h.row(payment.id)).toMatchObject({ refundedAmount: 900n });
  });

  test('if a refund that was recorded as external turns out to be nodrop’s, its money is counted only once', async () => {
    const payment = await h.newPaid();
    const lost = await h.refund(payment, 400, 'lost-4');
    await done(lost.id);
    await h.refundElsewhere(payment, 300);
    await h.loseRefunds(payment);
    await h.ask(payment);
    expect(await h.row(payment.id)).toMatchObject({ refundedAmount: 700n, attention: 'channel_reversed' });
    await done((await h.refund(payment, 400, 'lost-4')).id);
    expect(await atChannel(payment)).toMatchObject({ refunded: 700 });
    expect(await h.row(payment.id)).toMatchObject({ refundedAmount: 700n, attention: 'channel_reversed' });
    expect((await h.row(payment.id)).attentionDetail).toContain('CNY 3.00 was refunded at the channel');
    expect(await refundsOf(payment)).toEqual([
      [lost.id, 400n, 'requested', 'succeeded'],
      [externalRefundId(payment.id), 700n, 'external', 'failed'],
      [externalRefundId(payment.id, 2), 300n, 'external', 'succeeded'],
    ]);
    expect(await h.db.refund.findUnique({ where: { id: externalRefundId(payment.id) } })).toMatchObject({
      failure: `It was refund ${lost.id}.`,
    });
  });
});

describe('a refund whose amount at the channel differs from the requested amount', () => {
  const underOurNumber = async (payment: Payment, amount: number, key: string) => {
    const { merchantId, id: paymentId } = payment;
    const id = requestedRefundId({ merchantId, paymentId, idempotencyKey: key, amount: 'all' });
    await h.refundElsewhere(payment, amount, id);
    return id;
  };

  test("nodrop records the channel's amount beside the requested amount, and an attention is raised until an operator dismisses it", async () => {
    const payment = await h.newPaid();
    const id = await underOurNumber(payment, 600, 'other-1');
    const refund = await h.refund(payment, undefined, 'other-1');
    await done(refund.id);
    expect(await h.refundRow(id)).toMatchObject({ status: 'succeeded', amount: 600n, askedAmount: 1990n });
    expect(await atChannel(payment)).toMatchObject({ refunded: 600 });
    const detail = `The channel gave back CNY 6.00 for refund ${id}; nodrop asked for CNY 19.90.`;
    expect(await h.row(payment.id)).toMatchObject({
      ...{ refundedAmount: 600n, attention: 'amount_mismatch', attentionDetail: detail },
    });
    expect(await h.timeline(payment.id)).toContain(
      `refund: Refund ${id} of CNY 19.90 succeeded: requested. ${detail}`,
    );
    // The merchant can still refund the remaining money. This refund does not clear the attention.
    await done((await h.refund(payment)).id);
    expect(await h.row(payment.id)).toMatchObject({ refundedAmount: 1990n, attention: 'amount_mismatch' });
    expect(await h.orderStatus(payment)).toBe('refunded');
    const { merchantId } = payment;
    await resolvePayment(h.db, merchantId, payment.id, 'dismiss', 'seen', new Date(await h.now()));
    expect(await h.row(payment.id)).toMatchObject({ attention: null });
  });

  test('if the channel refunds more than the received amount, the refund is recorded with the received amount', async () => {
    const payment = await h.newPaid();
    h.onRefund = async (ask) => ({ ...(await ask()), amount: 2500 }) as RefundAnswer;
    const refund = await h.refund(payment, 400);
    await done(refund.id);
    expect(await h.refundRow(refund.id)).toMatchObject({ amount: 1990n, askedAmount: 400n });
    expect(await h.row(payment.id)).toMatchObject({ refundedAmount: 1990n, attention: 'amount_mismatch' });
    expect((await h.row(payment.id)).attentionDetail).toBe(
      `The channel gave back CNY 25.00 for refund ${refund.id}; nodrop asked for CNY 4.00; only CNY 19.90 is recorded, because no more was received.`,
    );
    expect(await h.orderStatus(payment)).toBe('refunded');
  });

  test('the attention about the amount replaces an attention about refunds made at the channel', async () => {
    const payment = await h.newPaid();
    await h.refundElsewhere(payment, 300);
    await h.ask(payment);
    expect(await h.row(payment.id)).toMatchObject({ attention: 'channel_reversed' });
    h.onRefund = async (ask) => ({ ...(await ask()), amount: 399 }) as RefundAnswer;
    const refund = await h.refund(payment, 400);
    await done(refund.id);
    expect(await h.refundRow(refund.id)).toMatchObject({ amount: 399n, askedAmount: 400n });
    expect(await h.row(payment.id)).toMatchObject({ attention: 'amount_mismatch' });
  });
});

// This is the last test, because the time-skipping server no longer skips time after a cancelled activity
// completes.
test('after a callback settles a refund of nodrop, nodrop queries the trade until the channel answers, to find refunds that were made at the channel', async () => {
  const payment = await h.newPaid();
  h.onRefund = processing;
  const refund = await h.refund(payment, 500);
  await h.untilRefund(refund.id, 'processing');
  await h.refundElsewhere(payment, 400);
  // The report arrived while nodrop's refund was open, so the reported money was attributed to that refund.
  await h.callback(payment, { refundedAmount: 400 });
  await h.env.client.workflow.getHandle(`payment/${payment.id}`).result();
  expect(await h.row(payment.id)).toMatchObject({ refundedAmount: 0n });
  await h.simulator.setFaults({ query: { errorRate: 1 } });
  const answer = { state: 'succeeded', channelRefundId: 'simr_callback', amount: 500 } as const;
  const said = { outRefundNo: refund.id, answer };
  await h.callback(payment, { refundedAmount: 500 }, 'n-ours', said);
  // The callback settles nodrop's own refund.
  await h.untilRefund(refund.id, 'succeeded');
  expect(await h.row(payment.id)).toMatchObject({ refundedAmount: 500n, attention: null });
  await h.simulator.setFaults({ query: { errorRate: 0 } });
  await eventually(async () => (await h.row(payment.id)).refundedAmount === 900n);
  expect(await h.row(payment.id)).toMatchObject({ attention: 'channel_reversed' });
  expect(await h.db.refund.findMany({ where: { paymentId: payment.id, reason: 'external' } })).toMatchObject([
    { status: 'succeeded', amount: 400n },
  ]);
});
