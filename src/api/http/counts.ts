export interface CountLimits {
  /** Maximum count of one key in one time window. */
  readonly atMost: number;
  readonly windowMs: number;
}

/**
 * Maximum number of keys in memory. Senders can create any number of keys, so a new key beyond this maximum replaces
 * the oldest key.
 */
const KEYS_AT_MOST = 10_000;

/** Subtracts an amount that the caller added earlier. Has no effect after the time window of that count has ended. */
export type GiveBack = () => void;

/**
 * Counts events by key in memory, in fixed time windows. The caller adds an amount before it starts its work, and
 * subtracts the amount if the work should not be counted. So concurrent requests together cannot exceed the maximum.
 */
export class Counts {
  readonly #limits: CountLimits;
  readonly #now: () => Date;
  #taken = new Map<string, number>();
  #windowStart = 0;

  constructor(limits: CountLimits, now: () => Date) {
    this.#limits = limits;
    this.#now = now;
  }

  /**
   * Adds `amount` to the count of the key in the current time window.
   * @returns a function that subtracts the amount, or undefined if the count would exceed its maximum. In that case,
   * the count stays unchanged.
   */
  take(key: string, amount = 1): GiveBack | undefined {
    this.#startWindow();
    const taken = this.#taken;
    const sum = (taken.get(key) ?? 0) + amount;
    if (sum > this.#limits.atMost) return undefined;
    taken.set(key, sum);
    if (taken.size > KEYS_AT_MOST) taken.delete(taken.keys().next().value ?? '');
    // Each time window has its own map. So an amount that is subtracted late does not change a later window.
    return () => {
      const left = (taken.get(key) ?? 0) - amount;
      if (left > 0) taken.set(key, left);
      else taken.delete(key);
    };
  }

  /** True if the key has reached its maximum in the current time window. */
  isSpent(key: string): boolean {
    this.#startWindow();
    return (this.#taken.get(key) ?? 0) >= this.#limits.atMost;
  }

  /** Whole seconds to the end of the window, at least 1. */
  get secondsLeft(): number {
    this.#startWindow();
    return Math.max(1, Math.ceil((this.#windowStart + this.#limits.windowMs - this.#now().getTime()) / 1000));
  }

  #startWindow(): void {
    const { windowMs } = this.#limits;
    const start = Math.floor(this.#now().getTime() / windowMs) * windowMs;
    if (start === this.#windowStart) return;
    this.#windowStart = start;
    this.#taken = new Map();
  }
}
