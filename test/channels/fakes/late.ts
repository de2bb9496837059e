import { createCipheriv, createDecipheriv, randomBytes, randomUUID } from 'node:crypto';
import { z } from 'zod';
import {
  CallbackError,
  type ChannelAdapter,
  type ChannelAnswer,
  type ChannelDeclaration,
  ChannelError,
  type MethodDeclaration,
  type RefundAnswer,
} from '../../../src/domain/channel.ts';
import { serve } from '../contract/http.ts';
import type { Contract, Place } from '../contract/types.ts';
import { type BookRefund, Books, type BookTrade, channelOf, isRefunded, sumOf } from './books.ts';
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
 * A fake channel that does not close a trade younger than five minutes, must know the payer, and encrypts its
 * callbacks. Some of its refunds need an operator or a repeated request.
 */

const CLOSES_AFTER_MS = 5 * 60_000;
const SIGNATURE = 'late-signature';

const common = {
  currencies: { CNY: { atLeast: 1, atMost: 100_000_000_000 } },
  expiry: { atLeastMs: 60_000, atMostMs: 7 * 86_400_000 },
  subject: { atMost: 127, countedIn: 'bytes' },
} satisfies Partial<MethodDeclaration>;

const declaration: ChannelDeclaration = {
  name: 'late',
  title: { en: 'Late', zh: '晚关' },
  testOnly: true,
  methods: [
    { ...common, name: 'browser', action: 'redirect', needs: ['ip'] },
    { ...common, name: 'in_app', action: 'sdk', needs: ['id'] },
  ],
  rateLimit: { perSecond: 150, source: 'the fake itself' },
  querySchedule: null,
  repeatableForMs: { create: null, refund: null },
  unknownTradeCanBePaid: false,
  takesCallbackAddress: true,
  settings: [
    { ...{ name: 'apiKey', isSecret: true, isRequired: true }, description: 'The key of requests.' },
    {
      ...{ name: 'signingSecret', isSecret: true, isRequired: true },
      description: 'The secret that signs callbacks.',
    },
    {
      ...{ name: 'cipherKey', isSecret: true, isRequired: true },
      description: 'The key that encrypts callbacks.',
      pattern: [/^[0-9a-z]{32}$/, 'must have 32 characters'],
    },
  ],
};

const tradeSchema = z.object({
  out_trade_no: z.string(),
  transaction_id: z.string().nullable(),
  trade_state: z.enum(['NOTPAY', 'USERPAYING', 'SUCCESS', 'REFUND', 'CLOSED', 'PAYERROR']),
  amount: z.object({ total: z.int().positive(), refunded: z.int().nonnegative(), currency: z.string() }),
  success_time: z.iso.datetime().nullable(),
});
const createdSchema = z.object({ h5_url: z.url() }).or(z.object({ prepay_id: z.string().min(1) }));
const refundSchema = z.object({
  ...{ out_refund_no: z.string(), refund_id: z.string().min(1), amount: z.int().positive() },
  status: z.enum(['SUCCESS', 'PROCESSING', 'CLOSED', 'ABNORMAL']),
});
const refusalSchema = z.object({ code: z.string() });
const callbackSchema = z.object({
  id: z.string().min(1),
  event_type: z.string(),
  resource: z.object({ ciphertext: z.string(), nonce: z.string(), associated_data: z.string() }),
});

const DEFINITE_REFUSALS = ['PARAM_ERROR'];
const DEFINITE_REFUND_REFUSALS = ['PARAM_ERROR', 'NOT_ENOUGH'];

