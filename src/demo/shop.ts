import { setTimeout as sleep } from 'node:timers/promises';
import { type Reply, request } from './client.ts';
import type { Payer } from './payers.ts';
import type { Bought, Wallets } from './wallets.ts';

/** A payment as the payer's client token shows it. */
interface PaymentView {
  readonly status: string;
  readonly orderUpdate: string | null;
  readonly amount: number;
  readonly refundedAmount: number;
}

export interface ShopOptions {
  readonly apiUrl: string;
  readonly apiKey: string;
  readonly wallets: Pick<Wallets, 'pay'>;
  /** Aborts all work of the shop and its payers. */
  readonly signal: AbortSignal;
  /** Called once for each payment that has begun. */
  readonly onBought?: (payer: Payer, payment: Bought) => void;
}

/** Limit of concurrent requests. The HTTP client of a shop has such a limit as well. */
const CONCURRENCY = 12;
const LAST_MOMENT_MS = 1_200;
/** How long a payer with an outdated page needs to press the button. */
const HESITATION_MS = 1_500;
const LOOK_AGAIN_MS = 1_000;

/** A shop that sells through nodrop's API, together with its payers. It records what the payers saw. */
export class Shop {
  readonly #options: ShopOptions;
  readonly #startedAt = Date.now();
  readonly #queue: (() => void)[] = [];
  #busy = 0;
  /**
   * Ids of payments whose payer saw "paid" in the wallet. The books of nodrop and of the wallet must contain each of
   * them as paid.
   */
  readonly confirmed = new Set<string>();
  /** Ids of orders that have a payment. */
  readonly bought = new Set<string>();
  /** For each payer who pressed the pay button twice: the two payment ids that the API returned. */
  readonly doublePresses: (readonly [string, string])[] = [];
  /** Number of payers whose payment had expired or was closed when they tried to pay. */
  tooLate = 0;
  hints = 0;
  /** One sentence for each payer whose purchase failed with an error. */
  readonly failures: string[] = [];

  constructor(options: ShopOptions) {
    this.#options = options;
  }

  /** Serves each payer at the planned time, and waits until all payers have finished. */
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

  /** The payer switches to the second channel, and then pays on the pages of both channels. */
  async #payTwice(payer: Payer, first: Bought): Promise<void> {
    await this.#sleep(payer.thinksMs);
    const second = await this.#buy(payer, payer.channels[1] ?? payer.channels[0]);
    await Promise.all([first, second].map((payment) => this.#pay(payer, payment)));
    await this.#untilDoneOrMessage(first, second);
  }

  /** The payer pays a payment that is already closed, because it has expired or because the shop has cancelled it. */
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

  /** The payer pays after the shop has cancelled the order. */
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

  /** The payer returns to the shop again and again, until each payment has paid the order or was given back in full. */
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

  /** The payer returns from the wallet to the shop. This is a hint, so nodrop queries the channel. */
  async #comeBack(payment: Bought): Promise<void> {
    const { apiUrl, signal } = this.#options;
    await request(signal, 'GET', `${apiUrl}/return/${payment.id}?token=${payment.clientToken}`);
  }

  /** Reads the payment with the payer's token. Waits for a change of the payment, but at most `wait` seconds. */
  async #payment({ id, clientToken }: Bought, wait: number): Promise<PaymentView> {
    return await this.#api('GET', `/v1/payments/${id}?wait=${wait}`, undefined, clientToken ?? '');
  }

  /** Creates the payment, with two concurrent requests if the payer presses twice, and waits for the pay URL. */
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
        throw new Error(`${payment.id} is ${payment.status} before it could be paid`);
      await this.#sleep(200);
      payment = {
        ...(await this.#api<Bought>('GET', `/v1/payments/${payment.id}?wait=10`)),
        clientToken: first.clientToken,
      };
    }
    return payment;
  }

  /** Pays in the wallet, and records what the wallet showed. */
  async #pay(payer: Payer, payment: Bought): Promise<void> {
    const pressed = await this.#options.wallets.pay(payment, payer.habit === 'is declined');
    if (pressed === 'paid') this.confirmed.add(payment.id);
    else if (pressed === 'too late') this.tooLate++;
  }

  /** @param token the shop's API key, or the client token of a payment. */
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
