export interface CountLimits {
  /** Maximum of one key in a window. */
  readonly atMost: number;
  readonly windowMs: number;
}

/** Maximum of keys. Senders can create new keys at will, so beyond this the oldest is forgotten. */
const KEYS_AT_MOST = 10_000;

/** Gives a taken count back. Has no effect after the end of the window that it was taken from. */
export type GiveBack = () => void;

/**
 * Counts events by key in memory, in fixed time windows. A count is taken before the work and given back if the work
 * should not count. So concurrent requests cannot all start before the first one is counted.
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
   * Takes `amount` from the key's current window.
   * @returns a function that gives the amount back; undefined, with nothing taken, if less than `amount` is left
   */
  take(key: string, amount = 1): GiveBack | undefined {
    this.#startWindow();
    const taken = this.#taken;
    const sum = (taken.get(key) ?? 0) + amount;
    if (sum > this.#limits.atMost) return undefined;
    taken.set(key, sum);
    if (taken.size > KEYS_AT_MOST) taken.delete(taken.keys().next().value ?? '');
    // Each window has its own map, so giving a count back has no effect on later windows.
    return () => {
      const left = (taken.get(key) ?? 0) - amount;
      if (left > 0) taken.set(key, left);
      else taken.delete(key);
    };
  }

  /** True if nothing is left in the key's current window. */
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