export function createLateAdapter(options: FakeOptions): ChannelAdapter {
  const call = async (
    { credentials }: Parameters<ChannelAdapter['queryTrade']>[0],
    method: string,
    path: string,
    content?: object,
    signal?: AbortSignal,
  ): Promise<Reply> => {
    const headers = {
      authorization: `Bearer ${newest(credentials).apiKey}`,
      'content-type': 'application/json',
    };
    const body = content === undefined ? {} : { body: JSON.stringify(content) };
    return await ask(options, path, { method, headers, ...body }, signal);
  };
  const garbage = (no: string) =>
    new ChannelError('garbage', `late answered about ${no} with an unexpected body`);
  const codeOf = ({ status, body }: Reply, no: string): string => {
    const parsed = refusalSchema.safeParse(body);
    if (status < 400 || !parsed.success) throw garbage(no);
    return parsed.data.code;
  };
  const readRefund = ({ body }: Reply, outRefundNo: string): RefundAnswer => {
    const parsed = refundSchema.safeParse(body);
    if (!parsed.success || parsed.data.out_refund_no !== outRefundNo) throw garbage(outRefundNo);
    const { refund_id: channelRefundId, amount, status } = parsed.data;
    switch (status) {
      case 'SUCCESS':
        return { state: 'succeeded', channelRefundId, amount };
      case 'PROCESSING':
        return { state: 'processing', channelRefundId };
      case 'CLOSED':
        return { state: 'ask_again', channelRefundId, reason: 'the refund was closed' };
      case 'ABNORMAL':
        return { state: 'needs_person', channelRefundId, reason: "the payer's account does not accept it" };
    }
  };
  const findRefund: ChannelAdapter['queryRefund'] = async (account, _trade, { outRefundNo }, signal) => {
    const reply = await call(
      account,
      'GET',
      `/refunds/${encodeURIComponent(outRefundNo)}`,
      undefined,
      signal,
    );
    if (reply.status === 200) return readRefund(reply, outRefundNo);
    const code = codeOf(reply, outRefundNo);
    if (code === 'REFUND_NOT_EXISTS') return { state: 'unknown_refund' };
    throw new ChannelError('unreachable', `late: ${code}`);
  };
  const pathOf = (outTradeNo: string) => `/trades/${encodeURIComponent(outTradeNo)}`;

  return {
    declaration,

    async createTrade(account, trade, signal) {
      const { outTradeNo, amount: total, currency, subject, notifyUrl, payer, createdAt, expiresAt } = trade;
      const content = {
        ...{
          out_trade_no: outTradeNo,
          amount: { total, currency },
          description: subject,
          notify_url: notifyUrl,
        },
        time_expire: new Date(Math.max(Date.parse(createdAt) + 60_000, Date.parse(expiresAt))).toISOString(),
        ...(trade.method === 'in_app'
          ? { payer: { openid: payer.id } }
          : { scene: { payer_client_ip: payer.ip } }),
      };
      const reply = await call(account, 'POST', `/pay/${trade.method}`, content, signal);
      if (reply.status !== 200) {
        const code = codeOf(reply, outTradeNo);
        throw new ChannelError(
          DEFINITE_REFUSALS.includes(code) ? 'rejected' : 'unreachable',
          `late: ${code}`,
        );
      }
      const created = createdSchema.safeParse(reply.body);
      if (!created.success) throw garbage(outTradeNo);
      if ('h5_url' in created.data) return { action: { type: 'redirect', url: created.data.h5_url } };
      return { action: { type: 'sdk', params: { package: `prepay_id=${created.data.prepay_id}` } } };
    },

    async queryTrade(account, { outTradeNo }, signal) {
      const reply = await call(account, 'GET', pathOf(outTradeNo), undefined, signal);
      if (reply.status === 200) {
        const parsed = tradeSchema.safeParse(reply.body);
        if (parsed.success && parsed.data.out_trade_no === outTradeNo) return toAnswer(parsed.data);
        throw garbage(outTradeNo);
      }
      const code = codeOf(reply, outTradeNo);
      if (code === 'ORDER_NOT_EXIST') return { state: 'unknown_trade' };
      throw new ChannelError('unreachable', `late: ${code}`);
    },

    async closeTrade(account, { outTradeNo, createdAt }, signal) {
      const reply = await call(account, 'POST', `${pathOf(outTradeNo)}/close`, {}, signal);
      if (reply.status === 204) return { state: 'closed' };
      switch (codeOf(reply, outTradeNo)) {
        case 'ORDER_CLOSED':
          return { state: 'closed' };
        case 'ORDER_PAID':
          return { state: 'already_paid' };
        case 'USER_PAYING':
          return { state: 'processing' };
        case 'ORDER_NOT_EXIST':
          return { state: 'unknown_trade' };
        case 'CLOSE_TOO_EARLY': {
          // The channel counts a trade's age from the time when it created the trade. The payment was created earlier
          // than the trade.
          const until = Math.max(Date.parse(createdAt) + CLOSES_AFTER_MS, Date.now() + 10_000);
          return { state: 'not_yet', until: new Date(until).toISOString() };
        }
        default:
          throw new ChannelError('unreachable', `late refuses to close ${outTradeNo}`);
      }
    },

    async refundTrade(account, trade, refund, signal) {
      const { outRefundNo, amount } = refund;
      const content = { out_trade_no: trade.outTradeNo, out_refund_no: outRefundNo, amount };
      const reply = await call(account, 'POST', '/refunds', content, signal);
      if (reply.status === 200) return readRefund(reply, outRefundNo);
      const code = codeOf(reply, outRefundNo);
      if (code === 'REFUND_NO_USED') return await findRefund(account, trade, refund, signal);
      const isDefinite = DEFINITE_REFUND_REFUSALS.includes(code);
      throw new ChannelError(isDefinite ? 'rejected' : 'unreachable', `late: ${code}`);
    },

    queryRefund: findRefund,

    async verifyCallback({ credentials }, request) {
      const secrets = credentials.flatMap(({ signingSecret }) => signingSecret ?? []);
      prove(request, SIGNATURE, secrets);
      const parsed = callbackSchema.safeParse(parseJson(request.rawBody.toString('utf8')));
      if (!parsed.success) throw new CallbackError('malformed', z.prettifyError(parsed.error));
      const { id: notificationId, event_type: type, resource } = parsed.data;
      const keys = credentials.flatMap(({ cipherKey }) => cipherKey ?? []);
      const trade = tradeSchema.safeParse(parseJson(decrypt(resource, keys)));
      if (!trade.success) throw new CallbackError('malformed', z.prettifyError(trade.error));
      const about = { outTradeNo: trade.data.out_trade_no };
      if (type === 'REFUND') return { kind: 'notice', notificationId, about };
      return { kind: 'trade', notificationId, about, answer: inCallback(() => toAnswer(trade.data)) };
    },

    acknowledge: (outcome) =>
      outcome === 'refused'
        ? { status: 500, type: 'application/json', body: '{"code":"FAIL"}' }
        : { status: 200, type: 'application/json', body: '{"code":"SUCCESS"}' },

    // The number of the trade is encrypted in the callback.
    peekOutTradeNo: () => undefined,

    async checkAccount(account, signal) {
      const reply = await call(account, 'GET', pathOf('check'), undefined, signal);
      if (reply.status !== 200) codeOf(reply, 'check');
    },
  };
}

