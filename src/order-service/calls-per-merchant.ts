import { CALLS_AT_ONCE } from '../domain/delivery.ts';
import { Places } from '../domain/places.ts';

/**
 * Calls under way by merchant, in this process. Order services, or a merchant's account at a channel, that hang must not
 * take every place of the task queue and keep all others waiting.
 */

/** So many activities of the task queue a worker runs at once. */
export const PLACES = 200;
const TURNED_AWAY_AT_LEAST_MS = 1_000;
const TURNED_AWAY_AT_MOST_MS = 60_000;
/** How much the last call weighs in what a call takes. */
const WEIGHT = 0.2;

interface Calls {
  /** What a call takes, in ms. */
  takes: number;
  /** What was told to come again: deliveries, or payments and refunds. */
  readonly turnedAway: Set<string>;
}

export class Crowd {
  readonly #merchants = new Map<string, Calls>();
  readonly #places: Places;

  /** @param places of the task queue, of which one merchant gets `each` at most */
  constructor(places: number = PLACES, each: number = CALLS_AT_ONCE) {
    this.#places = new Places(places, each);
  }

  /**
   * Does the work, or has it come again after about as long as those before it take. With fewer places left each
   * merchant gets fewer, so that some stay free: for whoever has no call under way, and for turning others away.
   * @param turnAway throws; is given the wait in ms
   */
  async hold<T>(
    merchantId: string,
    key: string,
    turnAway: (waitMs: number) => never,
    work: () => Promise<T>,
  ): Promise<T> {
    const calls = this.#merchants.get(merchantId) ?? { takes: 0, turnedAway: new Set() };
    if (!this.#places.take(merchantId)) {
      calls.turnedAway.add(key);
      const wait = (calls.takes * calls.turnedAway.size) / Math.max(1, this.#places.atMost);
      const bounded = Math.min(Math.max(wait, TURNED_AWAY_AT_LEAST_MS), TURNED_AWAY_AT_MOST_MS);
      turnAway(bounded * (1 + Math.random()));
    }
    this.#merchants.set(merchantId, calls);
    calls.turnedAway.delete(key);
    const began = performance.now();
    try {
      return await work();
    } finally {
      this.#places.give(merchantId);
      calls.takes += WEIGHT * (performance.now() - began - calls.takes);
      if (this.#places.of(merchantId) === 0) this.#merchants.delete(merchantId);
    }
  }
}
