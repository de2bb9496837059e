import { randomBytes, randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { sign, signer } from '../channels/simulator/protocol.ts';
import { request } from './client.ts';
import type { Payer } from './payers.ts';

export interface ForgerOptions {
  readonly apiUrl: string;
  /** The channel's own secret: for callbacks that were genuine before somebody changed them. */
  readonly secret: string;
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
  attack(payer: Payer, paymentId: string): void {
    this.#attacks.push(
      this.#attack(payer, paymentId).catch((error) => {
        if (!this.#options.signal.aborted) throw error;
      }),
    );
  }

  /** Resolves when every attack begun is over. */
  async done(): Promise<void> {
    await Promise.all(this.#attacks);
  }

  async #attack(payer: Payer, paymentId: string): Promise<void> {
    const { apiUrl, secret, signal } = this.#options;
    const claim = (outTradeNo: string) => JSON.stringify(paidCallback(payer, outTradeNo));
    const body = claim(paymentId);
    const forgeries = [
      {},
      signed(`whsec_${randomBytes(32).toString('base64')}`, body),
      // A genuine callback of the forger's own payment, with the number of another put into it.
      signed(secret, claim(`pay_${'0'.repeat(26)}`)),
    ];
    for (const headers of forgeries) {
      await sleep(ATTACK_EVERY_MS, undefined, { signal });
      const { status } = await request(signal, 'POST', `${apiUrl}/callbacks/simulator`, body, headers);
      if (status < 300) this.accepted.push(paymentId);
      else this.refused++;
    }
  }
}

function paidCallback({ amount, currency }: Payer, outTradeNo: string) {
  const transactionId = `sim_${randomUUID()}`;
  const paidAt = new Date().toISOString();
  return {
    type: 'trade.succeeded',
    data: { outTradeNo, state: 'SUCCESS', amount, currency, transactionId, paidAt, refunded: 0 },
  };
}

const signed = (secret: string, body: string) => sign(signer(secret), `msg_${randomUUID()}`, body);
