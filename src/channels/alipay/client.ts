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
  /** `alipay.trade.query` */
  readonly method: string;
  /** Its `biz_content`. */
  readonly content: Readonly<Record<string, unknown>>;
  /** Parameters beside it. */
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
  /** The answer's own header. */
  readonly date: string | null;
}

/** Its signature was not by the key of the account: of tampering, or of a wrong key. */
export class UnsignedAnswer extends ChannelError {
  constructor(method: string) {
    super('garbage', `alipay's answer to ${method} is not signed by the key that the account has of Alipay`);
  }
}

/** The settings that requests are made with. */
export function newestOf({ id, credentials: [newest] }: ChannelAccount): Credentials {
  if (newest !== undefined) return newest;
  throw new ChannelError('misconfigured', `alipay: account ${id} has no settings`);
}

/**
 * The parameters of a request, signed by Alipay's library.
 * @param at epoch ms, for its `timestamp`
 */
async function sign(
  credentials: Credentials,
  { method, content, addresses }: AlipayRequest,
  at: number,
): Promise<string> {
  const sdk = await sdkOf(credentials);
  // Without a `timestamp` the library gives the one of the process's time zone, and names of its own with the other option.
  return sdk.sdkExecute(
    method,
    { ...addresses, format: 'JSON', timestamp: toBeijing(at), biz_content: content },
    { bizContentAutoSnakeCase: false },
  );
}

/** A link that its payer opens: nothing is sent before. @param at epoch ms, for its `timestamp` */
export async function linkOf(account: ChannelAccount, request: AlipayRequest, at: number): Promise<string> {
  const credentials = newestOf(account);
  return `${gatewayOf(credentials)}?${await sign(credentials, request, at)}`;
}

/** A whole answer as far as it is not signed. */
const envelopeSchema = z.looseObject({ sign: z.string().optional() });

/**
 * One request to Alipay, and its answer, of which only what is signed is read.
 * @throws ChannelError as `classify` has it, `garbage` for what is not signed or has another shape.
 */
export async function ask<T>(call: AlipayCall<T>): Promise<T> {
  const { content, result } = await send(call);
  if (result.code !== DONE) throw classify(result, call.operation);
  const parsed = call.schema.safeParse(content);
  if (parsed.success) return parsed.data;
  throw nonsense(call.method, parsed.error);
}

/** As `ask`, with a refusal for an answer. */
export async function send(call: Omit<AlipayCall<unknown>, 'schema'>): Promise<AlipayAnswer> {
  const { account, method, operation, signal } = call;
  const credentials = newestOf(account);
  const params = new URLSearchParams(await sign(credentials, call, Date.now()));
  const body = new URLSearchParams({ biz_content: params.get('biz_content') ?? '' });
  params.delete('biz_content');
  // The charset has to be in the query, where the gateway looks for it before it reads the body.
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

/** What of the answer is signed. @throws ChannelError */
async function read(credentials: Credentials, method: string, operation: Operation, text: string) {
  const envelope = parse(envelopeSchema, text);
  const own = `${method.replaceAll('.', '_')}_response`;
  const key = [own, 'error_response'].find((name) => envelope !== undefined && Object.hasOwn(envelope, name));
  if (envelope === undefined || key === undefined) throw nonsense(method);
  const sdk = await sdkOf(credentials);
  try {
    sdk.checkResponseSign(text, key, envelope.sign ?? '', '');
  } catch {
    // The gateway does not sign for an application that it does not know, and that says nothing of any trade.
    const said = resultSchema.safeParse(envelope[key]);
    if (said.success && isAboutUs(said.data)) throw classify(said.data, operation);
    throw new UnsignedAnswer(method);
  }
  // The text that was verified, and not what another reader makes of the whole, such as of a name that comes twice.
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
  new ChannelError('garbage', `alipay answered ${method} with what makes no sense`, { cause });
