import { isUtf8 } from 'node:buffer';
import { randomUUID } from 'node:crypto';
import { z } from 'zod';
import {
  CallbackError,
  type CallbackRefund,
  type ChannelAccount,
  type ChannelAdapter,
  type ChannelAnswer,
  type ChannelDeclaration,
  ChannelError,
  type ChannelErrorKind,
  type CloseAnswer,
  type FoundTrade,
  type Headers,
  type RefundAnswer,
  type VerifiedCallback,
} from '../../domain/channel.ts';
import { isAmount, isCurrency } from '../../domain/money.ts';
import { clockSentence } from '../clock.ts';
import { exchange } from '../exchange.ts';
import {
  ACCOUNT_HEADER,
  requestPayload,
  responsePayload,
  sign,
  signer,
  TRADE_STATES,
  verify,
} from './protocol.ts';

export interface SimulatorAdapterOptions {
  /** The name of the simulator's account, which is also the name of the channel. */
  readonly name: 'simulator' | 'simulator2';
  /**
   * The base URL of the simulator, without a trailing slash. If an account has its own `url`, nodrop uses that URL
   * instead.
   */
  readonly url: string;
  /** @default the global fetch */
  readonly fetch?: typeof fetch;
}

/**
 * If the simulator refuses to create a trade with one of these codes, no trade with nodrop's number exists.
 * `OUT_TRADE_NO_USED` is not in the list, because a trade with that number exists and may still be paid.
 */
const DEFINITE_REFUSALS = new Set(['PARAM_ERROR']);

/**
 * If the simulator refuses a refund with one of these codes, no refund with nodrop's number exists.
 * `OUT_REFUND_NO_USED` is not in the list, because a refund with that number and another amount exists. In that case,
 * nodrop queries the refund.
 */
const DEFINITE_REFUND_REFUSALS = new Set([
  'PARAM_ERROR',
  'TRADE_NOT_PAID',
  'REFUND_EXCEEDS_PAYMENT',
  'REFUND_NOT_ALLOWED',
]);

/** These refusals of a refund are temporary. They end after some time, or when the merchant acts. */
const PASSING_REFUND_REFUSALS = new Set(['BALANCE_TOO_LOW']);

const tradeSchema = z.object({
  outTradeNo: z.string(),
  state: z.enum(TRADE_STATES),
  amount: z.number().refine(isAmount),
  currency: z.string().refine(isCurrency),
  transactionId: z.string().nullable(),
  paidAt: z.iso.datetime({ offset: true }).nullable(),
  refunded: z.int().nonnegative().optional(),
});
const createdSchema = tradeSchema.extend({ payUrl: z.url({ protocol: /^https?$/ }) });
const refundSchema = z.object({
  outRefundNo: z.string(),
  outTradeNo: z.string(),
  refundId: z.string(),
  amount: z.number().refine(isAmount),
  state: z.enum(['PROCESSING', 'SUCCESS']),
  refundedAt: z.iso.datetime({ offset: true }).nullable(),
});
const callbackSchema = z.object({ type: z.string(), data: tradeSchema });
const refundCallbackSchema = z.object({
  type: z.literal('refund.succeeded'),
  data: z.object({
    outRefundNo: z.string().regex(/^[0-9A-Za-z_-]{1,64}$/),
    refundAmount: z.number().refine(isAmount),
    refundId: z.string().regex(/^[0-9A-Za-z_-]{1,64}$/),
  }),
});
const refusalSchema = z.object({ code: z.string(), message: z.string() });

interface Reply {
  readonly status: number;
  readonly body: unknown;
}

