import { beforeEach, describe, expect, test } from 'vitest';
import { ChannelError, type RefundAnswer } from '../../src/domain/channel.ts';
import {
  automaticRefundId,
  externalRefundId,
  replacementRefundId,
  requestedRefundId,
} from '../../src/domain/ids.ts';
import { refundWorkflowId } from '../../src/domain/names.ts';
import { recordAnswer, settlePayment } from '../../src/ledger/payments.ts';
import { requestRefund } from '../../src/ledger/refunds.ts';
import { resolvePayment } from '../../src/ledger/resolve.ts';
import type { Payment } from '../../src/ledger/rows.ts';
import { toRefundSnapshot } from '../../src/ledger/snapshot.ts';
import { takeStuckRefunds } from '../../src/ledger/sweep.ts';
import { eventually, NET_MS } from '../support/progress.ts';
import { useHarness } from './harness.ts';

/** Money that must go back goes back: once, whatever the channel says or does not say meanwhile. */

interface Hooks {
  /** Runs once, after the next query of a trade or of a refund's number has its answer. */
  onQueried: (() => Promise<void>) | undefined;
  /** Each runs once, before the channel is told to make a refund. */
  beforeRefund: (() => Promise<void>)[];
}
const hooks: Hooks = { onQueried: undefined, beforeRefund: [] };
const answered = async <Answer>(answer: Answer): Promise<Answer> => {
  const hook = hooks.onQueried;
  hooks.onQueried = undefined;
  await hook?.();
  return answer;
};
const h = useHarness({
  between: (adapter) => ({
    ...adapter,
    queryTrade: async (...args) => await answered(await adapter.queryTrade(...args)),
    queryRefund: async (...args) => await answered(await adapter.queryRefund(...args)),
    refundTrade: async (...args) => {
      await hooks.beforeRefund.shift()?.();
      return await adapter.refundTrade(...args);
    },
  }),
});
beforeEach(async () => {
  h.onRefund = undefined;
  hooks.onQueried = undefined;
  hooks.beforeRefund = [];
  await h.simulator.setFaults({
    query: { errorRate: 0 },
    refund: { errorRate: 0, balanceTooLowRate: 0, processingMs: 0 },
    down: false,
  });
});

const HOUR = 3600;
/** The channel does as it is told, and says something else. */
const saying = (answer: RefundAnswer) => async (ask: () => Promise<RefundAnswer>) => {
  await ask();
  return answer;
};
const processing = saying({ state: 'processing' });
const atChannel = async ({ id }: Payment) =>
  (await h.simulator.ledger()).find(({ outTradeNo }) => outTradeNo === id);
const refundsOf = async ({ id: paymentId }: Payment) => {
  const rows = await h.db.refund.findMany({ where: { paymentId }, orderBy: { id: 'asc' } });
  return rows.map(({ id, amount, reason, status }) => [id, amount, reason, status]);
};
const done = (refundId: string) => h.env.client.workflow.getHandle(refundWorkflowId(refundId)).result();

test('all of it: the refund succeeds, and the order is refunded', async () => {
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
      'refund: CNY 19.90 must go back: requested.',
      `refund: Refund ${refund.id} of CNY 19.90 succeeded: requested.`,
      `order: Order ${payment.orderId} is refunded: all of its money is back.`,
    ]),
  );
});

