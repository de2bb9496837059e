import type { Trade } from './books.ts';
import { request } from './client.ts';
import type { Payer } from './payers.ts';
import { forgedCallbacks } from './simulator-forgeries.ts';

/** The fields of a payment, from the API's answer, that the shop and its payers need. */
export interface Bought {
  readonly id: string;
  readonly channel: string;
  readonly status: string;
  /** Where the payer pays. */
  readonly nextAction: { readonly url?: string; readonly qr?: string } | null;
  readonly clientToken: string | null;
  readonly expiresAt: string;
}

/** What the wallet shows to a payer. */
export type Pressed = 'paid' | 'not paid' | 'too late';

/** A forged callback. */
export interface Forgery {
  /** Path below the API's address. */
  readonly path: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
}

/**
 * The channels of a run. Payers pay at these channels, and forgers imitate them. The channels' books are independent of
 * nodrop.
 */
export interface Wallets {
  /** @param isDeclined true if the payer tries to pay and is declined. */
  pay(payment: Bought, isDeclined: boolean): Promise<Pressed>;
  /** @returns all trades in the channels' books. */
  trades(signal: AbortSignal): Promise<readonly Trade[]>;
  /** Makes forged callbacks that claim that an unpaid payment was paid. */
  forge(payer: Payer, payment: Bought): Promise<readonly Forgery[]>;
}

/** The two channels of the simulator. The simulator keeps one ledger for both. */
export class SimulatorWallets implements Wallets {
  readonly #url: string;
  readonly #secret: string;
  readonly #signal: AbortSignal;

  /** @param secret the channel's own secret. It signs the genuine callbacks whose signatures a forger reuses. */
  constructor(url: string, secret: string, signal: AbortSignal) {
    this.#url = url;
    this.#secret = secret;
    this.#signal = signal;
  }

  async pay(payment: Bought, isDeclined: boolean): Promise<Pressed> {
    const result = isDeclined ? 'declined' : 'success';
    const payUrl = payment.nextAction?.url ?? '';
    const { status, body } = await request(this.#signal, 'POST', payUrl, { result });
    const { state, code } = (body ?? {}) as { state?: string; code?: string };
    if (state === 'SUCCESS') return 'paid';
    if (code === 'TRADE_EXPIRED' || code === 'TRADE_CLOSED') return 'too late';
    if (state === 'PAYERROR') return 'not paid';
    throw new Error(`the wallet answered ${status} ${code ?? state} to ${payment.id}`);
  }

  async trades(signal: AbortSignal): Promise<readonly Trade[]> {
    const url = `${this.#url}/_control/ledger`;
    const { status, body } = await request(signal, 'GET', url);
    if (status !== 200) throw new Error(`GET ${url} was answered ${status}`);
    return body as Trade[];
  }

  forge = async (payer: Payer, { id }: Bought): Promise<readonly Forgery[]> =>
    forgedCallbacks(payer, id, this.#secret);
}
