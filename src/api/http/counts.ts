export interface CountLimits {
  /** How much of one key in a window. */
  readonly atMost: number;
  readonly windowMs: number;
}

/** Anybody can be a new key: beyond this the oldest is forgotten. */
const KEYS_AT_MOST = 10_000;

/**
 * Counts by key in memory, in fixed windows. A count is taken before the work, and given back when the work shows that it
 * does not count, so that requests at the same time cannot all begin before the first is counted.
 */
export class Counts {
  readonly #limits: CountLimits;
  readonly #now: () => Date;
  readonly #taken = new Map<string, number>();
  #windowStart = 0;

  constructor(limits: CountLimits, now: () => Date) {
    this.#limits = limits;
    this.#now = now;
  }

  /** Takes `amount` of the key's window. @returns false when that is more than is left; then nothing is taken. */
  take(key: string, amount = 1): boolean {
    this.#startWindow();
    const sum = (this.#taken.get(key) ?? 0) + amount;
    if (sum > this.#limits.atMost) return false;
    this.#taken.set(key, sum);
    if (this.#taken.size > KEYS_AT_MOST) this.#taken.delete(this.#taken.keys().next().value ?? '');
    return true;
  }

  /** Gives back what was taken, unless its window has ended. */
  give(key: string, amount = 1): void {
    this.#startWindow();
    const left = (this.#taken.get(key) ?? 0) - amount;
    if (left > 0) this.#taken.set(key, left);
    else this.#taken.delete(key);
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
    this.#taken.clear();
  }
}
