import { randomUUID, webcrypto } from 'node:crypto';
import { z } from 'zod';
import {
  CallbackError,
  type ChannelAdapter,
  type ChannelAnswer,
  type ChannelDeclaration,
  ChannelError,
  type ChannelRefund,
  type RefundAnswer,
} from '../../../src/domain/channel.ts';
import { exponentOf } from '../../../src/domain/money.ts';
import { serve } from '../contract/http.ts';
import type { Contract, Place } from '../contract/types.ts';
import { type BookRefund, Books, type BookTrade, channelOf } from './books.ts';
import { ask, type FakeOptions, inCallback, json, newest, notify, parseJson, type Reply } from './http.ts';

/**
 * A fake channel of bank debits. Every operation takes time. A trade lists its refunds, and a refund can be reversed
 * after it succeeded. Payers can dispute. Amounts have the channel's own decimal places.
 */

const SIGNATURE = 'bank-signature';
const SENT_AT = 'bank-sent-at';
const TOLERANCE_MS = 600_000;
/** The decimal places of each currency at this channel. For ISK and KWD they differ from those of ISO 4217. */
const PLACES: Readonly<Record<string, number>> = { EUR: 2, JPY: 0, ISK: 2, KWD: 2 };

const declaration: ChannelDeclaration = {
  name: 'bank',
  title: { en: 'Bank debit', zh: '银行扣款' },
  testOnly: true,
  methods: [
    {
      ...{ name: 'debit', action: 'qr', needs: [] },
      currencies: {
        ...{ EUR: { atLeast: 100, atMost: 10_000_000_00 }, JPY: { atLeast: 100, atMost: 9_999_999 } },
        ...{ ISK: { atLeast: 10, atMost: 100_000_000 }, KWD: { atMost: 100_000_000, multipleOf: 10 } },
      },
      expiry: { atLeastMs: 0, atMostMs: 30 * 86_400_000 },
      subject: { atMost: 140, countedIn: 'characters' },
    },
  ],
  rateLimit: { perSecond: 5, source: 'the fake itself' },
  querySchedule: null,
  repeatableForMs: { create: null, refund: null },
  unknownTradeCanBePaid: false,
  takesCallbackAddress: false,
  settings: [
    { ...{ name: 'token', isSecret: true, isRequired: true }, description: 'The token of requests.' },
    {
      ...{ name: 'hookKey', isSecret: true, isRequired: true },
      description: 'The key that signs callbacks.',
    },
  ],
};

/**
 * Converts minor units of ISO 4217 to the channel's units. The result is exact for amounts within the declared limits.
 */
const toUnits = (amount: number, currency: string): number =>
  Math.round(amount * 10 ** ((PLACES[currency] ?? 2) - exponentOf(currency)));
/** @throws ChannelError `garbage` for an unknown currency or a fraction of a minor unit */
function toMinor(units: number, currency: string): number {
  const places = PLACES[currency];
  const amount = places === undefined ? Number.NaN : (units * 10 ** exponentOf(currency)) / 10 ** places;
  if (Number.isSafeInteger(amount)) return amount;
  throw new ChannelError('garbage', 'bank answered with an invalid amount');
}

const listedSchema = z.object({
  id: z.string().min(1),
  number: z.string().nullable(),
  units: z.int().positive(),
  state: z.enum(['pending', 'done', 'refused', 'returned']),
});
const debitSchema = z.object({
  ...{ number: z.string(), id: z.string().min(1), units: z.int().positive(), currency: z.string() },
  state: z.enum(['waiting', 'in_process', 'done', 'closed', 'refused']),
  done_at: z.iso.datetime().nullable(),
  refunds: z.array(listedSchema),
  disputes: z.array(z.object({ id: z.string().min(1), state: z.enum(['open', 'won', 'lost']) })),
  qr: z.string().min(1),
});
type Debit = z.infer<typeof debitSchema>;
const refusalSchema = z.object({ reason: z.string() });
const callbackSchema = z.object({
  ...{ id: z.string().min(1), about: z.enum(['trade', 'refund', 'dispute']), refund: z.string().optional() },
  dispute: z.string().optional(),
  debit: debitSchema,
});

