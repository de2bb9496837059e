import { beforeEach } from 'vitest';
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
import { refundWorkflowId } from '../../src/domain/names.ts';
import type { Payment } from '../../src/ledger/rows.ts';
import { useHarness } from './harness.ts';

/**
 * A harness whose channel handles refunds as real channels do. It uses its own ids, lists the refunds of a trade,
 * forgets idempotency keys after 24 h, stores failures under keys, sometimes needs a person, and reverses refunds. The
 * channel's trades are at the simulator.
 */

export const [MINUTE, HOUR, DAY] = [60, 3600, 86_400];

interface Booked extends ChannelRefund {
  readonly outTradeNo: string;
}

/** The channel's own record of all refunds. */
class Book {
  refunds: Booked[] = [];
  /** The channel's first answer to each idempotency key, with its time in epoch ms. */
  keys = new Map<string, { readonly at: number; readonly id: string }>();
  calls: string[] = [];
  forgetsAfterS = DAY;
  isDown = false;
  losesRequests = false;
  losesAnswers = false;
  /** The idempotency keys under which the channel stores only a failure. */
  readonly spent = new Set<string>();
  storesFailures = false;
  /** The reason of a temporary refusal. A channel that stores refusals stores this one under the idempotency key. */
  refusesForNow: string | undefined;
  keepsRefusals = true;
  readonly refused = new Map<string, string>();
  disputes: ChannelDispute[] = [];
  isMisconfigured = false;
  /** The state that a new refund has. */
  begins: ChannelRefund['state'] = 'succeeded';
  /** If set, queries and repeated requests get this answer instead of the real state. */
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
    if (this.isMisconfigured) throw new ChannelError('misconfigured', 'The key is not accepted.');
    if (channelRefundId === null) return { state: 'unknown_refund' };
    return this.says ?? this.answer(channelRefundId);
  }
}

export let book: Book;
export const h = useHarness({
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
beforeEach(() => {
  book = new Book();
});

export const done = (refundId: string) =>
  h.env.client.workflow.getHandle(refundWorkflowId(refundId)).result();
export const eventsOf = async ({ id: paymentId }: Payment) => {
  const events = await h.db.event.findMany({ where: { paymentId }, orderBy: { version: 'asc' } });
  return events.map(({ type }) => type);
};
export const paidAnswer = (payment: Payment, refunds: readonly ChannelRefund[]): PaidAnswer => ({
  ...{ state: 'paid', channelPaymentId: 'trx', amount: 1990, currency: payment.currency },
  ...{ paidAt: new Date().toISOString(), refunds },
});
/** Creates a payment with a conflict, so that a refund of all its money is due. */
export const inConflict = async () => {
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
