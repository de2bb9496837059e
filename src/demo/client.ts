import { setTimeout as sleep } from 'node:timers/promises';

export interface Reply {
  readonly status: number;
  /** A text unless it is JSON. */
  readonly body: unknown;
}

const FIRST_WAIT_MS = 250;
const LONGEST_WAIT_MS = 2_000;
/** Above the API's own deadlines and the longest wait asked of it here. */
const TIMEOUT_MS = 25_000;

/**
 * One HTTP request, repeated until there is an answer that means something: nodrop says that every request may be
 * repeated, and the demo kills the API while payers pay.
 * @throws AbortError when `signal` ends it.
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

/** Overloaded, in trouble, or busy with the same thing: worth asking again. */
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
    // A payer sent back to the shop has arrived.
    redirect: 'manual',
    signal: AbortSignal.timeout(TIMEOUT_MS),
  });
  const text = await response.text();
  const isJson = response.headers.get('content-type')?.includes('json') === true;
  return { status: response.status, body: isJson ? JSON.parse(text) : text };
}
