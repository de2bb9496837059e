import { CALLS_AT_ONCE } from '../domain/delivery.ts';
import { FairSlots } from '../domain/fair-slots.ts';

/**
 * Calls under way by merchant, in this process. Order services, or a merchant's account at a channel, that hang must not
 * take every place of the task queue and keep all others waiting.
 */

/** So many activities of the task queue a worker runs at once. */
export const ORDER_SERVICE_SLOTS = 200;
const BUSY_RETRY_AT_LEAST_MS = 1_000;
const BUSY_RETRY_AT_MOST_MS = 60_000;
/** How much the last call weighs in what a call takes. */
const WEIGHT = 0.2;

interface Calls {
  /** What a call takes, in ms. */
  takes: number;
  /** What was told to come again: deliveries, or payments and refunds. */
  readonly waiting: Set<string>;
}

export class MerchantConcurrency {
  readonly #merchants = new Map<string, Calls>();
  readonly #slots: FairSlots;

  /** @param places of the task queue, of which one merchant gets `each` at most */
  constructor(places: number = ORDER_SERVICE_SLOTS, each: number = CALLS_AT_ONCE) {
    this.#slots = new FairSlots(places, each);
  }

  /**
   * Does the work, or has it come again after about as long as those before it take. With fewer places left each
   * merchant gets fewer, so that some stay free: for whoever has no call under way, and for turning others away.
   * @param onBusy throws; is given the wait in ms
   */
  async hold<T>(
    merchantId: string,
    key: string,
    onBusy: (waitMs: number) => never,
    work: () => Promise<T>,
  ): Promise<T> {
    const calls = this.#merchants.get(merchantId) ?? { takes: 0, waiting: new Set() };
    if (!this.#slots.take(merchantId)) {
      calls.waiting.add(key);
      const wait = (calls.takes * calls.waiting.size) / Math.max(1, this.#slots.atMost);
      const bounded = Math.min(Math.max(wait, BUSY_RETRY_AT_LEAST_MS), BUSY_RETRY_AT_MOST_MS);
      onBusy(bounded * (1 + Math.random()));
    }
    this.#merchants.set(merchantId, calls);
    calls.waiting.delete(key);
    const began = performance.now();
    try {
      return await work();
    } finally {
      this.#slots.give(merchantId);
      calls.takes += WEIGHT * (performance.now() - began - calls.takes);
      if (this.#slots.of(merchantId) === 0) this.#merchants.delete(merchantId);
    }
  }
}
