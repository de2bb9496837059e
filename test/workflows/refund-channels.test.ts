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
 * Refunds at a channel that forgets idempotency keys, stores failures under keys, needs people, and lists a trade's
 * refunds.
 */

const refundsOf = async ({ id: paymentId }: Payment) => {
  const rows = await h.db.refund.findMany({ where: { paymentId }, orderBy: { id: 'asc' } });
  return rows.map(({ amount, reason, status, channelRefundId }) => [amount, reason, status, channelRefundId]);
};
const told = async (payment: Payment, refunds: readonly ChannelRefund[]) =>
  await recordAnswer(h.db, payment.id, paidAnswer(payment, refunds), 'query', new Date(await h.now()));

describe('a channel that forgets keys after 24 h', () => {
  test('a refund that the channel accepted before 25 h of silence is found in its list, and made once', async () => {
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

  test('a refund that never reached the channel before 25 h of silence is requested again only after two lists 10 min apart', async () => {
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

  test('a refund that appears between two lists is not requested again', async () => {
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

describe('a channel that stores a failure under a key', () => {
  test('after two lists that do not show the refund, it is requested once under the next key', async () => {
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

  test('a refund that the channel made and stored as a failure is found in the list, and not requested under another key', async () => {
    const payment = await h.newPaid();
    book.storesFailures = true;
    const refund = await h.refund(payment, 700);
    await h.pass(5 * MINUTE);
    book.make(payment.id, 700, refund.id);
    await done(refund.id);
    expect(await h.refundRow(refund.id)).toMatchObject({ status: 'succeeded', attempt: 1 });
    expect(book.of(payment.id)).toHaveLength(1);
  });

  test('after two keys the refund needs a person, and ends when it is made at the channel', async () => {
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

test("the channel's id of a refund is stored while it is processing, and sent with every later call", async () => {
  const payment = await h.newPaid();
  book.begins = 'processing';
  const refund = await h.refund(payment, 700);
  await h.untilRefund(refund.id, 'processing');
  expect(await h.refundRow(refund.id)).toMatchObject({ channelRefundId: 'chr_1' });
  book.set('chr_1', 'succeeded');
  await done(refund.id);
  expect(book.calls).toEqual([`query ${refund.id} -`, `refund ${refund.id} 1 -`, `query ${refund.id} chr_1`]);
});

test("needs_person raises an attention at once with the channel's reason, and queries continue until the refund succeeds", async () => {
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

test('a refund that the channel wants requested again is requested under the same number, on schedule', async () => {
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

describe('a balance that is too low, stored under each key', () => {
  test('with a balance too low, the refund is requested under new keys at growing intervals until the balance is topped up', async () => {
    const payment = await h.newPaid();
    book.refusesForNow = 'The balance is too low.';
    const refund = await h.refund(payment);
    await h.pass(6 * HOUR);
    const { status, attempt } = await h.refundRow(refund.id);
    expect(status).toBe('created');
    // After 10, 20 and 40 min, then once an hour.
    expect(attempt).toBeGreaterThanOrEqual(5);
    expect(attempt).toBeLessThanOrEqual(9);
    expect(await h.row(payment.id)).toMatchObject({ attention: 'refund_failing' });
    book.refusesForNow = undefined;
    await done(refund.id);
    expect(book.of(payment.id)).toHaveLength(1);
    expect(await h.row(payment.id)).toMatchObject({ refundedAmount: 1990n, attention: null });
  });

  test('a refund without a key left continues after `retry`', async () => {
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

  test("a refund that is found under an earlier key is queried under that key's number", async () => {
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
  test("a refund that nodrop did not request is recorded once by its id, even while a refund of nodrop's is open", async () => {
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

  test('a refund whose row was lost is found in the list, and counts once', async () => {
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

  test('a due refund that was refused after a list showed a partial refund: the rest is refunded', async () => {
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

  test('a partial refund at the channel that fails is due again', async () => {
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

  test('a refunded sum that was reported before a list counts as part of the list', async () => {
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

  test('lists of refunds that arrive late, twice or in any order lead to the same rows', async () => {
    const [a, b] = [
      (state: ChannelRefund['state']): ChannelRefund => ({ id: 'a', amount: 300, state }),
      (state: ChannelRefund['state']): ChannelRefund => ({ id: 'b', amount: 500, state }),
    ];
    // The lists in the order in which the channel produced them.
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

  test('refunds of more than the received amount are recorded up to that amount, and raise an attention', async () => {
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

  test('a refund that a lost database had requested, and that the channel does not know by number, is found in the list first', async () => {
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
