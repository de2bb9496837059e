import { randomUUID } from 'node:crypto';
import { z } from 'zod';
import {
  CallbackError,
  type ChannelAdapter,
  type ChannelAnswer,
  type ChannelDeclaration,
  ChannelError,
  type RefundAnswer,
  type Trade,
  type VerifiedCallback,
} from '../../../src/domain/channel.ts';
import { type Answer, type Sent, serve } from '../contract/http.ts';
import type { Contract, Place } from '../contract/types.ts';
import { type BookRefund, Books, type BookTrade, channelOf, isRefunded } from './books.ts';
import {
  ask,
  type FakeOptions,
  inCallback,
  json,
  newest,
  notify,
  parseJson,
  prove,
  type Reply,
  signature,
} from './http.ts';

/**
 * A fake channel that can only be queried by its own ids. It forgets idempotency keys after a day. After that day,
 * nodrop must search the channel's listing for a trade whose id nodrop does not know.
 */

const DAY_MS = 86_400_000;
const PAGE_SIZE = 5;
const SIGNATURE = 'keyed-signature';
const PLACES: Readonly<Record<string, number>> = { EUR: 2, JPY: 0, KWD: 3 };

const declaration: ChannelDeclaration = {
  name: 'keyed',
  title: { en: 'Keyed', zh: '按键' },
  testOnly: true,
  methods: [
    {
      name: 'session',
      action: 'redirect',
      currencies: { EUR: { atLeast: 50, atMost: 99_999_999 }, JPY: { atLeast: 50 }, KWD: { multipleOf: 10 } },
      expiry: { atLeastMs: 30 * 60_000, atMostMs: DAY_MS },
      subject: { atMost: 250, countedIn: 'characters' },
      needs: [],
    },
  ],
  rateLimit: { perSecond: 25, source: 'the fake itself' },
  querySchedule: null,
  repeatableForMs: { create: DAY_MS, refund: DAY_MS },
  unknownTradeCanBePaid: false,
  takesCallbackAddress: false,
  settings: [
    {
      ...{ name: 'secretKey', isSecret: true, isRequired: true },
      description: 'The key for requests.',
      pattern: [/^key_[a-z0-9]+$/, 'must start with key_'],
    },
    {
      ...{ name: 'webhookSecret', isSecret: true, isRequired: true },
      description: 'The secret that signs callbacks.',
    },
  ],
};

const sessionSchema = z.object({
  id: z.string().min(1),
  order: z.string().min(1),
  status: z.enum(['open', 'processing', 'complete', 'expired']),
  amount: z.int().positive(),
  currency: z.string(),
  url: z.url().nullable(),
  payment: z.object({ id: z.string().min(1), at: z.iso.datetime() }).nullable(),
  refunds: z.array(
    z.object({
      id: z.string().min(1),
      number: z.string().nullable(),
      amount: z.int().positive(),
      status: z.enum(['pending', 'succeeded', 'failed']),
    }),
  ),
});
type Session = z.infer<typeof sessionSchema>;
const refundSchema = sessionSchema.shape.refunds.element.extend({ session: z.string() });
const pageSchema = z.object({ data: z.array(sessionSchema), more: z.boolean() });
const errorSchema = z.object({ error: z.object({ code: z.string() }) });
const eventSchema = z.object({ id: z.string().min(1), type: z.string() });
const sessionEventSchema = z.object({ data: sessionSchema });

/** After one of these refusals it is certain that the channel created nothing. */
const DEFINITE_REFUSALS = ['parameter_invalid', 'currency_not_supported'];
const DEFINITE_REFUND_REFUSALS = ['parameter_invalid', 'refund_too_large', 'session_unpaid'];