/** The simulator's declaration. Unlike a real channel, the simulator accepts every payment that nodrop accepts. */
export const declarationOf = (name: SimulatorAdapterOptions['name']): ChannelDeclaration => ({
  name,
  title:
    name === 'simulator'
      ? { en: 'Simulated wallet', zh: '模拟钱包' }
      : { en: 'Second simulated wallet', zh: '模拟钱包（二）' },
  testOnly: true,
  methods: [
    {
      name: 'wallet',
      action: 'redirect',
      currencies: 'any',
      expiry: { atLeastMs: 0, atMostMs: null },
      subject: { atMost: 256, countedIn: 'characters' },
      needs: [],
    },
  ],
  rateLimit: { perSecond: 100, source: 'nodrop itself' },
  querySchedule: null,
  repeatableForMs: { create: null, refund: null },
  unknownTradeCanBePaid: false,
  adoption: {
    pattern: /^[0-9A-Za-z_-]{1,32}$/,
    rule: 'must be the outTradeNo of a trade: 1 to 32 of 0-9, A-Z, a-z, _ and -',
    example: 'SHOP20260101001',
  },
  takesCallbackAddress: true,
  settings: [
    {
      name: 'secret',
      description: `Signs requests, responses and callbacks. The simulator has the same secret in NODROP_${name.toUpperCase()}_SECRET.`,
      isSecret: true,
      isRequired: true,
      pattern: [/^whsec_[A-Za-z0-9+/]{32,}={0,2}$/, 'must be whsec_ and at least 24 bytes in base64'],
    },
    {
      name: 'url',
      description:
        'The base URL of the simulator, without a slash at the end. Default: NODROP_SIMULATOR_URL.',
      isSecret: false,
      isRequired: false,
      pattern: [
        /^https?:\/\/[^\s/]+(\/[^\s]*[^\s/])?$/,
        'must be an http or https URL without a slash at the end',
      ],
    },
  ],
});

/**
 * Creates the adapter of the simulator, which implements the channel port over HTTP. The adapter trusts only signed
 * answers.
 */
