import { Refusal } from '../../domain/refusal.ts';
import { Counts, type GiveBack } from './counts.ts';

/** How many keys, client tokens, payment ids and accounts that do not exist an address may ask for in a minute. */
export const MISSES_A_MINUTE = 60;
/** The same of all addresses together: a sender can have any number of them. */
export const MISSES_A_MINUTE_IN_ALL = 600;
/** Beyond the bounds the database is asked once in this time, for everybody. */
export const ASKED_EVERY_MS = 1_000;
/** So many names wait, those that are being asked for with them. */
export const NAMES_AT_ONCE = 5_000;
/** So many of them of one address: whoever sends more takes no place from others. */
export const NAMES_OF_ADDRESS = 500;
/** Of each kind. */
const KNOWN_AT_MOST = 10_000;
const WINDOW_MS = 60_000;

/** An address has sent more in its window than is looked at. */
export const tooMany = (detail: string, retryAfterSeconds: number): Refusal =>
  new Refusal('too_many_requests', detail, { retryAfterSeconds });

/** A name that nobody knows before it exists: the hash of a key, or a payment's id and the hash of its client token. */
export type SecretName = `key/${string}` | `token/${string}/${string}`;
/** What is looked up: no two things have the same. */
export type Name = SecretName | `account/${string}` | `payment/${string}`;

const refuseFor = (retryAfterSeconds: number): Refusal =>
  tooMany('Too many requests named what does not exist.', retryAfterSeconds);

const isSecret = (name: Name): name is SecretName => name.startsWith('key/') || name.startsWith('token/');
const kindOf = (name: Name): string => name.slice(0, name.indexOf('/'));

/**
 * Looks up what strangers name. Names that lead to nothing are counted per address and in all, those that are being
 * looked up with them. Names that were found before are always looked up. Beyond the bounds all others wait, and one
 * statement a second says which of them exist: strangers cost no more than that, and a good name waits about a second.
 * It is refused while its address has its share of the names that wait, or while as many wait as can.
 */
export class FailedLookups {
  readonly #byAddress: Counts;
  readonly #inAll: Counts;
  /** Secret names that were not found in this window. */
  readonly #missing: Counts;
  /** Names that were found last time, by kind, so that payers' tokens do not push merchants' keys out; the oldest first. */
  readonly #known = new Map<string, Set<string>>();
  /** Whether the name exists, by the first who asks. */
  readonly #asking = new Map<string, Promise<boolean>>();
  readonly #waiting: Waiting;

  /** @param findExisting which of the names exist, in one statement */
  constructor(
    now: () => Date,
    findExisting: (names: readonly SecretName[]) => Promise<ReadonlySet<SecretName>>,
  ) {
    this.#byAddress = new Counts({ atMost: MISSES_A_MINUTE, windowMs: WINDOW_MS }, now);
    this.#inAll = new Counts({ atMost: MISSES_A_MINUTE_IN_ALL, windowMs: WINDOW_MS }, now);
    this.#missing = new Counts({ atMost: 1, windowMs: WINDOW_MS }, now);
    this.#waiting = new Waiting(findExisting);
  }

  /**
   * Beyond the bounds accounts and payments are refused at once. No caller is kept out by that: `ChannelAccounts` asks for
   * accounts itself, and a payment is named here by a callback that is refused anyway. Both may come to exist later, so
   * that they are not remembered as missing.
   * @param mayWait false for a request that holds what others need: it is refused, and its name is known a second later
   * @returns null when there is nothing of this name
   * @throws Refusal `too_many_requests`, and whatever `ask` throws
   */
  async lookUp<T>(
    address: string,
    name: Name,
    ask: () => Promise<T | null>,
    mayWait = true,
  ): Promise<T | null> {
    if (this.#known.get(kindOf(name))?.has(name)) return await this.#lookUpKnown(address, name, ask);
    // Many at once with the same name are one look-up, and one miss.
    if (!mayWait && this.#waiting.has(name)) throw refuseFor(ASKED_EVERY_MS / 1_000);
    const first = this.#asking.get(name);
    if (first !== undefined) return (await first) ? await this.#lookUpKnown(address, name, ask) : null;
    if (this.#missing.isSpent(name)) return null;
    const giveBack = this.#take(address);
    if (giveBack !== undefined) return await this.#lookUpNew(name, ask, giveBack);
    return (await this.#isFoundInTurn(address, name, mayWait))
      ? await this.#lookUpKnown(address, name, ask)
      : null;
  }

  async #lookUpKnown<T>(address: string, name: Name, ask: () => Promise<T | null>): Promise<T | null> {
    const found = await ask();
    if (found === null) {
      this.#known.get(kindOf(name))?.delete(name);
      this.#rememberMissing(name);
      this.#take(address);
    }
    return found;
  }

  async #lookUpNew<T>(name: Name, ask: () => Promise<T | null>, giveBack: GiveBack): Promise<T | null> {
    const asked = ask();
    const isFound = await this.#shareAnswer(
      name,
      asked.then((found) => found !== null),
    );
    // What could not be asked counts: a database that is slow or away is not asked without a bound.
    if (isFound) giveBack();
    return await asked;
  }

  /** @throws Refusal `too_many_requests` when it does not exist and the address is beyond its bound, or too many wait */
  async #isFoundInTurn(address: string, name: Name, mayWait: boolean): Promise<boolean> {
    if (!isSecret(name)) throw refuseFor(this.#byAddress.secondsLeft);
    const answer = this.#waiting.ask(name, address);
    if (answer === undefined) throw refuseFor(ASKED_EVERY_MS / 1_000);
    const exists = this.#shareAnswer(name, answer);
    if (!mayWait) {
      exists.catch(() => undefined);
      throw refuseFor(ASKED_EVERY_MS / 1_000);
    }
    if (await exists) return true;
    if (this.#byAddress.take(address) === undefined) throw refuseFor(this.#byAddress.secondsLeft);
    return false;
  }

  /** Remembers the answer, and shares it with all who look up the same name meanwhile: also that there was none. */
  async #shareAnswer(name: Name, answer: Promise<boolean>): Promise<boolean> {
    this.#asking.set(name, answer);
    try {
      const exists = await answer;
      if (exists) this.#remember(name);
      else this.#rememberMissing(name);
      return exists;
    } finally {
      this.#asking.delete(name);
    }
  }

  #take(address: string): GiveBack | undefined {
    const ofAddress = this.#byAddress.take(address);
    if (ofAddress === undefined) return undefined;
    const ofAll = this.#inAll.take('');
    if (ofAll === undefined) {
      ofAddress();
      return undefined;
    }
    return () => {
      ofAddress();
      ofAll();
    };
  }