export function createKeyedAdapter(options: FakeOptions): ChannelAdapter {
  const call = async (
    { credentials }: Parameters<ChannelAdapter['queryTrade']>[0],
    method: string,
    path: string,
    { key, content, signal }: { key?: string; content?: object; signal?: AbortSignal | undefined } = {},
  ): Promise<Reply> =>
    await ask(
      options,
      path,
      {
        method,
        headers: {
          authorization: `Bearer ${newest(credentials).secretKey}`,
          ...(key === undefined ? {} : { 'idempotency-key': key }),
          ...(content === undefined ? {} : { 'content-type': 'application/json' }),
        },
        ...(content === undefined ? {} : { body: JSON.stringify(content) }),
      },
      signal,
    );

  /**
   * Returns the code of a refusal.
   * @throws ChannelError `garbage` if the reply is neither an answer nor a refusal
   */
  const codeOf = ({ status, body }: Reply): string => {
    const parsed = errorSchema.safeParse(body);
    if (status >= 400 && parsed.success) return parsed.data.error.code;
    throw new ChannelError('garbage', `keyed answered ${status} with an unexpected body`);
  };

  const readSession = (reply: Reply, trade: Pick<Trade, 'outTradeNo'>): Session => {
    const parsed = sessionSchema.safeParse(reply.body);
    if (reply.status === 200 && parsed.success && parsed.data.order === trade.outTradeNo) return parsed.data;
    throw new ChannelError('garbage', `keyed answered about ${trade.outTradeNo} with an unexpected body`);
  };

  const pathOf = ({ outTradeNo, reference }: Trade): string => {
    if (reference === null) throw new ChannelError('unreachable', `the id of ${outTradeNo} is not known yet`);
    return `/sessions/${encodeURIComponent(reference.id)}`;
  };

  const readRefund = (reply: Reply, outRefundNo: string): RefundAnswer => {
    const parsed = refundSchema.safeParse(reply.body);
    if (reply.status === 200 && parsed.success && parsed.data.number === outRefundNo)
      return toRefundAnswer(parsed.data);
    throw new ChannelError('garbage', `keyed answered about ${outRefundNo} with an unexpected body`);
  };

  const findRefund: ChannelAdapter['queryRefund'] = async (account, trade, refund, signal) => {
    const { outRefundNo, channelRefundId } = refund;
    if (channelRefundId !== null) {
      const path = `/refunds/${encodeURIComponent(channelRefundId)}`;
      const reply = await call(account, 'GET', path, { signal });
      if (reply.status === 200) return readRefund(reply, outRefundNo);
      if (codeOf(reply) === 'resource_missing') return { state: 'unknown_refund' };
      throw new ChannelError('garbage', `keyed refuses to report ${outRefundNo}`);
    }
    const reply = await call(account, 'GET', pathOf(trade), { signal });
    if (reply.status !== 200) throw new ChannelError('garbage', `keyed answered ${codeOf(reply)}`);
    const found = readSession(reply, trade).refunds.find(({ number }) => number === outRefundNo);
    return found === undefined ? { state: 'unknown_refund' } : toRefundAnswer(found);
  };

  return {
    declaration,

    async createTrade(account, trade, signal) {
      if (trade.reference !== null) {
        const reply = await call(account, 'GET', pathOf(trade), { signal });
        if (reply.status !== 200) throw new ChannelError('unreachable', `keyed answered ${codeOf(reply)}`);
        const { url } = readSession(reply, trade);
        return url === null
          ? 'not_renewable'
          : { action: { type: 'redirect', url }, reference: trade.reference };
      }
      const { outTradeNo, amount, currency, subject, returnUrl, createdAt, expiresAt } = trade;
      const shortest = Date.parse(createdAt) + 30 * 60_000;
      const content = {
        ...{ order: outTradeNo, amount, currency, subject, return_url: returnUrl },
        expires: new Date(Math.max(shortest, Date.parse(expiresAt))).toISOString(),
      };
      const reply = await call(account, 'POST', '/sessions', { key: outTradeNo, content, signal });
      if (reply.status !== 200) {
        const code = codeOf(reply);
        throw new ChannelError(
          DEFINITE_REFUSALS.includes(code) ? 'rejected' : 'unreachable',
          `keyed: ${code}`,
        );
      }
      const { id, url } = readSession(reply, trade);
      return url === null ? 'not_renewable' : { action: { type: 'redirect', url }, reference: { id } };
    },

    async findTrade(account, { outTradeNo, createdAt }, signal) {
      // The channel's clock may be behind nodrop's clock.
      const from = new Date(Date.parse(createdAt) - 5 * 60_000).toISOString();
      for (let after = ''; ; ) {
        const path = `/sessions?${new URLSearchParams({ from, after })}`;
        const { status, body } = await call(account, 'GET', path, { signal });
        const page = pageSchema.safeParse(body);
        if (status !== 200 || !page.success)
          throw new ChannelError('garbage', 'keyed answered without a listing');
        const found = page.data.data.find(({ order }) => order === outTradeNo);
        if (found !== undefined) return { id: found.id };
        if (!page.data.more) return 'absent';
        after = page.data.data.at(-1)?.id ?? '';
        if (after === '')
          throw new ChannelError('garbage', 'keyed answered with an empty page that is not the last');
      }
    },

    async queryTrade(account, trade, signal) {
      const reply = await call(account, 'GET', pathOf(trade), { signal });
      if (reply.status === 200) return toAnswer(readSession(reply, trade));
      if (codeOf(reply) === 'resource_missing') return { state: 'unknown_trade' };
      throw new ChannelError('garbage', `keyed refuses to report ${trade.outTradeNo}`);
    },

    async closeTrade(account, trade, signal) {
      const reply = await call(account, 'POST', `${pathOf(trade)}/expire`, { content: {}, signal });
      if (reply.status === 200 && readSession(reply, trade).status === 'expired') return { state: 'closed' };
      switch (codeOf(reply)) {
        case 'session_expired':
          return { state: 'closed' };
        case 'session_complete':
          return { state: 'already_paid' };
        case 'session_processing':
          return { state: 'processing' };
        case 'resource_missing':
          return { state: 'unknown_trade' };
        default:
          throw new ChannelError('garbage', `keyed refuses to close ${trade.outTradeNo}`);
      }
    },

    async refundTrade(account, trade, { outRefundNo, amount }, signal) {
      const content = { session: trade.reference?.id, amount, number: outRefundNo };
      const reply = await call(account, 'POST', '/refunds', { key: outRefundNo, content, signal });
      if (reply.status === 200) return readRefund(reply, outRefundNo);
      const code = codeOf(reply);
      // The key was already used for a refund of another amount. So the existing refund is the answer.
      if (code === 'key_reused')
        return await findRefund(account, trade, { outRefundNo, channelRefundId: null }, signal);
      const isDefinite = DEFINITE_REFUND_REFUSALS.includes(code);
      throw new ChannelError(isDefinite ? 'rejected' : 'unreachable', `keyed: ${code}`);
    },

    queryRefund: findRefund,

    async verifyCallback({ credentials }, request): Promise<VerifiedCallback> {
      const secrets = credentials.flatMap(({ webhookSecret }) => webhookSecret ?? []);
      prove(request, SIGNATURE, secrets);
      const content = parseJson(request.rawBody.toString('utf8'));
      const event = eventSchema.safeParse(content);
      if (!event.success) throw new CallbackError('malformed', z.prettifyError(event.error));
      const { id: notificationId, type } = event.data;
      if (!type.startsWith('session.'))
        return { kind: 'ignored', notificationId, reason: `${type.slice(0, 40)} is not about a trade` };
      const told = sessionEventSchema.safeParse(content);
      if (!told.success) throw new CallbackError('malformed', z.prettifyError(told.error));
      const { id: reference, order: outTradeNo } = told.data.data;
      return {
        ...{ kind: 'trade', notificationId, about: { outTradeNo, reference } },
        answer: inCallback(() => toAnswer(told.data.data)),
      };
    },

    peekOutTradeNo(rawBody) {
      const named = z
        .object({ data: z.object({ order: z.string().regex(/^[0-9A-Za-z_]{1,32}$/) }) })
        .safeParse(parseJson(rawBody.toString('utf8')));
      return named.success ? named.data.data.order : undefined;
    },

    async checkAccount(account, signal) {
      const { status } = await call(account, 'GET', '/sessions?', { signal });
      if (status !== 200) throw new ChannelError('garbage', `keyed answered ${status} to a harmless request`);
    },
  };
}