const DEFINITE_REFUSALS = ['bad_request'];
const DEFINITE_REFUND_REFUSALS = ['bad_request', 'not_enough'];
const REASON = "the payer's bank has refused it";

export function createBankAdapter(options: FakeOptions): ChannelAdapter {
  const call = async (
    { credentials }: Parameters<ChannelAdapter['queryTrade']>[0],
    [method, path]: readonly [string, string],
    content?: object,
    signal?: AbortSignal,
  ): Promise<Reply> => {
    const headers = {
      authorization: `Bearer ${newest(credentials).token}`,
      'content-type': 'application/json',
    };
    const body = content === undefined ? {} : { body: JSON.stringify(content) };
    return await ask(options, path, { method, headers, ...body }, signal);
  };
  const garbage = (no: string) =>
    new ChannelError('garbage', `bank answered about ${no} with an unexpected body`);
  const reasonOf = ({ status, body }: Reply, no: string): string => {
    const parsed = refusalSchema.safeParse(body);
    if (status < 400 || !parsed.success) throw garbage(no);
    return parsed.data.reason;
  };
  const read = ({ body }: Reply, outTradeNo: string): Debit => {
    const parsed = debitSchema.safeParse(body);
    if (parsed.success && parsed.data.number === outTradeNo) return parsed.data;
    throw garbage(outTradeNo);
  };
  const pathOf = (outTradeNo: string) => `/debits/${encodeURIComponent(outTradeNo)}`;
  const findRefund: ChannelAdapter['queryRefund'] = async (account, trade, { outRefundNo }, signal) => {
    const { outTradeNo } = trade;
    const reply = await call(account, ['GET', pathOf(outTradeNo)], undefined, signal);
    if (reply.status !== 200) throw new ChannelError('unreachable', `bank: ${reasonOf(reply, outTradeNo)}`);
    const { refunds, currency } = read(reply, outTradeNo);
    const found = refunds.find(({ number }) => number === outRefundNo);
    return found === undefined ? { state: 'unknown_refund' } : toRefundAnswer(found, currency);
  };

  return {
    declaration,

    async createTrade(account, trade, signal) {
      const { outTradeNo, amount, currency, subject } = trade;
      const content = { number: outTradeNo, units: toUnits(amount, currency), currency, text: subject };
      const reply = await call(account, ['POST', '/debits'], content, signal);
      if (reply.status === 200) {
        const { qr, id } = read(reply, outTradeNo);
        return { action: { type: 'qr', qr }, reference: { id } };
      }
      const reason = reasonOf(reply, outTradeNo);
      throw new ChannelError(
        DEFINITE_REFUSALS.includes(reason) ? 'rejected' : 'unreachable',
        `bank: ${reason}`,
      );
    },

    async queryTrade(account, { outTradeNo }, signal) {
      const reply = await call(account, ['GET', pathOf(outTradeNo)], undefined, signal);
      if (reply.status === 200) return toAnswer(read(reply, outTradeNo));
      const reason = reasonOf(reply, outTradeNo);
      if (reason === 'no_debit') return { state: 'unknown_trade' };
      throw new ChannelError('unreachable', `bank: ${reason}`);
    },

    async closeTrade(account, { outTradeNo }, signal) {
      const reply = await call(account, ['DELETE', pathOf(outTradeNo)], undefined, signal);
      if (reply.status === 200) {
        const { state } = read(reply, outTradeNo);
        if (state === 'closed') return { state };
        if (state === 'done') return { state: 'already_paid' };
        if (state === 'in_process') return { state: 'processing' };
        throw garbage(outTradeNo);
      }
      const reason = reasonOf(reply, outTradeNo);
      if (reason === 'no_debit') return { state: 'unknown_trade' };
      throw new ChannelError('unreachable', `bank: ${reason}`);
    },

    async refundTrade(account, trade, refund, signal) {
      const { outRefundNo, amount, currency } = refund;
      const content = { number: outRefundNo, units: toUnits(amount, currency) };
      const reply = await call(account, ['POST', `${pathOf(trade.outTradeNo)}/refunds`], content, signal);
      if (reply.status === 200) {
        const listed = listedSchema.safeParse(reply.body);
        if (!listed.success || listed.data.number !== outRefundNo) throw garbage(outRefundNo);
        return toRefundAnswer(listed.data, currency);
      }
      const reason = reasonOf(reply, outRefundNo);
      if (reason === 'number_used') return await findRefund(account, trade, refund, signal);
      const isDefinite = DEFINITE_REFUND_REFUSALS.includes(reason);
      throw new ChannelError(isDefinite ? 'rejected' : 'unreachable', `bank: ${reason}`);
    },

    queryRefund: findRefund,

    async verifyCallback({ credentials }, { headers, rawBody }) {
      const [sentAt, given] = [headers[SENT_AT], headers[SIGNATURE]];
      if (typeof sentAt !== 'string' || typeof given !== 'string')
        throw new CallbackError('unverified', 'the callback is not signed');
      const payload = Buffer.concat([Buffer.from(`${sentAt}.`), rawBody]);
      const keys = credentials.flatMap(({ hookKey }) => hookKey ?? []);
      const proofs = await Promise.all(keys.map((key) => verify(key, Buffer.from(given, 'hex'), payload)));
      if (!proofs.includes(true)) throw new CallbackError('unverified', 'the signature is wrong');
      if (!(Math.abs(Date.now() - Date.parse(sentAt)) <= TOLERANCE_MS))
        throw new CallbackError('unverified', 'the callback is too old, or from the future');
      const parsed = callbackSchema.safeParse(parseJson(rawBody.toString('utf8')));
      if (!parsed.success) throw new CallbackError('malformed', z.prettifyError(parsed.error));
      const { id: notificationId, about: kind, debit, refund: refundId, dispute: disputeId } = parsed.data;
      const about = { outTradeNo: debit.number, reference: debit.id };
      const listed = debit.refunds.find(({ id }) => id === refundId);
      const answer = inCallback(() => toAnswer(debit));
      if (kind === 'refund' && listed !== undefined) {
        const { number, id: channelRefundId } = listed;
        const numbers = { channelRefundId, ...(number === null ? {} : { outRefundNo: number }) };
        const told = { ...numbers, answer: inCallback(() => toRefundAnswer(listed, debit.currency)) };
        return { kind, notificationId, about, refund: told };
      }
      const disputes = 'disputes' in answer ? (answer.disputes ?? []) : [];
      const dispute = disputes.find(({ id }) => id === disputeId);
      if (kind === 'dispute' && dispute !== undefined) return { kind, notificationId, about, dispute };
      return { kind: 'trade', notificationId, about, answer };
    },

    peekOutTradeNo(rawBody) {
      const named = z
        .object({ debit: z.object({ number: z.string().regex(/^[0-9A-Za-z_]{1,32}$/) }) })
        .safeParse(parseJson(rawBody.toString('utf8')));
      return named.success ? named.data.debit.number : undefined;
    },

    async checkAccount(account, signal) {
      const { status } = await call(account, ['GET', '/debits'], undefined, signal);
      if (status !== 200) throw new ChannelError('garbage', `bank answered ${status} to a harmless request`);
    },
  };
}

