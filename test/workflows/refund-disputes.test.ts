import { describe, expect, test, vi } from 'vitest';
import type { ChannelDispute } from '../../src/domain/channel.ts';
import { automaticRefundId } from '../../src/domain/ids.ts';
import { resolvePayment } from '../../src/ledger/operator-decision.ts';
import { toRefundSnapshot } from '../../src/ledger/payment-facts.ts';
import { recordAnswer } from '../../src/ledger/payments.ts';
import type { Payment } from '../../src/ledger/rows.ts';
import { takeStuckRefunds } from '../../src/ledger/sweep.ts';
import { NET_MS } from '../support/progress.ts';
import {
  book,
  DAY,
  done,
  eventsOf,
  HOUR,
  h,
  inConflict,
  MINUTE,
  paidAnswer,
} from './refund-channels-support.ts';

/** A channel that takes money back: by a dispute, or as the bank returns a refund that had been made. */

describe('a dispute', () => {
  const dispute = (payment: Payment, changes: Partial<ChannelDispute> = {}): ChannelDispute => ({
    ...{ id: `dp_${payment.id}`, amount: 1990, currency: payment.currency, state: 'open' },
    ...changes,
  });
  const asked = () => book.calls.filter((call) => call.startsWith('refund'));
  const toldOf = async (payment: Payment, ...disputes: ChannelDispute[]) => {
    const answer = { ...paidAnswer(payment, book.of(payment.id)), disputes };
    await recordAnswer(h.db, payment.id, answer, 'query', new Date(await h.now()));
  };

  test('that the answer before the first ask tells of: the refund is held back until it is won', async () => {
    const payment = await h.newPaid();
    book.disputes = [dispute(payment)];
    const refund = await h.refund(payment, 700);
    await h.pass(HOUR);
    expect(asked()).toEqual([]);
    expect(await h.refundRow(refund.id)).toMatchObject({ status: 'created', askedAt: null });
    expect(await h.row(payment.id)).toMatchObject({ attention: 'disputed' });
    // No callback tells of it: the channel is asked while the refund is held back.
    book.disputes = [dispute(payment, { state: 'won' })];
    await done(refund.id);
    expect(await h.refundRow(refund.id)).toMatchObject({ status: 'succeeded' });
  });

  test('lost by that answer: the refund gives way, and the channel is not asked', async () => {
    const payment = await h.newPaid();
    book.disputes = [dispute(payment, { state: 'lost' })];
    const refund = await h.refund(payment);
    await done(refund.id);
    expect(asked()).toEqual([]);
    expect(await h.refundRow(refund.id)).toMatchObject({ status: 'failed' });
    expect(await h.row(payment.id)).toMatchObject({ refundedAmount: 1990n });
  });

  test('an inquiry alone: what a person asks for goes through, what nodrop owes waits', async () => {
    const payment = await h.newPaid();
    book.disputes = [dispute(payment, { isInquiry: true })];
    await toldOf(payment, ...book.disputes);
    const refund = await h.refund(payment, 700);
    await done(refund.id);
    expect(await h.refundRow(refund.id)).toMatchObject({ status: 'succeeded' });
    const other = await inConflict();
    book.disputes = [dispute(other, { isInquiry: true })];
    const owed = await h.owe(other);
    await h.pass(HOUR);
    expect(await h.refundRow(owed.id)).toMatchObject({ status: 'created', askedAt: null });
  });

  test.each(['failed', 'reversed'] as const)(
    'lost while a refund is in process that then is %s: what it took is recorded',
    async (state) => {
      const payment = await h.newPaid();
      book.begins = 'processing';
      const refund = await h.refund(payment, 700);
      await h.untilRefund(refund.id, 'processing');
      await toldOf(payment, dispute(payment, { state: 'lost' }));
      expect(await h.row(payment.id)).toMatchObject({ refundedAmount: 1290n });
      const reason = 'The payer has it.';
      book.says = { state, channelRefundId: 'chr_1', reason };
      book.set('chr_1', state);
      await done(refund.id);
      expect(await h.row(payment.id)).toMatchObject({ refundedAmount: 1990n });
      expect(await h.orderStatus(payment)).toBe('refunded');
      // It had never succeeded.
      expect(await eventsOf(payment)).not.toContain('refund.reversed');
      expect(await eventsOf(payment)).toContain('refund.failed');
      expect((await h.timeline(payment.id)).join('\n')).not.toContain('after it had succeeded');
    },
  );

  test.each(['not stored', 'stored', 'stored and met'])(
    'lost while the channel refuses the refund for it, which is %s under its key: the refund ends',
    async (how) => {
      const payment = await h.newPaid();
      book.keepsRefusals = how !== 'not stored';
      book.refusesForNow = 'The charge is disputed.';
      const refund = await h.refund(payment);
      await h.pass(how === 'stored and met' ? 5 * MINUTE : 0);
      await vi.waitFor(() => expect(asked().length).toBeGreaterThan(0), { timeout: NET_MS });
      book.disputes = [dispute(payment, { state: 'lost' })];
      await toldOf(payment, ...book.disputes);
      await done(refund.id);
      const { status, settledAt, createdAt } = await h.refundRow(refund.id);
      expect(status).toBe('failed');
      // Not only once the key is forgotten.
      expect(Number(settledAt) - Number(createdAt)).toBeLessThan((DAY / 2) * 1000);
      expect(await h.row(payment.id)).toMatchObject({ refundedAmount: 1990n });
      expect(book.of(payment.id)).toEqual([]);
    },
  );

  test('lost while the channel keeps a failure under its key: the refund ends, and has no other key', async () => {
    const payment = await h.newPaid();
    book.storesFailures = true;
    const refund = await h.refund(payment);
    await vi.waitFor(() => expect(asked().length).toBeGreaterThan(0), { timeout: NET_MS });
    book.disputes = [dispute(payment, { state: 'lost' })];
    await toldOf(payment, ...book.disputes);
    await h.untilRefund(refund.id, 'failed');
    expect(await h.refundRow(refund.id)).toMatchObject({ attempt: 1 });
    expect(await h.row(payment.id)).toMatchObject({ refundedAmount: 1990n });
  });
});

