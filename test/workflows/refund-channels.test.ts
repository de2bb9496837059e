import { describe, expect, test } from 'vitest';
import type { ChannelRefund } from '../../src/domain/channel.ts';
import { automaticRefundId, externalRefundId, requestedRefundId } from '../../src/domain/ids.ts';
import { resolvePayment } from '../../src/ledger/operator-decision.ts';
import { toRefundSnapshot } from '../../src/ledger/payment-facts.ts';
import { recordAnswer } from '../../src/ledger/payments.ts';
import type { Payment } from '../../src/ledger/rows.ts';
import { NET_MS } from '../support/progress.ts';
import { book, done, eventsOf, HOUR, h, inConflict, MINUTE, paidAnswer } from './refund-channels-support.ts';

/**
 * Tests refunds at a channel that forgets idempotency keys, stores failures under keys, sometimes needs a
 * person, and lists the refunds of a trade.
 */

const refundsOf = async ({ id: paymentId }: Payment) => {
  const rows = await h.db.refund.findMany({ where: { paymentId }, orderBy: { id: 'asc' } });
  return rows.map(({ amount, reason, status, channelRefundId }) => [amount, reason, status, channelRefundId]);
};
const told = async (payment: Payment, refunds: readonly ChannelRefund[]) =>
  await recordAnswer(h.db, payment.id, paidAnswer(payment, refunds), 'query', new Date(await h.now()));

describe('a channel that forgets idempotency keys after 24 h', () => {
  test('if the channel accepted a refund and was then silent for 25 h, the refund is found in the channel’s list and made only once', async () => {
    const payment = await h.newPaid();
    book.losesAnswers = true;
    const refund = await h.refund(payment, 700);
    await h.pass(10);
    book.isDown = true;
    await h.pass(25 * HOUR);
    expect(await h.refundRow(refund.id)).toMatchObject({ status: 'created' });
    expect(await h.row(payment.id)).toMatchObject({ attention: 'refund_failing', refundedAmount: 0n });
    [book.isDown, book.losesAnswers] = [false, false];
    await done(refund.id);
    expect(book.of(payment.id)).toMatchObject([{ amount: 700, state: 'succeeded' }]);
    expect(await refundsOf(payment)).toEqual([[700n, 'requested', 'succeeded', 'chr_1']]);
    expect(await h.row(payment.id)).toMatchObject({ refundedAmount: 700n, attention: null });
  });

  test('if a refund never reached the channel and two lists that are read 10 min apart do not contain it, the refund is requested again', async () => {
    const payment = await h.newPaid();
    book.losesRequests = true;
    const refund = await h.refund(payment, 700);
    await h.pass(10);
    const askedBefore = book.calls.filter((call) => call.startsWith('refund')).length;
    expect(askedBefore).toBeGreaterThan(1);
    book.isDown = true;
    await h.pass(25 * HOUR);
    const asked = () => book.calls.filter((call) => call.startsWith('refund')).length;
    const before = asked();
    [book.isDown, book.losesRequests] = [false, false];
    await h.pass(5 * MINUTE);
    expect((await h.refundRow(refund.id)).absentAt).not.toBeNull();
    expect(asked()).toBe(before);
    await done(refund.id);
    expect(asked()).toBe(before + 1);
    expect(book.of(payment.id)).toMatchObject([{ amount: 700, outRefundNo: refund.id }]);
    expect(await h.row(payment.id)).toMatchObject({ refundedAmount: 700n, attention: null });
    expect(await h.timeline(payment.id)).toContain(
      `refund: Two complete listings do not show refund ${refund.id}: it is requested again.`,
    );
  });

  test('if the second list that nodrop reads contains the refund, nodrop does not request it again', async () => {
    const payment = await h.newPaid();
    book.forgetsAfterS = HOUR;
    book.losesRequests = true;
    const refund = await h.refund(payment, 700);
    await h.pass(10);
    book.isDown = true;
    await h.pass(2 * HOUR);
    [book.isDown, book.losesRequests] = [false, false];
    await h.pass(5 * MINUTE);
    book.make(payment.id, 700, refund.id);
    await done(refund.id);
    expect(book.of(payment.id)).toHaveLength(1);
    expect(await refundsOf(payment)).toEqual([[700n, 'requested', 'succeeded', 'chr_1']]);
  });
});

