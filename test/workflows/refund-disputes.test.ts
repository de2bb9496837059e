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

/** Tests disputes, and refunds whose money the bank returns after they have succeeded. */

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

  test('if a query reports a dispute before the first refund request is sent, the refund waits until the dispute is won', async () => {
    const payment = await h.newPaid();
    book.disputes = [dispute(payment)];
    const refund = await h.refund(payment, 700);
    await h.pass(HOUR);
    expect(asked()).toEqual([]);
    expect(await h.refundRow(refund.id)).toMatchObject({ status: 'created', askedAt: null });
    expect(await h.row(payment.id)).toMatchObject({ attention: 'disputed' });
    // No callback reports the end of the dispute. So nodrop queries the channel while the refund waits.
    book.disputes = [dispute(payment, { state: 'won' })];
    await done(refund.id);
    expect(await h.refundRow(refund.id)).toMatchObject({ status: 'succeeded' });
  });

  test('if a query reports a lost dispute before the first refund request is sent, the dispute replaces the refund', async () => {
    const payment = await h.newPaid();
    book.disputes = [dispute(payment, { state: 'lost' })];
    const refund = await h.refund(payment);
    await done(refund.id);
    expect(asked()).toEqual([]);
    expect(await h.refundRow(refund.id)).toMatchObject({ status: 'failed' });
    expect(await h.row(payment.id)).toMatchObject({ refundedAmount: 1990n });
  });

  test('during an inquiry a requested refund is sent to the channel, but an automatic refund waits', async () => {
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
    "if a dispute is lost while a refund is processing and the refund is then %s, the dispute's amount is recorded",
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
      // This refund never succeeded.
      expect(await eventsOf(payment)).not.toContain('refund.reversed');
      expect(await eventsOf(payment)).toContain('refund.failed');
      expect((await h.timeline(payment.id)).join('\n')).not.toContain('after it had succeeded');
    },
  );

  test.each(['not stored', 'stored', 'stored and met'])(
    'if the channel refuses a refund because of a dispute (refusal: %s) and the dispute is lost, the refund ends',
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
      // The refund ends before the channel forgets the refund's idempotency key.
      expect(Number(settledAt) - Number(createdAt)).toBeLessThan((DAY / 2) * 1000);
      expect(await h.row(payment.id)).toMatchObject({ refundedAmount: 1990n });
      expect(book.of(payment.id)).toEqual([]);
    },
  );

  test("if a dispute is lost after the channel stored a failure under the refund's key, the refund fails without a request under a new key", async () => {
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

describe('a succeeded refund whose money the bank returns to the merchant', () => {
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
    // nodrop makes no further refund automatically.
    expect(book.calls.filter((call) => call.startsWith('refund'))).toHaveLength(1);
    expect(await h.db.refund.count({ where: { paymentId: payment.id } })).toBe(1);
  };

  test('a callback that reports the reversal causes a query, which records the reversal', async () => {
    const { payment, refund } = await reversed();
    const said = { state: 'failed', reason: 'Returned.' } as const;
    await h.callback(payment, {}, 'n-returned', { channelRefundId: 'chr_1', answer: said });
    await done(refund.id);
    await expectReversed(payment, refund.id);
    // Each later refund is a separate refund, whether it is automatic or requested.
    await h.callback(payment, {}, 'n-returned-2', { outRefundNo: refund.id, answer: said });
    await done(refund.id);
    const again = await h.refund(payment);
    await done(again.id);
    expect(await h.row(payment.id)).toMatchObject({ refundedAmount: 1990n, attention: null });
    expect(await h.refundRow(refund.id)).toMatchObject({ status: 'reversed' });
  });

  test('if a callback reports a reversal but the query does not confirm it, the refund does not change', async () => {
    const payment = await h.newPaid();
    const refund = await h.refund(payment);
    await done(refund.id);
    const answer = { state: 'reversed', reason: 'Not so.' } as const;
    await h.callback(payment, {}, 'n-not-returned', { outRefundNo: refund.id, answer });
    await done(refund.id);
    expect(await h.refundRow(refund.id)).toMatchObject({ status: 'succeeded' });
    expect(await h.row(payment.id)).toMatchObject({ refundedAmount: 1990n, attention: null });
  });

  test('if the channel rejects the credentials during the check of a settled refund, an attention is raised', async () => {
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

  test('if no callback reports the reversal, the check 7 days after the settlement finds it once', async () => {
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

  test('if a list shows the reversal of an automatic refund, an attention is raised and an operator can request the refund again', async () => {
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