describe('the bank returns money that had gone back', () => {
  const reversed = async () => {
    const payment = await h.newPaid();
    const refund = await h.refund(payment);
    await done(refund.id);
    expect(await h.orderStatus(payment)).toBe('refunded');
    book.set('chr_1', 'failed');
    return { payment, refund };
  };
  const expectReversed = async (payment: Payment, refundId: string) => {
    expect(await h.refundRow(refundId)).toMatchObject({ status: 'reversed' });
    expect(await h.row(payment.id)).toMatchObject({ refundedAmount: 0n, attention: 'refund_reversed' });
    expect(await h.orderStatus(payment)).toBe('refunded');
    expect(await eventsOf(payment)).toEqual(['payment.succeeded', 'refund.succeeded', 'refund.reversed']);
    // Nothing pays it again by itself.
    expect(book.calls.filter((call) => call.startsWith('refund'))).toHaveLength(1);
    expect(await h.db.refund.count({ where: { paymentId: payment.id } })).toBe(1);
  };

  test('told of by a callback, which makes the channel be asked', async () => {
    const { payment, refund } = await reversed();
    const said = { state: 'failed', reason: 'Returned.' } as const;
    await h.callback(payment, {}, 'n-returned', { channelRefundId: 'chr_1', answer: said });
    await done(refund.id);
    await expectReversed(payment, refund.id);
    // Told again, or asked for by somebody: that is another refund.
    await h.callback(payment, {}, 'n-returned-2', { outRefundNo: refund.id, answer: said });
    await done(refund.id);
    const again = await h.refund(payment);
    await done(again.id);
    expect(await h.row(payment.id)).toMatchObject({ refundedAmount: 1990n, attention: null });
    expect(await h.refundRow(refund.id)).toMatchObject({ status: 'reversed' });
  });

  test('a callback that says so and the channel does not: nothing changes', async () => {
    const payment = await h.newPaid();
    const refund = await h.refund(payment);
    await done(refund.id);
    const answer = { state: 'reversed', reason: 'Not so.' } as const;
    await h.callback(payment, {}, 'n-not-returned', { outRefundNo: refund.id, answer });
    await done(refund.id);
    expect(await h.refundRow(refund.id)).toMatchObject({ status: 'succeeded' });
    expect(await h.row(payment.id)).toMatchObject({ refundedAmount: 1990n, attention: null });
  });

  test('our credentials are not taken when it is looked at again: shown', async () => {
    const { payment, refund } = await reversed();
    book.isMisconfigured = true;
    const said = { state: 'failed', reason: 'Returned.' } as const;
    await h.callback(payment, {}, 'n-misconfigured', { channelRefundId: 'chr_1', answer: said });
    await h.pass(MINUTE);
    expect(await h.row(payment.id)).toMatchObject({ attention: 'channel_misconfigured' });
    book.isMisconfigured = false;
    await done(refund.id);
    expect(await h.refundRow(refund.id)).toMatchObject({ status: 'reversed' });
  });

  test('untold: found when it is looked at again 7 days later, once', async () => {
    const { payment, refund } = await reversed();
    const due = async () => {
      const taken = await takeStuckRefunds(h.db, new Date(await h.now()));
      return taken.filter(({ id }) => id === refund.id);
    };
    const settledAgo = async (days: number) => {
      const settledAt = new Date((await h.now()) - days * DAY * 1000);
      await h.db.refund.update({ where: { id: refund.id }, data: { settledAt } });
    };
    await settledAgo(6.99);
    expect(await due()).toEqual([]);
    await settledAgo(7.01);
    expect(await due()).toHaveLength(1);
    await h.refundWorkflows.start(toRefundSnapshot(await h.refundRow(refund.id), payment), NET_MS);
    await done(refund.id);
    await expectReversed(payment, refund.id);
    await h.db.refund.update({ where: { id: refund.id }, data: { nextSweepAt: null } });
    expect(await due()).toEqual([]);
  });

  test('found in a list; money that is owed is shown, and goes back when a person says so', async () => {
    const payment = await inConflict();
    const refund = await h.owe(payment);
    await done(refund.id);
    book.set('chr_1', 'reversed');
    await h.ask(payment);
    expect(await h.refundRow(refund.id)).toMatchObject({ status: 'reversed' });
    expect(await h.row(payment.id)).toMatchObject({ refundedAmount: 0n, attention: 'refund_reversed' });
    const now = new Date(await h.now());
    const { refunds } = await resolvePayment(h.db, payment.merchantId, payment.id, 'refund', 'again', now);
    expect(refunds).toMatchObject([{ id: automaticRefundId(payment.id, 2), amount: 1990n }]);
  });
});
