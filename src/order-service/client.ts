import { randomUUID } from 'node:crypto';
import { request as requestHttp } from 'node:http';
import { request as requestHttps } from 'node:https';
import { BlockList, isIP, type LookupFunction } from 'node:net';
import { RequestFilteringHttpAgent, RequestFilteringHttpsAgent } from 'request-filtering-agent';
import { Webhook } from 'standardwebhooks';
import { z } from 'zod';
import { ORDER_UNKNOWN, type OrderAnswer, type OrderReading } from '../domain/event.ts';
import { answerStart } from './answer-start.ts';
import { createLookup } from './lookup.ts';

/**
 * The HTTP client for order services. An order service is a merchant's own server. It receives signed events about
 * payments (Standard Webhooks, https://www.standardwebhooks.com) and decides how the events change its orders. If its
 * answer is not definite, the outcome of the call is `unknown`, with a sentence that gives the reason (P3).
 */

export interface OrderServiceTarget {
  readonly url: string;
  /**
   * The URL at which nodrop reads the order after the order service has acknowledged an event. nodrop replaces
   * `{orderId}` by the order's id.
   */
  readonly statusUrl: string | null;
  /** The signing secrets, with the current secret first. Each event is signed with all of them. */
  readonly secrets: readonly string[];
}

export interface OrderServiceOptions {
  /**
   * True if order services may be on this machine or in a private network. nodrop checks the IP address of every
   * connection in any case.
   */
  readonly allowPrivate: boolean;
  /** The DNS lookup. @default `createLookup()` */
  readonly lookup?: LookupFunction;
  /**
   * If true, nodrop calls public addresses only with https, but private addresses also with http. This option has no
   * effect if private addresses are not allowed.
   * @default false
   */
  readonly httpsOnly?: boolean;
  /** The timeout of a whole call, from the DNS lookup to the end of the answer. @default 15 s */
  readonly timeoutMs?: number;
}

export interface OrderServiceMessage {
  /** The event's id, which is sent as `webhook-id`. It is the same in every delivery attempt. */
  readonly id: string;
  readonly paymentId: string;
  /** The JSON body of the event. It is signed and sent unchanged. */
  readonly body: string;
  /** The time of the delivery attempt. */
  readonly at: Date;
}

/** The placeholder for the order's id in a status URL. */
export const ORDER_ID = '{orderId}';

const TIMEOUT_MS = 15_000;
/** The maximum length of an answer body that nodrop reads, in bytes. */
const BODY_BYTES = 64 * 1024;
const RETRY_AFTER_AT_MOST_MS = 86_400_000;

/**
 * The only field that nodrop reads from the answer of an order service. The id may name a payment that nodrop does not
 * know.
 */
const namesPayment = z.object({ paidPaymentId: z.string().regex(/^[\x21-\x7e]{1,200}$/) });
const isObject = z.looseObject({});
const saysUnknown = z.object({ code: z.literal(ORDER_UNKNOWN) });

/** The fields that every call of an order service returns in addition to its outcome. */
interface Call {
  readonly durationMs: number;
  /** The start of the answer's body, if the answer has a body. Not set if the status URL reports the order as paid. */
  readonly answer?: string;
}

/** An HTTP answer. */
interface Reply {
  readonly status: number;
  /** The complete body of the answer. Null if the body was longer than the limit. */
  readonly body: string | null;
  /** The part of the body that was read. */
  readonly read: string;
  readonly retryAfterMs?: number;
}

/**
 * Link-local addresses and cloud metadata addresses. nodrop never calls them, even if an IPv6 address contains such an
 * IPv4 address.
 */
const NEVER = blockList(
  ['169.254.0.0', 16],
  ['fe80::', 10],
  ['fd00:ec2::254', 128],
  // The range 169.254.0.0/16, as NAT64 embeds it in IPv6.
  ['64:ff9b::a9fe:0', 112],
  // The metadata address of Alibaba Cloud. The other addresses of its range are treated as private.
  ['100.100.100.200', 32],
);
const PRIVATE = blockList(
  ...([
    ['10.0.0.0', 8],
    ['172.16.0.0', 12],
    ['192.168.0.0', 16],
    ['127.0.0.0', 8],
  ] as const),
  ...([
    ['100.64.0.0', 10],
    ['::1', 128],
    ['fc00::', 7],
  ] as const),
);

