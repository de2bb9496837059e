// The payer's part of the client: plain JavaScript without dependencies. Browsers load this file unchanged. Its types
// are in index.d.ts.

/** Time limit for a stream's headers, and again for its first event. A buffering proxy delivers neither. */
const STREAM_START_MS = 4_000;
/** A stream that is silent for longer counts as blocked. The service sends a comment at least every 15 s. */
const STREAM_SILENCE_MS = 40_000;
/** A stream that ends sooner is retried once, immediately. If it ends sooner again, streaming counts as blocked. */
const STREAM_WORTH_MS = 10_000;
/** The wait before the client retries a blocked stream. It doubles after each retry. */
const STREAM_REST_MS = { first: 30_000, last: 600_000 };
const REQUEST_MS = 15_000;
/** How long the service may hold a poll. */
const HELD_SECONDS = 10;
/** If a held poll returns sooner and without a change, the service did not hold it. */
const HELD_AT_LEAST_MS = 5_000;
/** The pauses after a held poll, a plain poll, and a request without an answer. */
const HELD_PAUSE_MS = { first: 1_000, last: 1_000 };
const PLAIN_PAUSE_MS = { first: 1_000, last: 15_000 };
const AWAY_PAUSE_MS = { first: 1_000, last: 5_000 };
/**
 * Over HTTP/1.1, all pages of a browser share six connections to a service. At most this many requests stay open, so
 * that pages still load and hints still arrive.
 */
const MAX_OPEN = 3;

/** Codes of refusals. After one of them, this caller can never read this payment. */
const REFUSED = new Set(['unauthorized', 'forbidden', 'payment_not_found']);

export class NodropError extends Error {
  /** @param {import('./index.d.ts').Refusal} problem @param {{ cause?: unknown, retryAfterSeconds?: number | undefined }} [more] */
  constructor(problem, { cause, retryAfterSeconds } = {}) {
    const { type, title, status, detail, code, instance, requestId, errors = [] } = problem;
    super(`${code}: ${detail}`, cause === undefined ? undefined : { cause });
    this.name = 'NodropError';
    this.code = code;
    this.retryAfterSeconds = retryAfterSeconds;
    Object.assign(this, { type, title, status, detail, instance, requestId, errors });
  }
}

/** @param {string} detail @param {{ cause?: unknown, retryAfterSeconds?: number | undefined }} more */
const unanswered = (detail, more) => new NodropError({ code: 'no_answer', detail }, more);

/** @type {typeof import('./index.d.ts').isFinal} */
export function isFinal({ status, orderUpdate }) {
  if (status === 'succeeded') return orderUpdate !== null && orderUpdate !== 'pending';
  return status === 'failed' || status === 'cancelled' || status === 'closed';
}

/** @type {typeof import('./index.d.ts').createClient} */
export function createClient({ baseUrl, fetch }) {
  const { getPayment, waitForResult, hint, switchChannel } = connect({ baseUrl, fetch });
  return { getPayment, waitForResult, hint, switchChannel };
}