export function createSimulatorAdapter(options: SimulatorAdapterOptions): ChannelAdapter {
  /**
   * Sends one signed request to the simulator. Returns the answer only if its signature is valid and its status is
   * below 500.
   * @throws ChannelError of any kind except `rejected` and `not_now`
   */
  async function call(
    account: ChannelAccount,
    method: 'GET' | 'POST',
    path: string,
    content: object | undefined,
    signal?: AbortSignal,
  ): Promise<Reply> {
    const { secret = '', url = options.url } = account.credentials[0] ?? {};
    const webhook = signer(secret);
    const id = `req_${randomUUID()}`;
    const body = content === undefined ? '' : JSON.stringify(content);
    const { response, text } = await exchange(
      `${url}${path}`,
      {
        method,
        headers: {
          ...sign(webhook, id, requestPayload(method, path, body)),
          [ACCOUNT_HEADER]: options.name,
          ...(content === undefined ? {} : { 'content-type': 'application/json' }),
        },
        ...(content === undefined ? {} : { body }),
      },
      { channel: options.name, signal, fetch: options.fetch },
    );
    const said = `${options.name} answered ${response.status} to ${method} ${path}`;
    if (response.status === 429) {
      const seconds = Number(response.headers.get('retry-after') ?? Number.NaN);
      throw new ChannelError(
        'rate_limited',
        said,
        Number.isFinite(seconds) && seconds >= 0 ? { retryAfterMs: seconds * 1000 } : {},
      );
    }
    if (response.status === 401) {
      // If the simulator rejects the secret or the time, the cause is an error of this deployment. The answer does not
      // show the state of the trade, so nodrop must never treat it as a refusal.
      const clock = clockSentence(response.headers.get('date'), Date.now());
      const mend = clock === '' ? `check the secret of ${options.name}` : clock;
      throw new ChannelError('misconfigured', `${said}: ${mend}`);
    }
    if (response.status >= 500) throw new ChannelError('unreachable', said);
    try {
      verify(webhook, responsePayload(response.status, id, text), Object.fromEntries(response.headers));
      return { status: response.status, body: JSON.parse(text) };
    } catch (cause) {
      throw new ChannelError('garbage', `${said} with a body that is unreadable or not signed`, { cause });
    }
  }

  /**
   * Parses a trade in the simulator's answer.
   * @throws ChannelError `garbage` if the answer is about a trade that was not requested
   */
  function readTrade<T extends z.infer<typeof tradeSchema>>(
    schema: z.ZodType<T>,
    body: unknown,
    outTradeNo: string,
  ): T {
    const parsed = schema.safeParse(body);
    if (parsed.success && parsed.data.outTradeNo === outTradeNo) return parsed.data;
    throw new ChannelError(
      'garbage',
      `${options.name} answered about ${outTradeNo} with an unexpected body`,
      parsed.success ? {} : { cause: parsed.error },
    );
  }

  /**
   * Parses a refund in the simulator's answer.
   * @throws ChannelError `garbage` if the answer is about a refund that was not requested
   */
  function readRefund(
    body: unknown,
    expected: { readonly outTradeNo: string; readonly outRefundNo: string },
  ): RefundAnswer {
    const parsed = refundSchema.safeParse(body);
    if (
      !parsed.success ||
      parsed.data.outRefundNo !== expected.outRefundNo ||
      parsed.data.outTradeNo !== expected.outTradeNo
    ) {
      throw new ChannelError(
        'garbage',
        `${options.name} answered about refund ${expected.outRefundNo} with an unexpected body`,
      );
    }
    const { state, refundId, amount, refundedAt } = parsed.data;
    if (state === 'PROCESSING') return { state: 'processing' };
    return {
      state: 'succeeded',
      channelRefundId: refundId,
      amount,
      ...(refundedAt === null ? {} : { refundedAt }),
    };
  }

  /**
   * Reads the code and the message from a 4xx answer of the simulator.
   * @throws ChannelError `garbage`
   */
  function readRefusal(reply: Reply): z.infer<typeof refusalSchema> {
    const parsed = refusalSchema.safeParse(reply.body);
    if (parsed.success && reply.status >= 400) return parsed.data;
    throw new ChannelError(
      'garbage',
      `${options.name} answered ${reply.status} without a code and a message`,
    );
  }

  async function lookUp(
    account: ChannelAccount,
    outTradeNo: string,
    signal?: AbortSignal,
  ): Promise<FoundTrade> {
    const reply = await call(account, 'GET', tradePath(outTradeNo), undefined, signal);
    if (reply.status === 200) {
      const trade = readTrade(tradeSchema, reply.body, outTradeNo);
      const { amount, currency } = trade;
      const answer = toAnswer(trade, (problem) => {
        throw new ChannelError('garbage', `${options.name} on ${outTradeNo}: ${problem}`);
      });
      return { reference: outTradeNo, terms: { amount, currency }, answer };
    }
    const { code, message } = readRefusal(reply);
    if (code === 'TRADE_NOT_FOUND') return { reference: outTradeNo, answer: { state: 'unknown_trade' } };
    throw new ChannelError('unreachable', `${code}: ${message}`);
  }

  async function findRefund(
    account: ChannelAccount,
    outTradeNo: string,
    outRefundNo: string,
    signal?: AbortSignal,
  ): Promise<RefundAnswer> {
    const path = `/v1/refunds/${encodeURIComponent(outRefundNo)}`;
    const reply = await call(account, 'GET', path, undefined, signal);
    if (reply.status === 200) return readRefund(reply.body, { outTradeNo, outRefundNo });
    const { code, message } = readRefusal(reply);
    if (code === 'REFUND_NOT_FOUND') return { state: 'unknown_refund' };
    throw new ChannelError('unreachable', `${code}: ${message}`);
  }

  return {
    declaration: declarationOf(options.name),

    async createTrade(account, trade, signal) {
      const { outTradeNo, amount, currency, subject, notifyUrl, returnUrl, expiresAt } = trade;
      const content = { outTradeNo, amount, currency, subject, notifyUrl, returnUrl, expiresAt };
      const reply = await call(account, 'POST', '/v1/trades', content, signal);
      if (reply.status === 200 || reply.status === 201) {
        const created = readTrade(createdSchema, reply.body, outTradeNo);
        return { action: { type: 'redirect', url: created.payUrl } };
      }
      const { code, message } = readRefusal(reply);
      throw new ChannelError(DEFINITE_REFUSALS.has(code) ? 'rejected' : 'unreachable', `${code}: ${message}`);
    },

    async queryTrade(account, { outTradeNo }, signal) {
      return (await lookUp(account, outTradeNo, signal)).answer;
    },

    readTrade: lookUp,

    async closeTrade(account, { outTradeNo }, signal): Promise<CloseAnswer> {
      const reply = await call(account, 'POST', `${tradePath(outTradeNo)}/close`, {}, signal);
      if (reply.status === 200) {
        readTrade(tradeSchema, reply.body, outTradeNo);
        return { state: 'closed' };
      }
      const { code, message } = readRefusal(reply);
      if (code === 'ORDERPAID') return { state: 'already_paid' };
      if (code === 'PROCESSING') return { state: 'processing' };
      if (code === 'TRADE_NOT_FOUND') return { state: 'unknown_trade' };
      throw new ChannelError('unreachable', `${code}: ${message}`);
    },

    async refundTrade(account, { outTradeNo }, { outRefundNo, amount }, signal) {
      const reply = await call(
        account,
        'POST',
        `${tradePath(outTradeNo)}/refunds`,
        { outRefundNo, amount },
        signal,
      );
      if (reply.status === 200 || reply.status === 201)
        return readRefund(reply.body, { outTradeNo, outRefundNo });
      const { code, message } = readRefusal(reply);
      if (code === 'OUT_REFUND_NO_USED') return await findRefund(account, outTradeNo, outRefundNo, signal);
      throw new ChannelError(refusalOfRefund(code), `${code}: ${message}`);
    },

    async queryRefund(account, { outTradeNo }, { outRefundNo }, signal) {
      return await findRefund(account, outTradeNo, outRefundNo, signal);
    },

    async verifyCallback(account, { headers, rawBody }): Promise<VerifiedCallback> {
      // Reject invalid UTF-8. Decoding would replace different invalid bytes with the same character, so the signature
      // would not cover the received bytes.
      if (!isUtf8(rawBody)) throw new CallbackError('unverified', 'the body is not UTF-8');
      const text = rawBody.toString('utf8');
      verifyByAny(account, text, headers);
      const content = parseJson(text);
      const parsed = callbackSchema.safeParse(content);
      if (!parsed.success) throw new CallbackError('malformed', z.prettifyError(parsed.error));
      const refund = refundOf(content);
      return {
        kind: 'trade',
        notificationId: headers['webhook-id'] as string,
        about: { outTradeNo: parsed.data.data.outTradeNo },
        answer: toAnswer(parsed.data.data, (problem) => {
          throw new CallbackError('malformed', problem);
        }),
        ...(refund === undefined ? {} : { refund }),
      };
    },

    peekOutTradeNo(rawBody) {
      const named = z
        .object({ data: z.object({ outTradeNo: z.string().regex(/^[0-9A-Za-z_]{1,32}$/) }) })
        .safeParse(parseJson(rawBody.toString('utf8')));
      return named.success ? named.data.data.outTradeNo : undefined;
    },

    async checkAccount(account, signal) {
      const reply = await call(account, 'GET', tradePath('check'), undefined, signal);
      if (reply.status !== 200) readRefusal(reply);
    },
  };
}

