import { z } from 'zod';
import {
  CallbackError,
  type ChannelAdapter,
  type ChannelAnswer,
  type ChannelDeclaration,
  ChannelError,
  type RefundAnswer,
} from '../../../src/domain/channel.ts';
import { fromDecimal, toDecimal } from '../../../src/domain/money.ts';
import { serve } from '../contract/http.ts';
import type { Contract, Place } from '../contract/types.ts';
import { type BookRefund, Books, type BookTrade, channelOf, givesBack, sumOf, wholeUnits } from './books.ts';
import { ask, type FakeOptions, json, newest, notify, type Reply } from './http.ts';

/**
 * A fake channel that accepts a callback address with each trade. Its callbacks prove nothing. So each callback is
 * only a notice.
 */

const declaration: ChannelDeclaration = {
  name: 'notices',
  title: { en: 'Notices', zh: '通知' },
  testOnly: true,
  methods: [
    {
      ...{ name: 'page', action: 'redirect', needs: [] },
      currencies: { EUR: { atLeast: 1, atMost: 5_000_000 }, USD: { atLeast: 1, atMost: 5_000_000 } },
      expiry: { atLeastMs: 0, atMostMs: null },
      subject: { atMost: 255, countedIn: 'utf16' },
    },
  ],
  rateLimit: { perSecond: 10, source: 'the fake itself' },
  querySchedule: null,
  repeatableForMs: { create: null, refund: null },
  unknownTradeCanBePaid: false,
  takesCallbackAddress: true,
  settings: [
    {
      ...{ name: 'apiKey', isSecret: true, isRequired: true },
      description: 'The key for requests.',
    },
  ],
};

const amountSchema = z.object({ value: z.string(), currency: z.string() });
const paymentSchema = z.object({
  id: z.string().regex(/^t_[0-9a-f-]+$/),
  reference: z.string(),
  status: z.enum(['open', 'pending', 'paid', 'canceled', 'failed']),
  amount: amountSchema,
  refunded: z.string(),
  paidAt: z.iso.datetime().nullable(),
  checkoutUrl: z.url(),
});
type Payment = z.infer<typeof paymentSchema>;
const refundSchema = z.object({ id: z.string().min(1), reference: z.string(), amount: amountSchema });
const problemSchema = z.object({ field: z.string() });

const garbage = (what: string) =>
  new ChannelError('garbage', `notices answered about ${what} with an unexpected body`);

/**
 * Converts the channel's decimal number to minor units.
 * @throws ChannelError `garbage`
 */
function toMinor({ value, currency }: z.infer<typeof amountSchema>): number {
  try {
    return fromDecimal(value, currency);
  } catch (cause) {
    throw new ChannelError('garbage', 'notices answered with an invalid amount', { cause });
  }
}

