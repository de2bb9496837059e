import { randomUUID } from 'node:crypto';
import { expect, test } from 'vitest';
import {
  CallbackError,
  type CallbackRequest,
  type ChannelAdapter,
  type ChannelDeclaration,
  ChannelError,
  type ChannelErrorKind,
  type MethodDeclaration,
  type Trade,
} from '../../src/domain/channel.ts';
import { CALLS, type Contract, type Place } from './contract/types.ts';
import { contractCases, runCase } from './contract.ts';
import { createBankAdapter, startBank } from './fakes/bank.ts';
import { type FakeOptions, signature } from './fakes/http.ts';
import { createKeyedAdapter, startKeyed } from './fakes/keyed.ts';
import { createLateAdapter, startLate } from './fakes/late.ts';
import { createLinksAdapter, startLinks } from './fakes/links.ts';
import { createNoticesAdapter, startNotices } from './fakes/notices.ts';

/** The suite finds what it is for: right adapters, each with one fault that a real one can have, fail at its case. */

type Make = (options: FakeOptions) => ChannelAdapter;
type Faulty = (adapter: ChannelAdapter, options: FakeOptions) => Partial<ChannelAdapter>;

const FAKES = {
  keyed: [startKeyed, createKeyedAdapter],
  notices: [startNotices, createNoticesAdapter],
  links: [startLinks, createLinksAdapter],
  late: [startLate, createLateAdapter],
  bank: [startBank, createBankAdapter],
} satisfies Record<string, [(place: Place, wrap: Make) => Promise<Contract>, Make]>;

type Calls = 'createTrade' | 'queryTrade' | 'closeTrade' | 'refundTrade' | 'queryRefund' | 'verifyCallback';

/** One of the adapter's functions, done otherwise. */
const instead =
  <Name extends Calls>(
    name: Name,
    change: (right: ChannelAdapter[Name], ...args: Parameters<ChannelAdapter[Name]>) => Promise<unknown>,
  ): Faulty =>
  (adapter) => ({
    [name]: (...args: Parameters<ChannelAdapter[Name]>) => change(adapter[name], ...args),
  });

/** In every call, errors of this kind are thrown as another one. */
const asKind =
  (from: ChannelErrorKind, change: (error: ChannelError, credentials: string) => ChannelError): Faulty =>
  (adapter) =>
    Object.fromEntries(
      CALLS.flatMap((name) => {
        const right = adapter[name] as ((...args: never[]) => Promise<unknown>) | undefined;
        if (right === undefined) return [];
        const call = async (...args: never[]) => {
          try {
            return await right(...args);
          } catch (error) {
            if (!(error instanceof ChannelError) || error.kind !== from) throw error;
            throw change(error, JSON.stringify(args[0]));
          }
        };
        return [[name, call]];
      }),
    );

const adoptable = ({ declaration }: ChannelAdapter) => ({
  declaration: {
    ...declaration,
    adoption: { pattern: /^\w{1,64}$/, rule: 'must be a number', example: 'SHOP1' },
  },
});

/** A trade of this number, of a channel that asks by nothing else. */
const named = (outTradeNo: string): Trade => ({
  ...{ outTradeNo, method: 'page', amount: 1, currency: 'CNY', reference: null },
  ...{ createdAt: new Date().toISOString(), expiresAt: new Date().toISOString() },
});

/** What is said in this state is said in another. */
const asState = (name: Calls, from: string, to: object): Faulty =>
  instead(name, async (right, ...args) => {
    const answer = (await (right as (...given: unknown[]) => Promise<{ state: string }>)(...args)) as {
      state: string;
    };
    return answer.state === from ? { ...answer, ...to } : answer;
  });

/** An answer of an error of this kind. */
const answering = (name: Calls, kind: ChannelErrorKind, answer: object): Faulty =>
  instead(name, async (right, ...args) => {
    try {
      return await (right as (...given: unknown[]) => Promise<unknown>)(...args);
    } catch (error) {
      if (error instanceof ChannelError && error.kind === kind) return answer;
      throw error;
    }
  });

/** The adapter with what it sends changed. */
const sending =
  (make: Make, change: (init: RequestInit) => RequestInit): Faulty =>
  (_adapter, options) =>
    make({ ...options, fetch: (url, init) => fetch(url, change(init ?? {})) });

const withHeader = (init: RequestInit, name: string, value: string): RequestInit => {
  const headers = new Headers(init.headers);
  if (headers.has(name)) headers.set(name, value);
  return { ...init, headers };
};

const declaring =
  (change: Partial<ChannelDeclaration>): Faulty =>
  ({ declaration }) => ({ declaration: { ...declaration, ...change } });
const declaringMethod =
  (change: Partial<MethodDeclaration>): Faulty =>
  ({ declaration }) => {
    const [first, ...rest] = declaration.methods;
    return { declaration: { ...declaration, methods: [{ ...first, ...change }, ...rest] } };
  };