type Resource = z.infer<typeof callbackSchema>['resource'];

/**
 * Decrypts AES-256-GCM. The last 16 bytes are the tag.
 * @throws CallbackError `malformed` if no key decrypts the content
 */
function decrypt({ ciphertext, nonce, associated_data }: Resource, keys: readonly string[]): string {
  const bytes = Buffer.from(ciphertext, 'base64');
  for (const key of keys) {
    try {
      const decipher = createDecipheriv('aes-256-gcm', key, nonce);
      decipher.setAAD(Buffer.from(associated_data));
      decipher.setAuthTag(bytes.subarray(-16));
      return Buffer.concat([decipher.update(bytes.subarray(0, -16)), decipher.final()]).toString('utf8');
    } catch {
      // If this key fails, another key may decrypt the content.
    }
  }
  throw new CallbackError('malformed', 'the callback cannot be decrypted');
}

function toAnswer(trade: z.infer<typeof tradeSchema>): ChannelAnswer {
  switch (trade.trade_state) {
    case 'NOTPAY':
      return { state: 'unpaid' };
    case 'USERPAYING':
      return { state: 'processing' };
    case 'CLOSED':
      return { state: 'closed' };
    case 'PAYERROR':
      return { state: 'failed', reason: 'the payer may not pay' };
    case 'SUCCESS':
    case 'REFUND': {
      const { transaction_id, success_time, amount } = trade;
      if (transaction_id === null || success_time === null)
        throw new ChannelError('garbage', 'late reports paid without a transaction and a time');
      const { total, refunded: refundedAmount, currency } = amount;
      const paid = { channelPaymentId: transaction_id, amount: total, currency, paidAt: success_time };
      return { state: refundedAmount === total ? 'refunded' : 'paid', ...paid, refundedAmount };
    }
  }
}

