// The part of the client for a merchant's server. It holds the merchant's API key, so a page must never load it. The
// types are in server.d.ts.
import { createHmac, randomUUID, timingSafeEqual } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { connect, NodropError, pauseAfter } from './index.js';

export { isFinal, NodropError } from './index.js';

/** Time limit of one try. The service answers each request within 9 s. */
const TRY_MS = 15_000;
/** Time limit of a call with all its tries. */
const CALL_MS = 40_000;
const TRIES = 3;
/** How long a request of `followEvents` lets the service wait for a new event. */
const HELD_SECONDS = 30;
/** An empty page that arrives in less than this time shows that the service had no free slot for a waiting request. */
const HELD_AT_LEAST_MS = 5_000;
const TOLERANCE_SECONDS = 300;

/** @param {string} id */
const orderPath = (id) => `/v1/orders/${encodeURIComponent(id)}`;
/** @param {string} id */
const paymentPath = (id) => `/v1/payments/${encodeURIComponent(id)}`;

/** True when a retry of the request may succeed. @param {unknown} error */
const mayPass = (error) =>
  error instanceof NodropError &&
  (error.code === 'no_answer' ||
    error.code === 'idempotency_key_in_progress' ||
    error.status === 429 ||
    (error.status ?? 0) >= 500);

/** @param {number} ms @param {AbortSignal | undefined} signal @throws the signal's reason */
async function rest(ms, signal) {
  try {
    await sleep(ms, undefined, signal === undefined ? {} : { signal });
  } catch {
    throw signal?.reason;
  }
}

/** @param {object | undefined} query @returns the query string with its question mark; empty without parameters */
function search(query = {}) {
  const given = Object.entries(query).filter(([, value]) => value !== undefined);
  return given.length === 0
    ? ''
    : `?${new URLSearchParams(given.map(([name, value]) => [name, String(value)]))}`;
}

/** @type {typeof import('./server.d.ts').createServerClient} */
export function createServerClient({ baseUrl, key, fetch }) {
  if (typeof key !== 'string' || key === '') throw new TypeError("The merchant's API key is missing.");
  const { call, waitForResult } = connect({ baseUrl, key, fetch });

  /**
   * Sends a request until the answer is final, three times at most.
   * @param {string} path
   * @param {import('./server.d.ts').WriteOptions & { method?: string, body?: unknown, heldMs?: number, tries?: number
   * }} options
   * @returns {Promise<any>}
   */
  async function persist(path, { idempotencyKey, signal, timeoutMs, heldMs = 0, tries = TRIES, ...options }) {
    const end = Date.now() + (timeoutMs ?? CALL_MS + heldMs);
    /** @type {Record<string, string>} */
    const headers = idempotencyKey === undefined ? {} : { 'idempotency-key': idempotencyKey };
    for (let before = 0; ; before += 1) {
      try {
        const left = Math.min(TRY_MS + heldMs, Math.max(end - Date.now(), 1));
        return await call(path, { ...options, headers, signal, timeoutMs: left });
      } catch (error) {
        const pause = pauseAfter(error, before);
        if (!mayPass(error) || before + 1 >= tries || Date.now() + pause >= end) {
          if (error instanceof NodropError) Object.assign(error, { idempotencyKey });
          throw error;
        }
        await rest(pause, signal);
      }
    }
  }

  /** @param {string} path @param {import('./server.d.ts').ReadOptions} [options] */
  const read = (path, { wait, signal, timeoutMs } = {}) =>
    persist(path + search({ wait }), { signal, timeoutMs, heldMs: (wait ?? 0) * 1000 });

  /**
   * Sends a write. All its tries carry one idempotency key.
   * @param {string} path
   * @param {unknown} [body]
   * @param {import('./server.d.ts').WriteOptions & { method?: string, tries?: number }} [options]
   */
  const write = (path, body, { idempotencyKey = randomUUID(), method = 'POST', ...options } = {}) =>
    persist(path, { ...options, method, body, idempotencyKey });

  /**
   * @param {string} path
   * @param {object} [query]
   * @param {import('./server.d.ts').CallOptions} [options]
   * @param {string} [cursorName]
   */
  function list(path, query = {}, options = {}, cursorName = 'cursor') {
    /** @param {object} of */
    const page = (of) => persist(path + search(of), options);
    return {
      page: () => page(query),
      async *[Symbol.asyncIterator]() {
        for (let of = query; ; ) {
          const { data, nextCursor } = await page(of);
          yield* data;
          // At the end of the feed, `nextCursor` is not null, but the page is empty.
          if (nextCursor === null || data.length === 0) return;
          of = { ...query, [cursorName]: nextCursor };
        }
      },
    };
  }

  return {
    createOrder: (order, options) => write('/v1/orders', order, options),
    listOrders: (query, options) => list('/v1/orders', query, options),
    getOrder: (id, options) => read(orderPath(id), options),
    changeOrder: (id, change, options) => write(orderPath(id), change, { ...options, method: 'PATCH' }),
    cancelOrder: (id, options) => write(`${orderPath(id)}/cancel`, undefined, options),

    createPayment: (payment, options) => write('/v1/payments', payment, options),
    listPayments: (query, options) => list('/v1/payments', query, options),
    getPayment: (id, options) => read(paymentPath(id), options),
    waitForResult: (id, { signal, onUpdate, onConnection } = {}) =>
      waitForResult(id, { signal, onUpdate, onConnection }),
    getTimeline: (id, query, options) => list(`${paymentPath(id)}/timeline`, query, options),
    queryPayment: (id, options) => write(`${paymentPath(id)}/query`, undefined, options),
    hintPayment: async (id, options) => void (await write(`${paymentPath(id)}/hint`, undefined, options)),
    switchPayment: (id, to, options) => write(`${paymentPath(id)}/switch`, to, options),
    cancelPayment: (id, options) => write(`${paymentPath(id)}/cancel`, undefined, options),
    // The client sends this request only once. The service refuses to resolve a payment twice. So if the first try
    // succeeded but its answer was lost, a retry would report an error.
    resolvePayment: (id, resolution, options) =>
      write(`${paymentPath(id)}/resolve`, resolution, { ...options, tries: 1 }),

    createRefund: async (id, refund, options) => {
      // The caller must give the key. If the client generated the key, a program that repeats the call after a restart
      // would send another key and refund twice.
      if (typeof options?.idempotencyKey !== 'string' || options.idempotencyKey === '')
        throw new TypeError(
          'A refund needs an idempotencyKey of your own, derived from what you have stored: another key makes another refund.',
        );
      return await write(`${paymentPath(id)}/refunds`, refund, options);
    },
    listRefunds: (id, query, options) => list(`${paymentPath(id)}/refunds`, query, options),
    getRefund: (id, options) => read(`/v1/refunds/${encodeURIComponent(id)}`, options),

    listEvents: (query, options) => list('/v1/events', query, options, 'after'),
    async *followEvents({ after, limit } = {}, { signal } = {}) {
      let failures = 0;
      let empty = 0;
      for (let cursor = after; ; ) {
        const askedAt = Date.now();
        let page;
        try {
          page = await persist(`/v1/events${search({ after: cursor, limit, wait: HELD_SECONDS })}`, {
            signal,
            heldMs: HELD_SECONDS * 1000,
            tries: 1,
          });
        } catch (error) {
          if (!mayPass(error)) throw error;
          await rest(pauseAfter(error, failures), signal);
          failures += 1;
          continue;
        }
        failures = 0;
        cursor = page.nextCursor;
        if (page.data.length > 0) {
          empty = 0;
          yield page;
        } else if (Date.now() - askedAt < HELD_AT_LEAST_MS) {
          await rest(pauseAfter(undefined, empty), signal);
          empty += 1;
        }
      }
    },

    listPaymentDeliveries: (id, query, options) => list(`${paymentPath(id)}/deliveries`, query, options),
    listDeliveries: (query, options) => list('/v1/deliveries', query, options),
    redeliver: (id, options) =>
      write(`/v1/deliveries/${encodeURIComponent(id)}/redeliver`, undefined, options),
    redeliverMany: (which, options) => write('/v1/deliveries/redeliver', which, options),
    listCallbacks: (query, options) => list('/v1/callbacks', { ...query, unmatched: true }, options),
  };
}