  #remember(name: Name): void {
    const kind = kindOf(name);
    const known = this.#known.get(kind) ?? new Set();
    this.#known.set(kind, known.add(name));
    if (known.size > KNOWN_AT_MOST) known.delete(known.keys().next().value ?? '');
  }

  #rememberMissing(name: Name): void {
    if (isSecret(name)) this.#missing.take(name);
  }
}

interface Waiter {
  readonly address: string;
  readonly resolve: (exists: boolean) => void;
  readonly reject: (error: unknown) => void;
}

/** Names that wait for the next statement, which asks for all of them. One statement at a time, and one a second. */
class Waiting {
  readonly #findExisting: (names: readonly SecretName[]) => Promise<ReadonlySet<SecretName>>;
  #waiters = new Map<SecretName, Waiter>();
  /** Those that are being asked for. */
  #asked: ReadonlyMap<SecretName, Waiter> = new Map();
  /** How many names of an address wait or are being asked for. */
  readonly #ofAddress = new Map<string, number>();
  #inAll = 0;
  #isAsking = false;

  constructor(findExisting: (names: readonly SecretName[]) => Promise<ReadonlySet<SecretName>>) {
    this.#findExisting = findExisting;
  }

  has(name: Name): boolean {
    return isSecret(name) && (this.#waiters.has(name) || this.#asked.has(name));
  }

  /**
   * @param name one that does not wait yet
   * @returns whether it exists; undefined when too many names wait, of its address or in all
   */
  ask(name: SecretName, address: string): Promise<boolean> | undefined {
    if (!this.#takePlace(address)) return undefined;
    const answer = new Promise<boolean>((resolve, reject) => {
      this.#waiters.set(name, { address, resolve, reject });
    });
    if (!this.#isAsking) void this.#askWhileSomeWait();
    return answer;
  }

  #takePlace(address: string): boolean {
    const ofAddress = this.#ofAddress.get(address) ?? 0;
    if (ofAddress >= NAMES_OF_ADDRESS || this.#inAll >= NAMES_AT_ONCE) return false;
    this.#ofAddress.set(address, ofAddress + 1);
    this.#inAll += 1;
    return true;
  }

  #leavePlace(address: string): void {
    const left = (this.#ofAddress.get(address) ?? 0) - 1;
    if (left > 0) this.#ofAddress.set(address, left);
    else this.#ofAddress.delete(address);
    this.#inAll -= 1;
  }

  async #askWhileSomeWait(): Promise<void> {
    this.#isAsking = true;
    while (this.#waiters.size > 0) {
      const pause = new Promise((resolve) => setTimeout(resolve, ASKED_EVERY_MS));
      const waiters = this.#waiters;
      this.#asked = waiters;
      this.#waiters = new Map();
      try {
        const existing = await this.#findExisting([...waiters.keys()]);
        for (const [name, { resolve }] of waiters) resolve(existing.has(name));
      } catch (error) {
        for (const { reject } of waiters.values()) reject(error);
      }
      this.#asked = new Map();
      for (const { address } of waiters.values()) this.#leavePlace(address);
      await pause;
    }
    this.#isAsking = false;
  }
}
