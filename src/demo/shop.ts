import { setTimeout as sleep } from 'node:timers/promises';
import { type Reply, request } from './client.ts';
import type { Payer } from './payers.ts';

/** A payment as the shop needs it, from the API's answer. */
export interface Bought {
  readonly id: string;
  readonly status: string;
  readonly payUrl: string | null;
  readonly clientToken: string | null;
  readonly expiresAt: string;
}

export interface ShopOptions {
  readonly apiUrl: string;
  readonly apiKey: string;
  /** Ends everything the shop and its payers do. */
  readonly signal: AbortSignal;
  /** Told of every payment that has begun. */
  readonly onBought?: (payer: Payer, payment: Bought) => void;
}

/** Requests under way at once, as a shop's own HTTP client would bound them. */
const CONCURRENCY = 12;
const LAST_MOMENT_MS = 1_200;

/** A shop that sells through nodrop's API, with the payers it sends to the wallet. It keeps a book of its own. */
export class Shop {
  readonly #options: ShopOptions;
  readonly #startedAt = Date.now();
  readonly #queue: (() => void)[] = [];
  #busy = 0;
  /** Payment ids whose payer read "paid" in the wallet: what every other book must agree with. */
  readonly confirmed = new Set<string>();
  /** Payments begun, by order. */
  readonly bought = new Map<string, string>();
  /** The payments that each double press was answered with. */
  readonly doublePresses: (readonly [string, string])[] = [];
  /** Payers who came to the wallet after their time was over. */
  tooLate = 0;
  hints = 0;
  /** Sentences on payers who could not be served. */
  readonly failures: string[] = [];

  constructor(options: ShopOptions) {
    this.#options = options;
  }

  /** Serves every payer at their time; resolves when all of them have done what they do. */
  async serve(payers: readonly Payer[]): Promise<void> {
    await Promise.all(
      payers.map(async (payer) => {
        try {
          await this.#serveOne(payer);
        } catch (error) {
          if (!this.#options.signal.aborted)
            this.failures.push(`${payer.orderId}: ${(error as Error).message}`);
        }
      }),
    );
  }

  async #serveOne(payer: Payer): Promise<void> {
    await this.#sleep(this.#startedAt + payer.arrivesAfterMs - Date.now());
    const payment = await this.#buy(payer);
    this.bought.set(payer.orderId, payment.id);
    this.#options.onBought?.(payer, payment);
    await this.#sleep(
      payer.habit === 'pays at the last moment'
        ? Date.parse(payment.expiresAt) - LAST_MOMENT_MS - Date.now()
        : payer.thinksMs,
    );
    if (payer.habit !== 'never pays') await this.#pay(payer, payment);
    if (payer.returnsAfterMs === null) return;
    await this.#sleep(payer.returnsAfterMs);
    const { apiUrl, signal } = this.#options;
    await request(signal, 'GET', `${apiUrl}/return/${payment.id}?token=${payment.clientToken}`);
    this.hints++;
  }

  /** Presses pay, once or twice at once, and waits until there is somewhere to pay. */
  async #buy(payer: Payer): Promise<Bought> {
    const { orderId: id, amount, currency, expiresInSeconds } = payer;
    const order = { id, amount, currency, subject: `Basket ${id}` };
    const content = {
      order,
      channel: 'simulator',
      expiresInSeconds,
      returnUrl: 'https://shop.example/thanks',
    };
    const press = () => this.#bounded(() => this.#api('POST', '/v1/payments', content));
    const [first, second] = await Promise.all([press(), payer.pressesTwice ? press() : undefined]);
    if (second !== undefined) this.doublePresses.push([first.id, second.id]);
    let payment = first;
    while (payment.payUrl === null) {
      if (payment.status !== 'created' && payment.status !== 'paying')
        throw new Error(`${payment.id} is ${payment.status} before anybody could pay`);
      await this.#sleep(200);
      payment = {
        ...(await this.#api('GET', `/v1/payments/${payment.id}?wait=10`)),
        clientToken: first.clientToken,
      };
    }
    return payment;
  }

  /** Pays in the wallet, and remembers what the wallet said. */
  async #pay(payer: Payer, payment: Bought): Promise<void> {
    const result = payer.habit === 'is declined' ? 'declined' : 'success';
    const { status, body } = await request(this.#options.signal, 'POST', payment.payUrl ?? '', { result });
    const { state, code } = (body ?? {}) as { state?: string; code?: string };
    if (state === 'SUCCESS') this.confirmed.add(payment.id);
    else if (code === 'TRADE_EXPIRED' || code === 'TRADE_CLOSED') this.tooLate++;
    else if (state !== 'PAYERROR')
      throw new Error(`the wallet answered ${status} ${code ?? state} to ${payment.id}`);
  }

  async #api(method: string, path: string, body?: object): Promise<Bought> {
    const { apiUrl, apiKey, signal } = this.#options;
    const reply: Reply = await request(signal, method, `${apiUrl}${path}`, body, {
      authorization: `Bearer ${apiKey}`,
    });
    if (reply.status < 300) return reply.body as Bought;
    const { code, detail } = (reply.body ?? {}) as { code?: string; detail?: string };
    throw new Error(`${method} ${path} was answered ${reply.status} ${code}: ${detail}`);
  }

  async #bounded<T>(work: () => Promise<T>): Promise<T> {
    while (this.#busy >= CONCURRENCY) await new Promise<void>((resolve) => this.#queue.push(resolve));
    this.#busy++;
    try {
      return await work();
    } finally {
      this.#busy--;
      this.#queue.shift()?.();
    }
  }

  async #sleep(ms: number): Promise<void> {
    if (ms > 0) await sleep(ms, undefined, { signal: this.#options.signal });
  }
}