function toRefundAnswer({ id, amount, status }: Session['refunds'][number]): RefundAnswer {
  if (status === 'pending') return { state: 'processing', channelRefundId: id };
  if (status === 'succeeded') return { state: 'succeeded', channelRefundId: id, amount };
  return { state: 'failed', channelRefundId: id, reason: 'the bank has refused the refund' };
}

function toAnswer({ status, payment, amount, currency, refunds }: Session): ChannelAnswer {
  if (status === 'processing') return { state: 'processing' };
  if (status === 'expired') return { state: 'closed' };
  if (status === 'open') return { state: 'unpaid' };
  if (payment === null) throw new ChannelError('garbage', 'keyed reports complete without a payment');
  const listed = refunds.map(({ id, number, amount, status }) => ({
    ...{ id, amount, state: status === 'pending' ? ('processing' as const) : status },
    ...(number === null ? {} : { outRefundNo: number }),
  }));
  const back = refunds.filter(({ status }) => status === 'succeeded').reduce((sum, r) => sum + r.amount, 0);
  return {
    ...{ state: back === amount ? 'refunded' : 'paid', channelPaymentId: payment.id, amount, currency },
    ...{ paidAt: payment.at, refunds: listed },
  };
}

/** Starts the fake channel. */
export async function startKeyed(
  place: Place,
  wrap: (options: FakeOptions) => ChannelAdapter = createKeyedAdapter,
) {
  const books = new Books();
  const accounts = new Map([
    ['key_ours', { name: 'ours', webhookSecret: 'wh_ours' }],
    ['key_theirs', { name: 'theirs', webhookSecret: 'wh_theirs' }],
  ]);
  const answers = new Map<
    string,
    { readonly at: number; readonly terms: string; readonly answer: Promise<Answer> }
  >();
  const error = (status: number, code: string) => json(status, { error: { code } });

  /** The channel forgets a key a day after its first use. */
  const once = async (account: string, { headers, path, body }: Sent, make: () => Promise<Answer>) => {
    const key = `${account} ${path} ${headers['idempotency-key']}`;
    const known = answers.get(key);
    if (known !== undefined && books.now() - known.at < DAY_MS)
      return known.terms === body ? await known.answer : error(400, 'key_reused');
    const answer = make();
    answers.set(key, { at: books.now(), terms: body, answer });
    return await answer;
  };

  const server = await serve(async (request) => {
    const account = accounts.get(request.headers.authorization?.slice('Bearer '.length) ?? '');
    if (account === undefined) return error(401, 'unauthorized');
    const url = new URL(request.path, 'http://keyed');
    const [, resource, id = '', action] = url.pathname.split('/');
    const content = request.body === '' ? {} : JSON.parse(request.body);
    if (resource === 'refunds') {
      if (request.method === 'GET') {
        const all = books.trades.flatMap((trade) => trade.refunds.map((refund) => ({ trade, refund })));
        const found = all.find(({ trade, refund }) => trade.account === account.name && refund.id === id);
        return found === undefined ? error(404, 'resource_missing') : json(200, presentRefund(found));
      }
      return await once(account.name, request, async () => {
        const trade = books.byId(account.name, content.session);
        if (trade === undefined) return error(404, 'resource_missing');
        if (trade.paidAt === null) return error(400, 'session_unpaid');
        const refund = await books.refund(trade, content.number, content.amount);
        return refund === null ? error(400, 'refund_too_large') : json(200, presentRefund({ trade, refund }));
      });
    }
    if (id === '' && request.method === 'POST') {
      return await once(account.name, request, async () => {
        const { order: no, amount, currency } = content;
        const places = PLACES[currency];
        if (places === undefined) return error(400, 'currency_not_supported');
        const terms = { account: account.name, no, amount, currency, places, notifyUrl: place.callbacksTo };
        return json(200, sessionView(books.create(terms)));
      });
    }
    if (id === '') {
      const from = url.searchParams.get('from') ?? '';
      const all = books.trades.filter((trade) => trade.account === account.name && trade.at >= from);
      const start = all.findIndex((trade) => trade.id === url.searchParams.get('after')) + 1;
      const data = all.slice(start, start + PAGE_SIZE).map(sessionView);
      return json(200, { data, more: all.length > start + PAGE_SIZE });
    }
    const trade = books.byId(account.name, id);
    if (trade === undefined) return error(404, 'resource_missing');
    if (action === 'expire') {
      if (trade.state === 'paid') return error(400, 'session_complete');
      if (trade.state === 'processing') return error(400, 'session_processing');
      if (trade.state === 'closed') return error(400, 'session_expired');
      trade.state = 'closed';
    }
    return json(200, sessionView(trade));
  });
  const baseUrl = await place.proxyTo(server.url);

  const isAcknowledged = ({ status }: { status: number }) => status >= 200 && status < 300;
  const secretOf = (name: string) =>
    [...accounts.values()].find((account) => account.name === name)?.webhookSecret ?? '';
  const sign = (secret: string, body: string | Buffer, at = new Date()) => ({
    'content-type': 'application/json',
    [SIGNATURE]: signature(secret, Buffer.from(body), at),
  });
  const tell = async (account: string, content: object) => {
    const body = JSON.stringify(content);
    // The callback is signed only once. So each delivery attempt within a day sends the same request.
    await notify(place.callbacksTo, { headers: sign(secretOf(account), body), body }, isAcknowledged);
  };
  books.listener = async ({ about, trade }) =>
    await tell(trade.account, {
      id: `evt_${randomUUID()}`,
      type: `session.${about}`,
      data: sessionView(trade),
    });

  const party = (name: string, secretKey = `key_${name}`) => ({
    adapter: wrap({ baseUrl }),
    account: {
      ...{ id: name, merchantId: 'm', channel: 'keyed' },
      credentials: [{ secretKey, webhookSecret: secretOf(name) || 'wh_none' }],
    },
  });
  const { decline: _final, ...channel } = channelOf(books);
  const contract: Contract = {
    ours: party('ours'),
    theirs: party('theirs'),
    wrong: party('wrong', 'key_revoked'),
    channel: {
      ...channel,
      sendUnrelated: () => tell('ours', { id: `evt_${randomUUID()}`, type: 'account.updated', data: {} }),
    },
    protocol: {
      refusal: error,
      listedCodes: {
        createTrade: DEFINITE_REFUSALS,
        queryTrade: ['resource_missing'],
        closeTrade: ['session_expired', 'session_complete', 'session_processing', 'resource_missing'],
        refundTrade: [...DEFINITE_REFUND_REFUSALS, 'key_reused'],
        queryRefund: ['resource_missing'],
      },
      definite: {
        createTrade: DEFINITE_REFUSALS.map((code) => [400, code] as const),
        refundTrade: DEFINITE_REFUND_REFUSALS.map((code) => [400, code] as const),
      },
      terms: ({ method, path, headers, body }) => [method, path, body, headers['idempotency-key']],
      pageSize: PAGE_SIZE,
      callbacks: {
        signed: {
          sign: (rawBody, at) => ({ headers: sign('wh_ours', rawBody, at), rawBody }),
          toleranceMs: 300_000,
        },
        isAcknowledged,
        sendsAgain: true,
      },
    },
    secrets: ['key_ours', 'key_revoked', 'wh_ours'],
    close: () => server.close(),
  };
  return contract;
}

const STATUS = {
  unpaid: 'open',
  processing: 'processing',
  paid: 'complete',
  closed: 'expired',
  declined: 'open',
};
const REFUND_STATUS: Partial<Record<BookRefund['state'], string>> = {
  processing: 'pending',
  succeeded: 'succeeded',
};

function sessionView(trade: BookTrade) {
  const { id, no, amount, currency, state, paidAt, refunds } = trade;
  return {
    ...{ id, order: no, amount, currency, status: STATUS[state] },
    url: state === 'unpaid' ? `https://keyed.example/${id}` : null,
    payment: paidAt === null ? null : { id: `p_${id}`, at: paidAt },
    refunds: refunds.map((refund) => presentRefund({ trade, refund })),
    refunded: isRefunded(trade),
  };
}

function presentRefund({ trade, refund }: { trade: BookTrade; refund: BookRefund }) {
  const { id, no, amount, state } = refund;
  return { id, number: no, amount, status: REFUND_STATUS[state] ?? 'failed', session: trade.id };
}
