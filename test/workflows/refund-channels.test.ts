import { afterAll, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest';
import {
  type ChannelDispute,
  ChannelError,
  type ChannelRefund,
  type KnownRefund,
  type NewRefund,
  type PaidAnswer,
  type RefundAnswer,
  type Trade,
} from '../../src/domain/channel.ts';
import { automaticRefundId, externalRefundId, requestedRefundId } from '../../src/domain/ids.ts';
import { refundWorkflowId } from '../../src/domain/names.ts';
import { recordAnswer } from '../../src/ledger/payments.ts';
import { resolvePayment } from '../../src/ledger/resolve.ts';
import type { Payment } from '../../src/ledger/rows.ts';
import { toRefundSnapshot } from '../../src/ledger/snapshot.ts';
import { takeStuckRefunds } from '../../src/ledger/sweep.ts';
import { NET_MS } from '../support/progress.ts';
import { type Harness, startHarness } from './harness.ts';

/**
 * Refunds at a channel as real ones are: it is asked by its own ids, lists the refunds of a trade, forgets keys after 24 h,
 * stores failures under them, waits for people, and takes back what it gave. Its trades are the simulator's.
 */

const [MINUTE, HOUR, DAY] = [60, 3600, 86_400];

interface Booked extends ChannelRefund {
  readonly outTradeNo: string;
}

/** The channel's own book of refunds. */
class Book {
  refunds: Booked[] = [];
  /** What each key was first answered, and when, epoch ms. */
  keys = new Map<string, { readonly at: number; readonly id: string }>();
  calls: string[] = [];
  forgetsAfterS = DAY;
  isDown = false;
  losesRequests = false;
  losesAnswers = false;
  /** Keys under which nothing but a failure is stored. */
  readonly spent = new Set<string>();
  storesFailures = false;
  /** Refuses for now: why. The refusal is stored under the key as well, unless it keeps none. */
  refusesForNow: string | undefined;
  keepsRefusals = true;
  readonly refused = new Map<string, string>();
  disputes: ChannelDispute[] = [];
  isMisconfigured = false;
  /** The state in which a refund begins. */
  begins: ChannelRefund['state'] = 'succeeded';
  /** Says this instead of what it has, to queries and repetitions. */
  says: RefundAnswer | undefined;
  #ids = 0;

  make(outTradeNo: string, amount: number, outRefundNo?: string, state = this.begins): string {
    this.#ids += 1;
    const id = `chr_${this.#ids}`;
    const named = outRefundNo === undefined ? {} : { outRefundNo };
    this.refunds.push({ id, outTradeNo, amount, state, ...named });
    return id;
  }

  set(id: string, state: ChannelRefund['state']): void {
    this.refunds = this.refunds.map((refund) => (refund.id === id ? { ...refund, state } : refund));
  }

  of = (outTradeNo: string): ChannelRefund[] =>
    this.refunds
      .filter((refund) => refund.outTradeNo === outTradeNo)
      .map(({ outTradeNo: _, ...refund }) => refund);

  back = (outTradeNo: string): number =>
    this.of(outTradeNo).reduce(
      (sum, { state, amount }) => (state === 'succeeded' || state === 'processing' ? sum + amount : sum),
      0,
    );

  answer(id: string): RefundAnswer {
    const refund = this.refunds.find((one) => one.id === id);
    if (refund === undefined) return { state: 'unknown_refund' };
    const { state, amount } = refund;
    if (state === 'succeeded') return { state, channelRefundId: id, amount };
    if (state === 'processing') return { state, channelRefundId: id };
    return { state, channelRefundId: id, reason: 'The bank returned it.' };
  }

  async ask(now: number, { outTradeNo }: Trade, refund: NewRefund): Promise<RefundAnswer> {
    const { outRefundNo: key, attempt, amount, total } = refund;
    this.calls.push(`refund ${key} ${attempt} ${refund.channelRefundId ?? '-'}`);
    if (this.isDown || this.losesRequests) throw new ChannelError('unreachable', 'no answer');
    const known = this.keys.get(key);
    const isKnown = known !== undefined && now - known.at < this.forgetsAfterS * 1000;
    if (isKnown && this.spent.has(key))
      throw new ChannelError('unreachable', '500, stored', { isReplayed: true });
    const refused = this.refused.get(key);
    if (refused !== undefined) throw new ChannelError('not_now', refused, { isReplayed: true });
    if (!isKnown && this.refusesForNow !== undefined) {
      if (this.keepsRefusals) this.refused.set(key, this.refusesForNow);
      throw new ChannelError('not_now', this.refusesForNow);
    }
    if (!isKnown && this.back(outTradeNo) + amount > total)
      throw new ChannelError('rejected', 'more than is left');
    if (!isKnown && this.storesFailures) {
      this.keys.set(key, { at: now, id: '' });
      this.spent.add(key);
      throw new ChannelError('unreachable', '500');
    }
    const id = isKnown ? known.id : this.make(outTradeNo, amount, key);
    if (!isKnown) this.keys.set(key, { at: now, id });
    if (this.losesAnswers) throw new ChannelError('unreachable', 'the answer got lost');
    return this.says ?? this.answer(id);
  }

  async query({ outRefundNo, channelRefundId }: KnownRefund): Promise<RefundAnswer> {
    this.calls.push(`query ${outRefundNo} ${channelRefundId ?? '-'}`);
    if (this.isDown) throw new ChannelError('unreachable', 'no answer');
    if (this.isMisconfigured) throw new ChannelError('misconfigured', 'The key is not taken.');
    if (channelRefundId === null) return { state: 'unknown_refund' };
    return this.says ?? this.answer(channelRefundId);
  }
}

let h: Harness;
let book: Book;
beforeAll(async () => {
  h = await startHarness({
    between: (adapter) => ({
      ...adapter,
      declaration: {
        ...adapter.declaration,
        repeatableForMs: {
          create: null,
          get refund() {
            return book.forgetsAfterS * 1000;
          },
        },
      },
      async queryTrade(account, trade, signal) {
        if (book.isDown) throw new ChannelError('unreachable', 'no answer');
        const answer = await adapter.queryTrade(account, trade, signal);
        if (answer.state !== 'paid' && answer.state !== 'refunded') return answer;
        const { disputes } = book;
        return { ...answer, state: 'paid', refunds: book.of(trade.outTradeNo), disputes };
      },
      refundTrade: async (_account, trade, refund) => await book.ask(await h.now(), trade, refund),
      queryRefund: async (_account, _trade, refund) => await book.query(refund),
    }),
  });
});
afterAll(async () => {
  await h?.stop();
});
beforeEach(() => {
  book = new Book();
});

const done = (refundId: string) => h.env.client.workflow.getHandle(refundWorkflowId(refundId)).result();
const refundsOf = async ({ id: paymentId }: Payment) => {
  const rows = await h.db.refund.findMany({ where: { paymentId }, orderBy: { id: 'asc' } });
  return rows.map(({ amount, reason, status, channelRefundId }) => [amount, reason, status, channelRefundId]);
};
const eventsOf = async ({ id: paymentId }: Payment) => {
  const events = await h.db.event.findMany({ where: { paymentId }, orderBy: { version: 'asc' } });
  return events.map(({ type }) => type);
};
const paidAnswer = (payment: Payment, refunds: readonly ChannelRefund[]): PaidAnswer => ({
  ...{ state: 'paid', channelPaymentId: 'trx', amount: 1990, currency: payment.currency },
  ...{ paidAt: new Date().toISOString(), refunds },
});
const told = async (payment: Payment, refunds: readonly ChannelRefund[]) =>
  await recordAnswer(h.db, payment.id, paidAnswer(payment, refunds), 'query', new Date(await h.now()));
/** Conflict: all of it is owed back. */
const inConflict = async () => {
  const payment = await h.newPaid();
  await h.db.order
    .update({
      where: { merchantId_id: { merchantId: payment.merchantId, id: payment.orderId } },
      data: { status: 'unpaid', paidPaymentId: null, paidAt: null },
    })
    .catch(() => undefined);
  await h.db.payment.update({ where: { id: payment.id }, data: { orderUpdate: 'conflict' } });
  return payment;
};

describe('a channel that forgets keys after 24 h', () => {
  test('silent for 25 h after it had taken the refund: found in its list, and paid once', async () => {
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

  test('silent for 25 h, and the refund never came: asked for again only after two lists 10 min apart, and paid once', async () => {
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
      `refund: Two complete listings do not show refund ${refund.id}: it is asked for again.`,
    );
  });

  test('it shows up between two lists: it is not asked for again', async () => {
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
  test('the next key after two lists that do not show it; paid once under that', async () => {
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

  test('it did what it stored a failure of: found in the list, and not asked for under another key', async () => {
    const payment = await h.newPaid();
    book.storesFailures = true;
    const refund = await h.refund(payment, 700);
    await h.pass(5 * MINUTE);
    book.make(payment.id, 700, refund.id);
    await done(refund.id);
    expect(await h.refundRow(refund.id)).toMatchObject({ status: 'succeeded', attempt: 1 });
    expect(book.of(payment.id)).toHaveLength(1);
  });

  test('after two keys a person has to do it; done at the channel, it ends', async () => {
    const payment = await h.newPaid();
    book.storesFailures = true;
    const refund = await h.refund(payment);
    await h.pass(HOUR);
    expect(await h.refundRow(refund.id)).toMatchObject({ status: 'needs_person', attempt: 2 });
    expect(await h.row(payment.id)).toMatchObject({ attention: 'refund_failing' });
    expect((await h.row(payment.id)).attentionDetail).toContain('give the money back at the channel');
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

test("the channel's id is stored while it is in process, and passed with every later call", async () => {
  const payment = await h.newPaid();
  book.begins = 'processing';
  const refund = await h.refund(payment, 700);
  await h.untilRefund(refund.id, 'processing');
  expect(await h.refundRow(refund.id)).toMatchObject({ channelRefundId: 'chr_1' });
  book.set('chr_1', 'succeeded');
  await done(refund.id);
  expect(book.calls).toEqual([`query ${refund.id} -`, `refund ${refund.id} 1 -`, `query ${refund.id} chr_1`]);
});

test('a person is needed: shown at once with the words of the channel, asked on, and over when it succeeds', async () => {
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

test('the channel wants it asked for again: under the same number, on schedule', async () => {
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
  test('asked under the next keys, ever more rarely, until it is topped up; paid once', async () => {
    const payment = await h.newPaid();
    book.refusesForNow = 'The balance is too low.';
    const refund = await h.refund(payment);
    await h.pass(6 * HOUR);
    const { status, attempt } = await h.refundRow(refund.id);
    expect(status).toBe('created');
    // After 10, 20 and 40 min, and once an hour.
    expect(attempt).toBeGreaterThanOrEqual(5);
    expect(attempt).toBeLessThanOrEqual(9);
    expect(await h.row(payment.id)).toMatchObject({ attention: 'refund_failing' });
    book.refusesForNow = undefined;
    await done(refund.id);
    expect(book.of(payment.id)).toHaveLength(1);
    expect(await h.row(payment.id)).toMatchObject({ refundedAmount: 1990n, attention: null });
  });

  test('without a key left it goes on by `retry`', async () => {
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

  test('found under an earlier key: it is asked about under the number that it has', async () => {
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

describe('a channel that lists the refunds of a trade', () => {
  test('what others gave back is recorded by its id, once, exactly and while ours is under way', async () => {
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
    // One of theirs comes back.
    book.set('chr_2', 'failed');
    await h.pass(2 * MINUTE);
    await h.ask(payment);
    expect(await h.row(payment.id)).toMatchObject({ refundedAmount: 800n, attention: 'refund_reversed' });
    expect((await eventsOf(payment)).at(-1)).toBe('refund.reversed');
  });

  test('a row that was lost is found by the list, and counts once', async () => {
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

  test('money that is owed, of which a list told a part before ours was refused: the rest goes back', async () => {
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

  test('money that is owed, of which others had a part on its way back that failed: it is owed anew', async () => {
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

  test('a sum that was told before a list is part of the list', async () => {
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

  test('lists that come late, twice and in any order end the same', async () => {
    const [a, b] = [
      (state: ChannelRefund['state']): ChannelRefund => ({ id: 'a', amount: 300, state }),
      (state: ChannelRefund['state']): ChannelRefund => ({ id: 'b', amount: 500, state }),
    ];
    // As they were told by the channel, the last one last.
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

  test('more than came in goes back: recorded up to that, and shown', async () => {
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

  test('a refund that an earlier life of the ledger made, unknown by number: found in the list before it is asked for', async () => {
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
