import { Counts, type GiveBack } from './http/counts.ts';

/**
 * Bytes of unverifiable callbacks that the process checks per second, from all addresses. Measured on a Xeon with 2
 * cores: the simulator's signature (HMAC-SHA256 in JavaScript) takes 13 to 24 ms per MB of body, and 0.1 ms for an
 * empty body. So the limit costs 0.2 to 0.4 of a core, even if it is reached with callbacks of `CHECKED_AT_LEAST` bytes
 * each.
 */
export const CHECKED_A_SECOND = 16 * 1024 * 1024;
/** Additional bytes per second, only for addresses that have not used up their share (`CHECKED_OF_ADDRESS`). */
export const CHECKED_OF_SHARES = CHECKED_A_SECOND;
/**
 * The share of an address, in bytes per second. Beyond `CHECKED_A_SECOND`, addresses that have used up their share are
 * refused first. The share has room for four of the largest callbacks, so it never refuses a single verified callback,
 * unless the same address also sends other callbacks.
 */
export const CHECKED_OF_ADDRESS = 1024 * 1024;
/**
 * Bytes that each callback costs in addition to its body. A check of an empty body takes about as long as a check of
 * this many bytes.
 */
const CHECKED_AT_LEAST = 4 * 1024;

/**
 * Limits the time that the process spends on callbacks that cannot be verified. Only a check shows whether a callback
 * can be verified, so a valid callback can also be refused here, but only while the process is overloaded with invalid
 * ones.
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
   * Counts a callback before its check.
   * @param bytes length of its body
   * @returns a function that takes the count back if the callback is verified; undefined if it must not be checked
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

  /** Whole seconds until the counts start again, at least 1. */
  get secondsLeft(): number {
    return this.#all.secondsLeft;
  }
}
