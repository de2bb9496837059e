import { ChannelError } from '../domain/channel.ts';

/** Below the 10 s an activity attempt may take, so that a hung call ends as an answer of ours and not as a time-out of Temporal's. */
export const HTTP_TIMEOUT_MS = 8_000;

/** An answer takes some hundred bytes. One beyond this is none of the channel's, and is not taken into memory. */
const ANSWER_AT_MOST_BYTES = 1024 * 1024;
/** A page of a listing: some hundred objects. */
export const PAGE_AT_MOST_BYTES = 8 * 1024 * 1024;

export interface ExchangeOptions {
  /** The channel's name, for what is said of a failure. */
  readonly channel: string;
  readonly signal?: AbortSignal | undefined;
  /** @default 1 MiB */
  readonly atMostBytes?: number | undefined;
  /** @default the global fetch */
  readonly fetch?: typeof fetch | undefined;
}

/**
 * One request to a channel and its whole answer within the time-out, which connecting counts against too. Redirects are
 * answers, and not followed.
 * @throws ChannelError `unreachable`, or `garbage` for a body that is too long.
 */
export async function exchange(
  url: string,
  init: RequestInit,
  { channel, signal, atMostBytes = ANSWER_AT_MOST_BYTES, fetch: send = fetch }: ExchangeOptions,
): Promise<{ readonly response: Response; readonly text: string }> {
  // Not AbortSignal.any: on Node 20 a time-out that only a combined signal refers to may be collected unfired.
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
    const why = reason instanceof Error ? reason.message : String(reason);
    throw new ChannelError('unreachable', `${channel} could not be asked: ${why}`, { cause });
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener('abort', abort);
  }
}

/** Does the work, which may be several requests, and aborts its signal when that of the caller is, or the time is over. */
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

/** The body as text. @throws ChannelError `garbage` as soon as it is too long; what follows is not read. */
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
