import { setTimeout as sleep } from 'node:timers/promises';
import { type Reply, request } from './client.ts';
import type { Payer } from './payers.ts';
import type { Bought, Wallets } from './wallets.ts';

/** What the payer's own token shows of a payment. */
interface Told {
  readonly status: string;
  readonly orderUpdate: string | null;
  readonly amount: number;
  readonly refundedAmount: number;
}

export interface ShopOptions {
  readonly apiUrl: string;
  readonly apiKey: string;
  readonly wallets: Pick<Wallets, 'pay'>;
  /** Ends everything the shop and its payers do. */
  readonly signal: AbortSignal;
  /** Told of every payment that has begun. */
  readonly onBought?: (payer: Payer, payment: Bought) => void;
}

/** Requests under way at once, as a shop's own HTTP client would bound them. */
const CONCURRENCY = 12;
const LAST_MOMENT_MS = 1_200;
/** How long a payer with an old page needs to find the button. */
const HESITATION_MS = 1_500;
const LOOK_AGAIN_MS = 1_000;

/** A shop that sells through nodrop's API, with the payers it sends to the wallet. It keeps a book of its own. */
export class Shop {
  readonly #options: ShopOptions;
  readonly #startedAt = Date.now();
  readonly #queue: (() => void)[] = [];
  #busy = 0;
  /** Payment ids whose payer read "paid" in the wallet: what every other book must agree with. */
  readonly confirmed = new Set<string>();
  /** Orders with a payment begun. */
  readonly bought = new Set<string>();
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
    const payment = await this.#buy(payer, payer.channels[0]);
    this.bought.add(payer.orderId);
    this.#options.onBought?.(payer, payment);
    switch (payer.habit) {
      case 'pays in two wallets':
        return await this.#payTwice(payer, payment);
      case 'pays when it is closed':
      case 'pays when the payment is cancelled':
        return await this.#payClosed(payer, payment);
      case 'pays when it is cancelled':
        return await this.#payCancelled(payer, payment);
      default:
        return await this.#payOnce(payer, payment);
    }
  }

  async #payOnce(payer: Payer, payment: Bought): Promise<void> {
    await this.#sleep(
      payer.habit === 'pays at the last moment'
        ? Date.parse(payment.expiresAt) - LAST_MOMENT_MS - Date.now()
        : payer.thinksMs,
    );
    if (payer.habit !== 'never pays') await this.#pay(payer, payment);
    if (payer.returnsAfterMs === null) return;
    await this.#sleep(payer.returnsAfterMs);
    await this.#comeBack(payment);
    this.hints++;
  }

  /** Changes to the other channel, and then pays on both pages. */
  async #payTwice(payer: Payer, first: Bought): Promise<void> {
    await this.#sleep(payer.thinksMs);
    const second = await this.#buy(payer, payer.channels[1] ?? payer.channels[0]);
    await Promise.all([first, second].map((payment) => this.#pay(payer, payment)));
    await this.#untilDoneOrMessage(first, second);
  }

  /** Is still on the page when nodrop has closed the payment, at its expiry or as the shop wants it, and pays. */
  async #payClosed(payer: Payer, payment: Bought): Promise<void> {
    if (payer.habit === 'pays when the payment is cancelled') {
      await this.#sleep(payer.thinksMs);
      await this.#api('POST', `/v1/payments/${payment.id}/cancel`);
    }
    while (!['closed', 'cancelled'].includes((await this.#payment(payment, 10)).status))
      await this.#sleep(LOOK_AGAIN_MS);
    await this.#sleep(HESITATION_MS);
    await this.#pay(payer, payment);
    await this.#untilDoneOrMessage(payment);
  }

  /** Is on the page when the shop cancels the order, and pays. */
  async #payCancelled(payer: Payer, payment: Bought): Promise<void> {
    await this.#sleep(payer.thinksMs);
    const path = `/v1/orders/${encodeURIComponent(payer.orderId)}`;
    let order = await this.#api<{ status: string }>('POST', `${path}/cancel`);
    while (order.status !== 'cancelled') {
      await this.#sleep(LOOK_AGAIN_MS);
      order = await this.#api('GET', `${path}?wait=10`);
    }
    await this.#sleep(HESITATION_MS);
    await this.#pay(payer, payment);
    await this.#untilDoneOrMessage(payment);
  }

  /** The payer comes back and looks, until each payment is in the order or all of it is given back. */
  async #untilDoneOrMessage(...payments: readonly Bought[]): Promise<void> {
    this.hints++;
    await Promise.all(
      payments.map(async (payment) => {
        if (!this.confirmed.has(payment.id)) throw new Error(`${payment.id} could not be paid`);
        for (;;) {
          await this.#sleep(LOOK_AGAIN_MS);
          await this.#comeBack(payment);
          const { orderUpdate, amount, refundedAmount } = await this.#payment(payment, 5);
          if (orderUpdate === 'applied' || refundedAmount === amount) return;
        }
      }),
    );
  }

  /** The way back from the wallet, which is a hint. */
  async #comeBack(payment: Bought): Promise<void> {
    const { apiUrl, signal } = this.#options;
    await request(signal, 'GET', `${apiUrl}/return/${payment.id}?token=${payment.clientToken}`);
  }

  /** The payment as its payer may see it, once there is news or `wait` seconds have passed. */
  async #payment({ id, clientToken }: Bought, wait: number): Promise<Told> {
    return await this.#api('GET', `/v1/payments/${id}?wait=${wait}`, undefined, clientToken ?? '');
  }

  /** Presses pay, once or twice at once, and waits until there is somewhere to pay. */
  async #buy(payer: Payer, channel: string): Promise<Bought> {
    const { orderId: id, amount, currency, expiresInSeconds } = payer;
    const order = { id, amount, currency, subject: `Basket ${id}` };
    const content = {
      order,
      channel,
      expiresInSeconds,
      returnUrl: 'https://shop.example/thanks',
    };
    const press = () => this.#bounded(() => this.#api<Bought>('POST', '/v1/payments', content));
    const [first, second] = await Promise.all([press(), payer.pressesTwice ? press() : undefined]);
    if (second !== undefined) this.doublePresses.push([first.id, second.id]);
    let payment = first;
    while (payment.nextAction === null) {
      if (payment.status !== 'created' && payment.status !== 'paying')
        throw new Error(`${payment.id} is ${payment.status} before anybody could pay`);
      await this.#sleep(200);
      payment = {
        ...(await this.#api<Bought>('GET', `/v1/payments/${payment.id}?wait=10`)),
        clientToken: first.clientToken,
      };
    }
    return payment;
  }

  /** Pays in the wallet, and remembers what the wallet said. */
  async #pay(payer: Payer, payment: Bought): Promise<void> {
    const pressed = await this.#options.wallets.pay(payment, payer.habit === 'is declined');
    if (pressed === 'paid') this.confirmed.add(payment.id);
    else if (pressed === 'too late') this.tooLate++;
  }

  /** @param token the shop's key, or the token of one payment. */
  async #api<T>(method: string, path: string, body?: object, token = this.#options.apiKey): Promise<T> {
    const { apiUrl, signal } = this.#options;
    const reply: Reply = await request(signal, method, `${apiUrl}${path}`, body, {
      authorization: `Bearer ${token}`,
    });
    if (reply.status < 300) return reply.body as T;
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
