import { Counts, type GiveBack } from './http/counts.ts';

/**
 * Maximum number of bytes of unverifiable callbacks that the process checks per second, from all addresses. Measured on
 * a Xeon with 2 cores: the simulator's signature (HMAC-SHA256 in JavaScript) takes 13 to 24 ms per MB of body, and 0.1
 * ms for an empty body. So at this limit, the checks use 0.2 to 0.4 of a core, even if all callbacks are very small.
 */
export const CHECKED_A_SECOND = 16 * 1024 * 1024;
/**
 * After `CHECKED_A_SECOND` is used up, the process checks this number of additional bytes per second. These bytes are
 * reserved for addresses that have not used up their share (`CHECKED_OF_ADDRESS`).
 */
export const CHECKED_OF_SHARES = CHECKED_A_SECOND;
/**
 * The share of an address, in bytes per second. When `CHECKED_A_SECOND` is used up, nodrop first refuses callbacks from
 * addresses that have used up their share. The share has room for several callbacks of the maximum size.
 */
export const CHECKED_OF_ADDRESS = 1024 * 1024;
/**
 * The number of bytes that the limits count for each callback in addition to its body. Even the check of an empty body
 * takes time.
 */
const CHECKED_AT_LEAST = 4 * 1024;

/**
 * Limits the time that the process spends on callbacks that cannot be verified. While the process is overloaded with
 * invalid callbacks, it may also refuse a valid callback, because only a check shows whether a callback is valid.
 */
export class UnverifiedChecks {
  readonly #all: Counts;
  readonly #ofShares: Counts;
  readonly #ofAddress: Counts;

  constructor(now: () => Date) {
    this.#all = new Counts({ atMost: CHECKED_A_SECOND, windowMs: 1_000 }, now);
    this.#ofShares = new Counts({ atMost: CHECKED_OF_SHARES, windowMs: 1_000 }, now);
    this.#ofAddress = new Counts({ atMost: CHECKED_OF_ADDRESS, windowMs: 1_000 }, now);
  }

  /**
   * Counts a callback against the limits before the callback is verified.
   * @param bytes the length of the callback's body
   * @returns undefined if a limit is reached and the callback must be refused. Otherwise returns a function that undoes
   * the count. The caller calls it if the callback is valid
   */
  take(address: string, bytes: number): GiveBack | undefined {
    const cost = CHECKED_AT_LEAST + bytes;
    const ofAll = this.#all.take('', cost);
    const ofAddress = this.#ofAddress.take(address, cost);
    const ofShares =
      ofAll === undefined && ofAddress !== undefined ? this.#ofShares.take('', cost) : undefined;
    if (ofAll === undefined && ofShares === undefined) {
      ofAddress?.();
      return undefined;
    }
    return () => {
      ofAll?.();
      ofShares?.();
      ofAddress?.();
    };
  }

  /** Whole seconds until the next time window, at least 1. */
  get secondsLeft(): number {
    return this.#all.secondsLeft;
  }
}