function blockList(...subnets: readonly (readonly [string, number])[]): BlockList {
  const list = new BlockList();
  for (const [address, prefix] of subnets)
    list.addSubnet(address, prefix, isIP(address) === 6 ? 'ipv6' : 'ipv4');
  return list;
}

/** Thrown if there was no complete HTTP answer. The message is a sentence that gives the reason. */
class NoReply extends Error {}

/**
 * Returns the reason why nodrop does not accept a URL for an order service, as the end of a sentence. Undefined if
 * nodrop accepts the URL. This function does not check the IP address behind the host name, because nodrop checks that
 * address at every connection.
 */
export function urlFault(
  url: string,
  { httpsOnly = false, allowPrivate = false }: { httpsOnly?: boolean; allowPrivate?: boolean },
): string | undefined {
  if (!URL.canParse(url)) return 'is not a URL';
  const { protocol, username, password, hash } = new URL(url);
  if (httpsOnly && !allowPrivate && protocol !== 'https:') return 'must be an https URL';
  if (protocol !== 'https:' && protocol !== 'http:') return 'must be an http or https URL';
  if (username !== '' || password !== '') return 'must have no user name or password: events are signed';
  if (hash !== '') return 'must have no #';
  return undefined;
}

export class OrderServiceClient {
  readonly #options: OrderServiceOptions;
  readonly #timeoutMs: number;
  readonly #lookup: LookupFunction;
  readonly #httpAgent: RequestFilteringHttpAgent;
  readonly #httpsAgent: RequestFilteringHttpsAgent;

  constructor(options: OrderServiceOptions) {
    this.#options = options;
    this.#timeoutMs = options.timeoutMs ?? TIMEOUT_MS;
    this.#lookup = options.lookup ?? createLookup();
    // Each call uses a new connection, so that nodrop checks the IP address for each call.
    const agent = { keepAlive: false, allowPrivateIPAddress: options.allowPrivate };
    this.#httpAgent = new RequestFilteringHttpAgent(agent);
    this.#httpsAgent = new RequestFilteringHttpsAgent(agent);
  }

  /** Sends an event to the order service. No answer or failure of the service makes this method throw. */
  async deliver(
    target: OrderServiceTarget,
    { id, paymentId, body, at }: OrderServiceMessage,
  ): Promise<OrderAnswer & Call> {
    return await timed(async () => {
      try {
        const headers = { 'content-type': 'application/json', ...signatures(target, id, body, at) };
        const reply = await this.#exchange('POST', target.url, headers, body);
        return { ...toAnswer(reply, paymentId), ...startOf(reply, target) };
      } catch (error) {
        if (!(error instanceof NoReply)) throw error;
        return { kind: 'unknown', reason: error.message, statusCode: null };
      }
    });
  }

  /**
   * Reads the order at the status URL of the order service. No answer or failure of the service makes this method
   * throw.
   */
  async read(
    target: OrderServiceTarget,
    orderId: string,
    paymentId: string,
    at: Date,
  ): Promise<OrderReading & Call> {
    return await timed(async () => {
      try {
        if (target.statusUrl === null)
          throw new NoReply('The merchant has no status URL to read the order from.');
        const url = target.statusUrl.replaceAll(ORDER_ID, encodeURIComponent(orderId));
        const headers = signatures(target, `read_${randomUUID()}`, '', at);
        const reply = await this.#exchange('GET', url, headers, '');
        const reading = toReading(reply, paymentId);
        return { ...reading, ...(reading.kind === 'paid' ? {} : startOf(reply, target)) };
      } catch (error) {
        if (!(error instanceof NoReply)) throw error;
        return { kind: 'unknown', reason: `Read back: ${error.message}` };
      }
    });
  }