const signedBy = (request: CallbackRequest, secret: string, at = new Date()): CallbackRequest => ({
  ...request,
  headers: { ...request.headers, 'keyed-signature': signature(secret, request.rawBody, at) },
});

const PAID = {
  state: 'paid',
  channelPaymentId: 'p',
  amount: 1050,
  currency: 'EUR',
  paidAt: '2026-01-01T00:00:00Z',
};
const DAY = 86_400_000;

interface Fault {
  readonly fault: string;
  readonly fake: keyof typeof FAKES;
  readonly faulty: Faulty;
  /** The beginning of the name of the case that finds it, and what it says. */
  readonly found: string;
  readonly says: RegExp;
}

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

  // What goes wrong on the way
  {
    fault: 'a 5xx taken for a refusal',
    fake: 'keyed',
    faulty: asKind('unreachable', ({ message }) => new ChannelError('rejected', message)),
    ...{ found: 'a 5xx to any request', says: /500 to createTrade/ },
  },
  {
    fault: 'a 5xx at close taken for closed',
    ...{ fake: 'bank', faulty: answering('closeTrade', 'unreachable', { state: 'closed' }) },
    ...{ found: 'a 5xx to any request', says: /closeTrade was taken for an answer/ },
  },
  {
    fault: 'a request that is tried again by itself',
    fake: 'keyed',
    faulty: (_adapter, options) =>
      createKeyedAdapter({
        ...options,
        fetch: (url, init) => fetch(url, init).catch(() => fetch(url, init)),
      }),
    ...{ found: 'a connection that is lost', says: /lost answer to|sent/ },
  },
  {
    fault: 'a code that is not listed taken for a refusal',
    fake: 'keyed',
    faulty: asKind('unreachable', ({ message }) =>
      message.startsWith('keyed: ')
        ? new ChannelError('rejected', message)
        : new ChannelError('unreachable', message),
    ),
    ...{ found: 'a refusal with a code that is not listed', says: /Property failed/ },
  },
  {
    fault: 'an answer that cannot be read taken for paid',
    ...{ fake: 'keyed', faulty: answering('queryTrade', 'garbage', PAID) },
    ...{ found: 'whatever status comes', says: /Property failed/ },
  },
  {
    fault: 'an answer that cannot be read taken for closed',
    ...{ fake: 'late', faulty: answering('closeTrade', 'garbage', { state: 'closed' }) },
    ...{ found: 'whatever status comes', says: /Property failed/ },
  },
  {
    fault: "another trade's answer",
    fake: 'bank',
    faulty: answering('queryTrade', 'garbage', { ...PAID, channelPaymentId: 'of another' }),
    ...{ found: 'an answer about another trade', says: /another trade's answer/ },
  },
  {
    fault: 'redirects that are followed',
    ...{ fake: 'keyed', faulty: sending(createKeyedAdapter, (init) => ({ ...init, redirect: 'follow' })) },
    ...{ found: 'redirects are not followed', says: /redirects led/ },
  },
  {
    fault: 'a limit without its delay',
    fake: 'bank',
    faulty: asKind('rate_limited', ({ message }) => new ChannelError('rate_limited', message)),
    ...{ found: 'a limit of calls', says: /3000/ },
  },
  {
    fault: 'wrong credentials taken for a refusal',
    fake: 'bank',
    faulty: asKind('misconfigured', ({ message }) => new ChannelError('rejected', message)),
    ...{ found: 'credentials that the channel does not take', says: /misconfigured/ },
  },
  {
    fault: 'a secret in a message',
    fake: 'keyed',
    faulty: asKind(
      'misconfigured',
      ({ message }, account) => new ChannelError('misconfigured', message + account),
    ),
    ...{ found: 'credentials that the channel does not take', says: /key_revoked/ },
  },
  {
    fault: 'a signal that is not heeded',
    fake: 'keyed',
    faulty: instead('queryTrade', (right, account, trade) => right(account, trade)),
    ...{ found: 'a call ends at once when it is aborted', says: /aborted/ },
  },
  {
    fault: 'a channel that is waited for without end',
    ...{ fake: 'keyed', faulty: sending(createKeyedAdapter, ({ signal: _signal, ...init }) => init) },
    ...{ found: 'a channel that says nothing', says: /does not end by itself/ },
  },

  // Trades that are adopted
  {
    fault: 'another amount than the trade has',
    fake: 'links',
    faulty: (adapter) => ({
      ...adoptable(adapter),
      readTrade: async (account, reference) => ({
        reference,
        terms: { amount: 1, currency: 'CNY' },
        answer: await adapter.queryTrade(account, named(reference)),
      }),
    }),
    ...{ found: 'a trade is read by its name', says: /amount/ },
  },
  {
    fault: 'every name known',
    fake: 'links',
    faulty: (adapter) => ({
      ...adoptable(adapter),
      readTrade: async (_, reference) => ({ reference, answer: { state: 'unpaid' } }),
    }),
    ...{ found: 'a name of no trade', says: /unknown_trade/ },
  },
  {
    fault: 'names that nobody reads',
    ...{ fake: 'links', faulty: adoptable },
    ...{ found: 'how trades are named', says: /to be/ },
  },

  // Callbacks
  {
    fault: 'a signature that is not looked at',
    fake: 'keyed',
    faulty: instead('verifyCallback', (right, account, request) =>
      right(account, signedBy(request, 'wh_ours')),
    ),
    ...{ found: 'a callback with any byte changed', says: /byte/ },
  },
  {
    fault: 'callbacks of any account',
    fake: 'keyed',
    faulty: instead('verifyCallback', (right, account, request) =>
      right(account, request).catch(() =>
        right(
          { ...account, credentials: [{ webhookSecret: 'wh_ours' }, { webhookSecret: 'wh_theirs' }] },
          request,
        ),
      ),
    ),
    ...{ found: 'a callback of another account', says: /resolved/ },
  },
  {
    fault: 'callbacks of any age',
    fake: 'keyed',
    faulty: instead('verifyCallback', async (right, account, request) => {
      const header = String(request.headers['keyed-signature']);
      const at = new Date(Number(/^t=(\d+)/.exec(header)?.[1]) * 1_000);
      const isRight = signature('wh_ours', request.rawBody, at) === header;
      return await right(account, isRight ? signedBy(request, 'wh_ours') : request);
    }),
    ...{ found: 'a callback that is too old', says: /resolved/ },
  },
  {
    fault: 'callbacks by the newest secret alone',
    fake: 'keyed',
    faulty: instead('verifyCallback', (right, account, request) =>
      right({ ...account, credentials: account.credentials.slice(0, 1) }, request),
    ),
    ...{ found: 'a callback by older credentials', says: /signature is wrong/ },
  },
  {
    fault: 'a new number at each delivery',
    fake: 'keyed',
    faulty: instead('verifyCallback', async (right, ...args) => ({
      ...(await right(...args)),
      notificationId: randomUUID(),
    })),
    ...{ found: 'a callback that comes again', says: /equal/ },
  },
  {
    fault: 'news of an unsigned form',
    fake: 'notices',
    faulty: instead('verifyCallback', async (right, ...args) => ({
      ...(await right(...args)),
      ...{ kind: 'trade', answer: PAID },
    })),
    ...{ found: 'a callback about a paid trade', says: /notice/ },
  },
  {
    fault: 'another kind of event refused',
    fake: 'keyed',
    faulty: instead('verifyCallback', async (right, ...args) => {
      const verified = await right(...args);
      if (verified.kind === 'ignored') throw new CallbackError('malformed', verified.reason);
      return verified;
    }),
    ...{ found: 'what is nothing of ours', says: /nothing follows/ },
  },
  {
    fault: 'nonsense that is an error of the program',
    fake: 'keyed',
    faulty: instead('verifyCallback', async (right, account, request) => {
      await right(account, request).catch((error: CallbackError) => {
        if (error.kind === 'unverified') throw error;
        return JSON.parse(request.rawBody.toString('utf8')).data.object.id.length;
      });
      return await right(account, request);
    }),
    ...{ found: 'what is proven and makes no sense', says: /Property failed/ },
  },
  {
    fault: 'a refusal that the channel takes for an acknowledgement',
    fake: 'links',
    faulty: () => ({ acknowledge: () => ({ status: 200, type: 'text/plain', body: 'success' }) }),
    ...{ found: 'each outcome is answered', says: /refused: 200 success/ },
  },
  {
    fault: 'an acknowledgement that the channel does not take',
    fake: 'links',
    faulty: () => ({ acknowledge: () => ({ status: 200, type: 'application/json', body: '{}' }) }),
    ...{ found: 'each outcome is answered', says: /stored: 200 \{\}/ },
  },
  {
    fault: 'any text for the number of a trade',
    ...{ fake: 'keyed', faulty: () => ({ peekOutTradeNo: (rawBody: Buffer) => rawBody.toString('utf8') }) },
    ...{ found: 'the number that an unproven body names', says: /to include/ },
  },
];

test.each(FAULTS)('found: $fault', async ({ fake, faulty, found, says }) => {
  const [start, make] = FAKES[fake];
  const wrap: Make = (options) => {
    const adapter = make(options);
    return { ...adapter, ...faulty(adapter, options) };
  };
  const cases = contractCases.filter(({ name }) => name.startsWith(found));
  expect(cases).toHaveLength(1);
  for (const one of cases) await expect(runCase(one, (place) => start(place, wrap))).rejects.toThrow(says);
});
