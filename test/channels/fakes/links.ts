import { createHmac, randomUUID } from 'node:crypto';
import { z } from 'zod';
import {
  CallbackError,
  type ChannelAdapter,
  type ChannelAnswer,
  type ChannelDeclaration,
  ChannelError,
  type RefundAnswer,
  type Trade,
} from '../../../src/domain/channel.ts';
import { fromDecimal, toDecimal } from '../../../src/domain/money.ts';
import { type Answer, type Sent, serve } from '../contract/http.ts';
import type { Contract, Place } from '../contract/types.ts';
import { Books, type BookTrade, channelOf, isRefunded, sumOf, wholeUnits } from './books.ts';
import { ask, type FakeOptions, inCallback, json, newest, notify } from './http.ts';

/**
 * A fake channel that creates a trade when the payer opens a signed link. So a payer can still pay a trade that the
 * channel does not know yet. Amounts are decimal numbers, and requests and answers are signed forms. Only the body
 * `success` acknowledges a callback.
 */

const declaration: ChannelDeclaration = {
  name: 'links',
  title: { en: 'Links', zh: '链接' },
  testOnly: true,
  methods: [
    {
      ...{ name: 'page', action: 'redirect', needs: [] },
      currencies: { CNY: { atLeast: 1, atMost: 10_000_000_000 } },
      expiry: { atLeastMs: 60_000, atMostMs: 15 * 86_400_000 },
      subject: { atMost: 128, countedIn: 'bytes' },
    },
  ],
  rateLimit: { perSecond: 20, source: 'the fake itself' },
  querySchedule: { waitsMs: [5_000, 30_000, 60_000], source: 'the fake itself' },
  repeatableForMs: { create: null, refund: null },
  unknownTradeCanBePaid: true,
  // The link contains the callback address, so the payer can read this address.
  takesCallbackAddress: false,
  settings: [
    { ...{ name: 'appId', isSecret: false, isRequired: true }, description: 'The number of the app.' },
    {
      ...{ name: 'privateKey', isSecret: true, isRequired: true },
      description: 'The key that signs requests and callbacks.',
      pattern: [/^pk_[a-z]+$/, 'must start with pk_'],
    },
  ],
};

type Params = Readonly<Record<string, string>>;

/** Signs the parameters in the order of their names. The signature itself is not signed. */
function signed(params: Params, key: string): string {
  const { sign: _sign, ...rest } = params;
  const text = JSON.stringify(Object.entries(rest).sort(([one], [other]) => (one < other ? -1 : 1)));
  return createHmac('sha256', key).update(text).digest('hex');
}
const withSign = (params: Params, key: string): Params => ({ ...params, sign: signed(params, key) });

const answerSchema = z.object({ code: z.string(), sub_code: z.string().optional(), sign: z.string() });
const tradeSchema = z.object({
  out_trade_no: z.string(),
  trade_no: z.string().min(1),
  trade_status: z.enum([
    'WAIT_BUYER_PAY',
    'TRADE_PROCESSING',
    'TRADE_SUCCESS',
    'TRADE_CLOSED',
    'TRADE_FAILED',
  ]),
  total_amount: z.string(),
  refunded_amount: z.string(),
  paid_at: z.iso.datetime().or(z.literal('')),
});
const refundSchema = z.object({
  ...{ out_trade_no: z.string(), out_request_no: z.string(), refund_no: z.string().min(1) },
  refund_amount: z.string(),
});

const DEFINITE_REFUND_REFUSALS = ['TRADE_NOT_PAID', 'REFUND_AMT_NOT_EQUAL_TOTAL'];

const minor = (decimal: string): number => {
  try {
    return Number(decimal) === 0 ? 0 : fromDecimal(decimal, 'CNY');
  } catch (cause) {
    throw new ChannelError('garbage', 'links answered with an invalid amount', { cause });
  }
};