  /**
   * Refuses link-local and cloud metadata addresses, and plain http to public addresses. This check is needed if
   * private addresses are allowed, because the HTTP agent then refuses no address.
   * @throws NoReply
   */
  #judge(address: string, secure: boolean): void {
    const { allowPrivate, httpsOnly = false } = this.#options;
    // If private addresses are not allowed, the HTTP agent already refuses link-local and metadata addresses, and
    // `urlFault` refuses http.
    if (!allowPrivate) return;
    const family = isIP(address) === 6 ? 'ipv6' : 'ipv4';
    if (NEVER.check(address, family))
      throw new NoReply(
        'It was not called: its address is a link-local or cloud metadata address, which is never allowed.',
      );
    if (httpsOnly && !secure && !PRIVATE.check(address, family))
      throw new NoReply('It was not called: its address is public, and public addresses need https.');
  }

  #lookUp(secure: boolean): LookupFunction {
    return (name, options, done) =>
      this.#lookup(name, options, (error, found, family) => {
        if (error !== null) return done(error, found, family);
        try {
          for (const { address } of typeof found === 'string' ? [{ address: found }] : found)
            this.#judge(address, secure);
        } catch (fault) {
          return done(fault as NoReply, '', 0);
        }
        done(null, found, family);
      });
  }

  /** Makes one HTTP call, with a timeout for the whole answer. @throws NoReply */
  async #exchange(
    method: 'GET' | 'POST',
    url: string,
    headers: Record<string, string>,
    body: string,
  ): Promise<Reply> {
    const fault = urlFault(url, this.#options);
    if (fault !== undefined) throw new NoReply(`It was not called: its address ${fault}.`);
    const { protocol, hostname } = new URL(url);
    const secure = protocol === 'https:';
    const host = hostname.replace(/^\[|\]$/g, '');
    if (isIP(host) !== 0) this.#judge(host, secure);
    const options = {
      method,
      agent: secure ? this.#httpsAgent : this.#httpAgent,
      lookup: this.#lookUp(secure),
      headers: {
        accept: 'application/json',
        // nodrop requests an uncompressed answer, because a small compressed answer could expand to any size.
        'accept-encoding': 'identity',
        'user-agent': 'nodrop',
        ...headers,
        ...(method === 'POST' ? { 'content-length': Buffer.byteLength(body) } : {}),
      },
    };
    return await new Promise((resolve, reject) => {
      const seconds = this.#timeoutMs / 1000;
      let late = `It did not answer within ${seconds} s.`;
      const outgoing = (secure ? requestHttps : requestHttp)(url, options, (response) => {
        late = `Its answer did not end within ${seconds} s.`;
        const status = response.statusCode ?? 0;
        const retryAfterMs = readRetryAfter(response.headers['retry-after'], response.headers.date);
        const chunks: Buffer[] = [];
        let bytes = 0;
        const end = (isWhole: boolean) => {
          const read = Buffer.concat(chunks).toString();
          const asked = retryAfterMs === undefined ? {} : { retryAfterMs };
          settle(() => resolve({ status, body: isWhole ? read : null, read, ...asked }));
        };
        response.on('data', (chunk: Buffer) => {
          bytes += chunk.length;
          chunks.push(chunk);
          if (bytes > BODY_BYTES) end(false);
        });
        response.once('end', () => end(true));
        response.on('error', (error) => fail(`Its answer ${status} broke off (${nameOf(error)}).`));
      });
      const settle = (outcome: () => void) => {
        clearTimeout(timer);
        outcome();
        outgoing.destroy();
      };
      const fail = (sentence: string, cause?: unknown) =>
        settle(() => reject(new NoReply(sentence, { cause })));
      const timer = setTimeout(() => fail(late), this.#timeoutMs);
      outgoing.on('error', (error) => fail(explain(error), error));
      outgoing.end(body);
    });
  }
}

/**
 * Returns the three headers of Standard Webhooks. They contain one signature for each signing secret. @throws NoReply
 */
function signatures(
  { secrets }: OrderServiceTarget,
  id: string,
  body: string,
  at: Date,
): Record<string, string> {
  if (secrets.length === 0) {
    throw new NoReply(
      'It was not called: the merchant has no signing secret. `merchants rotate-secret` creates one.',
    );
  }
  return {
    'webhook-id': id,
    'webhook-timestamp': String(Math.floor(at.getTime() / 1000)),
    'webhook-signature': secrets.map((secret) => new Webhook(secret).sign(id, at, body)).join(' '),
  };
}

function toAnswer({ status, body, retryAfterMs }: Reply, paymentId: string): OrderAnswer {
  if (isSuccess(status)) return { kind: 'agreed', statusCode: status };
  const asked = retryAfterMs === undefined ? {} : { retryAfterMs };
  if (isOrderUnknown(status, body)) return { kind: 'order_unknown', statusCode: status, ...asked };
  if (status === 410) return { kind: 'gone', statusCode: status };
  const paidPaymentId =
    status === 409 ? namesPayment.safeParse(readJson(body)).data?.paidPaymentId : undefined;
  if (paidPaymentId === paymentId) return { kind: 'agreed', statusCode: status };
  if (paidPaymentId !== undefined) return { kind: 'conflict', statusCode: status, paidPaymentId };
  return {
    kind: 'unknown',
    reason: REASONS[status] ?? said(status),
    statusCode: status,
    ...asked,
  };
}

const REASONS: Readonly<Record<number, string>> = {
  404: 'It answered 404 without the code order_unknown: the URL may be wrong, or a proxy in front of the service answers.',
  409: 'It answered 409 without naming the payment that paid the order.',
};

/**
 * A 404 without the code `order_unknown` may come from a router or proxy. So such a 404 does not mean that the order is
 * unknown.
 */
const isOrderUnknown = (status: number, body: string | null): boolean =>
  (status === 404 || status === 410) && saysUnknown.safeParse(readJson(body)).success;

function startOf({ read }: Reply, { secrets }: OrderServiceTarget): { answer?: string } {
  const answer = answerStart(read, secrets);
  return answer === null ? {} : { answer };
}

function toReading({ status, body, retryAfterMs }: Reply, paymentId: string): OrderReading {
  if (!isSuccess(status)) {
    const asked = retryAfterMs === undefined ? {} : { retryAfterMs };
    return { kind: 'unknown', reason: `Read back: ${said(status)}`, ...asked };
  }
  const content = readJson(body);
  if (!isObject.safeParse(content).success) {
    return { kind: 'unknown', reason: 'Read back: the answer is not a readable JSON object.' };
  }
  const paidPaymentId = namesPayment.safeParse(content).data?.paidPaymentId;
  if (paidPaymentId === paymentId) return { kind: 'paid' };
  if (paidPaymentId !== undefined) return { kind: 'conflict', paidPaymentId };
  return { kind: 'not_paid', reason: 'Read back: the order names no payment that paid it.' };
}

const isSuccess = (status: number): boolean => status >= 200 && status < 300;

const said = (status: number): string =>
  status >= 300 && status < 400
    ? `It answered ${status}: a redirect, which is not followed.`
    : `It answered ${status}.`;

function readJson(body: string | null): unknown {
  try {
    return body === null ? undefined : JSON.parse(body);
  } catch {
    return undefined;
  }
}

/**
 * Converts `Retry-After` to ms. The header contains seconds or a date. A date is compared with the order service's own
 * clock (the `Date` header).
 */
function readRetryAfter(value: string | undefined, date: string | undefined): number | undefined {
  if (value === undefined) return undefined;
  const now = Date.parse(date ?? '') || Date.now();
  const ms = /^\d+$/.test(value) ? Number(value) * 1000 : Date.parse(value) - now;
  return ms > 0 ? Math.min(ms, RETRY_AFTER_AT_MOST_MS) : undefined;
}

const nameOf = (error: Error): string => (error as NodeJS.ErrnoException).code ?? error.message;

const SENTENCES: Readonly<Record<string, string>> = {
  ECONNREFUSED: 'It refused the connection',
  ECONNRESET: 'It closed the connection without an answer',
  ENOTFOUND: 'Its name is not known',
  EAI_AGAIN: 'Its name cannot be looked up now',
};

function explain(error: Error): string {
  if (error instanceof NoReply) return error.message;
  // The errors of the address filter have no code. nodrop does not show their text, which contains the IP address
  // behind the host name.
  if (/is not allowed\. Because/.test(error.message)) {
    return 'It was not called: its address is private, and NODROP_ALLOW_PRIVATE_ORDER_SERVICES does not allow that.';
  }
  const name = nameOf(error);
  return `${SENTENCES[name] ?? 'It cannot be reached'} (${name}).`;
}

async function timed<T extends object>(work: () => Promise<T>): Promise<T & { durationMs: number }> {
  const began = performance.now();
  const outcome = await work();
  return { ...outcome, durationMs: Math.round(performance.now() - began) };
}