export function createNoticesAdapter(options: FakeOptions): ChannelAdapter {
  const call = async (
    { credentials }: Parameters<ChannelAdapter['queryTrade']>[0],
    method: string,
    path: string,
    content?: object,
    signal?: AbortSignal,
  ): Promise<Reply> => {
    const authorization = `Bearer ${newest(credentials).apiKey}`;
    const type = { 'content-type': 'application/json' };
    const body = content === undefined ? {} : { body: JSON.stringify(content) };
    return await ask(options, path, { method, headers: { authorization, ...type }, ...body }, signal);
  };

  const read = ({ status, body }: Reply, outTradeNo: string): Payment => {
    const parsed = paymentSchema.safeParse(body);
    if (status === 200 && parsed.success && parsed.data.reference === outTradeNo) return parsed.data;
    throw garbage(outTradeNo);
  };

  const readRefund = ({ status, body }: Reply, outRefundNo: string): RefundAnswer => {
    const parsed = refundSchema.safeParse(body);
    if (status !== 200 || !parsed.success || parsed.data.reference !== outRefundNo)
      throw garbage(outRefundNo);
    return { state: 'succeeded', channelRefundId: parsed.data.id, amount: toMinor(parsed.data.amount) };
  };

  const isProblem = ({ status, body }: Reply, expected: number, field: string): boolean => {
    const parsed = problemSchema.safeParse(body);
    return status === expected && parsed.success && parsed.data.field === field;
  };

  const findRefund: ChannelAdapter['queryRefund'] = async (account, _trade, { outRefundNo }, signal) => {
    const reply = await call(
      account,
      'GET',
      `/refunds/${encodeURIComponent(outRefundNo)}`,
      undefined,
      signal,
    );
    if (isProblem(reply, 404, 'refund')) return { state: 'unknown_refund' };
    return readRefund(reply, outRefundNo);
  };

  return {
    declaration,

    async createTrade(account, trade, signal) {
      const { outTradeNo: reference, amount, currency, subject, notifyUrl, returnUrl } = trade;
      const content = {
        ...{ reference, description: subject, webhookUrl: notifyUrl, redirectUrl: returnUrl },
        amount: { value: toDecimal(amount, currency), currency },
      };
      const reply = await call(account, 'POST', '/payments', content, signal);
      if (isProblem(reply, 422, 'amount')) throw new ChannelError('rejected', 'notices refuses the amount');
      const { id, checkoutUrl } = read(reply, reference);
      return { action: { type: 'redirect', url: checkoutUrl }, reference: { id } };
    },

    async queryTrade(account, { outTradeNo }, signal) {
      const reply = await call(
        account,
        'GET',
        `/payments/${encodeURIComponent(outTradeNo)}`,
        undefined,
        signal,
      );
      if (isProblem(reply, 404, 'payment')) return { state: 'unknown_trade' };
      return toAnswer(read(reply, outTradeNo));
    },

    async closeTrade(account, { outTradeNo }, signal) {
      const path = `/payments/${encodeURIComponent(outTradeNo)}`;
      const reply = await call(account, 'DELETE', path, undefined, signal);
      if (isProblem(reply, 404, 'payment')) return { state: 'unknown_trade' };
      switch (read(reply, outTradeNo).status) {
        case 'canceled':
          return { state: 'closed' };
        case 'paid':
          return { state: 'already_paid' };
        case 'pending':
          return { state: 'processing' };
        default:
          throw garbage(outTradeNo);
      }
    },

    async refundTrade(account, trade, refund, signal) {
      const { outRefundNo: reference, amount, currency } = refund;
      const path = `/payments/${encodeURIComponent(trade.outTradeNo)}/refunds`;
      const content = { reference, amount: { value: toDecimal(amount, currency), currency } };
      const reply = await call(account, 'POST', path, content, signal);
      if (isProblem(reply, 409, 'reference')) return await findRefund(account, trade, refund, signal);
      if (isProblem(reply, 422, 'amount')) throw new ChannelError('rejected', 'notices refuses the amount');
      return readRefund(reply, reference);
    },

    queryRefund: findRefund,

    async verifyCallback(_account, { rawBody }) {
      const id = new URLSearchParams(rawBody.toString('utf8')).get('id') ?? '';
      if (!/^t_[0-9a-f-]{36}$/.test(id)) throw new CallbackError('malformed', 'the body names no payment');
      return { kind: 'notice', notificationId: id, about: { reference: id } };
    },

    peekOutTradeNo: () => undefined,

    async checkAccount(account, signal) {
      const { status } = await call(account, 'GET', '/methods', undefined, signal);
      if (status !== 200)
        throw new ChannelError('garbage', `notices answered ${status} to a harmless request`);
    },
  };
}

function toAnswer({ id, status, amount, refunded, paidAt }: Payment): ChannelAnswer {
  switch (status) {
    case 'open':
      return { state: 'unpaid' };
    case 'pending':
      return { state: 'processing' };
    case 'canceled':
      return { state: 'closed' };
    case 'failed':
      return { state: 'failed', reason: 'the payment method has refused the payment' };
    case 'paid': {
      if (paidAt === null) throw garbage(id);
      const total = toMinor(amount);
      const back = Number(refunded) === 0 ? 0 : toMinor({ value: refunded, currency: amount.currency });
      return {
        ...{ state: back === total ? 'refunded' : 'paid', channelPaymentId: id, amount: total },
        ...{ currency: amount.currency, paidAt, refundedAmount: back },
      };
    }
  }
}

