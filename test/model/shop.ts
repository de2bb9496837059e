import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';

/** Goods that the shop granted for a payment. */
export interface HandOut {
  readonly orderId: string;
  readonly paymentId: string;
  /** Epoch ms, on the test's clock. */
  readonly at: number;
  /** True if the payment became a conflict and the shop took the goods back. */
  takenBack: boolean;
}

/** The events that the shop refuses at the moment. */
export type Failing = 'nothing' | 'everything' | 'refunds and conflicts';

/**
 * A merchant's order service that follows docs/three-things-your-shop-must-do.md. It decides by the payment's
 * state, ignores events with an older version than the stored one, and takes the goods back at a conflict. It does not
 * read the payment even if an event is late, so the events must contain all that the shop needs.
 */
export class Shop {
  failing: Failing = 'nothing';
  readonly handedOut: HandOut[] = [];
  readonly #versions = new Map<string, number>();
  readonly #now: () => Promise<number>;
  readonly #server = createServer(async (request, response) => {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer);
    const event = JSON.parse(Buffer.concat(chunks).toString());
    response.writeHead((await this.#take(event)) ? 204 : 503).end();
  });

  constructor(now: () => Promise<number>) {
    this.#now = now;
  }

  /** @returns the shop's URL */
  async listen(): Promise<string> {
    await new Promise<void>((resolve) => this.#server.listen(0, '127.0.0.1', resolve));
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}/events`;
  }

  async close(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  /** Resets the shop for a new case. */
  reset(): void {
    this.failing = 'nothing';
    this.handedOut.length = 0;
    this.#versions.clear();
  }

  /** @returns false when the shop cannot accept the event now */
  // biome-ignore lint/suspicious/noExplicitAny: an event as received.
  async #take({ type, data: { payment, version } }: any): Promise<boolean> {
    if (this.failing === 'everything') return false;
    if (this.failing === 'refunds and conflicts' && type !== 'payment.succeeded') return false;
    const at = await this.#now();
    if (version <= (this.#versions.get(payment.id) ?? 0)) return true;
    this.#versions.set(payment.id, version);
    const { id: paymentId, orderId, status, orderUpdate, receivedAmount, refundedAmount } = payment;
    const isHere = status === 'succeeded' && refundedAmount < receivedAmount;
    const out = this.handedOut.find((goods) => goods.orderId === orderId && !goods.takenBack);
    if (orderUpdate === 'conflict' && out !== undefined && out.paymentId === paymentId) out.takenBack = true;
    if (isHere && (orderUpdate === 'pending' || orderUpdate === 'applied') && out?.paymentId !== paymentId)
      this.handedOut.push({ orderId, paymentId, at, takenBack: false });
    return true;
  }
}
