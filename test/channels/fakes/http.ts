import { createHmac, timingSafeEqual } from 'node:crypto';
import {
  CallbackError,
  type CallbackRequest,
  ChannelError,
  type Credentials,
} from '../../../src/domain/channel.ts';
import type { Answer } from '../contract/http.ts';

/** The common part of the fakes' adapters: functions that send requests and that verify callbacks. */

export interface FakeOptions {
  /** The channel's base URL, without a trailing slash. */
  readonly baseUrl: string;
  /**
   * The function that sends requests.
   * @default the global fetch
   */
  readonly fetch?: typeof fetch;
}

export interface Reply {
  readonly status: number;
  readonly body: unknown;
}

const TIMEOUT_MS = 8_000;
const ANSWER_AT_MOST_BYTES = 1024 * 1024;

/**
 * Sends one request and parses its answer as JSON. It follows no redirect and never retries, because Temporal retries.
 * @throws ChannelError `unreachable` (no answer, or 5xx), `rate_limited`, `misconfigured` (401), `garbage` (not JSON)
 */
export async function ask(
  { baseUrl, fetch: send = fetch }: FakeOptions,
  path: string,
  init: RequestInit,
  signal?: AbortSignal,
): Promise<Reply> {
  const name = path.split('?')[0];
  const { response, text } = await exchange(send, `${baseUrl}${path}`, init, signal);
  const said = `the channel answered ${response.status} to ${init.method} ${name}`;
  if (response.status >= 500) throw new ChannelError('unreachable', said);
  if (response.status === 429) throw new ChannelError('rate_limited', said, delayOf(response));
  if (response.status === 401)
    throw new ChannelError('misconfigured', `${said}: check the secret key of the account`);
  try {
    return { status: response.status, body: text === '' ? null : JSON.parse(text) };
  } catch (cause) {
    throw new ChannelError('garbage', `${said}, which is not JSON`, { cause });
  }
}

async function exchange(send: typeof fetch, url: string, init: RequestInit, signal?: AbortSignal) {
  const controller = new AbortController();
  const abort = () => controller.abort(signal?.reason);
  const timer = setTimeout(() => controller.abort(new Error('no answer in time')), TIMEOUT_MS);
  signal?.addEventListener('abort', abort);
  if (signal?.aborted) abort();
  try {
    const response = await send(url, { redirect: 'manual', ...init, signal: controller.signal });
    const text = await response.text();
    if (text.length > ANSWER_AT_MOST_BYTES) throw new ChannelError('garbage', 'the answer is too long');
    return { response, text };
  } catch (cause) {
    if (cause instanceof ChannelError) throw cause;
    throw new ChannelError('unreachable', 'the channel could not be reached', { cause });
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener('abort', abort);
  }
}

/**
 * Returns the delay that a Retry-After header states in seconds. A header with a date, or one that cannot be read, sets
 * no delay.
 */
function delayOf(response: Response): { retryAfterMs?: number } {
  const text = response.headers.get('retry-after') ?? '';
  return /^\d{1,6}$/.test(text) ? { retryAfterMs: Number(text) * 1_000 } : {};
}

/** Returns the newest credentials of an account. */
export function newest(credentials: readonly Credentials[]): Credentials {
  const [first] = credentials;
  if (first === undefined) throw new ChannelError('misconfigured', 'the account has no credentials');
  return first;
}

const TOLERANCE_MS = 300_000;

/** Returns `t=SECONDS,v1=HEX`, where HEX is the HMAC-SHA256 of `SECONDS.body`. */
export function signature(secret: string, rawBody: Buffer, at: Date): string {
  const seconds = Math.floor(at.getTime() / 1_000);
  return `t=${seconds},v1=${mac(secret, rawBody, seconds).toString('hex')}`;
}

/**
 * Checks the signature of a body with each of the secrets. The time of the signature must be close to the present time.
 * @throws CallbackError `unverified`
 */
export function prove({ headers, rawBody }: CallbackRequest, name: string, secrets: readonly string[]): void {
  const header = headers[name];
  const match = /^t=(\d{1,12}),v1=([0-9a-f]{64})$/.exec(typeof header === 'string' ? header : '');
  if (match === null) throw new CallbackError('unverified', `no ${name}`);
  const [, time, hex = ''] = match;
  const given = Buffer.from(hex, 'hex');
  if (!secrets.some((secret) => timingSafeEqual(mac(secret, rawBody, Number(time)), given)))
    throw new CallbackError('unverified', 'the signature is wrong');
  if (Math.abs(Date.now() - Number(time) * 1_000) > TOLERANCE_MS)
    throw new CallbackError('unverified', 'the callback is too old, or from the future');
}

const mac = (secret: string, rawBody: Buffer, seconds: number): Buffer =>
  createHmac('sha256', secret).update(`${seconds}.`).update(rawBody).digest();

/**
 * Reads the content of a callback.
 * @throws CallbackError `malformed` if `read` throws `garbage`
 */
export function inCallback<T>(read: () => T): T {
  try {
    return read();
  } catch (error) {
    if (error instanceof ChannelError) throw new CallbackError('malformed', error.message);
    throw error;
  }
}

export function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

export const json = (status: number, content: object): Answer => ({
  status,
  headers: { 'content-type': 'application/json' },
  body: JSON.stringify(content),
});

/** Sends a callback. Repeats it immediately as long as it is not acknowledged. */
export async function notify(
  url: string,
  { headers, body }: { readonly headers: Readonly<Record<string, string>>; readonly body: string },
  isAcknowledged: (answer: { status: number; type: string; body: string }) => boolean,
): Promise<void> {
  for (let attempt = 1; attempt <= 5; attempt++) {
    const response = await fetch(url, { method: 'POST', headers, body });
    const { status } = response;
    const type = response.headers.get('content-type') ?? '';
    if (isAcknowledged({ status, type, body: await response.text() })) return;
  }
}
