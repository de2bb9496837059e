import { expect, test } from 'vitest';
import { ChannelError, type RefundAnswer } from '../../src/domain/channel.ts';
import { refundWorkflowId } from '../../src/domain/names.ts';
import { takeStuckRefunds } from '../../src/ledger/sweep.ts';
import { eventually } from '../support/progress.ts';
import { atChannel, done, h, payTwice, processing, refundsOf } from './refund-support.ts';

/** Tests that a due refund is made exactly once, whatever the channel answers. */

const HOUR = 3600;

test('when a full refund succeeds, the order becomes refunded', async () => {
  const payment = await h.newPaid();
  const refund = await h.refund(payment);
  await done(refund.id);
  const row = await h.refundRow(refund.id);
  expect(row).toMatchObject({ status: 'succeeded', reason: 'requested', amount: 1990n, unknownSince: null });
  expect(row.channelRefundId).toMatch(/^simr_/);
  expect(row.settledAt).not.toBeNull();
  expect(await h.row(payment.id)).toMatchObject({ refundedAmount: 1990n, attention: null });
  expect(await h.orderStatus(payment)).toBe('refunded');
  expect(await atChannel(payment)).toMatchObject({ state: 'REFUND', refunded: 1990 });
  expect(await h.timeline(payment.id)).toEqual(
    expect.arrayContaining([
      'refund: A refund of CNY 19.90 is due: requested.',
      `refund: Refund ${refund.id} of CNY 19.90 succeeded: requested.`,
      `order: Order ${payment.orderId} is refunded: all of its money has been given back.`,
    ]),
  );
});

test('partial refunds are accepted until they add up to the received amount', async () => {
  const payment = await h.newPaid();
  for (const amount of [500, 490]) await done((await h.refund(payment, amount)).id);
  expect(await h.row(payment.id)).toMatchObject({ refundedAmount: 990n });
  expect(await h.orderStatus(payment)).toBe('succeeded');
  await expect(h.refund(payment, 1001)).rejects.toMatchObject({ code: 'refund_exceeds_payment' });
  await done((await h.refund(payment)).id);
  expect(await h.row(payment.id)).toMatchObject({ refundedAmount: 1990n });
  expect(await h.orderStatus(payment)).toBe('refunded');
  await expect(h.refund(payment)).rejects.toMatchObject({ code: 'not_refundable' });
  await expect(h.refund(payment, 1)).rejects.toMatchObject({ code: 'refund_exceeds_payment' });
});

test('a refund in process is queried five times at intervals of 1 min, then after 5, 10 and 20 min, then every 30 min until the channel decides', async () => {
  const payment = await h.newPaid();
  h.onRefund = processing;
  const refund = await h.refund(payment, 700);
  await h.pass(2 * HOUR + 60);
  expect(await h.refundRow(refund.id)).toMatchObject({ status: 'processing' });
  expect(await h.row(payment.id)).toMatchObject({ refundedAmount: 0n, attention: null });
  h.onRefund = undefined;
  await done(refund.id);
  const minutes = h.refundCalls(refund.id).map(({ call, at }) => `${call} ${Math.round(at / 60)}`);
  expect(minutes).toEqual([
    ...['query 0', 'refund 0'],
    ...[1, 2, 3, 4, 5, 10, 20, 40, 70, 100, 130].map((at) => `query ${at}`),
  ]);
  expect(await h.refundRow(refund.id)).toMatchObject({ status: 'succeeded', failure: null });
  expect(await h.row(payment.id)).toMatchObject({ refundedAmount: 700n, attention: null });
});

test('if the channel is unreachable for hours, an attention is raised after one hour, and the refund is made only once', async () => {
  const payment = await h.newPaid();
  await h.simulator.setFaults({ down: true });
  const refund = await h.refund(payment, 500);
  await h.pass(HOUR / 2);
  expect(await h.row(payment.id)).toMatchObject({ attention: null });
  await h.pass(3 * HOUR);
  expect(await h.refundRow(refund.id)).toMatchObject({ status: 'created' });
  expect(await h.row(payment.id)).toMatchObject({ attention: 'refund_failing', refundedAmount: 0n });
  await h.simulator.setFaults({ down: false });
  await done(refund.id);
  expect(await h.row(payment.id)).toMatchObject({ attention: null, refundedAmount: 500n });
  expect(await atChannel(payment)).toMatchObject({ refunded: 500 });
});

