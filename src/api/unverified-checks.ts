import { Counts, type GiveBack } from './http/counts.ts';

/**
 * How many bytes of callbacks the process checks in vain in a second, over all addresses. Measured on a Xeon of 2 cores:
 * the simulator's signature (HMAC-SHA256 in JavaScript) takes 13 to 24 ms per MB of a body, and 0.1 ms for an empty one.
 * So this many bytes, or this many callbacks of `CHECKED_AT_LEAST`, cost 0.2 to 0.4 of a core.
 */
export const CHECKED_A_SECOND = 16 * 1024 * 1024;
/** Of so many more only addresses have some that have not had their share. */
export const CHECKED_OF_SHARES = CHECKED_A_SECOND;
/**
 * An address's share: beyond `CHECKED_A_SECOND` those that had this are refused first. Four of the largest callbacks, so
 * that one verified callback never finds it full unless its address also sends others.
 */
export const CHECKED_OF_ADDRESS = 1024 * 1024;
/** To check a callback without a body costs about as much as the bytes of this size. */
const CHECKED_AT_LEAST = 4 * 1024;

/**
 * Bounds the time that the process spends on callbacks that cannot be verified. Whether one can is only known once it is
 * checked, so what is refused here may be a verified one: only a process that is overloaded with others refuses any.
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
   * Counts a callback before it is checked.
   * @param bytes of its body
   * @returns what gives the count back, for one that is verified; undefined when it must not be checked
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

  /** Whole seconds until it counts anew, 1 at least. */
  get secondsLeft(): number {
    return this.#all.secondsLeft;
  }
}
