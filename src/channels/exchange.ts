import { Agent, fetch as undiciFetch } from 'undici';
import { ChannelError } from '../domain/channel.ts';

/**
 * The timeout of a request to a channel. The timeout is shorter than the 10 s of an activity attempt. So a call without
 * an answer ends with nodrop's own error and not with a Temporal timeout.
 */
export const HTTP_TIMEOUT_MS = 8_000;

/**
 * nodrop treats a channel that accepts no connection within this time as unreachable. The default of Node's fetch is 10
 * s, which is longer than the timeout of the whole request. With the default, the error would not show that the
 * connection failed.
 */
export const CONNECT_TIMEOUT_MS = 3_000;

const agent = new Agent({ connect: { timeout: CONNECT_TIMEOUT_MS } });
/**
 * Calls fetch with the connect timeout. The type casts are safe, because the types of undici and of Node describe the
 * same classes.
 */
const fetchByAgent = ((url: string, init?: object) =>
  undiciFetch(url, { ...init, dispatcher: agent })) as unknown as typeof fetch;

/** The largest answer that nodrop reads into memory. A genuine answer of a channel has only some hundred bytes. */
const ANSWER_AT_MOST_BYTES = 1024 * 1024;
/** The largest answer that nodrop reads for one page of a channel's listing. A page has some hundred objects. */
export const PAGE_AT_MOST_BYTES = 8 * 1024 * 1024;

export interface ExchangeOptions {
  /** The channel's name, for error messages. */
  readonly channel: string;
  readonly signal?: AbortSignal | undefined;
  /** @default 1 MiB */
  readonly atMostBytes?: number | undefined;
  /** @default fetch with the connect timeout */
  readonly fetch?: typeof fetch | undefined;
}

/**
 * Sends one request to a channel and reads the whole answer within `HTTP_TIMEOUT_MS`. The connection may take at most
 * `CONNECT_TIMEOUT_MS` of that time. The function does not follow a redirect, but returns the redirect as the answer.
 * @throws ChannelError `unreachable`, or `garbage` if the body is too long
 */
export async function exchange(
  url: string,
  init: RequestInit,
  { channel, signal, atMostBytes = ANSWER_AT_MOST_BYTES, fetch: send = fetchByAgent }: ExchangeOptions,
): Promise<{ readonly response: Response; readonly text: string }> {
  // AbortSignal.any is not used here. On Node 20, a timeout signal to which only a combined signal refers may be
  // garbage-collected before it fires.
  const controller = new AbortController();
  const abort = () => controller.abort(signal?.reason);
  const timer = setTimeout(() => controller.abort(new Error('no answer in time')), HTTP_TIMEOUT_MS);
  signal?.addEventListener('abort', abort);
  if (signal?.aborted) abort();
  try {
    const response = await send(url, { ...init, redirect: 'manual', signal: controller.signal });
    return { response, text: await readText(response, channel, atMostBytes) };
  } catch (cause) {
    if (cause instanceof ChannelError) throw cause;
    const reason = controller.signal.aborted ? controller.signal.reason : cause;
    const why = isConnectTimeout(reason)
      ? `no connection within ${CONNECT_TIMEOUT_MS / 1_000} s`
      : reason instanceof Error
        ? reason.message
        : String(reason);
    throw new ChannelError('unreachable', `${channel} could not be reached: ${why}`, { cause });
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener('abort', abort);
  }
}

/** A failed fetch throws a TypeError whose cause is undici's error. */
const isConnectTimeout = (error: unknown): boolean =>
  error instanceof Error &&
  (error.cause as { code?: unknown } | undefined)?.code === 'UND_ERR_CONNECT_TIMEOUT';

/**
 * Runs `work`, which may send several requests. The signal for `work` is aborted after `ms`, or when the caller's
 * signal is aborted.
 */
export async function inTime<T>(
  ms: number,
  outer: AbortSignal | undefined,
  work: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const controller = new AbortController();
  const abort = () => controller.abort(outer?.reason);
  const timer = setTimeout(() => controller.abort(new Error('no answer in time')), ms);
  outer?.addEventListener('abort', abort);
  if (outer?.aborted) abort();
  try {
    return await work(controller.signal);
  } finally {
    clearTimeout(timer);
    outer?.removeEventListener('abort', abort);
  }
}

/**
 * Reads the body of an answer as text.
 * @throws ChannelError `garbage` as soon as the body is too long; the remaining bytes are not read
 */
async function readText(response: Response, channel: string, atMostBytes: number): Promise<string> {
  const chunks: Uint8Array[] = [];
  let length = 0;
  for await (const chunk of response.body ?? []) {
    length += chunk.byteLength;
    if (length > atMostBytes) {
      throw new ChannelError('garbage', `${channel} answered more than ${atMostBytes} bytes`);
    }
    chunks.push(chunk);
  }
  return new TextDecoder().decode(Buffer.concat(chunks));
}
