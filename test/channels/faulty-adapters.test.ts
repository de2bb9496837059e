import { randomUUID } from 'node:crypto';
import { test } from 'vitest';
import { type ChannelAdapter, ChannelError } from '../../src/domain/channel.ts';
import { createKeyedAdapter } from './fakes/keyed.ts';
import {
  answering,
  asState,
  DAY,
  declaring,
  declaringMethod,
  expectFound,
  type Fault,
  instead,
  sending,
  withHeader,
} from './faulty-support.ts';

/** The suite finds what it is for: right adapters, each with one fault that a real one can have, fail at its case. */

const FAULTS: readonly Fault[] = [
  // What it declares
  {
    fault: 'a name that no route takes',
    ...{ fake: 'keyed', faulty: declaring({ name: 'Keyed-2' }) },
    ...{ found: 'its name, title', says: /Keyed-2/ },
  },
  {
    fault: 'a currency that is none',
    ...{ fake: 'bank', faulty: declaringMethod({ currencies: { EUR: {}, XXX: {} } }) },
    ...{ found: 'its currencies are current', says: /XXX/ },
  },
  {
    fault: 'limits between which there is no amount',
    fake: 'bank',
    faulty: declaringMethod({ currencies: { EUR: { atLeast: 11, atMost: 19, multipleOf: 10 } } }),
    ...{ found: 'its currencies are current', says: /EUR of debit/ },
  },
  {
    fault: 'a rate without a source',
    ...{ fake: 'bank', faulty: declaring({ rateLimit: { perSecond: 5, source: '' } }) },
    ...{ found: 'its times, lengths and rates', says: /not to be ''/ },
  },
  {
    fault: 'keys that are forgotten, and no listing',
    ...{ fake: 'notices', faulty: declaring({ repeatableForMs: { create: DAY, refund: null } }) },
    ...{ found: 'what can be made twice', says: /undefined/ },
  },
  {
    fault: 'a pattern that takes every second value',
    fake: 'keyed',
    faulty: ({ declaration }) => ({
      declaration: {
        ...declaration,
        settings: declaration.settings.map((setting) => ({
          ...setting,
          pattern: [/^\w+/g, 'must be one word'],
        })),
      },
    }),
    ...{ found: 'its settings are described', says: /secretKey/ },
  },
  {
    fault: 'keys that are said to be kept for longer than they are',
    fake: 'keyed',
    faulty: declaring({ repeatableForMs: { create: 7 * DAY, refund: DAY } }),
    ...{ found: 'beyond the time in which create is repeatable', says: /trades/ },
  },
  {
    fault: 'unknown trades that can be paid, not declared',
    ...{ fake: 'links', faulty: declaring({ unknownTradeCanBePaid: false }) },
    ...{ found: 'an unknown trade that can be paid all the same', says: /declared/ },
  },
  {
    fault: 'a longer subject than the channel takes',
    fake: 'late',
    faulty: declaringMethod({ subject: { atMost: 127, countedIn: 'characters' } }),
    ...{ found: 'subjects of every script', says: /PARAM_ERROR/ },
  },

  // Creating
  {
    fault: 'another key at each repetition',
    fake: 'keyed',
    faulty: sending(createKeyedAdapter, (init) => withHeader(init, 'idempotency-key', randomUUID())),
    ...{ found: 'created again', says: /references/ },
  },
  {
    fault: 'another trade in place of a new action',
    fake: 'keyed',
    faulty: (adapter, options) => ({
      createTrade: async (account, trade, signal) => {
        if (trade.reference === null) return await adapter.createTrade(account, trade, signal);
        const other = sending(createKeyedAdapter, (init) => withHeader(init, 'idempotency-key', 'new'));
        const { createTrade } = other(adapter, options) as ChannelAdapter;
        return await createTrade(account, { ...trade, reference: null }, signal);
      },
    }),
    ...{ found: 'asked for a new action', says: /t_/ },
  },
  {
    fault: 'an expiry counted from the call',
    fake: 'late',
    faulty: instead('createTrade', (right, account, trade, signal) => {
      const expiresAt = new Date(Date.now() + 3_600_000).toISOString();
      return right(account, { ...trade, expiresAt }, signal);
    }),
    ...{ found: 'what a trade is created with', says: /deeply equal/ },
  },
  {
    fault: 'amounts in other places than the channel counts, in both directions',
    fake: 'keyed',
    faulty: (adapter) => ({
      createTrade: (account, trade, signal) =>
        adapter.createTrade(
          account,
          trade.currency === 'JPY' ? { ...trade, amount: trade.amount * 100 } : trade,
          signal,
        ),
      queryTrade: async (account, trade, signal) => {
        const answer = await adapter.queryTrade(account, trade, signal);
        return 'amount' in answer && answer.currency === 'JPY'
          ? { ...answer, amount: answer.amount / 100 }
          : answer;
      },
    }),
    ...{ found: 'the payer is asked for exactly', says: /JPY/ },
  },
  {
    fault: 'an address without its proof',
    fake: 'notices',
    faulty: instead('createTrade', (right, account, trade, signal) =>
      right(account, { ...trade, notifyUrl: trade.notifyUrl.replace(/\/[^/]+$/, '') }, signal),
    ),
    ...{ found: 'the callback address of a trade', says: /and not/ },
  },
  {
    fault: 'a callback address that payers learn from their link',
    ...{ fake: 'links', faulty: declaring({ takesCallbackAddress: true }) },
    ...{ found: 'what a payer is given', says: /tells the payer/ },
  },
  {
    fault: 'a payer who is left out',
    fake: 'late',
    faulty: instead('createTrade', (right, account, trade, signal) =>
      right(account, { ...trade, payer: {} }, signal),
    ),
    ...{ found: 'what a method needs of the payer', says: /PARAM_ERROR/ },
  },
  {
    fault: 'more data than can be kept with a reference',
    fake: 'keyed',
    faulty: instead('createTrade', async (right, ...args) => {
      const created = await right(...args);
      if (created === 'not_renewable' || created.reference === undefined) return created;
      return { ...created, reference: { ...created.reference, data: { all: 'x'.repeat(5_000) } } };
    }),
    ...{ found: 'a trade is unpaid, then paid', says: /more than 4 KiB/ },
  },
  {
    fault: 'absent by the first page of a listing',
    fake: 'keyed',
    faulty: (_adapter, options) =>
      createKeyedAdapter({
        ...options,
        async fetch(url, init) {
          const response = await fetch(url, init);
          const text = (await response.text()).replace('"more":true', '"more":false');
          return new Response(text, { status: response.status });
        },
      }),
    ...{ found: 'a trade is found by our number', says: /pages read/ },
  },

  // Asking and closing
  {
    fault: 'unknown taken for failed',
    ...{ fake: 'bank', faulty: asState('queryTrade', 'unknown_trade', { state: 'failed' }) },
    ...{ found: 'an unknown trade is unknown', says: /failed/ },
  },
  {
    fault: 'unknown taken for closed',
    ...{ fake: 'keyed', faulty: asState('closeTrade', 'unknown_trade', { state: 'closed' }) },
    ...{ found: 'an unknown trade is unknown', says: /closed/ },
  },
  {
    fault: 'a query that makes the trade',
    fake: 'bank',
    faulty: (adapter) => ({
      async queryTrade(account, trade, signal) {
        const answer = await adapter.queryTrade(account, trade, signal);
        if (answer.state === 'unknown_trade') await adapter.createTrade(account, trade as never, signal);
        return answer;
      },
    }),
    ...{ found: 'an unknown trade is unknown', says: /closed|trades/ },
  },
  {
    fault: 'a payment in process taken for failed',
    ...{ fake: 'bank', faulty: asState('queryTrade', 'processing', { state: 'failed' }) },
    ...{ found: 'a trade in process', says: /failed/ },
  },
  {
    fault: 'paid while closing taken for closed',
    ...{ fake: 'bank', faulty: asState('closeTrade', 'already_paid', { state: 'closed' }) },
    ...{ found: 'closing a paid trade', says: /already_paid/ },
  },
  {
    fault: 'too early taken for closed',
    ...{ fake: 'late', faulty: asState('closeTrade', 'not_yet', { state: 'closed' }) },
    ...{ found: 'a trade is closed, twice', says: /closed/ },
  },
  {
    fault: 'given back in full and said to be paid',
    ...{ fake: 'bank', faulty: asState('queryTrade', 'refunded', { state: 'paid' }) },
    ...{ found: 'a trade that went back before', says: /refunded/ },
  },
  {
    fault: 'a dispute that is left out',
    ...{ fake: 'bank', faulty: asState('queryTrade', 'paid', { disputes: undefined }) },
    ...{ found: 'a dispute is shown', says: /open/ },
  },
  {
    fault: 'of several disputes one alone',
    fake: 'bank',
    faulty: instead('queryTrade', async (right, ...args) => {
      const answer = await right(...args);
      return 'disputes' in answer ? { ...answer, disputes: answer.disputes?.slice(-1) } : answer;
    }),
    ...{ found: 'a dispute is shown', says: /won/ },
  },

  // Refunds
  {
    fault: 'a new key for a repeated refund',
    fake: 'keyed',
    faulty: sending(createKeyedAdapter, (init) => withHeader(init, 'idempotency-key', randomUUID())),
    ...{ found: 'a refund asked for again', says: /numbers/ },
  },
  {
    fault: 'a lost answer to a refund taken for a failure',
    fake: 'bank',
    faulty: answering('refundTrade', 'unreachable', { state: 'failed', reason: 'no answer' }),
    ...{ found: 'an answer to a refund that is lost', says: /taken for an answer/ },
  },
  {
    fault: 'a number that is used taken for a refusal',
    fake: 'keyed',
    faulty: instead('refundTrade', async (right, account, trade, refund, signal) => {
      const answer = await right(account, trade, refund, signal);
      if (answer.state === 'succeeded' && answer.amount !== refund.amount)
        throw new ChannelError('rejected', 'the number is used');
      return answer;
    }),
    ...{ found: 'a number of a refund with another amount', says: /rejected/ },
  },
  {
    fault: 'an unknown refund taken for failed',
    fake: 'late',
    faulty: asState('queryRefund', 'unknown_refund', { state: 'failed', reason: 'not there' }),
    ...{ found: 'a refund that the channel does not know', says: /unknown_refund/ },
  },
  {
    fault: 'a closed refund that is not asked for again',
    ...{ fake: 'late', faulty: asState('queryRefund', 'ask_again', { state: 'failed' }) },
    ...{ found: 'a refund that needs a person', says: /ask_again/ },
  },
  {
    fault: 'a refund in process said to have succeeded',
    fake: 'bank',
    faulty: instead('refundTrade', async (right, account, trade, refund, signal) => {
      const answer = await right(account, trade, refund, signal);
      return answer.state === 'processing'
        ? { ...answer, state: 'succeeded', amount: refund.amount }
        : answer;
    }),
    ...{ found: 'a refund that the channel has in process', says: /processing/ },
  },
  {
    fault: 'a refund that came back and still counts',
    fake: 'bank',
    faulty: instead('queryTrade', async (right, ...args) => {
      const answer = await right(...args);
      if (!('refunds' in answer)) return answer;
      return { ...answer, refunds: answer.refunds?.map((refund) => ({ ...refund, state: 'succeeded' })) };
    }),
    ...{ found: 'a refund that the bank sent back', says: /the answer/ },
  },
];

test.each(FAULTS)('found: $fault', expectFound);