/** @throws CallbackError if none of the account's secrets made the signature */
function verifyByAny({ credentials }: ChannelAccount, text: string, headers: Headers): void {
  let why = 'the account has no secret';
  for (const { secret = '' } of credentials) {
    try {
      verify(signer(secret), text, headers);
      return;
    } catch (error) {
      why = (error as Error).message;
    }
  }
  throw new CallbackError('unverified', why);
}

/** A refusal with an unknown code does not show whether the refund exists. */
function refusalOfRefund(code: string): ChannelErrorKind {
  if (DEFINITE_REFUND_REFUSALS.has(code)) return 'rejected';
  return PASSING_REFUND_REFUSALS.has(code) ? 'not_now' : 'unreachable';
}

function tradePath(outTradeNo: string): string {
  return `/v1/trades/${encodeURIComponent(outTradeNo)}`;
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** Returns the refund that a callback reports. Undefined if the callback reports no refund. */
function refundOf(content: unknown): CallbackRefund | undefined {
  const parsed = refundCallbackSchema.safeParse(content);
  if (!parsed.success) return undefined;
  const { outRefundNo, refundAmount: amount, refundId: channelRefundId } = parsed.data.data;
  return { outRefundNo, answer: { state: 'succeeded', channelRefundId, amount } };
}

/**
 * Maps the simulator's trade to an answer of the channel port. If a paid trade has no transaction or no time, the
 * function calls `fail`, which must throw.
 */
function toAnswer(trade: z.infer<typeof tradeSchema>, fail: (problem: string) => never): ChannelAnswer {
  switch (trade.state) {
    case 'NOTPAY':
      return { state: 'unpaid' };
    case 'PROCESSING':
      return { state: 'processing' };
    case 'CLOSED':
      return { state: 'closed' };
    case 'PAYERROR':
      return { state: 'failed', reason: 'declined' };
    case 'SUCCESS':
    case 'REFUND': {
      const { transactionId, paidAt } = trade;
      if (transactionId === null || paidAt === null) return fail('paid without a transaction and a time');
      return {
        state: trade.state === 'REFUND' ? 'refunded' : 'paid',
        channelPaymentId: transactionId,
        amount: trade.amount,
        currency: trade.currency,
        paidAt,
        ...(trade.refunded === undefined ? {} : { refundedAmount: trade.refunded }),
      };
    }
  }
}