describe('a channel that stores a failure under the idempotency key of a refund', () => {
  test('if two successive lists do not contain the refund, nodrop requests it once more with the next key', async () => {
    const payment = await h.newPaid();
    book.storesFailures = true;
    const refund = await h.refund(payment, 700);
    await h.pass(5 * MINUTE);
    expect((await h.refundRow(refund.id)).keySpentAt).not.toBeNull();
    expect([...book.spent]).toEqual([refund.id]);
    book.storesFailures = false;
    await done(refund.id);
    expect(await h.refundRow(refund.id)).toMatchObject({ status: 'succeeded', attempt: 2, keySpentAt: null });
    expect(book.of(payment.id)).toMatchObject([{ outRefundNo: `${refund.id}_2`, state: 'succeeded' }]);
    const [first, last] = [book.calls[1], book.calls.findLast((call) => call.startsWith('refund'))];
    expect([first, last]).toEqual([`refund ${refund.id} 1 -`, `refund ${refund.id}_2 2 -`]);
  });

  test('if the channel made the refund although it stored a failure, nodrop finds the refund in the list and does not request it again', async () => {
    const payment = await h.newPaid();
    book.storesFailures = true;
    const refund = await h.refund(payment, 700);
    await h.pass(5 * MINUTE);
    book.make(payment.id, 700, refund.id);
    await done(refund.id);
    expect(await h.refundRow(refund.id)).toMatchObject({ status: 'succeeded', attempt: 1 });
    expect(book.of(payment.id)).toHaveLength(1);
  });

  test('a refund that failed under two keys waits for an operator, and ends when the operator refunds the money at the channel', async () => {
    const payment = await h.newPaid();
    book.storesFailures = true;
    const refund = await h.refund(payment);
    await h.pass(HOUR);
    expect(await h.refundRow(refund.id)).toMatchObject({ status: 'needs_person', attempt: 2 });
    expect(await h.row(payment.id)).toMatchObject({ attention: 'refund_failing' });
    expect((await h.row(payment.id)).attentionDetail).toContain('make the refund at the channel');
    await h.pass(3 * HOUR);
    expect([...book.spent]).toEqual([refund.id, `${refund.id}_2`]);
    book.make(payment.id, 1990);
    await done(refund.id);
    expect(await refundsOf(payment)).toEqual([
      [1990n, 'requested', 'failed', null],
      [1990n, 'external', 'succeeded', 'chr_1'],
    ]);
    expect(await h.row(payment.id)).toMatchObject({ refundedAmount: 1990n, attention: null });
  });
});

test('while a refund is processing, its id at the channel is stored and sent with every later call', async () => {
  const payment = await h.newPaid();
  book.begins = 'processing';
  const refund = await h.refund(payment, 700);
  await h.untilRefund(refund.id, 'processing');
  expect(await h.refundRow(refund.id)).toMatchObject({ channelRefundId: 'chr_1' });
  book.set('chr_1', 'succeeded');
  await done(refund.id);
  expect(book.calls).toEqual([`query ${refund.id} -`, `refund ${refund.id} 1 -`, `query ${refund.id} chr_1`]);
});

test('if the channel reports that a refund needs a person, an attention contains the reason, and queries continue until the refund succeeds', async () => {
  const payment = await h.newPaid();
  book.says = { state: 'needs_person', reason: 'The card is blocked: refund by bank transfer.' };
  const refund = await h.refund(payment, 700);
  await h.untilRefund(refund.id, 'needs_person');
  const { attention, attentionDetail } = await h.row(payment.id);
  expect([attention, attentionDetail]).toEqual([
    'refund_failing',
    expect.stringContaining('The card is blocked: refund by bank transfer.'),
  ]);
  await h.pass(2 * HOUR);
  book.says = undefined;
  await done(refund.id);
  expect(await h.refundRow(refund.id)).toMatchObject({ status: 'succeeded', failure: null });
  expect(await h.row(payment.id)).toMatchObject({ attention: null, refundedAmount: 700n });
  expect(book.of(payment.id)).toHaveLength(1);
});

test('if the channel asks nodrop to request a refund again, nodrop repeats the request with the same number on schedule', async () => {
  const payment = await h.newPaid();
  book.says = { state: 'ask_again', reason: 'The balance was short.' };
  const refund = await h.refund(payment, 700);
  await h.pass(3.5 * MINUTE);
  const asked = book.calls.filter((call) => call.startsWith('refund'));
  expect(asked.length).toBe(4);
  expect(new Set(asked.map((call) => call.split(' ')[1]))).toEqual(new Set([refund.id]));
  expect(await h.refundRow(refund.id)).toMatchObject({
    status: 'created',
    failure: 'The balance was short.',
  });
  book.says = undefined;
  await done(refund.id);
  expect(await h.refundRow(refund.id)).toMatchObject({ status: 'succeeded', attempt: 1 });
  expect(book.of(payment.id)).toHaveLength(1);
});

