/**
 * Calls under way by merchant, in this process. One whose order service hangs must not take every slot of the task
 * queue and keep all others' events waiting.
 */

/** So many of one merchant's calls are under way at once. */
export const CALLS_AT_ONCE = 20;
const TURNED_AWAY_AT_LEAST_MS = 1_000;
const TURNED_AWAY_AT_MOST_MS = 60_000;
/** How much the last call weighs in what a call takes. */
const WEIGHT = 0.2;

interface Calls {
  underWay: number;
  /** What a call takes, in ms. */
  takes: number;
  /** Deliveries that were told to come again. */
  readonly turnedAway: Set<string>;
}

export class Crowd {
  readonly #merchants = new Map<string, Calls>();

  /**
   * Does the work, or has it come again after about as long as those before it take.
   * @param turnAway throws; is given the wait in ms
   */
  async hold<T>(
    merchantId: string,
    deliveryId: string,
    turnAway: (waitMs: number) => never,
    work: () => Promise<T>,
  ): Promise<T> {
    const calls = this.#merchants.get(merchantId) ?? { underWay: 0, takes: 0, turnedAway: new Set() };
    if (calls.underWay >= CALLS_AT_ONCE) {
      calls.turnedAway.add(deliveryId);
      const wait = (calls.takes * calls.turnedAway.size) / CALLS_AT_ONCE;
      const bounded = Math.min(Math.max(wait, TURNED_AWAY_AT_LEAST_MS), TURNED_AWAY_AT_MOST_MS);
      turnAway(bounded * (1 + Math.random()));
    }
    this.#merchants.set(merchantId, calls);
    calls.turnedAway.delete(deliveryId);
    calls.underWay += 1;
    const began = performance.now();
    try {
      return await work();
    } finally {
      calls.underWay -= 1;
      calls.takes += WEIGHT * (performance.now() - began - calls.takes);
      if (calls.underWay === 0) this.#merchants.delete(merchantId);
    }
  }
}