test('several parts, up to what came in and no further', async () => {
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

test('in process: asked after 1 m x 5, 5, 10, 20, 30 m and then every 30 m, until the channel has decided', async () => {
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

test('the channel away for hours: shown after one, asked on, and given back once', async () => {
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
  'the balance is too low for a refund that is %s: asked again under the same number, shown after an hour, never failed',
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

test('before the first call the trade and the number are asked until there is an answer, and what it tells is recorded', async () => {
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

test('the channel says that it gave back more than came in, by two refunds: recorded up to what came in', async () => {
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

test('an answer that gets lost: asked again under the same number, and given back once', async () => {
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

test('a channel that forgets a refund it had in process is told again, under the same number', async () => {
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
    // Not looked up again: the channel was asked before, and forgets.
    'refund',
  ]);
  expect(await h.row(payment.id)).toMatchObject({ refundedAmount: 500n });
  expect(await atChannel(payment)).toMatchObject({ refunded: 500 });
});

test('refused for good: failed, and what was reserved can be asked for again', async () => {
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

test('a refusal of what an earlier call, whose answer got lost, has done is no refusal', async () => {
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

test('ours refused while the trade is silent: settled only when the trade has said who gave the money back', async () => {
  const payment = await h.newPaid();
  await h.refundElsewhere(payment, 1990);
  let calls = 0;
  h.onRefund = async (ask) => {
    calls += 1;
    try {
      return await ask();
    } finally {
      // The refusal and that it knows no such refund were the channel's last words for a while.
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

test('a refund made at the channel, told of while ours was open and taken for it, is found when ours is settled', async () => {
  const payment = await h.newPaid();
  h.onRefund = processing;
  const refund = await h.refund(payment, 500);
  await h.untilRefund(refund.id, 'processing');
  await h.refundElsewhere(payment, 400);
  await h.callback(payment, { refundedAmount: 400 });
  await h.env.client.workflow.getHandle(`payment/${payment.id}`).result();
  expect(await h.row(payment.id)).toMatchObject({ refundedAmount: 0n });
  // Settled by a query: the callback of ours never comes.
  h.onRefund = undefined;
  await done(refund.id);
  expect(await h.row(payment.id)).toMatchObject({ refundedAmount: 900n, attention: 'channel_reversed' });
  expect(await h.db.refund.findMany({ where: { paymentId: payment.id, reason: 'external' } })).toMatchObject([
    { status: 'succeeded', amount: 400n },
  ]);
});

test('Request Cancellation in the Web UI does not keep money that is owed', async () => {
  const payment = await h.newPaid();
  await h.simulator.setFaults({ down: true });
  const refund = await h.refund(payment);
  await h.env.client.workflow.getHandle(refundWorkflowId(refund.id)).cancel();
  await h.pass(60);
  await h.simulator.setFaults({ down: false });
  await done(refund.id);
  expect(await h.refundRow(refund.id)).toMatchObject({ status: 'succeeded' });
});

test('what nodrop owes by itself waits while the payment is disputed', async () => {
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

test('a refund of a lost row that the channel has in process, on record as made by somebody else: counted once', async () => {
  const payment = await h.newPaid();
  const { merchantId, id: paymentId } = payment;
  const id = requestedRefundId({ merchantId, paymentId, idempotencyKey: 'lost-6', amount: 400 });
  await h.simulator.setFaults({ refund: { processingMs: 5_000 } });
  await h.refundElsewhere(payment, 400, id);
  // This channel's sum holds what it has in process.
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

test('more goes back than was asked, of which the rest was taken for a refund of somebody else: counted once', async () => {
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

// From here on time need not pass: a message that calls an activity off keeps this server from skipping.

/** Two attempts of one order, both paid: the second to settle is the conflict. */
async function payTwice() {
  const first = await h.newPayment();
  const second = await h.newPayment({ orderId: first.orderId, channel: 'simulator2' });
  for (const payment of [first, second]) {
    await h.start(payment);
    await h.simulator.pay(payment.id);
  }
  await h.callback(first);
  await h.until(first.id, 'succeeded');
  // It is told to cancel: asked first, and the channel says paid.
  await h.until(second.id, 'succeeded');
  const refund = await h.db.refund.findFirstOrThrow({ where: { paymentId: second.id } });
  return { first, second, refund };
}

test('a double payment: one pays the order, the other goes back by itself', async () => {
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

test('an automatic refund that the channel refuses stays shown, until the money is back some other way', async () => {
  h.onRefund = async () => ({ state: 'failed', reason: 'Not possible any more.' });
  const { second, refund } = await payTwice();
  await h.untilRefund(refund.id, 'failed');
  expect(await h.row(second.id)).toMatchObject({ attention: 'refund_failing', refundedAmount: 0n });
  expect((await h.row(second.id)).attentionDetail).toContain('Not possible any more.');
  // Somebody gives it back at the channel; the next question finds it.
  await h.refundElsewhere(second, 1990);
  await h.ask(second);
  expect(await h.row(second.id)).toMatchObject({ attention: null, refundedAmount: 1990n });
  expect(await h.db.refund.findMany({ where: { paymentId: second.id, reason: 'external' } })).toMatchObject([
    { status: 'succeeded', amount: 1990n },
  ]);
});

describe('money that went back unknown to us before a refund of all that is left', () => {
  test('an automatic refund asks for what is left', async () => {
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
      `refund: Refund ${refund.id}: CNY 3.00 less are asked for, CNY 16.90, as they went back already.`,
    );
  });

  test('so does a requested one, and the same request is still the same', async () => {
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

  test('with nothing left it fails here, and the channel is not asked for it', async () => {
    const payment = await h.newPaid();
    await h.refundElsewhere(payment, 1990);
    const refund = await h.owe(payment);
    await done(refund.id);
    expect(h.refundCalls(refund.id).map(({ call }) => call)).toEqual(['query']);
    expect(await h.refundRow(refund.id)).toMatchObject({
      ...{ status: 'failed', amount: 1990n, askedAt: null },
      failure: 'All of the money is back, or on its way back: the channel was not asked for it.',
    });
    expect(await h.row(payment.id)).toMatchObject({ refundedAmount: 1990n });
    expect(await h.orderStatus(payment)).toBe('refunded');
  });
});

test('a call of an earlier life that arrives between the two queries before the first call counts once', async () => {
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

test('of a recovered order nothing follows by itself from a refused refund: a person sees it', async () => {
  h.onRefund = async () => ({ state: 'failed', reason: 'Not possible any more.' });
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
  expect((await h.row(second.id)).attentionDetail).toContain('Not possible any more.');
  // A person decides, and that ends it.
  h.onRefund = undefined;
  const { merchantId } = second;
  const now = new Date(await h.now());
  const { refunds } = await resolvePayment(h.db, merchantId, second.id, 'refund', 'decided', now);
  expect(refunds).toMatchObject([{ amount: 1990n }]);
  expect(await h.row(second.id)).toMatchObject({ attention: 'order_conflict' });
});

describe('a refund of all that is left, refused as part went back at the channel after it was asked for', () => {
  /** Starts the refund that the sweep starts. @returns its row when it has ended */
  const startRest = async (payment: Payment, id: string | null) => {
    await h.refundWorkflows.start(toRefundSnapshot(await h.refundRow(id ?? 'none'), payment), NET_MS);
    await done(id ?? 'none');
    return await h.refundRow(id ?? 'none');
  };

  test('one that is owed: the rest is owed in the same transaction, and goes back', async () => {
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
    // On its way: nobody is bothered.
    expect(await h.row(second.id)).toMatchObject({ attention: 'order_conflict', refundedAmount: 300n });
    expect(await startRest(second, rest)).toMatchObject({ status: 'succeeded', replacedBy: null });
    expect(await h.row(second.id)).toMatchObject({ attention: null, refundedAmount: 1990n });
    expect(await atChannel(second)).toMatchObject({ state: 'REFUND', refunded: 1990 });
  });

  test('one that is owed, refused while no more went back than the ledger knew: it waits for a person', async () => {
    const payment = await h.newPaid();
    await h.refundElsewhere(payment, 300);
    h.onRefund = async () => ({ state: 'failed', reason: 'Not possible any more.' });
    const refund = await h.owe(payment);
    await done(refund.id);
    expect(await refundsOf(payment)).toEqual([
      [refund.id, 1690n, 'late_payment', 'failed'],
      [externalRefundId(payment.id), 300n, 'external', 'succeeded'],
    ]);
    expect(await h.refundRow(refund.id)).toMatchObject({ replacedBy: null });
  });

  test('one that was requested: another refund of the rest replaces it, and so on; the key stays with the first', async () => {
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
    // The rest of the rest: each goes out once.
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
    // Told of in this order, each with where the money goes instead.
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
    'one of a recovered order that is %s as well: it was decided that all of it goes back',
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

  test('one of a payment that is disputed meanwhile: the channel decides over the rest', async () => {
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

  test('all of it went back meanwhile, or its amount was named, or the refusal is another one: nothing replaces it', async () => {
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

test('refunds made at the channel are found by a query, each once, and shown', async () => {
  const payment = await h.newPaid();
  await h.refundElsewhere(payment, 300);
  for (let i = 0; i < 2; i++) await h.ask(payment);
  expect(await h.row(payment.id)).toMatchObject({ refundedAmount: 300n, attention: 'channel_reversed' });
  expect((await h.row(payment.id)).attentionDetail).toContain('CNY 3.00 went back at the channel');
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

test('a refund made at the channel before ours of a fixed amount: ours is refused, and every cent is accounted for', async () => {
  const payment = await h.newPaid();
  await h.refundElsewhere(payment, 1000);
  const refund = await h.refund(payment, 1990);
  await done(refund.id);
  expect(await h.refundRow(refund.id)).toMatchObject({ status: 'failed' });
  expect(await h.row(payment.id)).toMatchObject({ refundedAmount: 1000n, attention: 'channel_reversed' });
});

test('refunds made at the channel are found by its callback, and one that was there at first is not owed again', async () => {
  const payment = await h.newPaid();
  const trx = { channelPaymentId: 'trx', refundedAmount: 400 };
  // Another total is another trade: it tells nothing.
  for (const id of ['n-other', 'n-another']) await h.callback(payment, { ...trx, amount: 1 }, id);
  await h.callback(payment, trx, 'n-refund');
  await h.callback(payment, trx, 'n-refund');
  await eventually(async () => (await h.row(payment.id)).refundedAmount === 400n);
  expect(await h.row(payment.id)).toMatchObject({ attention: 'channel_reversed' });
  // It is on the timeline, once.
  expect((await h.timeline(payment.id)).filter((entry) => entry.includes('settled were'))).toEqual([
    'query: The channel speaks of CNY 0.01, settled were CNY 19.90: not acted on.',
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

test('the sweep takes what nobody started or what has fallen silent, and nothing else', async () => {
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

describe('a database that has lost refunds the channel has made', () => {
  test('the same request is the same number: found there, given back once and counted once', async () => {
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

  test('another request: what went back unknown to us is on record before the channel is asked', async () => {
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

  test('what was taken for a refund of somebody else is ours after all: counted once', async () => {
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
    expect((await h.row(payment.id)).attentionDetail).toContain('CNY 3.00 went back at the channel');
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

describe('the channel gave back another amount than it is asked for', () => {
  const underOurNumber = async (payment: Payment, amount: number, key: string) => {
    const { merchantId, id: paymentId } = payment;
    const id = requestedRefundId({ merchantId, paymentId, idempotencyKey: key, amount: 'all' });
    await h.refundElsewhere(payment, amount, id);
    return id;
  };

  test('its amount is recorded, the asked one kept, and a person sees it until it is dismissed', async () => {
    const payment = await h.newPaid();
    const id = await underOurNumber(payment, 600, 'other-1');
    const refund = await h.refund(payment, undefined, 'other-1');
    await done(refund.id);
    expect(await h.refundRow(id)).toMatchObject({ status: 'succeeded', amount: 600n, askedAmount: 1990n });
    expect(await atChannel(payment)).toMatchObject({ refunded: 600 });
    const detail = `The channel gave back CNY 6.00 under refund ${id}, asked were CNY 19.90.`;
    expect(await h.row(payment.id)).toMatchObject({
      ...{ refundedAmount: 600n, attention: 'amount_mismatch', attentionDetail: detail },
    });
    expect(await h.timeline(payment.id)).toContain(
      `refund: Refund ${id} of CNY 19.90 succeeded: requested. ${detail}`,
    );
    // What is left can go back, and the difference stays to be seen.
    await done((await h.refund(payment)).id);
    expect(await h.row(payment.id)).toMatchObject({ refundedAmount: 1990n, attention: 'amount_mismatch' });
    expect(await h.orderStatus(payment)).toBe('refunded');
    const { merchantId } = payment;
    await resolvePayment(h.db, merchantId, payment.id, 'dismiss', 'seen', new Date(await h.now()));
    expect(await h.row(payment.id)).toMatchObject({ attention: null });
  });

  test('more than was asked, also all there is: recorded up to what came in, with nothing counted twice', async () => {
    const payment = await h.newPaid();
    h.onRefund = async (ask) => ({ ...(await ask()), amount: 2500 }) as RefundAnswer;
    const refund = await h.refund(payment, 400);
    await done(refund.id);
    expect(await h.refundRow(refund.id)).toMatchObject({ amount: 1990n, askedAmount: 400n });
    expect(await h.row(payment.id)).toMatchObject({ refundedAmount: 1990n, attention: 'amount_mismatch' });
    expect((await h.row(payment.id)).attentionDetail).toBe(
      `The channel gave back CNY 25.00 under refund ${refund.id}, asked were CNY 4.00; recorded are CNY 19.90, as no more came in.`,
    );
    expect(await h.orderStatus(payment)).toBe('refunded');
  });

  test('it is shown instead of what others gave back', async () => {
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

// At the end: once the completion of a cancelled activity has reached it, the time-skipping server skips no more.
test("the channel's callback ends the wait", async () => {
  const payment = await h.newPaid();
  h.onRefund = processing;
  const refund = await h.refund(payment, 600);
  await h.untilRefund(refund.id, 'processing');
  const trade = { channelPaymentId: 'trx', refundedAmount: 600 };
  const said = (amount: number) => ({
    outRefundNo: refund.id,
    answer: { state: 'succeeded' as const, channelRefundId: 'simr_callback', amount },
  });
  // Of another amount: it only makes a query due.
  await h.callback(payment, trade, 'n-wrong', said(1));
  await eventually(() => h.refundCalls(refund.id).at(-1)?.call === 'query');
  expect(await h.refundRow(refund.id)).toMatchObject({ status: 'processing' });
  await h.callback(payment, trade, 'n-right', said(600));
  await h.untilRefund(refund.id, 'succeeded');
  expect(await h.refundRow(refund.id)).toMatchObject({ channelRefundId: 'simr_callback' });
  expect(await h.row(payment.id)).toMatchObject({ refundedAmount: 600n, attention: null });
  expect(await h.db.refund.count({ where: { paymentId: payment.id } })).toBe(1);
});

test('ours settled by a callback that is older than a refund made at the channel: the trade is asked, until it answers', async () => {
  const payment = await h.newPaid();
  h.onRefund = processing;
  const refund = await h.refund(payment, 500);
  await h.untilRefund(refund.id, 'processing');
  await h.refundElsewhere(payment, 400);
  // Told of while ours was open, and taken for it.
  await h.callback(payment, { refundedAmount: 400 });
  await h.env.client.workflow.getHandle(`payment/${payment.id}`).result();
  expect(await h.row(payment.id)).toMatchObject({ refundedAmount: 0n });
  await h.simulator.setFaults({ query: { errorRate: 1 } });
  const answer = { state: 'succeeded', channelRefundId: 'simr_callback', amount: 500 } as const;
  const said = { outRefundNo: refund.id, answer };
  await h.callback(payment, { refundedAmount: 500 }, 'n-ours', said);
  // The refund itself waits for nothing.
  await h.untilRefund(refund.id, 'succeeded');
  expect(await h.row(payment.id)).toMatchObject({ refundedAmount: 500n, attention: null });
  await h.simulator.setFaults({ query: { errorRate: 0 } });
  await eventually(async () => (await h.row(payment.id)).refundedAmount === 900n);
  expect(await h.row(payment.id)).toMatchObject({ attention: 'channel_reversed' });
  expect(await h.db.refund.findMany({ where: { paymentId: payment.id, reason: 'external' } })).toMatchObject([
    { status: 'succeeded', amount: 400n },
  ]);
});

test('a callback of a refund that was not asked for yet only has the channel asked', async () => {
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
  // Read, and nobody has talked to the channel yet.
  await eventually(async () => {
    const { events } = await run.fetchHistory();
    return events?.some((event) => event.activityTaskCompletedEventAttributes != null);
  });
  expect(await h.refundRow(lost.id)).toMatchObject({ status: 'created' });
  await h.startChannelWorkers();
  await done(lost.id);
  expect(await h.row(payment.id)).toMatchObject({ refundedAmount: 400n, attention: null });
});