/** Starts the fake channel. */
export async function startLate(
  place: Place,
  wrap: (options: FakeOptions) => ChannelAdapter = createLateAdapter,
): Promise<Contract> {
  const books = new Books();
  const refusal = (status: number, code: string) => json(status, { code });
  const credentials = (name: string) => ({
    ...{ apiKey: `api_${name}`, signingSecret: `sign_${name}` },
    cipherKey: name.padEnd(32, '0'),
  });

  const server = await serve(async ({ method, path, headers, body }) => {
    const account = headers.authorization?.slice('Bearer api_'.length) ?? '';
    if (account !== 'ours' && account !== 'theirs') return refusal(401, 'SIGN_ERROR');
    const content = body === '' ? {} : JSON.parse(body);
    const [, resource, id = '', action] = path.split('/');
    if (resource === 'pay') {
      const { out_trade_no: no, amount, notify_url: notifyUrl } = content;
      const payer = id === 'in_app' ? content.payer?.openid : content.scene?.payer_client_ip;
      if (payer === undefined || Buffer.byteLength(content.description) > 127)
        return refusal(400, 'PARAM_ERROR');
      const { total, currency } = amount;
      const terms = { account, no, amount: total, currency, places: 2, notifyUrl };
      const trade = books.byNo(account, no) ?? books.create(terms);
      return json(
        200,
        id === 'in_app' ? { prepay_id: trade.id } : { h5_url: `https://late.example/${trade.id}` },
      );
    }
    if (resource === 'trades') {
      const trade = books.byNo(account, id);
      if (trade === undefined) return refusal(404, 'ORDER_NOT_EXIST');
      if (action !== 'close') return json(200, view(trade));
      if (trade.state === 'paid') return refusal(400, 'ORDER_PAID');
      if (trade.state === 'processing') return refusal(400, 'USER_PAYING');
      if (trade.state === 'closed') return refusal(400, 'ORDER_CLOSED');
      if (books.now() < Date.parse(trade.at) + CLOSES_AFTER_MS) return refusal(400, 'CLOSE_TOO_EARLY');
      trade.state = 'closed';
      return { status: 204, body: '' };
    }
    if (method === 'GET') {
      const found = books.trades.flatMap(({ refunds }) => refunds).findLast(({ no }) => no === id);
      return found === undefined ? refusal(404, 'REFUND_NOT_EXISTS') : json(200, presentRefund(found));
    }
    const { out_trade_no, out_refund_no: no, amount } = content;
    const trade = books.byNo(account, out_trade_no);
    if (trade === undefined) return refusal(404, 'ORDER_NOT_EXIST');
    const known = trade.refunds.findLast((refund) => refund.no === no);
    if (known !== undefined && known.amount !== amount) return refusal(400, 'REFUND_NO_USED');
    // A refund that was closed can be requested again under its own number.
    if (known !== undefined && known.state !== 'ask_again') return json(200, presentRefund(known));
    const refund = await books.refund(trade, no, amount);
    return refund === null ? refusal(400, 'NOT_ENOUGH') : json(200, presentRefund(refund));
  });
  const baseUrl = await place.proxyTo(server.url);

  const isAcknowledged = ({ status }: { status: number }) => status === 200 || status === 204;
  const sign = (account: string, rawBody: Buffer, at = new Date()) => ({
    'content-type': 'application/json',
    [SIGNATURE]: signature(`sign_${account}`, rawBody, at),
  });
  books.listener = async ({ about, trade }) => {
    const { account, notifyUrl } = trade;
    const nonce = randomBytes(6).toString('hex');
    const cipher = createCipheriv('aes-256-gcm', credentials(account).cipherKey, nonce).setAAD(
      Buffer.from(about),
    );
    const encrypted = [
      cipher.update(JSON.stringify(view(trade)), 'utf8'),
      cipher.final(),
      cipher.getAuthTag(),
    ];
    const resource = {
      ciphertext: Buffer.concat(encrypted).toString('base64'),
      nonce,
      associated_data: about,
    };
    const body = JSON.stringify({
      id: randomUUID(),
      event_type: about === 'refund' ? 'REFUND' : 'TRADE',
      resource,
    });
    await notify(notifyUrl, { headers: sign(account, Buffer.from(body)), body }, isAcknowledged);
  };
  const party = (name: string) => ({
    adapter: wrap({ baseUrl }),
    account: { id: name, merchantId: 'm', channel: 'late', credentials: [credentials(name)] },
  });
  return {
    ...{ ours: party('ours'), theirs: party('theirs'), wrong: party('wrong') },
    secrets: Object.values(credentials('ours')),
    channel: {
      ...channelOf(books),
      refundsBecome(outcome) {
        if (outcome !== 'failed') books.refundsBecome = outcome;
        return outcome !== 'failed';
      },
    },
    protocol: {
      refusal,
      listedCodes: {
        createTrade: DEFINITE_REFUSALS,
        queryTrade: ['ORDER_NOT_EXIST'],
        closeTrade: ['ORDER_CLOSED', 'ORDER_PAID', 'USER_PAYING', 'ORDER_NOT_EXIST', 'CLOSE_TOO_EARLY'],
        refundTrade: [...DEFINITE_REFUND_REFUSALS, 'REFUND_NO_USED', 'REFUND_NOT_EXISTS'],
        queryRefund: ['REFUND_NOT_EXISTS'],
      },
      definite: {
        createTrade: DEFINITE_REFUSALS.map((code) => [400, code] as const),
        refundTrade: DEFINITE_REFUND_REFUSALS.map((code) => [400, code] as const),
      },
      statusSaysAll: (call, status) => call === 'closeTrade' && status === 204,
      callbacks: {
        signed: {
          toleranceMs: 300_000,
          sign: (rawBody, at) => ({ headers: sign('ours', rawBody, at), rawBody }),
        },
        isAcknowledged,
        sendsAgain: true,
      },
    },
    close: () => server.close(),
  };
}

function view(trade: BookTrade) {
  const { id, no, amount, currency, state, paidAt, refunds } = trade;
  const stateThere = {
    ...{ unpaid: 'NOTPAY', processing: 'USERPAYING', closed: 'CLOSED', declined: 'PAYERROR' },
    paid: isRefunded(trade) ? 'REFUND' : 'SUCCESS',
  }[state];
  const refunded = sumOf(refunds.filter((refund) => refund.state === 'succeeded'));
  return {
    ...{ out_trade_no: no, transaction_id: paidAt === null ? null : id, trade_state: stateThere },
    ...{ amount: { total: amount, refunded, currency }, success_time: paidAt },
  };
}

const REFUND_STATUS: Partial<Record<BookRefund['state'], string>> = {
  ...{ processing: 'PROCESSING', succeeded: 'SUCCESS', needs_person: 'ABNORMAL' },
};

const presentRefund = ({ id, no, amount, state }: BookRefund) => ({
  ...{ out_refund_no: no, refund_id: id, amount, status: REFUND_STATUS[state] ?? 'CLOSED' },
});