const HMAC = { name: 'HMAC', hash: 'SHA-256' };
const importKey = async (key: string) =>
  await webcrypto.subtle.importKey('raw', Buffer.from(key), HMAC, false, ['sign', 'verify']);
const verify = async (key: string, proof: Buffer<ArrayBuffer>, payload: Buffer<ArrayBuffer>) =>
  await webcrypto.subtle.verify('HMAC', await importKey(key), proof, payload);

const REFUND_STATE = {
  pending: 'processing',
  done: 'succeeded',
  refused: 'failed',
  returned: 'reversed',
} as const;

function toRefundAnswer({ id, units, state }: z.infer<typeof listedSchema>, currency: string): RefundAnswer {
  const channelRefundId = id;
  switch (REFUND_STATE[state]) {
    case 'processing':
      return { state: 'processing', channelRefundId };
    case 'succeeded':
      return { state: 'succeeded', channelRefundId, amount: toMinor(units, currency) };
    case 'failed':
      return { state: 'failed', channelRefundId, reason: REASON };
    case 'reversed':
      return { state: 'reversed', channelRefundId, reason: REASON };
  }
}

function toAnswer({ state, done_at, refunds, disputes, units, currency, id }: Debit): ChannelAnswer {
  switch (state) {
    case 'waiting':
      return { state: 'unpaid' };
    case 'in_process':
      return { state: 'processing' };
    case 'closed':
      return { state: 'closed' };
    case 'refused':
      return { state: 'failed', reason: REASON };
    case 'done': {
      if (done_at === null) throw new ChannelError('garbage', 'bank reports done without a time');
      const amount = toMinor(units, currency);
      const listed = refunds.map(
        (refund): ChannelRefund => ({
          ...{ id: refund.id, amount: toMinor(refund.units, currency), state: REFUND_STATE[refund.state] },
          ...(refund.number === null ? {} : { outRefundNo: refund.number }),
        }),
      );
      const back = listed.filter(({ state }) => state === 'succeeded').reduce((sum, r) => sum + r.amount, 0);
      return {
        ...{ state: back === amount ? 'refunded' : 'paid', channelPaymentId: id, amount, currency },
        ...{ paidAt: done_at, refunds: listed },
        disputes: disputes.map((dispute) => ({ ...dispute, amount, currency })),
      };
    }
  }
}

