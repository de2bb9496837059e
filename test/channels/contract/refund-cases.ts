import { expect } from 'vitest';
import type { NewRefund, NewTrade, PaidAnswer } from '../../../src/domain/channel.ts';
import { ChannelError } from '../../../src/domain/channel.ts';
import { toDecimal } from '../../../src/domain/money.ts';
import {
  type Bench,
  type ContractCase,
  givenBack,
  inWholeUnits,
  outcomeOf,
  withIdOf,
  withoutZeros,
} from './bench.ts';

/**
 * Tests that a refund happens once and with exactly the requested amount, and is reported as failed only if it has
 * failed.
 */

export const refundCases: readonly ContractCase[] = [
  {
    name: 'a partial refund and then the rest succeed; the trade reports how much, and then that it is refunded',
    async run(bench) {
      const trade = await bench.createPaid();
      const first = await settled(bench, trade, await bench.refund(trade));
      await expectBack(bench, trade, first.amount);
      expect((await bench.queryPaid(trade)).state).toBe('paid');
      const rest = await bench.refund(trade, bench.refundOf(trade, trade.amount - first.amount));
      await settled(bench, trade, rest);
      await expectBack(bench, trade, trade.amount);
      const all = await bench.queryPaid(trade);
      expectAllBack(all);
      expect(await bench.adapter.closeTrade(bench.account, trade)).toEqual({ state: 'already_paid' });
    },
  },
  {
    name: "a refund that is in process at the channel is so in every answer, with the channel's id",
    appliesTo: ({ channel }) => channel.finishRefunds !== undefined,
    async run(bench) {
      const trade = await bench.createPaid();
      const refund = bench.refundOf(trade);
      const asked = await bench.adapter.refundTrade(bench.account, trade, refund);
      expect(asked.state).toBe('processing');
      const known = withIdOf(refund, asked);
      expect((await bench.adapter.queryRefund(bench.account, trade, known)).state).toBe('processing');
      expect(givenBack(await bench.queryPaid(trade)), 'the refunded sum in the answer').toBe(0);
      await bench.channel.finishRefunds?.();
      expect(await bench.adapter.queryRefund(bench.account, trade, known)).toMatchObject({
        state: 'succeeded',
        amount: refund.amount,
        ...(known.channelRefundId === null ? {} : { channelRefundId: known.channelRefundId }),
      });
    },
  },
  {
    name: 'a refund requested again is the same refund, also concurrently',
    async run(bench) {
      const trade = await bench.createPaid();
      const refund = bench.refundOf(trade);
      const asking = [1, 2, 3].map(() => bench.adapter.refundTrade(bench.account, trade, refund));
      const answers = await Promise.all(asking);
      const ids = answers.map((answer) => ('channelRefundId' in answer ? answer.channelRefundId : undefined));
      expect(new Set(ids).size, `the channel's ids ${ids}`).toBe(1);
      await settled(bench, trade, refund);
      await expectBack(bench, trade, refund.amount);
    },
  },
  {
    name: 'a refund whose answer is lost is unknown; its repetition refunds once',
    async run(bench) {
      const trade = await bench.createPaid();
      const refund = bench.refundOf(trade);
      await bench.loseLastAnswer('refundTrade', { trade, refund });
      const { refunded } = await bench.books(trade);
      expect(withoutZeros(refunded), 'the channel has refunded').toBe(
        inWholeUnits(refund.amount, trade.currency),
      );
      // The adapter does not get the channel's own id of the refund, as after a crash.
      const before = await bench.adapter.queryRefund(bench.account, trade, refund);
      expect(['succeeded', 'processing']).toContain(before.state);
      await settled(bench, trade, await bench.refund(trade, refund));
      await expectBack(bench, trade, refund.amount);
    },
  },
  {
    name: 'a refund number used with another amount refunds nothing more, and is not reported as failed',
    async run(bench) {
      const trade = await bench.createPaid();
      const refund = await bench.refund(trade);
      const other = { ...refund, channelRefundId: null, amount: refund.amount * 2 };
      const outcome = await outcomeOf(() => bench.adapter.refundTrade(bench.account, trade, other));
      if ('error' in outcome) {
        expect(outcome.error).toBeInstanceOf(ChannelError);
        expect(
          (outcome.error as ChannelError).kind,
          'the kind of error for a number that has refunded money',
        ).not.toBe('rejected');
      } else {
        expect(['succeeded', 'processing']).toContain((outcome.answer as { state: string }).state);
        if ((outcome.answer as { amount?: number }).amount !== undefined)
          expect(outcome.answer).toMatchObject({ amount: refund.amount });
      }
      await settled(bench, trade, refund);
      await expectBack(bench, trade, refund.amount);
    },
  },
  {
    name: 'a refund that the channel does not know is unknown, never failed',
    async run(bench) {
      const trade = await bench.createPaid();
      const refund = bench.refundOf(trade);
      expect(await bench.adapter.queryRefund(bench.account, trade, refund)).toEqual({
        state: 'unknown_refund',
      });
      await expectBack(bench, trade, 0);
    },
  },
  {
    name: 'a trade that was refunded before its first query is reported as paid and refunded',
    appliesTo: ({ channel }) => channel.refund !== undefined,
    async run(bench) {
      const trade = await bench.createPaid();
      await bench.channel.refund?.(trade, trade.amount);
      await bench.channel.finishRefunds?.();
      const { amount, currency } = trade;
      const answer = await bench.queryPaid(trade);
      expect(answer).toMatchObject({ amount, currency });
      expectAllBack(answer);
      await expectBack(bench, trade, trade.amount);
    },
  },
  {
    name: 'a refund made at the channel counts, in addition to one of ours',
    appliesTo: ({ channel }) => channel.refund !== undefined,
    async run(bench) {
      const trade = await bench.createPaid();
      const ours = await settled(bench, trade, await bench.refund(trade));
      await bench.channel.refund?.(trade, bench.partOf(trade));
      await bench.channel.finishRefunds?.();
      await expectBack(bench, trade, ours.amount + bench.partOf(trade));
      const { refunds } = await bench.queryPaid(trade);
      if (refunds === undefined) return;
      expect(refunds.map(({ id }) => id)).toHaveLength(2);
      expect(new Set(refunds.map(({ id }) => id)).size).toBe(2);
      const named = refunds.filter(({ outRefundNo }) => outRefundNo !== undefined);
      // The answer must name nodrop's number of the refund, or list the id that the channel returned for this refund.
      const isOurs = refunds.some(
        ({ id, outRefundNo }) => id === ours.channelRefundId || outRefundNo === ours.outRefundNo,
      );
      expect(isOurs, 'our refund can be identified').toBe(true);
      expect(named.every(({ outRefundNo }) => outRefundNo === ours.outRefundNo)).toBe(true);
    },
  },
  {
    name: 'a refund that needs an operator, must be requested again or failed is reported so, and refunds nothing twice',
    appliesTo: ({ channel }) => channel.refundsBecome !== undefined,
    async run(bench) {
      for (const outcome of ['needs_person', 'ask_again', 'failed'] as const) {
        if (bench.channel.refundsBecome?.(outcome) === false) continue;
        const trade = await bench.createPaid();
        const refund = bench.refundOf(trade);
        const asked = await bench.adapter.refundTrade(bench.account, trade, refund);
        await bench.channel.finishRefunds?.();
        const answer = await bench.adapter.queryRefund(bench.account, trade, withIdOf(refund, asked));
        expect(answer).toMatchObject({ state: outcome, reason: expect.stringMatching(/./) });
        await expectBack(bench, trade, 0);
        bench.channel.refundsBecome?.('good');
        if (outcome !== 'ask_again') continue;
        await settled(bench, trade, await bench.refund(trade, refund));
        await expectBack(bench, trade, refund.amount);
      }
    },
  },
  {
    name: 'a refund that the bank returned is reversed, and no longer counts',
    appliesTo: ({ channel }) => channel.reverse !== undefined,
    async run(bench) {
      const trade = await bench.createPaid();
      const refund = await settled(bench, trade, await bench.refund(trade));
      await bench.channel.reverse?.(trade, refund.outRefundNo);
      const answer = await bench.adapter.queryRefund(bench.account, trade, refund);
      expect(answer).toMatchObject({ state: 'reversed', reason: expect.stringMatching(/./) });
      await expectBack(bench, trade, 0);
      const { refunds } = await bench.queryPaid(trade);
      if (refunds !== undefined) expect(refunds).toMatchObject([{ state: 'reversed' }]);
    },
  },
  {
    name: 'after the time in which a refund is repeatable, its own number still finds it',
    appliesTo: ({ ours, channel }) =>
      ours.adapter.declaration.repeatableForMs.refund !== null && channel.advance !== undefined,
    async run(bench) {
      const trade = await bench.createPaid();
      const refund = bench.refundOf(trade);
      const asked = await bench.refund(trade, refund);
      await bench.channel.advance?.((bench.declaration.repeatableForMs.refund ?? 0) - 60_000);
      await bench.refund(trade, refund);
      await bench.channel.advance?.(120_000);
      const { state } = await settledAnswer(bench, trade, refund);
      expect(state, 'queried by our number').toBe('succeeded');
      expect((await settledAnswer(bench, trade, asked)).state, "queried by the channel's id").toBe(
        'succeeded',
      );
      await expectBack(bench, trade, refund.amount);
    },
  },
  {
    name: 'a dispute is reported with its amount until it is decided, and then with its result, also next to another one',
    appliesTo: ({ channel }) => channel.dispute !== undefined,
    async run(bench) {
      for (const decided of ['won', 'lost'] as const) {
        const trade = await bench.createPaid();
        expect((await bench.queryPaid(trade)).disputes ?? []).toEqual([]);
        await bench.channel.dispute?.(trade, 'open');
        const { amount, currency } = trade;
        const { disputesBegin: state = 'open' } = bench.channel;
        expect((await bench.queryPaid(trade)).disputes).toMatchObject([{ state, amount, currency }]);
        await bench.channel.dispute?.(trade, decided);
        expect((await bench.queryPaid(trade)).disputes).toMatchObject([{ state: decided }]);
        await bench.channel.dispute?.(trade, 'open');
        const both = (await bench.queryPaid(trade)).disputes ?? [];
        expect(both.map((dispute) => dispute.state).sort()).toEqual([decided, state].sort());
        expect(new Set(both.map(({ id }) => id)).size, 'ids').toBe(2);
      }
    },
  },
];