/** @param {string} detail @param {unknown} [cause] */
const unverified = (detail, cause) =>
  new NodropError({ code: 'event_unverified', status: 401, detail }, { cause });

/** @param {import('./server.d.ts').HeadersLike} headers @param {string} name in lower case @returns {string} */
function headerOf(headers, name) {
  const value = headers instanceof Headers ? headers.get(name) : headers[name];
  if (typeof value !== 'string' || value === '') throw unverified(`The header ${name} is missing.`);
  return value;
}

/** @type {typeof import('./server.d.ts').verifySignature} */
export function verifySignature({ body, headers, secret, toleranceSeconds = TOLERANCE_SECONDS }) {
  const encoded = typeof secret === 'string' ? secret.replace(/^whsec_/, '') : '';
  const hmacKey = Buffer.from(encoded, 'base64');
  if (hmacKey.length === 0) throw new TypeError('The secret that signs events (whsec_...) is missing.');
  if (typeof body !== 'string' && !(body instanceof Uint8Array))
    throw new TypeError('The body must be the bytes or the text as received, not the parsed value.');

  const id = headerOf(headers, 'webhook-id');
  const timestamp = headerOf(headers, 'webhook-timestamp');
  const signatures = headerOf(headers, 'webhook-signature');
  const expected = createHmac('sha256', hmacKey).update(`${id}.${timestamp}.`).update(body).digest();
  let isSigned = false;
  // Compares all signatures, so that the time taken does not show which one matches.
  for (const signature of signatures.split(' ')) {
    const [version, text = ''] = signature.split(',');
    const given = Buffer.from(text, 'base64');
    if (version === 'v1' && given.length === expected.length && timingSafeEqual(given, expected))
      isSigned = true;
  }
  if (!isSigned) throw unverified('No signature fits.');

  const sentAt = /^\d{1,12}$/.test(timestamp) ? Number(timestamp) : Number.NaN;
  if (!(Math.abs(Date.now() / 1000 - sentAt) <= toleranceSeconds))
    throw unverified(`It was signed more than ${toleranceSeconds} s ago, or by a clock that is ahead.`);
  return { id, sentAt: new Date(sentAt * 1000) };
}

/** @type {typeof import('./server.d.ts').verifyEvent} */
export function verifyEvent(signed) {
  const { id, sentAt } = verifySignature(signed);
  const text = typeof signed.body === 'string' ? signed.body : new TextDecoder().decode(signed.body);
  let event;
  try {
    event = JSON.parse(text);
  } catch (cause) {
    throw malformed('It is signed, and no JSON.', cause);
  }
  if (
    typeof event?.type !== 'string' ||
    typeof event.timestamp !== 'string' ||
    typeof event.data !== 'object' ||
    event.data === null
  )
    throw malformed('It is signed, and no event.');
  return { ...event, id, sentAt };
}

/** @param {string} detail @param {unknown} [cause] */
const malformed = (detail, cause) =>
  new NodropError({ code: 'event_malformed', status: 400, detail }, { cause });