/** @type {typeof import('./index.d.ts').connect} */
export function connect({ baseUrl, key, fetch: given }) {
  const base = String(baseUrl).replace(/\/+$/, '');
  // Each call reads the global `fetch` again. Browsers refuse to run it as a method of another object.
  const send = given ?? ((/** @type {string} */ url, /** @type {RequestInit} */ init) => fetch(url, init));
  /**
   * The listeners of each payment, by its id. Their signals are `hinted`: the payment may have changed; `granted`: a
   * waiting call may stream now; `lost`: a connection that looks open may be dead, or must end.
   * @type {Map<string, Set<(signal: Wake) => void>>}
   *
   * @typedef {'hinted' | 'granted' | 'lost'} Wake
   */
  const listeners = new Map();

  /** @param {string} id @param {(reason: Wake) => void} listener @returns {() => void} ends it */
  function listen(id, listener) {
    const same = listeners.get(id) ?? new Set();
    listeners.set(id, same.add(listener));
    // After `online` or `offline`, older connections may be dead without an error.
    const changed = () => listener('lost');
    globalThis.addEventListener?.('online', changed);
    globalThis.addEventListener?.('offline', changed);
    // Hidden pages keep no request open; a page that becomes visible reads immediately.
    globalThis.document?.addEventListener('visibilitychange', changed);
    return () => {
      same.delete(listener);
      if (same.size === 0) listeners.delete(id);
      globalThis.removeEventListener?.('online', changed);
      globalThis.removeEventListener?.('offline', changed);
      globalThis.document?.removeEventListener('visibilitychange', changed);
    };
  }

  /** @param {string} id @param {Wake} reason */
  function wake(id, reason) {
    for (const listener of [...(listeners.get(id) ?? [])]) listener(reason);
  }

  /**
   * Like `limited`, but also aborts when the connection may be dead.
   * @param {string} id
   * @param {AbortSignal} signal
   * @param {number} ms
   */
  function limitedUntilLost(id, signal, ms) {
    const limit = limited(signal, ms);
    let isLost = false;
    const unlisten = listen(id, (reason) => {
      if (reason !== 'lost') return;
      isLost = true;
      limit.abort();
    });
    return {
      ...limit,
      lost: () => isLost,
      clear() {
        unlisten();
        limit.clear();
      },
    };
  }

  /**
   * One request. Rejects with NodropError, and with the signal's reason when it is aborted.
   * @param {string} path
   * @param {Options} options
   * @returns {Promise<Response>}
   *
   * @typedef {object} Options
   * @property {string} [method]
   * @property {string | undefined} [token]
   * @property {unknown} [body]
   * @property {Record<string, string>} [headers]
   * @property {AbortSignal | undefined} [signal]
   * @property {(response: Response) => boolean} [wants]
   */
  async function request(path, { method = 'GET', token, body, headers, signal, wants = (r) => r.ok }) {
    const credential = token || key;
    throwIfAborted(signal);
    let response;
    try {
      response = await send(`${base}${path}`, {
        method,
        headers: {
          accept: 'application/json',
          ...(credential === undefined ? {} : { authorization: `Bearer ${credential}` }),
          ...(body === undefined ? {} : { 'content-type': 'application/json' }),
          ...headers,
        },
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
        ...(signal === undefined ? {} : { signal }),
        cache: 'no-store',
        credentials: 'omit',
        redirect: 'error',
        referrerPolicy: 'no-referrer',
      });
    } catch (cause) {
      throwIfAborted(signal);
      throw unanswered('The service cannot be reached.', { cause });
    }
    if (wants(response)) return response;
    throw await errorOf(response);
  }

  /**
   * Sends a request and parses its JSON answer, within `timeoutMs`.
   * @param {string} path
   * @param {Options & { timeoutMs?: number | undefined }} options
   * @returns {Promise<any>}
   */
  async function call(path, { timeoutMs = REQUEST_MS, signal, ...options }) {
    const limit = limited(signal, timeoutMs);
    try {
      const response = await request(path, { ...options, signal: limit.signal });
      return await response.json();
    } catch (error) {
      throwIfAborted(signal);
      if (error instanceof NodropError) throw error;
      // It timed out, or its answer was cut off or is not JSON.
      throw unanswered('The service gave no readable answer.', { cause: error });
    } finally {
      limit.clear();
    }
  }

  /** @type {import('./internal.d.ts').Connected['getPayment']} */
  const getPayment = (id, { token, wait, signal, timeoutMs } = {}) =>
    call(`${pathOf(id)}${wait === undefined ? '' : `?wait=${wait}`}`, {
      token,
      signal,
      timeoutMs: timeoutMs ?? (wait ?? 0) * 1000 + REQUEST_MS,
    });

  /**
   * Follows a payment by its event stream until `onPayment` returns true.
   * @param {string} id
   * @param {{ token: string | undefined, signal: AbortSignal, lastEventId: string }} options
   * @param {(payment: any, eventId: string) => boolean} onPayment
   * @param {() => void} onLive
   * @returns {Promise<'ended' | 'brief' | 'blocked' | 'away'>} `ended`: the stream worked for a while, or is no longer
   *   needed; `brief`: it ended too soon; `blocked`: something on the way stops it, or the service has no slot; `away`:
   *   the service did not answer
   */
  async function follow(id, { token, signal, lastEventId }, onPayment, onLive) {
    const limit = limitedUntilLost(id, signal, STREAM_START_MS);
    let worked = false;
    let reachedAt;
    try {
      const response = await request(`${pathOf(id)}/events`, {
        token,
        signal: limit.signal,
        headers: {
          accept: 'text/event-stream',
          ...(lastEventId === '' ? {} : { 'last-event-id': lastEventId }),
        },
        wants: () => true,
      });
      reachedAt = Date.now();
      if (!response.ok) throw await errorOf(response);
      const type = response.headers.get('content-type') ?? '';
      if (!type.startsWith('text/event-stream') || response.body === null) return 'blocked';
      for await (const event of readEvents(response.body)) {
        worked = true;
        limit.extend(STREAM_SILENCE_MS);
        onLive();
        if (event.type === 'payment' && onPayment(JSON.parse(event.data), event.id)) return 'ended';
      }
    } catch (error) {
      throwIfAborted(signal);
      if (isRefused(error)) throw error;
    } finally {
      limit.clear();
      // Closes a stream that the loop has left.
      limit.abort();
    }
    if (limit.lost()) return worked ? 'ended' : 'away';
    if (limit.expired()) return 'blocked';
    if (reachedAt === undefined) return 'away';
    if (!worked) return 'blocked';
    return Date.now() - reachedAt < STREAM_WORTH_MS ? 'brief' : 'ended';
  }

  /** @type {import('./internal.d.ts').Connected['waitForResult']} */
  async function waitForResult(id, { token, signal: given, onUpdate, onConnection } = {}) {
    // Aborted with the caller's signal, and when the result is known.
    const ours = new AbortController();
    const stop = () => ours.abort(given?.reason);
    throwIfAborted(given);
    given?.addEventListener('abort', stop);
    const { signal } = ours;

    /** @type {any} */
    let last;
    let lastText = '';
    let lastEventId = '';
    /** @type {string | undefined} */
    let connection;
    /** @param {any} payment */
    const take = (payment) => {
      const text = JSON.stringify(payment);
      last = payment;
      if (text === lastText) return;
      lastText = text;
      // In a microtask, an error of the callback does not look like a broken stream.
      queueMicrotask(() => onUpdate?.(payment));
    };
    /** @param {import('./index.d.ts').Connection} state */
    const connected = (state) => {
      if (connection === state) return;
      connection = state;
      queueMicrotask(() => onConnection?.(state));
    };
    // While another attempt is undecided, the payer may still pay by that one.
    const done = () =>
      last !== undefined && isFinal(last) && (last.status === 'succeeded' || last.orderState !== 'undecided');

    let streamNotBefore = 0;
    let rest = STREAM_REST_MS.first;
    let hasBeenBrief = false;
    let holds = true;
    let polls = 0;
    const slot = requestSlot(base, signal, () => wake(id, 'granted'));
    try {
      for (;;) {
        const hasSlot = slot.isHeld();
        if (hasSlot && Date.now() >= streamNotBefore) {
          const end = await follow(
            id,
            { token, signal, lastEventId },
            (payment, eventId) => {
              lastEventId = eventId;
              take(payment);
              return done();
            },
            () => connected('live'),
          );
          if (done()) return last;
          if (end === 'ended') {
            rest = STREAM_REST_MS.first;
            hasBeenBrief = false;
            polls = 0;
          } else if (end === 'brief' && !hasBeenBrief) {
            hasBeenBrief = true;
          } else if (end !== 'away') {
            streamNotBefore = Date.now() + rest;
            rest = Math.min(rest * 2, STREAM_REST_MS.last);
          }
        }

        // The client also polls after each stream, because the next stream may fail.
        const mayHold = holds && slot.isHeld();
        const held = mayHold && polls > 0 && connection === 'polling';
        /** @type {{ first: number, last: number }} */
        let pause;
        let atLeast = 0;
        const askedAt = Date.now();
        const textBefore = lastText;
        const limit = limitedUntilLost(id, signal, HELD_SECONDS * 1000 + REQUEST_MS);
        try {
          take(
            await getPayment(id, { token, signal: limit.signal, ...(held ? { wait: HELD_SECONDS } : {}) }),
          );
          // After a change, the next stream starts without the last event's id. Otherwise it would skip a payment that
          // has returned to the state that the last stream sent.
          if (lastText !== textBefore) lastEventId = '';
          if (connection !== 'polling') polls = 0;
          connected('polling');
          // Without a free slot, the service answers a held poll immediately.
          const inVain = held && lastText === textBefore && Date.now() - askedAt < HELD_AT_LEAST_MS;
          pause = mayHold && !inVain ? HELD_PAUSE_MS : PLAIN_PAUSE_MS;
          if (lastText !== textBefore || (held && !inVain)) polls = 0;
        } catch (error) {
          throwIfAborted(signal);
          if (isRefused(error)) throw error;
          if (limit.lost()) {
            polls = 0;
            continue;
          }
          // A proxy may cut requests that take long.
          if (held) holds = false;
          if (connection !== 'away') polls = 0;
          connected('away');
          atLeast = Math.min(retryAfterMs(error), REQUEST_MS);
          pause = AWAY_PAUSE_MS;
        } finally {
          limit.clear();
        }
        if (done()) return last;
        // The right to stream came during the poll.
        if (slot.isHeld() && !hasSlot) continue;
        await rested(id, Math.max(atLeast, decayed(pause, polls)), signal, () => {
          polls = 0;
        });
        polls += 1;
      }
    } finally {
      given?.removeEventListener('abort', stop);
      ours.abort();
    }
  }

  /**
   * Resolves after `ms`, or as soon as the payment may have changed.
   * @param {string} id
   * @param {number} ms
   * @param {AbortSignal} signal
   * @param {() => void} onWake
   * @returns {Promise<void>}
   */
  function rested(id, ms, signal, onWake) {
    return new Promise((resolve, reject) => {
      const end = () => {
        clearTimeout(timer);
        unlisten();
        signal.removeEventListener('abort', abort);
      };
      const timer = setTimeout(() => {
        end();
        resolve();
      }, ms);
      const unlisten = listen(id, () => {
        end();
        onWake();
        resolve();
      });
      const abort = () => {
        end();
        reject(signal.reason);
      };
      signal.addEventListener('abort', abort);
      if (signal.aborted) abort();
    });
  }

  return {
    call,
    getPayment,
    waitForResult,
    async hint(id, options = {}) {
      try {
        await call(`${pathOf(id)}/hint`, { ...options, method: 'POST' });
      } catch (error) {
        // If a hint gets no answer, the event stream may also be dead.
        if (isUnanswered(error)) wake(id, 'lost');
        throw error;
      }
      wake(id, 'hinted');
    },
    switchChannel: (id, { channel, method }, options = {}) =>
      call(`${pathOf(id)}/switch`, { ...options, method: 'POST', body: { channel, method } }),
  };
}