export function createLinksAdapter(options: FakeOptions): ChannelAdapter {
  /**
   * @returns the content of the answer, or the code of a refusal
   * @throws ChannelError `garbage` for an answer that is not signed
   */
  const call = async (
    { credentials }: Parameters<ChannelAdapter['queryTrade']>[0],
    method: string,
    content: Params,
    signal?: AbortSignal,
  ): Promise<{ readonly code: string; readonly content?: unknown }> => {
    const { appId = '', privateKey = '' } = newest(credentials);
    const params = {
      app_id: appId,
      method,
      timestamp: new Date().toISOString(),
      nonce: randomUUID(),
      ...content,
    };
    const { status, body } = await ask(
      options,
      '/gateway',
      { method: 'POST', body: new URLSearchParams(withSign(params, privateKey)) },
      signal,
    );
    const parsed = answerSchema.safeParse(body);
    const garbage = () => new ChannelError('garbage', `links answered ${method} with an unexpected body`);
    if (status !== 200 || !parsed.success) throw garbage();
    // The gateway cannot sign an answer to an app that the gateway does not know.
    if (parsed.data.code === '40002')
      throw new ChannelError('misconfigured', 'links does not accept the app or its key');
    if (parsed.data.sign !== signed(body as Params, privateKey)) throw garbage();
    const { code, sub_code = '' } = parsed.data;
    if (code === '40005') throw new ChannelError('rate_limited', 'links limits the calls of the app');
    if (code === '10000') return { code, content: body };
    return { code: sub_code };
  };

  const readTrade = (content: unknown, { outTradeNo }: Trade): ChannelAnswer => {
    const parsed = tradeSchema.safeParse(content);
    if (parsed.success && parsed.data.out_trade_no === outTradeNo) return toAnswer(parsed.data);
    throw new ChannelError('garbage', `links answered about ${outTradeNo} with an unexpected body`);
  };

  const readRefund = (content: unknown, { outTradeNo }: Trade, outRefundNo: string): RefundAnswer => {
    const parsed = refundSchema.safeParse(content);
    if (
      parsed.success &&
      parsed.data.out_trade_no === outTradeNo &&
      parsed.data.out_request_no === outRefundNo
    ) {
      const { refund_no: channelRefundId, refund_amount } = parsed.data;
      return { state: 'succeeded', channelRefundId, amount: minor(refund_amount) };
    }
    throw new ChannelError('garbage', `links answered about ${outRefundNo} with an unexpected body`);
  };

  const findRefund: ChannelAdapter['queryRefund'] = async (account, trade, { outRefundNo }, signal) => {
    const params = { out_trade_no: trade.outTradeNo, out_request_no: outRefundNo };
    const { code, content } = await call(account, 'refund.query', params, signal);
    if (content !== undefined) return readRefund(content, trade, outRefundNo);
    if (code === 'REFUND_NOT_EXIST') return { state: 'unknown_refund' };
    throw new ChannelError('unreachable', `links: ${code}`);
  };

  return {
    declaration,

    async createTrade({ credentials }, trade) {
      const { outTradeNo, amount, currency, subject, notifyUrl, returnUrl, createdAt, expiresAt } = trade;
      const { appId = '', privateKey = '' } = newest(credentials);
      const params = {
        ...{ app_id: appId, method: 'page.pay', timestamp: createdAt, notify_url: notifyUrl },
        ...{ return_url: returnUrl, out_trade_no: outTradeNo, total_amount: toDecimal(amount, currency) },
        // The channel's own lists use these characters as separators.
        subject: subject.replace(/[/=&]/g, ' '),
        time_expire: new Date(Math.max(Date.parse(createdAt) + 60_000, Date.parse(expiresAt))).toISOString(),
      };
      const url = `${options.baseUrl}/pay?${new URLSearchParams(withSign(params, privateKey))}`;
      return { action: { type: 'redirect', url } };
    },

    async queryTrade(account, trade, signal) {
      const { outTradeNo } = trade;
      const { code, content } = await call(account, 'query', { out_trade_no: outTradeNo }, signal);
      if (content !== undefined) return readTrade(content, trade);
      if (code === 'TRADE_NOT_EXIST') return { state: 'unknown_trade' };
      throw new ChannelError('unreachable', `links: ${code}`);
    },

    async closeTrade(account, trade, signal) {
      const { outTradeNo } = trade;
      const { code, content } = await call(account, 'close', { out_trade_no: outTradeNo }, signal);
      if (content !== undefined) {
        const { state } = readTrade(content, trade);
        if (state === 'closed') return { state };
      }
      switch (code) {
        case 'TRADE_NOT_EXIST':
          return { state: 'unknown_trade' };
        case 'TRADE_HAS_SUCCESS':
          return { state: 'already_paid' };
        case 'TRADE_IN_PROCESS':
          return { state: 'processing' };
        default:
          throw new ChannelError('unreachable', `links: ${code}`);
      }
    },

    async refundTrade(account, trade, refund, signal) {
      const { outRefundNo, amount, currency } = refund;
      const params = { out_trade_no: trade.outTradeNo, out_request_no: outRefundNo };
      const asked = { ...params, refund_amount: toDecimal(amount, currency) };
      const { code, content } = await call(account, 'refund', asked, signal);
      if (content !== undefined) return readRefund(content, trade, outRefundNo);
      if (code === 'REQUEST_NO_USED') return await findRefund(account, trade, refund, signal);
      const isDefinite = DEFINITE_REFUND_REFUSALS.includes(code);
      throw new ChannelError(isDefinite ? 'rejected' : 'unreachable', `links: ${code}`);
    },

    queryRefund: findRefund,

    async verifyCallback({ credentials }, { rawBody }) {
      const entries = [...new URLSearchParams(rawBody.toString('utf8'))];
      const params = Object.fromEntries(entries);
      const isOurs = credentials.some(
        ({ appId, privateKey = '' }) => params.app_id === appId && params.sign === signed(params, privateKey),
      );
      // If a parameter's name occurs twice, only one of its values is signed.
      if (!isOurs || entries.length !== Object.keys(params).length)
        throw new CallbackError('unverified', 'the signature or the app is wrong');
      const parsed = tradeSchema.extend({ notify_id: z.string().min(1) }).safeParse(params);
      if (!parsed.success) throw new CallbackError('malformed', z.prettifyError(parsed.error));
      const { notify_id: notificationId, out_trade_no: outTradeNo } = parsed.data;
      const answer = inCallback(() => toAnswer(parsed.data));
      return { kind: 'trade', notificationId, about: { outTradeNo }, answer };
    },

    acknowledge: (outcome) => ({
      ...{ status: 200, type: 'text/plain' },
      body: outcome === 'refused' ? 'fail' : 'success',
    }),

    peekOutTradeNo(rawBody) {
      const no = new URLSearchParams(rawBody.toString('utf8')).get('out_trade_no') ?? '';
      return /^[0-9A-Za-z_]{1,32}$/.test(no) ? no : undefined;
    },

    async checkAccount(account, signal) {
      await call(account, 'query', { out_trade_no: 'check' }, signal);
    },
  };
}

