import {
  type ChannelAccount,
  type ChannelAdapter,
  type ChannelAnswer,
  ChannelError,
  type ChannelRefund,
  type KnownRefund,
  type RefundAnswer,
  type Trade,
} from '../../src/domain/channel.ts';

/** This channel lists its refunds. The other channel reports only their sum. */
export const LISTS = 'simulator2';

/**
 * The channel forgets an idempotency key after this time, in ms. If a request with the key is then repeated,
 * the channel makes another refund.
 */
const FORGETS_AFTER_MS = 20 * 60_000;
/** A request that was lost arrives within this time, in ms, or it never arrives. */
const ON_ITS_WAY_AT_MOST_MS = 5 * 60_000;

interface Made {
  readonly outTradeNo: string;
  readonly amount: number;
  /** Absent if the merchant made the refund directly at the channel. */
  readonly outRefundNo?: string;
  isReversed: boolean;
}

/**
 * Changes how the simulator treats refunds. The simulator then accepts queries only by its own refund ids, and lists
 * the refunds of a trade instead of their sum. It also forgets idempotency keys, lets refunds wait for a person, and
 * reverses refunds.
 */
export class ListedRefunds {
  /** While this is true, refunds wait for a person. */
  needPerson = false;
  now: () => Promise<number> = async () => Date.now();
  /** The refunds, by their out-refund-no at the simulator. */
  readonly #made = new Map<string, Made>();
  readonly #keys = new Map<string, { readonly at: number; readonly simulated: string }>();

  reset(): void {
    this.needPerson = false;
    this.#made.clear();
    this.#keys.clear();
  }

  /** The merchant made this refund directly at the channel. */
  madeElsewhere(simulated: string, outTradeNo: string, amount: number): void {
    this.#made.set(simulated, { outTradeNo, amount, isReversed: false });
  }

  /**
   * How much of a trade's refunded money the bank returned to the merchant, in minor units. This includes refunds that
   * nodrop did not request.
   */
  reversedOf(outTradeNo: string): { readonly ours: number; readonly others: number } {
    const reversed = [...this.#made.values()].filter(
      (made) => made.outTradeNo === outTradeNo && made.isReversed,
    );
    const sum = (rows: readonly Made[]) => rows.reduce((all, { amount }) => all + amount, 0);
    return {
      ours: sum(reversed.filter(({ outRefundNo }) => outRefundNo !== undefined)),
      others: sum(reversed.filter(({ outRefundNo }) => outRefundNo === undefined)),
    };
  }

  /**
   * The bank returns the money of one succeeded refund to the merchant. If no refund has succeeded, nothing happens.
   * @param isDone returns true if the refund with this id has succeeded
   */
  async reverseOne(outTradeNo: string, isDone: (simulated: string) => Promise<boolean>): Promise<void> {
    for (const [simulated, made] of this.#made) {
      if (made.outTradeNo !== outTradeNo || made.isReversed || !(await isDone(simulated))) continue;
      made.isReversed = true;
      return;
    }
  }

  over(adapter: ChannelAdapter): ChannelAdapter {
    const idOf = (simulated: string) => `listed_${simulated}`;
    const ask = async (account: ChannelAccount, trade: Trade, simulated: string, signal?: AbortSignal) => {
      const known = { outRefundNo: simulated, channelRefundId: null };
      return this.#told(simulated, idOf, await adapter.queryRefund(account, trade, known, signal));
    };
    const list = async (account: ChannelAccount, trade: Trade): Promise<ChannelRefund[]> => {
      const listed: ChannelRefund[] = [];
      for (const [simulated, { outTradeNo, amount, outRefundNo }] of [...this.#made]) {
        if (outTradeNo !== trade.outTradeNo) continue;
        const { state } = await ask(account, trade, simulated);
        if (state !== 'succeeded' && state !== 'processing' && state !== 'reversed') continue;
        listed.push({
          id: idOf(simulated),
          amount,
          state,
          ...(outRefundNo === undefined ? {} : { outRefundNo }),
        });
      }
      return listed;
    };
    const withList = async <Answer extends ChannelAnswer>(
      account: ChannelAccount,
      trade: Trade,
      answer: Answer,
    ): Promise<Answer> => {
      if (answer.state !== 'paid' && answer.state !== 'refunded') return answer;
      const { refundedAmount: _, ...rest } = answer;
      return { ...rest, state: 'paid', refunds: await list(account, trade) } as unknown as Answer;
    };
    return {
      ...adapter,
      declaration: { ...adapter.declaration, repeatableForMs: { create: null, refund: FORGETS_AFTER_MS } },
      queryTrade: async (account, trade, signal) =>
        await withList(account, trade, await adapter.queryTrade(account, trade, signal)),
      refundTrade: async (account, trade, refund, signal) => {
        if (this.needPerson) return { state: 'needs_person', reason: 'A person has to confirm it.' };
        const { outRefundNo: key, amount } = refund;
        const now = await this.now();
        const known = this.#keys.get(key);
        const isKnown = known !== undefined && now - known.at < FORGETS_AFTER_MS;
        const simulated = isKnown ? known.simulated : known === undefined ? key : `${known.simulated}f`;
        if (!isKnown) this.#keys.set(key, { at: now, simulated });
        if (!this.#made.has(simulated))
          this.#made.set(simulated, {
            ...{ outTradeNo: trade.outTradeNo, amount, outRefundNo: key, isReversed: false },
          });
        const answer = await adapter.refundTrade(
          account,
          trade,
          { ...refund, outRefundNo: simulated },
          signal,
        );
        return this.#told(simulated, idOf, answer);
      },
      queryRefund: async (account, trade, { channelRefundId }: KnownRefund, signal) => {
        const simulated = [...this.#made.keys()].find((number) => idOf(number) === channelRefundId);
        if (simulated === undefined) return { state: 'unknown_refund' };
        return await ask(account, trade, simulated, signal);
      },
      verifyCallback: async (account, request) => {
        const callback = await adapter.verifyCallback(account, request);
        if (callback.kind !== 'trade') return callback;
        const { refund, about } = callback;
        const answer = await withList(
          account,
          { outTradeNo: about.outTradeNo ?? '' } as Trade,
          callback.answer,
        );
        if (refund === undefined) return { ...callback, answer };
        const outRefundNo = this.#made.get(refund.outRefundNo ?? '')?.outRefundNo;
        const channelRefundId = idOf(refund.outRefundNo ?? '');
        const named = outRefundNo === undefined ? { channelRefundId } : { outRefundNo, channelRefundId };
        const told = this.#told(refund.outRefundNo ?? '', idOf, refund.answer);
        return { ...callback, answer, refund: { ...named, answer: told } };
      },
    };
  }

  /**
   * @returns a function that lets a lost request arrive late. After `ON_ITS_WAY_AT_MOST_MS`, the request never arrives.
   */
  arriving<Answer>(request: () => Promise<Answer>, sentAt: number): () => Promise<Answer> {
    return async () => {
      if ((await this.now()) - sentAt > ON_ITS_WAY_AT_MOST_MS)
        throw new ChannelError('unreachable', 'it never arrives');
      return await request();
    };
  }

  #told(simulated: string, idOf: (simulated: string) => string, answer: RefundAnswer): RefundAnswer {
    if (answer.state !== 'succeeded' && answer.state !== 'processing') return answer;
    const channelRefundId = idOf(simulated);
    if (answer.state === 'succeeded' && this.#made.get(simulated)?.isReversed === true)
      return { state: 'reversed', reason: 'The bank returned it.', channelRefundId };
    return { ...answer, channelRefundId };
  }
}