async function settledAnswer(bench: Bench, trade: NewTrade, refund: NewRefund) {
  await bench.channel.finishRefunds?.();
  return await bench.adapter.queryRefund(bench.account, trade, refund);
}

/** Returns the refund once the channel's own answer reports that it has succeeded. */
async function settled(bench: Bench, trade: NewTrade, refund: NewRefund): Promise<NewRefund> {
  const answer = await settledAnswer(bench, trade, refund);
  expect(answer).toMatchObject({ state: 'succeeded', amount: refund.amount });
  return withIdOf(refund, answer);
}

/** Expects that the adapter and the channel's books report the same refunded amount. */
async function expectBack(bench: Bench, trade: NewTrade, amount: number): Promise<void> {
  const { refunded } = await bench.books(trade);
  const expected = amount === 0 ? toDecimal(0, trade.currency) : inWholeUnits(amount, trade.currency);
  expect(withoutZeros(refunded), "the channel's books").toBe(withoutZeros(expected));
  const answer = await bench.queryPaid(trade);
  if (tellsSum(answer)) expect(givenBack(answer), 'the answer').toBe(amount);
}

/** The answer must report that money was refunded. Otherwise an order could become paid with refunded money. */
function expectAllBack(answer: PaidAnswer): void {
  if (answer.someWentBack !== true)
    expect(answer.state, 'the state of a trade that was refunded in full').toBe('refunded');
}

/** False if the channel's paid answer does not report the refunded amount. */
const tellsSum = ({ refunds, refundedAmount }: PaidAnswer): boolean =>
  refunds !== undefined || refundedAmount !== undefined;
