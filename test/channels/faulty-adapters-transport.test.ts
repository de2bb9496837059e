import { randomUUID } from 'node:crypto';
import { test } from 'vitest';
import { CallbackError, ChannelError } from '../../src/domain/channel.ts';
import { signature } from './fakes/http.ts';
import { createKeyedAdapter } from './fakes/keyed.ts';
import {
  adoptable,
  answering,
  asKind,
  expectFound,
  type Fault,
  instead,
  named,
  PAID,
  sending,
  signedBy,
} from './faulty-support.ts';

/** The suite finds what goes wrong on the way, with trades that are adopted, and with callbacks. */

const FAULTS: readonly Fault[] = [
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

test.each(FAULTS)('found: $fault', expectFound);
