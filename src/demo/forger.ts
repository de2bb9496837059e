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

/** Somebody who tells nodrop that orders were paid which nobody has paid. */
export class Forger {
  readonly #options: ForgerOptions;
  readonly #attacks: Promise<void>[] = [];
  refused = 0;
  /** Payment ids whose forged callback got a 2xx. */
  readonly accepted: string[] = [];

  constructor(options: ForgerOptions) {
    this.#options = options;
  }

  /** Begins to send one callback of each kind for this payment. */
  attack(payer: Payer, payment: Bought): void {
    this.#attacks.push(
      this.#attack(payer, payment).catch((error) => {
        if (!this.#options.signal.aborted) throw error;
      }),
    );
  }

  /** Resolves when every attack begun is over. */
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