describe('a channel that stores a refusal under each idempotency key', () => {
  test('while the balance is too low, the refund is requested under new keys at growing intervals', async () => {
    const payment = await h.newPaid();
    book.refusesForNow = 'The balance is too low.';
    const refund = await h.refund(payment);
    await h.pass(6 * HOUR);
    const { status, attempt } = await h.refundRow(refund.id);
    expect(status).toBe('created');
    // The refund is requested again after 10, 20 and 40 min, and then once an hour.
    expect(attempt).toBeGreaterThanOrEqual(5);
    expect(attempt).toBeLessThanOrEqual(9);
    expect(await h.row(payment.id)).toMatchObject({ attention: 'refund_failing' });
    book.refusesForNow = undefined;
    await done(refund.id);
    expect(book.of(payment.id)).toHaveLength(1);
    expect(await h.row(payment.id)).toMatchObject({ refundedAmount: 1990n, attention: null });
  });

  test('a refund that has used all its keys continues when an operator decides `retry`', async () => {
    const payment = await h.newPaid();
    book.storesFailures = true;
    const refund = await h.refund(payment);
    await h.pass(HOUR);
    expect(await h.refundRow(refund.id)).toMatchObject({ status: 'needs_person', attempt: 2 });
    book.storesFailures = false;
    const now = new Date(await h.now());
    const { refunds } = await resolvePayment(h.db, payment.merchantId, payment.id, 'retry', 'well', now);
    expect(refunds.map(({ id }) => id)).toEqual([refund.id]);
    await done(refund.id);
    expect(await h.refundRow(refund.id)).toMatchObject({ status: 'succeeded', attempt: 3 });
    expect(book.of(payment.id)).toHaveLength(1);
  });

  test('if the channel has a refund under an earlier key, nodrop queries the refund with the number of that key', async () => {
    const payment = await h.newPaid();
    book.storesFailures = true;
    const refund = await h.refund(payment, 700);
    await h.pass(25 * MINUTE);
    expect((await h.refundRow(refund.id)).attempt).toBe(2);
    book.make(payment.id, 700, refund.id, 'processing');
    await h.pass(HOUR);
    expect(await h.refundRow(refund.id)).toMatchObject({ status: 'processing', attempt: 1 });
    book.set('chr_1', 'succeeded');
    await done(refund.id);
    expect(book.calls.filter((call) => call.endsWith(' chr_1'))).toContain(`query ${refund.id} chr_1`);
    expect(book.calls).not.toContain(`query ${refund.id}_2 chr_1`);
    expect(book.of(payment.id)).toHaveLength(1);
  });
});

