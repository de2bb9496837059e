export interface CountLimits {
  /** How much of one key in a window. */
  readonly atMost: number;
  readonly windowMs: number;
}

/** Anybody can be a new key: beyond this the oldest is forgotten. */
const KEYS_AT_MOST = 10_000;

/** Gives back what was taken. Does nothing once the window that it was taken from has ended. */
export type GiveBack = () => void;

/**
 * Counts by key in memory, in fixed windows. A count is taken before the work, and given back when the work shows that it
 * does not count, so that requests at the same time cannot all begin before the first is counted.
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
   * Takes `amount` of the key's window.
   * @returns undefined when that is more than is left; then nothing is taken
   */
  take(key: string, amount = 1): GiveBack | undefined {
    this.#startWindow();
    const taken = this.#taken;
    const sum = (taken.get(key) ?? 0) + amount;
    if (sum > this.#limits.atMost) return undefined;
    taken.set(key, sum);
    if (taken.size > KEYS_AT_MOST) taken.delete(taken.keys().next().value ?? '');
    // Each window has a map of its own.
    return () => {
      const left = (taken.get(key) ?? 0) - amount;
      if (left > 0) taken.set(key, left);
      else taken.delete(key);
    };
  }

  /** True when nothing is left of the key's window. */
  isSpent(key: string): boolean {
    this.#startWindow();
    return (this.#taken.get(key) ?? 0) >= this.#limits.atMost;
  }

  /** Whole seconds to the end of the window, 1 at least. */
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
