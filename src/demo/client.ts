import { setTimeout as sleep } from 'node:timers/promises';

export interface Reply {
  readonly status: number;
  /** The body of an answer: parsed if it is JSON, otherwise the text. */
  readonly body: unknown;
}

const FIRST_WAIT_MS = 250;
const LONGEST_WAIT_MS = 2_000;
/**
 * Timeout of a request. It is longer than the API's own deadlines, and longer than the longest `wait` that the demo
 * requests.
 */
const TIMEOUT_MS = 25_000;

/**
 * Sends an HTTP request, and repeats it until the answer is final. The demo kills the API while payers pay, and nodrop
 * promises that every request may be repeated.
 * @throws AbortError when `signal` aborts.
 */
export async function request(
  signal: AbortSignal,
  method: string,
  url: string,
  body?: string | object,
  headers: Readonly<Record<string, string>> = {},
): Promise<Reply> {
  for (let wait = FIRST_WAIT_MS; ; wait = Math.min(wait * 2, LONGEST_WAIT_MS)) {
    signal.throwIfAborted();
    const reply = await send(method, url, body, headers).catch(() => undefined);
    if (reply !== undefined && isAnswer(reply)) return reply;
    await sleep(wait, undefined, { signal });
  }
}

/**
 * True if the answer is final. The client retries after every other answer: an overload, a server error, or an
 * unresolved attempt.
 */
function isAnswer({ status, body }: Reply): boolean {
  const { code } = (body ?? {}) as { code?: string };
  return status < 500 && status !== 429 && code !== 'attempt_unresolved';
}

async function send(
  method: string,
  url: string,
  body: string | object | undefined,
  headers: Readonly<Record<string, string>>,
): Promise<Reply> {
  const response = await fetch(url, {
    method,
    headers: { ...(body === undefined ? {} : { 'content-type': 'application/json' }), ...headers },
    ...(body === undefined ? {} : { body: typeof body === 'string' ? body : JSON.stringify(body) }),
    // The client does not follow the redirect to the shop, because the shop's page does not exist in the demo.
    redirect: 'manual',
    signal: AbortSignal.timeout(TIMEOUT_MS),
  });
  const text = await response.text();
  const isJson = response.headers.get('content-type')?.includes('json') === true;
  return { status: response.status, body: isJson ? JSON.parse(text) : text };
}
