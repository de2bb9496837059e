import { z } from 'zod';
import { type ChannelAccount, ChannelError, type Credentials } from '../../domain/channel.ts';
import { exchange } from '../exchange.ts';
import {
  classify,
  classifyStatus,
  DONE,
  isAboutUs,
  type Operation,
  type Result,
  resultSchema,
} from './classify.ts';
import { gatewayOf } from './declaration.ts';
import { sdkOf } from './keys.ts';
import { toBeijing } from './times.ts';

export interface AlipayRequest {
  /** For example `alipay.trade.query`. */
  readonly method: string;
  /** The parameter `biz_content`. */
  readonly content: Readonly<Record<string, unknown>>;
  /** Request parameters that Alipay expects outside of `biz_content`. */
  readonly addresses?: { readonly notify_url: string; readonly return_url?: string };
}

export interface AlipayCall<T> extends AlipayRequest {
  readonly account: ChannelAccount;
  readonly operation: Operation;
  readonly schema: z.ZodType<T>;
  readonly signal?: AbortSignal | undefined;
}

export interface AlipayAnswer {
  readonly content: unknown;
  readonly result: Result;
  /** The `Date` header of Alipay's answer. */
  readonly date: string | null;
}

/**
 * The signature of the answer does not match the Alipay key of the account. Either the answer was changed on the way,
 * or the account has a wrong key.
 */
export class UnsignedAnswer extends ChannelError {
  constructor(method: string) {
    super('garbage', `alipay's answer to ${method} is not signed with the Alipay key of the account`);
  }
}

/** The newest credentials of the account. nodrop uses them for requests. */
export function newestOf({ id, credentials: [newest] }: ChannelAccount): Credentials {
  if (newest !== undefined) return newest;
  throw new ChannelError('misconfigured', `alipay: account ${id} has no settings`);
}

/**
 * Returns the parameters of a request. Alipay's library signs them.
 * @param at epoch ms, for the request's `timestamp`
 */
async function sign(
  credentials: Credentials,
  { method, content, addresses }: AlipayRequest,
  at: number,
): Promise<string> {
  const sdk = await sdkOf(credentials);
  // Without `timestamp`, Alipay's library would use the time zone of the process. With `bizContentAutoSnakeCase`, the
  // library would rename fields.
  return sdk.sdkExecute(
    method,
    { ...addresses, format: 'JSON', timestamp: toBeijing(at), biz_content: content },
    { bizContentAutoSnakeCase: false },
  );
}

/**
 * Returns a signed link that the payer opens. This function sends nothing to Alipay.
 * @param at epoch ms, for the link's `timestamp`
 */
export async function linkOf(account: ChannelAccount, request: AlipayRequest, at: number): Promise<string> {
  const credentials = newestOf(account);
  return `${gatewayOf(credentials)}?${await sign(credentials, request, at)}`;
}

/** The outer part of Alipay's answer. The signature does not cover it. */
const envelopeSchema = z.looseObject({ sign: z.string().optional() });

/**
 * Sends one request to Alipay and returns the signed part of the answer.
 * @throws ChannelError of the kind that `classify` returns, or `garbage` if the answer is not signed or has an
 * unexpected shape
 */
export async function ask<T>(call: AlipayCall<T>): Promise<T> {
  const { content, result } = await send(call);
  if (result.code !== DONE) throw classify(result, call.operation);
  const parsed = call.schema.safeParse(content);
  if (parsed.success) return parsed.data;
  throw nonsense(call.method, parsed.error);
}

/** Like `ask`, but returns a refusal instead of throwing it. */
export async function send(call: Omit<AlipayCall<unknown>, 'schema'>): Promise<AlipayAnswer> {
  const { account, method, operation, signal } = call;
  const credentials = newestOf(account);
  const params = new URLSearchParams(await sign(credentials, call, Date.now()));
  const body = new URLSearchParams({ biz_content: params.get('biz_content') ?? '' });
  params.delete('biz_content');
  // The charset must be in the query string, because the gateway reads it from there before it reads the body.
  const { response, text } = await exchange(
    `${gatewayOf(credentials)}?${params}`,
    {
      method: 'POST',
      headers: {
        'content-type': 'application/x-www-form-urlencoded;charset=utf-8',
        accept: 'application/json',
      },
      body: body.toString(),
    },
    { channel: 'alipay', signal },
  );
  if (response.status !== 200) throw classifyStatus(response.status, response.headers.get('retry-after'));
  const content = await read(credentials, method, operation, text.trim());
  const result = resultSchema.safeParse(content);
  if (!result.success) throw nonsense(method, result.error);
  return { content, result: result.data, date: response.headers.get('date') };
}

/** Verifies the signature and returns the signed part of the answer. @throws ChannelError */
async function read(credentials: Credentials, method: string, operation: Operation, text: string) {
  const envelope = parse(envelopeSchema, text);
  const own = `${method.replaceAll('.', '_')}_response`;
  const key = [own, 'error_response'].find((name) => envelope !== undefined && Object.hasOwn(envelope, name));
  if (envelope === undefined || key === undefined) throw nonsense(method);
  const sdk = await sdkOf(credentials);
  try {
    sdk.checkResponseSign(text, key, envelope.sign ?? '', '');
  } catch {
    // Alipay's gateway does not sign its answer if it does not know the application. Such an answer does not show the
    // state of a trade.
    const said = resultSchema.safeParse(envelope[key]);
    if (said.success && isAboutUs(said.data)) throw classify(said.data, operation);
    throw new UnsignedAnswer(method);
  }
  // Parse the text that was verified, not the whole body. The signature check may have read another part of the body,
  // for example if a name occurs twice.
  const content = parse(z.looseObject({}), sdk.getSignStr(text, key));
  if (content === undefined) throw nonsense(method);
  return content;
}

function parse<T>(schema: z.ZodType<T>, text: string): T | undefined {
  try {
    return schema.parse(JSON.parse(text));
  } catch {
    return undefined;
  }
}

const nonsense = (method: string, cause?: unknown) =>
  new ChannelError('garbage', `alipay's answer to ${method} has an unexpected shape`, { cause });
