import type { z } from 'zod';
import { type ChannelAccount, ChannelError } from '../../domain/channel.ts';
import { exchange, HTTP_TIMEOUT_MS, inTime } from '../exchange.ts';
import { classify, isRefused, NO_SUCH_REFUND, type Operation, parseJson, type Reply } from './classify.ts';
import { type Merchant, misconfigured, readMerchant } from './merchant.ts';
import { type PlatformCertificates, PlatformKeys, readCertificates } from './platform-keys.ts';
import { authorize, isSignedBy, type Signed, signedOf } from './signature.ts';

/**
 * The largest accepted difference between a signed time and this machine's clock, in seconds. WeChat Pay's own library
 * has this tolerance (wechatpay-go, core/auth/validators/wechat_pay_validator.go). nodrop also applies it to times in
 * the future.
 */
export const TOLERANCE_S = 300;

export interface WechatpayRequest {
  readonly method: 'GET' | 'POST';
  /** The path of the request, including the query string. */
  readonly path: string;
  readonly content?: object;
  readonly operation: Operation;
}

/** Sends the requests of one call of the adapter to WeChat Pay. These requests share one timeout. */
export interface Session {
  readonly merchant: Merchant;
  /**
   * Sends one signed request. Returns the answer only if WeChat Pay's signature on it is valid.
   * @throws ChannelError of the kind that `classify` returns, or `garbage` if the answer has no valid signature or an
   * unexpected shape
   */
  ask<T>(request: WechatpayRequest, schema: z.ZodType<T>): Promise<T>;
  /** Like `ask`, but for a request whose answer has no content. */
  tell(request: WechatpayRequest): Promise<void>;
  /** Fetches WeChat Pay's platform certificates now. @throws ChannelError */
  renewCertificates(): Promise<void>;
}

export interface WechatpayClient {
  readonly keys: PlatformKeys;
  within<T>(
    account: ChannelAccount,
    signal: AbortSignal | undefined,
    work: (session: Session) => Promise<T>,
  ): Promise<T>;
}