function toAnswer(trade: z.infer<typeof tradeSchema>): ChannelAnswer {
  switch (trade.trade_status) {
    case 'WAIT_BUYER_PAY':
      return { state: 'unpaid' };
    case 'TRADE_PROCESSING':
      return { state: 'processing' };
    case 'TRADE_FAILED':
      return { state: 'failed', reason: 'the payer may not pay' };
    case 'TRADE_SUCCESS':
    case 'TRADE_CLOSED': {
      // The channel also reports a trade as closed if the trade was paid and then refunded in full.
      if (trade.paid_at === '') {
        if (trade.trade_status === 'TRADE_CLOSED') return { state: 'closed' };
        throw new ChannelError('garbage', 'links reports paid without a time');
      }
      const [amount, refundedAmount] = [minor(trade.total_amount), minor(trade.refunded_amount)];
      const paid = { channelPaymentId: trade.trade_no, amount, currency: 'CNY', paidAt: trade.paid_at };
      return { state: amount === refundedAmount ? 'refunded' : 'paid', ...paid, refundedAmount };
    }
  }
}

/** Starts the fake channel. */
export async function startLinks(
  place: Place,
  wrap: (options: FakeOptions) => ChannelAdapter = createLinksAdapter,
): Promise<Contract> {
  const books = new Books();
  const keys: Readonly<Record<string, string>> = { 'app-ours': 'pk_ours', 'app-theirs': 'pk_theirs' };
  const refused = (code: string): Params => ({ code: '40004', sub_code: code });

  const answer = async ({ method, ...params }: Params): Promise<Params> => {
    const { app_id: account = '', out_trade_no: no = '', out_request_no: requestNo = '' } = params;
    const trade = books.byNo(account, no);
    if (trade === undefined) return refused('TRADE_NOT_EXIST');
    const known = trade.refunds.find((refund) => refund.no === requestNo);
    const told = (id: string, amount: number) => ({
      ...{ code: '10000', out_trade_no: no, out_request_no: requestNo, refund_no: id },
      refund_amount: wholeUnits(amount, 2),
    });
    switch (method) {
      case 'query':
        return { code: '10000', ...view(trade) };
      case 'close':
        if (trade.state === 'paid') return refused('TRADE_HAS_SUCCESS');
        if (trade.state === 'processing') return refused('TRADE_IN_PROCESS');
        trade.state = 'closed';
        return { code: '10000', ...view(trade) };
      case 'refund.query':
        return known === undefined ? refused('REFUND_NOT_EXIST') : told(known.id, known.amount);
      case 'refund': {
        const amount = Math.round(Number(params.refund_amount) * 100);
        if (known !== undefined)
          return known.amount === amount ? told(known.id, amount) : refused('REQUEST_NO_USED');
        const refund = await books.refund(trade, requestNo, amount);
        return refund === null ? refused('REFUND_AMT_NOT_EQUAL_TOTAL') : told(refund.id, amount);
      }
      default:
        return refused('UNKNOWN_METHOD');
    }
  };
  /** When the payer opens the link for the first time, the trade is created. */
  const open = (params: Params): Answer => {
    const {
      app_id: account = '',
      out_trade_no: no = '',
      total_amount = '',
      notify_url: notifyUrl = '',
    } = params;
    if (/[/=&]/.test(params.subject ?? '/')) return json(400, refused('INVALID_SUBJECT'));
    if (books.byNo(account, no) === undefined) {
      const amount = Math.round(Number(total_amount) * 100);
      books.create({ account, no, amount, currency: 'CNY', places: 2, notifyUrl });
    }
    return { status: 200, body: '<html>Pay</html>' };
  };

  const server = await serve(async ({ path, body }) => {
    const url = new URL(path, 'http://links');
    const params: Params = Object.fromEntries(new URLSearchParams(url.search === '' ? body : url.search));
    const key = keys[params.app_id ?? ''];
    if (key === undefined || params.sign !== signed(params, key))
      return json(200, { code: '40002', sub_code: 'invalid-signature', sign: '' });
    return url.pathname === '/pay' ? open(params) : json(200, withSign(await answer(params), key));
  });
  const baseUrl = await place.proxyTo(server.url);

  const isAcknowledged = ({ body }: { body: string }) => body === 'success';
  books.listener = async ({ trade }) => {
    const content = { app_id: trade.account, notify_id: randomUUID(), ...view(trade) };
    const headers = { 'content-type': 'application/x-www-form-urlencoded' };
    const params = withSign(content, keys[trade.account] ?? '');
    await notify(trade.notifyUrl, { headers, body: new URLSearchParams(params).toString() }, isAcknowledged);
  };

  /** The links that payers have received. */
  const links = new Map<string, string>();
  const party = (name: string, privateKey = `pk_${name}`) => {
    const adapter = wrap({ baseUrl });
    const createTrade: ChannelAdapter['createTrade'] = async (account, trade, signal) => {
      const created = await adapter.createTrade(account, trade, signal);
      if (created !== 'not_renewable') links.set(trade.outTradeNo, created.action.url ?? '');
      return created;
    };
    const account = { id: name, merchantId: 'm', channel: 'links' };
    return {
      adapter: { ...adapter, createTrade },
      account: { ...account, credentials: [{ appId: `app-${name}`, privateKey }] },
    };
  };
  const payer = channelOf(books);
  const openLink = async ({ outTradeNo }: Trade): Promise<void> => {
    const response = await fetch(links.get(outTradeNo) ?? '');
    if (response.status !== 200) throw new Error(`the link was refused: ${await response.text()}`);
    await response.text();
  };
  return {
    ...{
      ours: party('ours'),
      theirs: party('theirs'),
      wrong: party('ours', 'pk_wrong'),
      secrets: ['pk_ours'],
    },
    channel: {
      ...payer,
      open: openLink,
      async pay(trade) {
        await openLink(trade);
        return await payer.pay(trade);
      },
      async decline(trade) {
        await openLink(trade);
        await payer.decline?.(trade);
      },
      async startProcessing(trade) {
        await openLink(trade);
        await payer.startProcessing?.(trade);
      },
    },
    protocol: {
      refusal: (_status, code) => json(200, withSign(refused(code), 'pk_ours')),
      listedCodes: {
        queryTrade: ['TRADE_NOT_EXIST'],
        closeTrade: ['TRADE_NOT_EXIST', 'TRADE_HAS_SUCCESS', 'TRADE_IN_PROCESS'],
        refundTrade: [...DEFINITE_REFUND_REFUSALS, 'REQUEST_NO_USED', 'REFUND_NOT_EXIST'],
        queryRefund: ['REFUND_NOT_EXIST'],
      },
      definite: { refundTrade: DEFINITE_REFUND_REFUSALS.map((code) => [200, code] as const) },
      rateLimit: () => json(200, withSign({ code: '40005' }, 'pk_ours')),
      tellsDelay: false,
      dress(given) {
        try {
          const content = JSON.parse(given.body);
          if (typeof content !== 'object' || content === null || Array.isArray(content)) return given;
          return { ...given, body: JSON.stringify(withSign(content, 'pk_ours')) };
        } catch {
          return given;
        }
      },
      terms({ path, body }: Sent) {
        const params = Object.fromEntries(
          new URLSearchParams(path.includes('?') ? path.split('?')[1] : body),
        );
        const { timestamp: _timestamp, nonce: _nonce, sign: _sign, ...terms } = params;
        return terms;
      },
      createsWithoutRequest: true,
      callbacks: {
        signed: {
          toleranceMs: null,
          sign(rawBody) {
            const params = Object.fromEntries(new URLSearchParams(rawBody.toString('utf8')));
            const body = new URLSearchParams(withSign({ ...params, app_id: 'app-ours' }, 'pk_ours'));
            return { headers: {}, rawBody: Buffer.from(body.toString()) };
          },
        },
        isAcknowledged,
        sendsAgain: true,
      },
    },
    close: () => server.close(),
  };
}

function view(trade: BookTrade): Params {
  const { id, no, amount, state, paidAt, refunds } = trade;
  const status = {
    ...{ unpaid: 'WAIT_BUYER_PAY', processing: 'TRADE_PROCESSING', closed: 'TRADE_CLOSED' },
    ...{ paid: isRefunded(trade) ? 'TRADE_CLOSED' : 'TRADE_SUCCESS', declined: 'TRADE_FAILED' },
  }[state];
  return {
    ...{ out_trade_no: no, trade_no: id, trade_status: status, total_amount: wholeUnits(amount, 2) },
    ...{ refunded_amount: wholeUnits(sumOf(refunds), 2), paid_at: paidAt ?? '' },
  };
}