/**
 * The right to keep a request open: a stream, or a held poll. A page has it while it is visible and holds one of a
 * few Web Locks, which its origin's pages share. Without Web Locks (old browsers, pages without TLS), each visible page
 * has it. Outside of browsers, the client always has it.
 * @param {string} base
 * @param {AbortSignal} signal gives the right back
 * @param {() => void} onGranted called when the right is granted after a wait
 */
function requestSlot(base, signal, onGranted) {
  const { document } = globalThis;
  let isHeld = false;
  /**
   * Aborted when the page is hidden, and undefined while it is hidden.
   * @type {AbortController | undefined}
   */
  let visible;

  /** @param {LockManager} locks @param {AbortSignal} until */
  function queue(locks, until) {
    const waiting = new AbortController();
    const stop = () => waiting.abort();
    until.addEventListener('abort', stop);
    const have = () => {
      isHeld = true;
      stop();
      onGranted();
    };
    const hold = () => {
      // A page that gets several locks keeps only the first.
      if (waiting.signal.aborted) return undefined;
      have();
      return new Promise((resolve) => until.addEventListener('abort', resolve));
    };
    const origin = originOf(base);
    Promise.all(
      Array.from({ length: MAX_OPEN }, (_, slot) =>
        locks.request(`nodrop-stream-${slot} ${origin}`, { signal: waiting.signal }, hold),
      ),
    ).catch(() => {
      // The browser forbids Web Locks on this page.
      if (!waiting.signal.aborted) have();
    });
  }

  const leave = () => {
    isHeld = false;
    visible?.abort();
    visible = undefined;
  };
  const look = () => {
    if (document?.visibilityState === 'hidden') return leave();
    if (visible !== undefined) return;
    visible = new AbortController();
    const locks = webLocks();
    if (locks === undefined) isHeld = true;
    else queue(locks, visible.signal);
  };
  document?.addEventListener('visibilitychange', look);
  signal.addEventListener('abort', () => {
    document?.removeEventListener('visibilitychange', look);
    leave();
  });
  look();
  return { isHeld: () => isHeld };
}