export function createWechatpayClient(): WechatpayClient {
  const keys = new PlatformKeys(fetchCertificates);

  async function request(
    merchant: Merchant,
    { method, path, content }: WechatpayRequest,
    signal: AbortSignal | undefined,
  ): Promise<Reply> {
    const body = content === undefined ? '' : JSON.stringify(content);
    const { response, text } = await exchange(
      `${merchant.baseUrl}${path}`,
      {
        method,
        headers: {
          accept: 'application/json',
          'user-agent': 'nodrop',
          authorization: authorize(merchant, { method, path, body }),
          // This header names the key with which WeChat Pay must sign the answer.
          ...(merchant.publicKey === null ? {} : { 'wechatpay-serial': merchant.publicKey.id }),
          ...(content === undefined ? {} : { 'content-type': 'application/json' }),
        },
        ...(content === undefined ? {} : { body }),
      },
      { channel: 'wechatpay', signal },
    );
    return { status: response.status, headers: response.headers, text };
  }

  /**
   * Checks WeChat Pay's signature of the answer. A refusal may be unsigned, because WeChat Pay's own library does not
   * check refusals. But if a refusal has a signature, the signature must be valid.
   */
  async function prove(merchant: Merchant, reply: Reply, signal: AbortSignal): Promise<void> {
    const signed = signedOf((name) => reply.headers.get(name) ?? undefined);
    if (signed === undefined) {
      if (reply.status >= 400 && reply.headers.get('wechatpay-signature') === null) return;
      throw unproven(reply, 'the answer is not signed');
    }
    const key = await keys.keyOf(merchant, signed.serial, signal);
    if (key === undefined) throw unproven(reply, 'its serial number belongs to no key of WeChat Pay');
    checkSigned(key, signed, reply);
  }

  async function fetchCertificates(merchant: Merchant): Promise<PlatformCertificates> {
    const reply = await request(
      merchant,
      { method: 'GET', path: '/v3/certificates', operation: 'other' },
      undefined,
    );
    if (reply.status !== 200) {
      const error = classify(reply, 'other');
      // A 404 means that the merchant never had certificates. WeChat Pay does not sign this answer, so the answer does
      // not invalidate certificates that nodrop already has.
      const hasNone = reply.status === 404 && isRefused(error, NO_SUCH_REFUND);
      if (hasNone && merchant.publicKey !== null) return new Map();
      throw hasNone
        ? misconfigured(
            'WeChat Pay has no certificates for this merchant, which is in public-key mode: set public_key_id and public_key',
            error,
          )
        : withClock(error, reply);
    }
    const certificates = readCertificates(merchant, parseJson(reply.text));
    const signed = signedOf((name) => reply.headers.get(name) ?? undefined);
    if (signed === undefined) throw unproven(reply, 'the answer is not signed');
    const key =
      signed.serial === merchant.publicKey?.id
        ? merchant.publicKey.key
        : certificates.get(signed.serial.toUpperCase())?.key;
    if (key === undefined) throw unproven(reply, 'its serial number belongs to no key of WeChat Pay');
    checkSigned(key, signed, reply);
    return certificates;
  }

  const sessionOf = (merchant: Merchant, signal: AbortSignal): Session => {
    const answer = async (asked: WechatpayRequest): Promise<Reply> => {
      const reply = await request(merchant, asked, signal);
      const { status } = reply;
      if (status >= 200 && status < 300) {
        await prove(merchant, reply, signal);
        return reply;
      }
      const error = classify(reply, asked.operation);
      // Errors of these kinds need no valid signature, because nodrop draws no conclusion about the trade from them.
      const isAboutTrade = error.kind !== 'misconfigured' && error.kind !== 'rate_limited';
      if (isAboutTrade && status >= 400 && status < 500) await prove(merchant, reply, signal);
      throw withClock(error, reply);
    };
    return {
      merchant,
      async ask(asked, schema) {
        const reply = await answer(asked);
        const parsed = schema.safeParse(reply.status === 200 ? parseJson(reply.text) : undefined);
        if (parsed.success) return parsed.data;
        throw new ChannelError('garbage', `wechatpay answered ${reply.status} with an unexpected body`, {
          cause: parsed.error,
        });
      },
      async tell(asked) {
        await answer(asked);
      },
      renewCertificates: () => keys.renew(merchant, signal),
    };
  };

  return {
    keys,
    within: ({ credentials: [newest] }, outer, work) =>
      inTime(HTTP_TIMEOUT_MS, outer, async (signal) => await work(sessionOf(readMerchant(newest), signal))),
  };
}

/** @throws ChannelError */
function checkSigned(key: Parameters<typeof isSignedBy>[0], signed: Signed, reply: Reply): void {
  if (!isSignedBy(key, signed, Buffer.from(reply.text))) throw unproven(reply, 'its signature is wrong');
  const apart = Math.abs(Date.now() / 1000 - Number(signed.timestamp));
  if (apart <= TOLERANCE_S) return;
  throw clockSentence(reply) ?? unproven(reply, 'its signature has another time');
}

const unproven = ({ status }: Reply, why: string): ChannelError =>
  new ChannelError('garbage', `wechatpay answered ${status}, and the answer is not proven: ${why}`);

/**
 * Returns an error about this machine's clock if the `Date` header of the answer shows another time. Undefined if the
 * times agree.
 */
export function clockSentence({ headers }: Pick<Reply, 'headers'>): ChannelError | undefined {
  const apart = (Date.now() - Date.parse(headers.get('date') ?? '')) / 1000;
  if (Number.isNaN(apart) || Math.abs(apart) <= TOLERANCE_S) return undefined;
  const seconds = Math.round(Math.abs(apart));
  return misconfigured(
    `the clock of this machine is ${seconds} s ${apart > 0 ? 'ahead of' : 'behind'} WeChat Pay's: set the clock, or requests and callbacks are refused`,
  );
}

/**
 * WeChat Pay answers a request with a wrong time in the same way as a request with a wrong signature. So nodrop also
 * checks the clock.
 */
const withClock = (error: ChannelError, reply: Reply): ChannelError =>
  error.kind === 'misconfigured' ? (clockSentence(reply) ?? error) : error;
