import {
  type ChannelAdapter,
  type ChannelAnswer,
  type ChannelDeclaration,
  ChannelError,
  type CloseAnswer,
  type NewTrade,
  type RefundAnswer,
  type Trade,
} from '../../src/domain/channel.ts';

/**
 * A channel that can be queried only by its own ids, as Stripe, PayPal, Adyen and Mollie can. It keeps trades and all
 * calls in memory. While an idempotency key is valid, a repeated create request with the same out-trade-no returns the
 * same trade. After the key has expired, it makes a second trade.
 */
export class ReferenceChannel {
  readonly declaration: ChannelDeclaration;
  readonly trades: { id: string; outTradeNo: string; answer: ChannelAnswer }[] = [];
  readonly created: NewTrade[] = [];
  readonly calls: string[] = [];
  /** The refunded amount by out-refund-no, in minor units. */
  readonly refunds = new Map<string, number>();
  /** If set, the next calls take effect but then fail with this error. */
  answerIsLost: ChannelError | undefined;
  /** If set, calls fail with this error and have no effect. */
  failure: Error | undefined;
  /** The answer to a create request for a trade that already exists. */
  ofExisting: 'action' | 'not_renewable' | ChannelError = 'action';
  close: CloseAnswer = { state: 'closed' };
  /** If set, every refund call gets this answer and refunds nothing. */
  refusedRefund: RefundAnswer | undefined;
  /** When the channel's next actions expire. If absent, a next action expires when its payment expires. */
  actionExpiresAt: string | undefined;
  keysAreForgotten = false;

  constructor(declaration: ChannelDeclaration, changes: Partial<ChannelDeclaration> = {}) {
    this.declaration = { ...declaration, ...changes };
  }

  /** Finds the channel's trade with this out-trade-no. */
  of(outTradeNo: string) {
    return this.trades.find((trade) => trade.outTradeNo === outTradeNo);
  }

  #call(name: string, { outTradeNo, reference }: Trade): void {
    this.calls.push(reference === null ? name : `${name} ${reference.id}`);
    if (this.failure !== undefined) throw this.failure;
    void outTradeNo;
  }

  #referred(trade: Trade) {
    const found = this.trades.find(({ id }) => id === trade.reference?.id);
    if (found === undefined)
      throw new ChannelError('garbage', `the trade's id is missing: ${trade.outTradeNo}`);
    return found;
  }

  #refunded(outRefundNo: string): RefundAnswer {
    const amount = this.refunds.get(outRefundNo);
    if (amount === undefined) return { state: 'unknown_refund' };
    return { state: 'succeeded', channelRefundId: `re_${outRefundNo}`, amount };
  }

  adapter(rest: ChannelAdapter): ChannelAdapter {
    return {
      ...rest,
      declaration: this.declaration,
      createTrade: async (_account, trade) => {
        this.#call('create', trade);
        this.created.push(trade);
        const existing =
          this.keysAreForgotten && trade.reference === null ? undefined : this.of(trade.outTradeNo);
        if (existing !== undefined && this.ofExisting !== 'action') {
          if (this.ofExisting === 'not_renewable') return 'not_renewable';
          throw this.ofExisting;
        }
        const made = existing ?? {
          id: `tr_${this.trades.length + 1}_${trade.outTradeNo.slice(-8)}`,
          outTradeNo: trade.outTradeNo,
          answer: { state: 'unpaid' as const },
        };
        if (existing === undefined) this.trades.push(made);
        if (this.answerIsLost !== undefined) throw this.answerIsLost;
        const action = {
          type: 'redirect' as const,
          url: `https://wallet.example/${made.id}`,
          ...(this.actionExpiresAt === undefined ? {} : { expiresAt: this.actionExpiresAt }),
        };
        return { action, reference: { id: made.id, data: { kept: true } } };
      },
      findTrade: async (_account, trade) => {
        this.#call('find', trade);
        const found = this.of(trade.outTradeNo);
        return found === undefined ? 'absent' : { id: found.id };
      },
      queryTrade: async (_account, trade) => {
        this.#call('query', trade);
        return this.#referred(trade).answer;
      },
      closeTrade: async (_account, trade) => {
        this.#call('close', trade);
        const found = this.#referred(trade);
        if (this.close.state === 'closed') found.answer = { state: 'closed' };
        return this.close;
      },
      refundTrade: async (_account, trade, { outRefundNo, amount }) => {
        this.#call('refund', trade);
        this.#referred(trade);
        if (this.refusedRefund !== undefined) return this.refusedRefund;
        this.refunds.set(outRefundNo, amount);
        return this.#refunded(outRefundNo);
      },
      queryRefund: async (_account, trade, { outRefundNo }) => {
        this.#call('query refund', trade);
        this.#referred(trade);
        return this.#refunded(outRefundNo);
      },
    };
  }
}