/** Starts the fake channel. */
export async function startNotices(
  place: Place,
  wrap: (options: FakeOptions) => ChannelAdapter = createNoticesAdapter,
): Promise<Contract> {
  const books = new Books();
  const problem = (status: number, field: string) => json(status, { field });
  const names: Readonly<Record<string, string>> = {
    'Bearer live_ours': 'ours',
    'Bearer live_theirs': 'theirs',
  };

  const server = await serve(async ({ method, path, headers, body }) => {
    const account = names[headers.authorization ?? ''];
    if (account === undefined) return problem(401, 'authorization');
    const content = body === '' ? {} : JSON.parse(body);
    const [, resource, no = '', refunds] = path.split('/');
    if (resource === 'methods') return json(200, { methods: ['page'] });
    if (resource === 'refunds') {
      const all = books.trades.flatMap((trade) => trade.refunds.map((refund) => ({ trade, refund })));
      const found = all.find(({ refund }) => refund.no === no);
      return found === undefined ? problem(404, 'refund') : json(200, presentRefund(found));
    }
    if (no === '') {
      const known = books.byNo(account, content.reference);
      if (known !== undefined) return json(200, view(known));
      const { reference, amount, webhookUrl: notifyUrl } = content;
      const terms = { account, no: reference, currency: amount.currency, places: 2, notifyUrl };
      return json(200, view(books.create({ ...terms, amount: Math.round(Number(amount.value) * 100) })));
    }
    const trade = books.byNo(account, no);
    if (trade === undefined) return problem(404, 'payment');
    if (refunds === 'refunds') {
      const known = trade.refunds.find((refund) => refund.no === content.reference);
      const value = Math.round(Number(content.amount.value) * 100);
      if (known !== undefined)
        return known.amount === value
          ? json(200, presentRefund({ trade, refund: known }))
          : problem(409, 'reference');
      const refund = await books.refund(trade, content.reference, value);
      return refund === null ? problem(422, 'amount') : json(200, presentRefund({ trade, refund }));
    }
    if (method === 'DELETE' && trade.state === 'unpaid') trade.state = 'closed';
    return json(200, view(trade));
  });
  const baseUrl = await place.proxyTo(server.url);

  const isAcknowledged = ({ status }: { status: number }) => status === 200;
  books.listener = async ({ trade }) => {
    const headers = { 'content-type': 'application/x-www-form-urlencoded' };
    await notify(trade.notifyUrl, { headers, body: `id=${trade.id}` }, isAcknowledged);
  };
  const party = (name: string) => ({
    adapter: wrap({ baseUrl }),
    account: { id: name, merchantId: 'm', channel: 'notices', credentials: [{ apiKey: `live_${name}` }] },
  });
  return {
    ...{ ours: party('ours'), theirs: party('theirs'), wrong: party('revoked'), secrets: ['live_ours'] },
    channel: channelOf(books),
    protocol: {
      refusal: problem,
      listedCodes: {
        ...{ createTrade: ['amount'], queryTrade: ['payment'], closeTrade: ['payment'] },
        ...{ refundTrade: ['amount', 'reference'], queryRefund: ['refund'] },
      },
      definite: { createTrade: [[422, 'amount']], refundTrade: [[422, 'amount']] },
      callbacks: { isAcknowledged, sendsAgain: true },
    },
    close: () => server.close(),
  };
}

const STATUS = {
  unpaid: 'open',
  processing: 'pending',
  paid: 'paid',
  closed: 'canceled',
  declined: 'failed',
};

function view({ id, no, amount, currency, state, paidAt, refunds }: BookTrade) {
  return {
    ...{ id, reference: no, status: STATUS[state], paidAt, checkoutUrl: `https://notices.example/${id}` },
    amount: { value: wholeUnits(amount, 2), currency },
    refunded: wholeUnits(sumOf(refunds.filter(givesBack)), 2),
  };
}

function presentRefund({ trade, refund }: { trade: BookTrade; refund: BookRefund }) {
  const amount = { value: wholeUnits(refund.amount, 2), currency: trade.currency };
  return { id: refund.id, reference: refund.no, amount };
}
