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

/** Tests that the contract suite detects adapters that handle failures, adopted trades or callbacks wrongly. */

const FAULTS: readonly Fault[] = [
  // Adapters that handle failures on the way to the channel wrongly.
  {
    fault: 'a 5xx treated as a refusal',
    fake: 'keyed',
    faulty: asKind('unreachable', ({ message }) => new ChannelError('rejected', message)),
    ...{ found: 'a 5xx answer to any request', says: /500 to createTrade/ },
  },
  {
    fault: 'a 5xx answer to a close treated as closed',
    ...{ fake: 'bank', faulty: answering('closeTrade', 'unreachable', { state: 'closed' }) },
    ...{ found: 'a 5xx answer to any request', says: /closeTrade was accepted as an answer/ },
  },
  {
    fault: 'a request that the adapter retries itself',
    fake: 'keyed',
    faulty: (_adapter, options) =>
      createKeyedAdapter({
        ...options,
        fetch: (url, init) => fetch(url, init).catch(() => fetch(url, init)),
      }),
    ...{ found: 'a lost connection', says: /lost answer to|sent/ },
  },
  {
    fault: 'an unlisted code treated as a refusal',
    fake: 'keyed',
    faulty: asKind('unreachable', ({ message }) =>
      message.startsWith('keyed: ')
        ? new ChannelError('rejected', message)
        : new ChannelError('unreachable', message),
    ),
    ...{ found: 'a refusal with a code that is not listed', says: /Property failed/ },
  },
  {
    fault: 'an unreadable answer treated as paid',
    ...{ fake: 'keyed', faulty: answering('queryTrade', 'garbage', PAID) },
    ...{ found: 'no combination of status', says: /Property failed/ },
  },
  {
    fault: 'an unreadable answer treated as closed',
    ...{ fake: 'late', faulty: answering('closeTrade', 'garbage', { state: 'closed' }) },
    ...{ found: 'no combination of status', says: /Property failed/ },
  },
  {
    fault: "another trade's answer accepted",
    fake: 'bank',
    faulty: answering('queryTrade', 'garbage', { ...PAID, channelPaymentId: 'of another' }),
    ...{ found: 'an answer about another trade', says: /another trade's answer/ },
  },
  {
    fault: 'redirects followed',
    ...{ fake: 'keyed', faulty: sending(createKeyedAdapter, (init) => ({ ...init, redirect: 'follow' })) },
    ...{ found: 'redirects are not followed', says: /redirects led/ },
  },
  {
    fault: 'a rate limit without its delay',
    fake: 'bank',
    faulty: asKind('rate_limited', ({ message }) => new ChannelError('rate_limited', message)),
    ...{ found: 'a rate limit', says: /3000/ },
  },
  {
    fault: 'wrong credentials treated as a refusal',
    fake: 'bank',
    faulty: asKind('misconfigured', ({ message }) => new ChannelError('rejected', message)),
    ...{ found: 'credentials that the channel rejects', says: /misconfigured/ },
  },
  {
    fault: 'a secret in a message',
    fake: 'keyed',
    faulty: asKind(
      'misconfigured',
      ({ message }, account) => new ChannelError('misconfigured', message + account),
    ),
    ...{ found: 'credentials that the channel rejects', says: /key_revoked/ },
  },
  {
    fault: 'an abort signal that is ignored',
    fake: 'keyed',
    faulty: instead('queryTrade', (right, account, trade) => right(account, trade)),
    ...{ found: 'a call ends at once when it is aborted', says: /aborted/ },
  },
  {
    fault: 'a call without a timeout',
    ...{ fake: 'keyed', faulty: sending(createKeyedAdapter, ({ signal: _signal, ...init }) => init) },
    ...{ found: 'a call to a channel that does not answer', says: /does not end/ },
  },

  // Adopted trades
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
    ...{ found: 'readTrade finds a trade', says: /amount/ },
  },
  {
    fault: "every name accepted as a trade's",
    fake: 'links',
    faulty: (adapter) => ({
      ...adoptable(adapter),
      readTrade: async (_, reference) => ({ reference, answer: { state: 'unpaid' } }),
    }),
    ...{ found: 'a name that no trade has', says: /unknown_trade/ },
  },
  {
    fault: 'adoptable trades declared that cannot be read',
    ...{ fake: 'links', faulty: adoptable },
    ...{ found: 'an adapter declares how', says: /to be/ },
  },

  // Callbacks
  {
    fault: 'a signature that is not checked',
    fake: 'keyed',
    faulty: instead('verifyCallback', (right, account, request) =>
      right(account, signedBy(request, 'wh_ours')),
    ),
    ...{ found: 'a callback with any byte changed', says: /byte/ },
  },
  {
    fault: 'callbacks of any account accepted',
    fake: 'keyed',
    faulty: instead('verifyCallback', (right, account, request) =>
      right(account, request).catch(() =>
        right(
          { ...account, credentials: [{ webhookSecret: 'wh_ours' }, { webhookSecret: 'wh_theirs' }] },
          request,
        ),
      ),
    ),
    ...{ found: 'a callback for another account', says: /resolved/ },
  },
  {
    fault: 'callbacks of any age accepted',
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
    fault: 'callbacks verified only with the newest secret',
    fake: 'keyed',
    faulty: instead('verifyCallback', (right, account, request) =>
      right({ ...account, credentials: account.credentials.slice(0, 1) }, request),
    ),
    ...{ found: 'a callback signed with older credentials', says: /signature is wrong/ },
  },
  {
    fault: 'a new notification id at each delivery',
    fake: 'keyed',
    faulty: instead('verifyCallback', async (right, ...args) => ({
      ...(await right(...args)),
      notificationId: randomUUID(),
    })),
    ...{ found: 'a callback that arrives twice', says: /equal/ },
  },
  {
    fault: 'an unsigned form accepted as an answer',
    fake: 'notices',
    faulty: instead('verifyCallback', async (right, ...args) => ({
      ...(await right(...args)),
      ...{ kind: 'trade', answer: PAID },
    })),
    ...{ found: 'a callback about a paid trade', says: /notice/ },
  },
  {
    fault: 'an event that is not about trades refused',
    fake: 'keyed',
    faulty: instead('verifyCallback', async (right, ...args) => {
      const verified = await right(...args);
      if (verified.kind === 'ignored') throw new CallbackError('malformed', verified.reason);
      return verified;
    }),
    ...{ found: 'a callback that is not about our trades', says: /is not about a trade/ },
  },
  {
    fault: 'an internal error for nonsense',
    fake: 'keyed',
    faulty: instead('verifyCallback', async (right, account, request) => {
      await right(account, request).catch((error: CallbackError) => {
        if (error.kind === 'unverified') throw error;
        return JSON.parse(request.rawBody.toString('utf8')).data.object.id.length;
      });
      return await right(account, request);
    }),
    ...{ found: 'a proven callback with nonsense', says: /Property failed/ },
  },
  {
    fault: 'a refusal that the channel accepts as an acknowledgement',
    fake: 'links',
    faulty: () => ({ acknowledge: () => ({ status: 200, type: 'text/plain', body: 'success' }) }),
    ...{ found: 'each outcome is answered', says: /refused: 200 success/ },
  },
  {
    fault: 'an acknowledgement that the channel does not accept',
    fake: 'links',
    faulty: () => ({ acknowledge: () => ({ status: 200, type: 'application/json', body: '{}' }) }),
    ...{ found: 'each outcome is answered', says: /stored: 200 \{\}/ },
  },
  {
    fault: 'any text accepted as the number of a trade',
    ...{ fake: 'keyed', faulty: () => ({ peekOutTradeNo: (rawBody: Buffer) => rawBody.toString('utf8') }) },
    ...{ found: 'the number in an unproven body', says: /to include/ },
  },
];

test.each(FAULTS)('the contract tests detect an adapter with this fault: $fault', expectFound);
