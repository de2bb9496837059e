import { Refusal } from '../../domain/refusal.ts';
import { Counts } from './counts.ts';

/** How many keys, client tokens, payment ids and accounts that do not exist an address may ask for in a minute. */
export const MISSES_A_MINUTE = 60;
const KNOWN_AT_MOST = 10_000;

/** An address has sent more in its window than is looked at. */
export const tooMany = (detail: string, retryAfterSeconds: number): Refusal =>
  new Refusal('too_many_requests', detail, { retryAfterSeconds });

/**
 * Looks up what strangers name. Names that lead to nothing are counted per address, before the database is asked; beyond
 * the bound it is asked for names alone that were found before, so that an address with many senders behind it goes on.
 */
export class Misses {
  readonly #counts: Counts;
  /** Names that were found last time, the oldest first. */
  readonly #known = new Set<string>();
  readonly #asking = new Map<string, Promise<unknown>>();

  constructor(now: () => Date) {
    this.#counts = new Counts({ atMost: MISSES_A_MINUTE, windowMs: 60_000 }, now);
  }

  /**
   * @param name what is looked up: no two things have the same
   * @throws Refusal `too_many_requests`, without having asked
   */
  async lookUp<T>(address: string, name: string, ask: () => Promise<T | null>): Promise<T | null> {
    while (!this.#known.has(name)) {
      // Many at once with one good key are no misses: they wait for the first of them.
      const first = this.#asking.get(name);
      if (first === undefined) return await this.#lookUpNew(address, name, ask);
      await first;
    }
    const found = await ask();
    if (found === null) {
      this.#known.delete(name);
      this.#counts.take(address);
    }
    return found;
  }

  async #lookUpNew<T>(address: string, name: string, ask: () => Promise<T | null>): Promise<T | null> {
    if (!this.#counts.take(address)) {
      throw tooMany('Too many requests of this address named what does not exist.', this.#counts.secondsLeft);
    }
    let isMiss = false;
    try {
      const asked = ask();
      this.#asking.set(
        name,
        asked.catch(() => undefined),
      );
      const found = await asked;
      isMiss = found === null;
      if (found !== null) this.#remember(name);
      return found;
    } finally {
      this.#asking.delete(name);
      if (!isMiss) this.#counts.give(address);
    }
  }

  #remember(name: string): void {
    this.#known.add(name);
    if (this.#known.size > KNOWN_AT_MOST) this.#known.delete(this.#known.keys().next().value ?? '');
  }
}