describe('a channel that lists the refunds of a trade', () => {
  test('an external refund is recorded once by its id, even while a refund that nodrop requested is open', async () => {
    const payment = await h.newPaid();
    book.begins = 'processing';
    const refund = await h.refund(payment, 500);
    await h.untilRefund(refund.id, 'processing');
    book.make(payment.id, 500, undefined, 'succeeded');
    book.make(payment.id, 300, undefined, 'processing');
    for (let i = 0; i < 2; i++) await h.ask(payment);
    expect(await refundsOf(payment)).toEqual([
      [500n, 'requested', 'processing', 'chr_1'],
      [500n, 'external', 'succeeded', 'chr_2'],
      [300n, 'external', 'processing', 'chr_3'],
    ]);
    expect(await h.row(payment.id)).toMatchObject({ refundedAmount: 500n, attention: 'channel_reversed' });
    book.set('chr_1', 'succeeded');
    book.set('chr_3', 'succeeded');
    await done(refund.id);
    expect(await h.row(payment.id)).toMatchObject({ refundedAmount: 1300n });
    // The bank returns the money of one of these refunds.
    book.set('chr_2', 'failed');
    await h.pass(2 * MINUTE);
    await h.ask(payment);
    expect(await h.row(payment.id)).toMatchObject({ refundedAmount: 800n, attention: 'refund_reversed' });
    expect((await eventsOf(payment)).at(-1)).toBe('refund.reversed');
  });

  test('if the row of a refund is lost, nodrop finds the refund in the list, and counts it only once when it is requested again', async () => {
    const payment = await h.newPaid();
    const refund = await h.refund(payment, 400, 'lost-row');
    await done(refund.id);
    await h.loseRefunds(payment);
    await h.ask(payment);
    expect(await refundsOf(payment)).toEqual([[400n, 'external', 'succeeded', 'chr_1']]);
    const again = await h.refund(payment, 400, 'lost-row');
    expect(again.id).toBe(refund.id);
    await done(again.id);
    expect(await refundsOf(payment)).toEqual([
      [400n, 'requested', 'succeeded', 'chr_1'],
      [400n, 'external', 'failed', 'chr_1'],
    ]);
    expect(await h.row(payment.id)).toMatchObject({ refundedAmount: 400n, attention: null });
    expect(book.of(payment.id)).toHaveLength(1);
  });

  test('if a due refund is refused because the list contains a partial refund, only the remaining amount is refunded', async () => {
    const payment = await inConflict();
    book.losesRequests = true;
    const refund = await h.owe(payment);
    await h.pass(30);
    book.make(payment.id, 500);
    await h.ask(payment);
    expect(await h.row(payment.id)).toMatchObject({ refundedAmount: 500n });
    book.losesRequests = false;
    await done(refund.id);
    const rest = automaticRefundId(payment.id, 2);
    expect(await h.refundRow(refund.id)).toMatchObject({ status: 'failed', replacedBy: rest });
    await h.refundWorkflows.start(toRefundSnapshot(await h.refundRow(rest), payment), NET_MS);
    await done(rest);
    expect(await h.row(payment.id)).toMatchObject({ refundedAmount: 1990n, attention: null });
    expect(book.back(payment.id)).toBe(1990);
  });

  test('if an external partial refund fails, an automatic refund of its amount becomes due', async () => {
    const payment = await inConflict();
    const theirs = book.make(payment.id, 500, undefined, 'processing');
    const refund = await h.owe(payment);
    await done(refund.id);
    expect(await h.refundRow(refund.id)).toMatchObject({ status: 'succeeded', amount: 1490n });
    book.set(theirs, 'failed');
    await h.ask(payment);
    expect(await h.refundRow(automaticRefundId(payment.id, 2))).toMatchObject({
      status: 'created',
      amount: 500n,
    });
  });

  test('if the channel reports a refunded sum and later a list of the same refunds, the money is counted only once', async () => {
    const payment = await h.newPaid();
    const { refunds: _, ...sum } = paidAnswer(payment, []);
    const now = new Date(await h.now());
    await recordAnswer(h.db, payment.id, { ...sum, refundedAmount: 800 }, 'query', now);
    expect(await h.row(payment.id)).toMatchObject({ refundedAmount: 800n });
    await told(payment, [
      { id: 'a', amount: 300, state: 'succeeded' },
      { id: 'b', amount: 500, state: 'succeeded' },
    ]);
    expect(await h.row(payment.id)).toMatchObject({ refundedAmount: 800n });
    expect((await refundsOf(payment)).filter(([, , status]) => status === 'succeeded')).toHaveLength(2);
  });

  test('lists of refunds lead to the same rows even if they arrive late, twice or in another order', async () => {
    const [a, b] = [
      (state: ChannelRefund['state']): ChannelRefund => ({ id: 'a', amount: 300, state }),
      (state: ChannelRefund['state']): ChannelRefund => ({ id: 'b', amount: 500, state }),
    ];
    // The lists are in the order in which the channel produced them.
    const lists = [[a('processing')], [a('succeeded'), b('processing')], [a('reversed'), b('succeeded')]];
    for (const order of [
      [0, 1, 2],
      [2, 1, 0],
      [1, 2, 0, 1],
      [0, 2, 1, 2],
      [2, 2, 0, 0],
    ]) {
      const payment = await h.newPaid();
      for (const nth of order) await told(payment, lists[nth] ?? []);
      expect(await h.row(payment.id), `${order}`).toMatchObject({ refundedAmount: 500n });
      const rows = (await refundsOf(payment)).map(([amount, , status]) => `${amount} ${status}`).sort();
      expect(rows, `${order}`).toEqual(['300 reversed', '500 succeeded']);
    }
  });

  test('if the refunds in a list exceed the received amount, they are recorded up to that amount and an attention is raised', async () => {
    const payment = await h.newPaid();
    await told(payment, [
      { id: 'a', amount: 1500, state: 'succeeded' },
      { id: 'b', amount: 1000, state: 'succeeded' },
    ]);
    expect(await h.row(payment.id)).toMatchObject({ refundedAmount: 1990n, attention: 'amount_mismatch' });
    expect(await h.db.refund.findUnique({ where: { id: externalRefundId(payment.id, 2) } })).toMatchObject({
      ...{ amount: 490n, askedAmount: 1000n, status: 'succeeded' },
    });
  });

  test('if a refund was requested before the database was lost, a repeated request finds the refund in the list and does not make it twice', async () => {
    const payment = await h.newPaid();
    const { merchantId, id: paymentId } = payment;
    const id = requestedRefundId({ merchantId, paymentId, idempotencyKey: 'earlier', amount: 400 });
    book.make(paymentId, 400, id);
    const refund = await h.refund(payment, 400, 'earlier');
    await done(refund.id);
    expect(book.of(paymentId)).toHaveLength(1);
    expect(await refundsOf(payment)).toEqual([[400n, 'requested', 'succeeded', 'chr_1']]);
  });
});
