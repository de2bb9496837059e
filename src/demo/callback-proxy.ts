import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { seeded } from './random.ts';
import { CALLBACK_DELAY_MS, FAULTS } from './trouble.ts';

/** The HTTP headers and body of a callback. */
export interface Callback {
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
}

export interface ProxyOptions {
  readonly seed: number;
  /** The API's URL, without a slash at the end. */
  readonly apiUrl: string;
  /** Creates a callback with a wrong amount for the payment. The channel signs this callback. */
  readonly withOtherAmount: (channel: string, paymentId: string) => Promise<Callback>;
  /** @default CALLBACK_DELAY_MS */
  readonly delayMs?: number;
}

/** What the proxy does with the callbacks of a payment. */
type Fate = 'lost' | 'broken' | 'other amount' | 'passed';

/**
 * Matches the callback address of an account or of one payment. A payment's address contains a proof that only the
 * channel knows.
 */
const ADDRESS = /^\/callbacks\/([a-z0-9]+)\/[^/]+(?:\/(pay_\w+)\/[^/]+)?$/;
/**
 * Matches the payment id in a callback of Alipay. Alipay sends its callbacks to the account's address, and the field
 * `out_trade_no` of the form contains the payment id.
 */
const OF_PAYMENT = /^pay_\w+$/;

/** Timeout of a forwarded callback. It is longer than nodrop needs to acknowledge a callback. */
const TIMEOUT_MS = 10_000;

/**
 * An HTTP proxy in front of nodrop's callback addresses. It loses callbacks (but acknowledges them to the channel),
 * delays them, sends them twice, breaks their signatures, or replaces them with callbacks that have a wrong amount.
 */
export class CallbackProxy {
  readonly #options: ProxyOptions;
  readonly #random: () => number;
  readonly #fates = new Map<string, Fate>();
  readonly #server: Server;
  /** Number of callbacks forwarded to nodrop, by payment id. */
  readonly passed = new Map<string, number>();

  constructor(options: ProxyOptions) {
    this.#options = options;
    this.#random = seeded(options.seed);
    this.#server = createServer((request, response) => {
      this.#pass(request, response).catch(() => response.destroy());
    });
  }

  /** Starts to listen on a free local port. */
  async listen(): Promise<void> {
    await new Promise<void>((resolve) => this.#server.listen(0, '127.0.0.1', resolve));
  }

  /** The proxy's address without a trailing slash. It is known once the proxy listens. */
  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  close(): void {
    this.#server.close();
    this.#server.closeAllConnections();
  }

  async #pass(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const came = await readCallback(request);
    const path = request.url ?? '';
    const [, channel = '', own] = ADDRESS.exec(path) ?? [];
    const paymentId = own ?? new URLSearchParams(came.body).get('out_trade_no') ?? '';
    if (!OF_PAYMENT.test(paymentId)) return await answer(response, this.#send(path, came));
    const fate = this.#fateOf(paymentId);
    if (fate === 'lost') {
      // As an acknowledgement, Alipay expects the body "success". WeChat Pay only checks the status.
      response.writeHead(200, { 'content-type': 'text/plain' }).end('success');
      return;
    }
    await sleep(this.#options.delayMs ?? CALLBACK_DELAY_MS);
    const isFirst = !this.passed.has(paymentId);
    const says =
      fate === 'broken'
        ? { ...came, body: `${came.body} ` }
        : fate === 'other amount' && isFirst
          ? await this.#options.withOtherAmount(channel, paymentId)
          : came;
    this.passed.set(paymentId, (this.passed.get(paymentId) ?? 0) + 1 + FAULTS.callback.duplicates);
    const copies = Array.from({ length: FAULTS.callback.duplicates }, () => this.#send(path, says));
    await answer(response, this.#send(path, says));
    await Promise.allSettled(copies);
  }

  #fateOf(paymentId: string): Fate {
    const known = this.#fates.get(paymentId);
    if (known !== undefined) return known;
    const { dropRate, corruptSignatureRate, wrongAmountRate } = FAULTS.callback;
    const draw = this.#random();
    const fate =
      draw < dropRate
        ? 'lost'
        : draw < dropRate + corruptSignatureRate
          ? 'broken'
          : draw < dropRate + corruptSignatureRate + wrongAmountRate
            ? 'other amount'
            : 'passed';
    this.#fates.set(paymentId, fate);
    return fate;
  }

  async #send(path: string, { headers, body }: Callback): Promise<{ status: number; body: string }> {
    try {
      const signal = AbortSignal.timeout(TIMEOUT_MS);
      const reply = await fetch(`${this.#options.apiUrl}${path}`, { method: 'POST', headers, body, signal });
      return { status: reply.status, body: await reply.text() };
    } catch {
      // The API process was killed, and the process that replaces it does not answer yet. The channel may send the
      // callback again.
      return { status: 502, body: '' };
    }
  }
}

/** Reads the callback's body, and the headers with the body's type and signature. */
async function readCallback(request: IncomingMessage): Promise<Callback> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk as Buffer);
  const headers: Record<string, string> = {};
  for (const [name, value] of Object.entries(request.headers)) {
    if ((name === 'content-type' || name.startsWith('wechatpay-')) && typeof value === 'string')
      headers[name] = value;
  }
  return { headers, body: Buffer.concat(chunks).toString('utf8') };
}

async function answer(
  response: ServerResponse,
  reply: Promise<{ status: number; body: string }>,
): Promise<void> {
  const { status, body } = await reply;
  response.writeHead(status, { 'content-type': 'text/plain' }).end(body);
}