/**
 * The Web Locks of a browser. Undefined in Node, which does not limit its connections.
 * @returns {LockManager | undefined}
 */
function webLocks() {
  const isBrowser = 'document' in globalThis || 'WorkerGlobalScope' in globalThis;
  return isBrowser ? globalThis.navigator?.locks : undefined;
}

/** @param {string} base may be relative to the page */
function originOf(base) {
  try {
    return new URL(base, globalThis.document?.baseURI ?? globalThis.location?.href).origin;
  } catch {
    return base;
  }
}

/** `signal.throwIfAborted` is too new for many phones. @param {AbortSignal | undefined} signal */
function throwIfAborted(signal) {
  if (signal?.aborted) throw signal.reason;
}

/** @param {string} id */
const pathOf = (id) => `/v1/payments/${encodeURIComponent(id)}`;

/** @param {unknown} error */
const isRefused = (error) => error instanceof NodropError && REFUSED.has(error.code);

/** @param {unknown} error */
const isUnanswered = (error) => error instanceof NodropError && error.code === 'no_answer';

/**
 * The service's refusals have a `code`. An answer without one, for example of a proxy, does not say what happened to
 * the request.
 * @param {Response} response
 */
async function errorOf(response) {
  const seconds = Number.parseInt(response.headers.get('retry-after') ?? '', 10);
  const retryAfterSeconds = Number.isNaN(seconds) ? undefined : seconds;
  if ((response.headers.get('content-type') ?? '').startsWith('application/problem+json')) {
    const problem = await response.json().catch(() => undefined);
    if (typeof problem?.code === 'string') return new NodropError(problem, { retryAfterSeconds });
  }
  await response.body?.cancel().catch(() => undefined);
  return unanswered(`Something other than the service answered ${response.status}.`, { retryAfterSeconds });
}