test.each(['requested', 'owed'])(
  'if the balance is too low for a refund (%s), the request is repeated under the same number and an attention is raised after an hour',
  async (kind) => {
    const payment = await h.newPaid();
    await h.simulator.setFaults({ refund: { balanceTooLowRate: 1 } });
    const refund = kind === 'owed' ? await h.owe(payment) : await h.refund(payment);
    await h.pass(HOUR / 2);
    expect(await h.refundRow(refund.id)).toMatchObject({ status: 'created' });
    expect(await h.row(payment.id)).toMatchObject({ attention: null });
    await h.pass(HOUR);
    expect(await h.refundRow(refund.id)).toMatchObject({
      ...{ status: 'created', settledAt: null },
      failure: expect.stringContaining('BALANCE_TOO_LOW'),
    });
    expect(await h.row(payment.id)).toMatchObject({
      ...{ attention: 'refund_failing', refundedAmount: 0n },
      attentionDetail: expect.stringContaining('BALANCE_TOO_LOW'),
    });
    expect(await h.timeline(payment.id)).toContainEqual(
      expect.stringMatching(`refund: The channel refuses refund ${refund.id} for now: BALANCE_TOO_LOW`),
    );
    await h.simulator.setFaults({ refund: { balanceTooLowRate: 0 } });
    await done(refund.id);
    const calls = h.refundCalls(refund.id).map(({ call }) => call);
    expect([...new Set(calls.slice(1))]).toEqual(['refund']);
    expect(await refundsOf(payment)).toMatchObject([[refund.id, 1990n, expect.anything(), 'succeeded']]);
    expect(await h.row(payment.id)).toMatchObject({ attention: null, refundedAmount: 1990n });
    expect(await atChannel(payment)).toMatchObject({ refunded: 1990 });
  },
);

test('before a refund is first requested, the trade and the refund number are queried until the channel answers', async () => {
  const payment = await h.newPaid();
  await h.refundElsewhere(payment, 300);
  await h.simulator.setFaults({ query: { errorRate: 1 } });
  const refund = await h.refund(payment, 500);
  await h.pass(2 * HOUR);
  expect(h.refundCalls(refund.id).filter(({ call }) => call === 'refund')).toEqual([]);
  expect(await h.refundRow(refund.id)).toMatchObject({ status: 'created' });
  expect(await h.row(payment.id)).toMatchObject({ attention: 'refund_failing', refundedAmount: 0n });
  await h.simulator.setFaults({ query: { errorRate: 0 } });
  await done(refund.id);
  expect(h.refundCalls(refund.id).map(({ call }) => call)).toEqual(['query', 'refund']);
  expect(await h.row(payment.id)).toMatchObject({ refundedAmount: 800n });
});

test('if the answer to a refund request is lost, the request is repeated under the same number and the refund is made only once', async () => {
  const payment = await h.newPaid();
  let calls = 0;
  h.onRefund = async (ask) => {
    const answer = await ask();
    calls += 1;
    if (calls <= 3) throw new ChannelError('unreachable', 'the answer got lost');
    return answer;
  };
  const refund = await h.refund(payment, 1500);
  await done(refund.id);
  expect(h.refundCalls(refund.id).map(({ call }) => call)).toEqual(['query', ...Array(4).fill('refund')]);
  expect(await h.refundRow(refund.id)).toMatchObject({ status: 'succeeded' });
  expect(await atChannel(payment)).toMatchObject({ refunded: 1500 });
});

test('if the channel forgets a refund that it was processing, the refund is requested again under the same number', async () => {
  const payment = await h.newPaid();
  const answers: RefundAnswer[] = [
    { state: 'processing' },
    { state: 'processing' },
    { state: 'unknown_refund' },
  ];
  h.onRefund = async (ask) => answers.shift() ?? (await ask());
  const refund = await h.refund(payment, 500);
  await done(refund.id);
  expect(h.refundCalls(refund.id).map(({ call }) => call)).toEqual([
    ...['query', 'refund', 'query', 'query'],
    // nodrop sends an extra query only before the first refund request. So there is none before this repeated request.
    'refund',
  ]);
  expect(await h.row(payment.id)).toMatchObject({ refundedAmount: 500n });
  expect(await atChannel(payment)).toMatchObject({ refunded: 500 });
});

test('"Request Cancellation" in the Web UI does not stop a due refund', async () => {
  const payment = await h.newPaid();
  await h.simulator.setFaults({ down: true });
  const refund = await h.refund(payment);
  await h.env.client.workflow.getHandle(refundWorkflowId(refund.id)).cancel();
  await h.pass(60);
  await h.simulator.setFaults({ down: false });
  await done(refund.id);
  expect(await h.refundRow(refund.id)).toMatchObject({ status: 'succeeded' });
});

test('an automatic refund waits while the payment is disputed', async () => {
  const payment = await h.newPaid();
  const dispute = (attention: string | null) =>
    h.db.payment.update({
      where: { id: payment.id },
      data: { attention, attentionSince: attention === null ? null : new Date() },
    });
  await dispute('disputed');
  const refund = await h.owe(payment);
  await h.pass(HOUR);
  expect(await h.refundRow(refund.id)).toMatchObject({ status: 'created' });
  expect(h.refundCalls(refund.id)).toEqual([]);
  await dispute(null);
  await done(refund.id);
  expect(await atChannel(payment)).toMatchObject({ refunded: 1990 });
});

