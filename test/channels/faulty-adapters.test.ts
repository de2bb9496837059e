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

/**
 * Tests that the contract suite detects faulty adapters. Each adapter here is correct except for one realistic fault,
 * and fails at the case for this fault.
 */

const FAULTS: readonly Fault[] = [
  // The declaration
  {
    fault: 'a name that no route accepts',
    ...{ fake: 'keyed', faulty: declaring({ name: 'Keyed-2' }) },
    ...{ found: 'the declared name, title', says: /Keyed-2/ },
  },
  {
    fault: 'an unknown currency',
    ...{ fake: 'bank', faulty: declaringMethod({ currencies: { EUR: {}, XXX: {} } }) },
    ...{ found: 'the declared currencies are current', says: /XXX/ },
  },
  {
    fault: 'limits that allow no amount',
    fake: 'bank',
    faulty: declaringMethod({ currencies: { EUR: { atLeast: 11, atMost: 19, multipleOf: 10 } } }),
    ...{ found: 'the declared currencies are current', says: /EUR of debit/ },
  },
  {
    fault: 'a rate without a source',
    ...{ fake: 'bank', faulty: declaring({ rateLimit: { perSecond: 5, source: '' } }) },
    ...{ found: 'the declared times, lengths and rates', says: /not to be ''/ },
  },
  {
    fault: 'keys that expire, without a listing',
    ...{ fake: 'notices', faulty: declaring({ repeatableForMs: { create: DAY, refund: null } }) },
    ...{ found: 'a channel that may create', says: /undefined/ },
  },
  {
    fault: 'a pattern that accepts every second value',
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
    ...{ found: 'the declared settings are described', says: /secretKey/ },
  },
  {
    fault: 'keys declared to be kept longer than they are',
    fake: 'keyed',
    faulty: declaring({ repeatableForMs: { create: 7 * DAY, refund: DAY } }),
    ...{ found: 'after the time in which create is repeatable', says: /trades/ },
  },
  {
    fault: 'unknown trades that can be paid, but are not declared',
    ...{ fake: 'links', faulty: declaring({ unknownTradeCanBePaid: false }) },
    ...{ found: 'an unknown trade that can still be paid', says: /declared/ },
  },
  {
    fault: 'a longer subject than the channel accepts',
    fake: 'late',
    faulty: declaringMethod({ subject: { atMost: 127, countedIn: 'characters' } }),
    ...{ found: 'subjects in every script', says: /PARAM_ERROR/ },
  },

  // Creating
  {
    fault: 'another key at each repetition',
    fake: 'keyed',
    faulty: sending(createKeyedAdapter, (init) => withHeader(init, 'idempotency-key', randomUUID())),
    ...{ found: 'a trade created again', says: /references/ },
  },
  {
    fault: 'another trade instead of a new action',
    fake: 'keyed',
    faulty: (adapter, options) => ({
      createTrade: async (account, trade, signal) => {
        if (trade.reference === null) return await adapter.createTrade(account, trade, signal);
        const other = sending(createKeyedAdapter, (init) => withHeader(init, 'idempotency-key', 'new'));
        const { createTrade } = other(adapter, options) as ChannelAdapter;
        return await createTrade(account, { ...trade, reference: null }, signal);
      },
    }),
    ...{ found: 'a request for a new action', says: /t_/ },
  },
  {
    fault: 'an expiry counted from the call',
    fake: 'late',
    faulty: instead('createTrade', (right, account, trade, signal) => {
      const expiresAt = new Date(Date.now() + 3_600_000).toISOString();
      return right(account, { ...trade, expiresAt }, signal);
    }),
    ...{ found: 'the create request follows', says: /deeply equal/ },
  },
  {
    fault: 'wrong decimal places, in both directions',
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
    fault: 'a callback address without its proof',
    fake: 'notices',
    faulty: instead('createTrade', (right, account, trade, signal) =>
      right(account, { ...trade, notifyUrl: trade.notifyUrl.replace(/\/[^/]+$/, '') }, signal),
    ),
    ...{ found: 'callbacks go to the address', says: /and not/ },
  },
  {
    fault: 'a callback address that payers can read in the link',
    ...{ fake: 'links', faulty: declaring({ takesCallbackAddress: true }) },
    ...{ found: 'the payer never learns', says: /shows the payer/ },
  },
  {
    fault: 'payer fields left out',
    fake: 'late',
    faulty: instead('createTrade', (right, account, trade, signal) =>
      right(account, { ...trade, payer: {} }, signal),
    ),
    ...{ found: 'the payer fields', says: /PARAM_ERROR/ },
  },
  {
    fault: 'more data than can be stored with a reference',
    fake: 'keyed',
    faulty: instead('createTrade', async (right, ...args) => {
      const created = await right(...args);
      if (created === 'not_renewable' || created.reference === undefined) return created;
      return { ...created, reference: { ...created.reference, data: { all: 'x'.repeat(5_000) } } };
    }),
    ...{ found: 'a trade is unpaid, then paid', says: /more than 4 KiB/ },
  },
  {
    fault: 'absent after the first page of a listing',
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

  // Queries and closes
  {
    fault: 'an unknown trade treated as failed',
    ...{ fake: 'bank', faulty: asState('queryTrade', 'unknown_trade', { state: 'failed' }) },
    ...{ found: 'an unknown trade is unknown', says: /failed/ },
  },
  {
    fault: 'an unknown trade treated as closed',
    ...{ fake: 'keyed', faulty: asState('closeTrade', 'unknown_trade', { state: 'closed' }) },
    ...{ found: 'an unknown trade is unknown', says: /closed/ },
  },
  {
    fault: 'a query that creates the trade',
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
    fault: 'a payment in process treated as failed',
    ...{ fake: 'bank', faulty: asState('queryTrade', 'processing', { state: 'failed' }) },
    ...{ found: 'a trade in process', says: /failed/ },
  },
  {
    fault: 'a payment during the close treated as closed',
    ...{ fake: 'bank', faulty: asState('closeTrade', 'already_paid', { state: 'closed' }) },
    ...{ found: 'closing a paid trade', says: /already_paid/ },
  },
  {
    fault: 'a close that is too early treated as closed',
    ...{ fake: 'late', faulty: asState('closeTrade', 'not_yet', { state: 'closed' }) },
    ...{ found: 'a closed trade stays closed', says: /closed/ },
  },
  {
    fault: 'a full refund reported as paid',
    ...{ fake: 'bank', faulty: asState('queryTrade', 'refunded', { state: 'paid' }) },
    ...{ found: 'a trade that was refunded before', says: /refunded/ },
  },
  {
    fault: 'a dispute left out',
    ...{ fake: 'bank', faulty: asState('queryTrade', 'paid', { disputes: undefined }) },
    ...{ found: 'a dispute is reported', says: /open/ },
  },
  {
    fault: 'only one of several disputes reported',
    fake: 'bank',
    faulty: instead('queryTrade', async (right, ...args) => {
      const answer = await right(...args);
      return 'disputes' in answer ? { ...answer, disputes: answer.disputes?.slice(-1) } : answer;
    }),
    ...{ found: 'a dispute is reported', says: /won/ },
  },

  // Refunds
  {
    fault: 'a new key for a repeated refund',
    fake: 'keyed',
    faulty: sending(createKeyedAdapter, (init) => withHeader(init, 'idempotency-key', randomUUID())),
    ...{ found: 'a refund requested again', says: /ids/ },
  },
  {
    fault: 'a lost answer to a refund treated as a failure',
    fake: 'bank',
    faulty: answering('refundTrade', 'unreachable', { state: 'failed', reason: 'no answer' }),
    ...{ found: 'a refund whose answer is lost', says: /accepted as an answer/ },
  },
  {
    fault: 'a used number treated as a refusal',
    fake: 'keyed',
    faulty: instead('refundTrade', async (right, account, trade, refund, signal) => {
      const answer = await right(account, trade, refund, signal);
      if (answer.state === 'succeeded' && answer.amount !== refund.amount)
        throw new ChannelError('rejected', 'the number is used');
      return answer;
    }),
    ...{ found: 'a refund number used with another amount', says: /rejected/ },
  },
  {
    fault: 'an unknown refund treated as failed',
    fake: 'late',
    faulty: asState('queryRefund', 'unknown_refund', { state: 'failed', reason: 'not there' }),
    ...{ found: 'a refund that the channel does not know', says: /unknown_refund/ },
  },
  {
    fault: 'a closed refund that is not requested again',
    ...{ fake: 'late', faulty: asState('queryRefund', 'ask_again', { state: 'failed' }) },
    ...{ found: 'a refund that needs an operator', says: /ask_again/ },
  },
  {
    fault: 'a refund in process reported as succeeded',
    fake: 'bank',
    faulty: instead('refundTrade', async (right, account, trade, refund, signal) => {
      const answer = await right(account, trade, refund, signal);
      return answer.state === 'processing'
        ? { ...answer, state: 'succeeded', amount: refund.amount }
        : answer;
    }),
    ...{ found: 'a refund that is in process', says: /processing/ },
  },
  {
    fault: 'a reversed refund that still counts',
    fake: 'bank',
    faulty: instead('queryTrade', async (right, ...args) => {
      const answer = await right(...args);
      if (!('refunds' in answer)) return answer;
      return { ...answer, refunds: answer.refunds?.map((refund) => ({ ...refund, state: 'succeeded' })) };
    }),
    ...{ found: 'a refund that the bank returned', says: /the answer/ },
  },
];

test.each(FAULTS)('the contract tests detect an adapter with this fault: $fault', expectFound);