/** @param {unknown} error */
const retryAfterMs = (error) => ((error instanceof NodropError ? error.retryAfterSeconds : 0) ?? 0) * 1000;

/** @type {typeof import('./index.d.ts').pauseAfter} */
export const pauseAfter = (error, before) => Math.max(retryAfterMs(error), decayed(AWAY_PAUSE_MS, before));

/**
 * The pause after `before` earlier pauses: each is 1.5 times as long as the one before, plus or minus 20 %, so that
 * not all clients return at once.
 * @param {{ first: number, last: number }} range
 * @param {number} before
 */
function decayed({ first, last }, before) {
  return Math.min(first * 1.5 ** before, last) * (0.8 + 0.4 * Math.random());
}

/**
 * Aborts with another signal or after a time. `AbortSignal.any` and `timeout` are too new for many phones.
 * @param {AbortSignal | undefined} signal
 * @param {number} ms
 */
function limited(signal, ms) {
  const controller = new AbortController();
  let hasExpired = false;
  const abort = () => controller.abort(signal?.reason);
  const expire = () => {
    hasExpired = true;
    controller.abort(new Error('The time is up.'));
  };
  let timer = setTimeout(expire, ms);
  signal?.addEventListener('abort', abort);
  if (signal?.aborted) abort();
  return {
    signal: controller.signal,
    expired: () => hasExpired,
    abort: () => controller.abort(),
    /** @param {number} more */
    extend(more) {
      clearTimeout(timer);
      timer = setTimeout(expire, more);
    },
    clear() {
      clearTimeout(timer);
      signal?.removeEventListener('abort', abort);
    },
  };
}

/**
 * Reads Server-Sent Events. A comment becomes an event of the type `comment`, because it shows that the stream is alive.
 * @param {ReadableStream<Uint8Array>} body
 * @returns {AsyncGenerator<{ type: string, data: string, id: string }>}
 */
async function* readEvents(body) {
  const reader = body.getReader();
  const decoder = new TextDecoder();
  let text = '';
  let id = '';
  let type = '';
  /** @type {string[]} */
  let data = [];
  try {
    for (;;) {
      const { done, value } = await reader.read();
      // Text that no empty line ends is not an event.
      if (done) return;
      text += decoder.decode(value, { stream: true });
      // A CR at the end may be the first half of a CRLF.
      const lines = text.split(/\r\n|\n|\r(?!$)/);
      text = lines.pop() ?? '';
      for (const line of lines) {
        if (line === '') {
          if (data.length > 0) yield { type: type === '' ? 'message' : type, data: data.join('\n'), id };
          type = '';
          data = [];
          continue;
        }
        const [, name = '', content = ''] = /^([^:]*):? ?(.*)$/s.exec(line) ?? [];
        if (name === '') yield { type: 'comment', data: content, id };
        else if (name === 'data') data.push(content);
        else if (name === 'event') type = content;
        else if (name === 'id') id = content;
      }
    }
  } finally {
    await reader.cancel().catch(() => undefined);
  }
}
