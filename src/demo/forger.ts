import { setTimeout as sleep } from 'node:timers/promises';
import { request } from './client.ts';
import type { Payer } from './payers.ts';
import type { Bought, Wallets } from './wallets.ts';

export interface ForgerOptions {
  readonly apiUrl: string;
  readonly wallets: Pick<Wallets, 'forge'>;
  readonly signal: AbortSignal;
}

const ATTACK_EVERY_MS = 6_000;

/** An attacker. It sends nodrop forged callbacks which claim that unpaid orders were paid. */
export class Forger {
  readonly #options: ForgerOptions;
  readonly #attacks: Promise<void>[] = [];
  refused = 0;
  /** Ids of payments for which nodrop answered a forged callback with 2xx. */
  readonly accepted: string[] = [];

  constructor(options: ForgerOptions) {
    this.#options = options;
  }

  /** Starts an attack that sends one forged callback of each kind for this payment. */
  attack(payer: Payer, payment: Bought): void {
    this.#attacks.push(
      this.#attack(payer, payment).catch((error) => {
        if (!this.#options.signal.aborted) throw error;
      }),
    );
  }

  /** Waits for all attacks that were started. */
  async done(): Promise<void> {
    await Promise.all(this.#attacks);
  }

  async #attack(payer: Payer, payment: Bought): Promise<void> {
    const { apiUrl, wallets, signal } = this.#options;
    for (const { path, headers, body } of await wallets.forge(payer, payment)) {
      await sleep(ATTACK_EVERY_MS, undefined, { signal });
      const { status } = await request(signal, 'POST', `${apiUrl}${path}`, body, headers);
      if (status < 300) this.accepted.push(payment.id);
      else this.refused++;
    }
  }
}