// After a message cancels an activity, the time-skipping server no longer skips time. The following tests do not need
// skipped time.

test('if two payments of one order are paid, one payment pays the order and the other payment is refunded automatically', async () => {
  const { first, second, refund } = await payTwice();
  expect(refund).toMatchObject({ reason: 'duplicate_payment', amount: 1990n });
  await h.untilRefund(refund.id, 'succeeded');
  expect(await h.row(first.id)).toMatchObject({ orderUpdate: 'applied', refundedAmount: 0n });
  expect(await h.row(second.id)).toMatchObject({
    orderUpdate: 'conflict',
    refundedAmount: 1990n,
    attention: null,
  });
  expect(await h.orderStatus(first)).toBe('succeeded');
  expect(await atChannel(first)).toMatchObject({ state: 'SUCCESS', refunded: 0 });
  expect(await atChannel(second)).toMatchObject({ state: 'REFUND', refunded: 1990 });
});

test('the sweep picks only refunds that were never started or that have not changed for a long time', async () => {
  const payment = await h.newPaid();
  const now = Date.now();
  const row = (id: string, changes: object) =>
    h.db.refund.create({
      data: {
        id: `re_${id}`,
        merchantId: payment.merchantId,
        paymentId: payment.id,
        amount: 1n,
        currency: 'CNY',
        reason: 'requested',
        createdAt: new Date(now - 60_000),
        updatedAt: new Date(now),
        ...changes,
      },
    });
  await row('forgotten', {});
  await row('new', { createdAt: new Date(now - 20_000) });
  await row('asked', { unknownSince: new Date(now - 30_000) });
  await row('silent', { status: 'processing', updatedAt: new Date(now - 3_700_000) });
  await row('waiting', { status: 'processing' });
  await row('over', { status: 'failed', updatedAt: new Date(now - 3_700_000) });
  const taken = await takeStuckRefunds(h.db, new Date(now));
  const ours = taken.filter(({ paymentId }) => paymentId === payment.id);
  expect(ours.map(({ id }) => id).sort()).toEqual(['re_forgotten', 're_silent']);
  expect(await takeStuckRefunds(h.db, new Date(now))).toEqual([]);
});

test("the channel's callback settles a refund that is processing", async () => {
  const payment = await h.newPaid();
  h.onRefund = processing;
  const refund = await h.refund(payment, 600);
  await h.untilRefund(refund.id, 'processing');
  const trade = { channelPaymentId: 'trx', refundedAmount: 600 };
  const said = (amount: number) => ({
    outRefundNo: refund.id,
    answer: { state: 'succeeded' as const, channelRefundId: 'simr_callback', amount },
  });
  // If a callback reports a different amount, its only effect is that nodrop queries the channel.
  await h.callback(payment, trade, 'n-wrong', said(1));
  await eventually(() => h.refundCalls(refund.id).at(-1)?.call === 'query');
  expect(await h.refundRow(refund.id)).toMatchObject({ status: 'processing' });
  await h.callback(payment, trade, 'n-right', said(600));
  await h.untilRefund(refund.id, 'succeeded');
  expect(await h.refundRow(refund.id)).toMatchObject({ channelRefundId: 'simr_callback' });
  expect(await h.row(payment.id)).toMatchObject({ refundedAmount: 600n, attention: null });
  expect(await h.db.refund.count({ where: { paymentId: payment.id } })).toBe(1);
});

test('a callback about a refund that nodrop has not requested yet only causes a query', async () => {
  const payment = await h.newPaid();
  const lost = await h.refund(payment, 400, 'lost-5');
  await done(lost.id);
  await h.loseRefunds(payment);
  await h.ask(payment);
  await h.stopChannelWorkers();
  await h.refund(payment, 400, 'lost-5');
  const answer = { state: 'succeeded', channelRefundId: 'simr_again', amount: 400 } as const;
  await h.callback(payment, { refundedAmount: 400 }, 'n-lost', { outRefundNo: lost.id, answer });
  const run = h.env.client.workflow.getHandle(refundWorkflowId(lost.id));
  // The workflow has read the row, but has not called the channel yet.
  await eventually(async () => {
    const { events } = await run.fetchHistory();
    return events?.some((event) => event.activityTaskCompletedEventAttributes != null);
  });
  expect(await h.refundRow(lost.id)).toMatchObject({ status: 'created' });
  await h.startChannelWorkers();
  await done(lost.id);
  expect(await h.row(payment.id)).toMatchObject({ refundedAmount: 400n, attention: null });
});
