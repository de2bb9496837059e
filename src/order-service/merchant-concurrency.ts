import { CALLS_AT_ONCE } from '../domain/delivery.ts';
import { FairSlots } from '../domain/fair-slots.ts';

/**
 * Limits the concurrent calls of each merchant in this process. Without this limit, one order service or channel
 * account that does not answer could use up all activity slots of the task queue.
 */

/** The maximum number of concurrent activities that a worker runs from the order services' task queue. */
export const ORDER_SERVICE_SLOTS = 200;
const BUSY_RETRY_AT_LEAST_MS = 1_000;
const BUSY_RETRY_AT_MOST_MS = 60_000;
/** The weight of the last call in the moving average of call durations. */
const WEIGHT = 0.2;

interface Calls {
  /** The moving average of call durations, in ms. */
  takes: number;
  /**
   * The calls that were refused because no slot was free. Their callers will repeat them. Each call is identified by
   * the id of its delivery, payment or refund.
   */
  readonly waiting: Set<string>;
}

export class MerchantConcurrency {
  readonly #merchants = new Map<string, Calls>();
  readonly #slots: FairSlots;

  /**
   * @param places the number of slots of the task queue
   * @param each the maximum number of slots that one merchant may hold
   */
  constructor(places: number = ORDER_SERVICE_SLOTS, each: number = CALLS_AT_ONCE) {
    this.#slots = new FairSlots(places, each);
  }

  /**
   * Does the work if a slot is free for the merchant. Otherwise calls `onBusy` with the estimated time until a slot is
   * free. When few slots are free, the maximum of one merchant is lower, so that some slots stay free for other
   * merchants.
   * @param onBusy must throw; receives the wait in ms
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