/** Starts the fake channel. */
export async function startBank(
  place: Place,
  wrap: (options: FakeOptions) => ChannelAdapter = createBankAdapter,
): Promise<Contract> {
  const books = new Books();
  books.refundsTakeTime = true;
  const refusal = (status: number, reason: string) => json(status, { reason });

  const server = await serve(async ({ method, path, headers, body }) => {
    const account = headers.authorization?.slice('Bearer token-'.length) ?? '';
    if (account !== 'ours' && account !== 'theirs') return refusal(401, 'no_access');
    const content = body === '' ? {} : JSON.parse(body);
    const [, , no = '', refunds] = path.split('/');
    if (no === '' && method === 'GET') return json(200, { debits: [] });
    if (no === '') {
      const { number, units: amount, currency } = content;
      const places = PLACES[currency];
      if (places === undefined) return refusal(400, 'bad_request');
      const terms = { account, no: number, amount, currency, places, notifyUrl: place.callbacksTo };
      return json(200, view(books.byNo(account, number) ?? books.create(terms)));
    }
    const trade = books.byNo(account, no);
    if (trade === undefined) return refusal(404, 'no_debit');
    if (refunds === 'refunds') {
      const known = trade.refunds.find((refund) => refund.no === content.number);
      if (known !== undefined)
        return known.amount === content.units ? json(200, presentRefund(known)) : refusal(409, 'number_used');
      const refund = await books.refund(trade, content.number, content.units);
      return refund === null ? refusal(400, 'not_enough') : json(200, presentRefund(refund));
    }
    if (method === 'DELETE' && trade.state === 'unpaid') trade.state = 'closed';
    return json(200, view(trade));
  });
  const baseUrl = await place.proxyTo(server.url);

  const isAcknowledged = ({ status }: { status: number }) => status < 300;
  const sign = async (account: string, rawBody: Buffer, at = new Date()) => {
    const sentAt = at.toISOString();
    const payload = Buffer.concat([Buffer.from(`${sentAt}.`), rawBody]);
    const proof = await webcrypto.subtle.sign('HMAC', await importKey(`hook-${account}`), payload);
    return { [SENT_AT]: sentAt, [SIGNATURE]: Buffer.from(proof).toString('hex') };
  };
  books.listener = async ({ about, trade, refund, dispute }) => {
    const which = { refund: refund?.id, dispute: dispute?.id };
    const body = JSON.stringify({ id: randomUUID(), about, debit: view(trade), ...which });
    const headers = await sign(trade.account, Buffer.from(body));
    await notify(trade.notifyUrl, { headers, body }, isAcknowledged);
  };
  const party = (name: string) => ({
    adapter: wrap({ baseUrl }),
    account: {
      ...{ id: name, merchantId: 'm', channel: 'bank' },
      credentials: [{ token: `token-${name}`, hookKey: `hook-${name}` }],
    },
  });
  const find = ({ outTradeNo }: { outTradeNo: string }): BookTrade =>
    books.trades.find(({ no }) => no === outTradeNo) ?? raise(`no debit ${outTradeNo}`);
  return {
    ...{ ours: party('ours'), theirs: party('theirs'), wrong: party('nobody') },
    secrets: ['token-ours', 'hook-ours', 'token-nobody'],
    channel: {
      ...channelOf(books),
      async finishRefunds() {
        for (const trade of books.trades)
          for (const refund of trade.refunds) await books.finish(trade, refund);
      },
      refundsBecome(outcome) {
        if (outcome !== 'good' && outcome !== 'failed') return false;
        books.refundsBecome = outcome;
        return true;
      },
      async reverse(trade, outRefundNo) {
        const refund = find(trade).refunds.find(({ no }) => no === outRefundNo) ?? raise('no such refund');
        refund.state = 'reversed';
        await books.listener({ about: 'refund', trade: find(trade), refund });
      },
      async dispute(trade, state) {
        const { disputes } = find(trade);
        const open = disputes.find((one) => one.state === 'open');
        const dispute = state === 'open' || open === undefined ? { id: `d_${randomUUID()}`, state } : open;
        if (dispute === open) open.state = state;
        else disputes.push(dispute);
        await books.listener({ about: 'dispute', trade: find(trade), dispute });
      },
    },
    protocol: {
      refusal,
      listedCodes: {
        ...{ createTrade: DEFINITE_REFUSALS, queryTrade: ['no_debit'], closeTrade: ['no_debit'] },
        refundTrade: [...DEFINITE_REFUND_REFUSALS, 'number_used'],
      },
      definite: {
        createTrade: DEFINITE_REFUSALS.map((reason) => [400, reason] as const),
        refundTrade: DEFINITE_REFUND_REFUSALS.map((reason) => [400, reason] as const),
      },
      callbacks: {
        signed: {
          toleranceMs: TOLERANCE_MS,
          sign: async (rawBody, at) => ({ headers: await sign('ours', rawBody, at), rawBody }),
        },
        isAcknowledged,
        sendsAgain: true,
      },
    },
    close: () => server.close(),
  };
}

function raise(problem: string): never {
  throw new Error(problem);
}

const STATE = {
  unpaid: 'waiting',
  processing: 'in_process',
  paid: 'done',
  closed: 'closed',
  declined: 'refused',
};

function view({ no, id, amount: units, currency, state, paidAt, refunds, disputes }: BookTrade) {
  return {
    ...{ number: no, id, units, currency, state: STATE[state], done_at: paidAt, disputes, qr: `BANK:${id}` },
    refunds: refunds.map(presentRefund),
  };
}

const LISTED_STATE: Partial<Record<BookRefund['state'], string>> = {
  ...{ processing: 'pending', succeeded: 'done', reversed: 'returned' },
};

const presentRefund = ({ id, no, amount, state }: BookRefund) => ({
  ...{ id, number: no, units: amount, state: LISTED_STATE[state] ?? 'refused' },
});
