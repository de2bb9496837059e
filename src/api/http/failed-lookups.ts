import { Refusal } from '../../domain/refusal.ts';
import { Counts, type GiveBack } from './counts.ts';

/** Keys, client tokens, payment ids and accounts that do not exist, which an address may name per minute. */
export const MISSES_A_MINUTE = 60;
/** The limit of `MISSES_A_MINUTE` for all addresses together, because a sender can have any number of addresses. */
export const MISSES_A_MINUTE_IN_ALL = 600;
/** Beyond the limits, one database query per this time looks up the names of all senders. */
export const ASKED_EVERY_MS = 1_000;
/** Maximum of names that wait for a look-up or are being looked up. */
export const NAMES_AT_ONCE = 5_000;
/** Maximum of waiting names from one address, so that one address does not use up the slots of other addresses. */
export const NAMES_OF_ADDRESS = 500;
/** Maximum of remembered names that exist, for each kind of name. */
const KNOWN_AT_MOST = 10_000;
const WINDOW_MS = 60_000;

/** The refusal of an address that has used up a limit of its time window. */
export const tooMany = (detail: string, retryAfterSeconds: number): Refusal =>
  new Refusal('too_many_requests', detail, { retryAfterSeconds });

/**
 * A name that cannot be guessed before it exists: the hash of a key, or a payment's id and the hash of its client
 * token.
 */
export type SecretName = `key/${string}` | `token/${string}/${string}`;
/** The name of anything that can be looked up; unique among all kinds. */
export type Name = SecretName | `account/${string}` | `payment/${string}`;

const refuseFor = (retryAfterSeconds: number): Refusal =>
  tooMany('Too many requests named a key, token, payment or account that does not exist.', retryAfterSeconds);

const isSecret = (name: Name): name is SecretName => name.startsWith('key/') || name.startsWith('token/');
const kindOf = (name: Name): string => name.slice(0, name.indexOf('/'));

/**
 * Looks up names that unauthenticated senders give. Names that do not exist, and those being looked up, count per
 * address and in total. Names that were found before are always looked up. Beyond the limits, all other names wait, and
 * one SQL statement per second finds those that exist. So wrong names cost at most one statement per second, and a
 * valid name waits about a second. A name is refused while its address has its maximum of waiting names, or the process
 * has its maximum.
 */
export class FailedLookups {
  readonly #byAddress: Counts;
  readonly #inAll: Counts;
  /** Secret names that were not found in the current window. */
  readonly #missing: Counts;
  /**
   * Names that were found, the oldest first. Separate by kind, so that payers' tokens do not push out merchants' keys.
   */
  readonly #known = new Map<string, Set<string>>();
  /** Running look-ups by name: the first caller's look-up is shared. True if the name exists. */
  readonly #asking = new Map<string, Promise<boolean>>();
  readonly #waiting: Waiting;

  /** @param findExisting returns which of the names exist, with one SQL statement */
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
   * Looks up a name. Beyond the limits, accounts and payments are refused immediately. No valid caller suffers:
   * `ChannelAccounts` then reads accounts itself, and payments are only looked up here for callbacks that are refused
   * anyway. Accounts and payments may be created later, so they are not remembered as missing.
   * @param mayWait false for a request that holds a scarce slot: it is refused, and its name is known a second later
   * @returns what `ask` found, or null if the name does not exist
   * @throws Refusal `too_many_requests`, and everything that `ask` throws
   */
  async lookUp<T>(
    address: string,
    name: Name,
    ask: () => Promise<T | null>,
    mayWait = true,
  ): Promise<T | null> {
    if (this.#known.get(kindOf(name))?.has(name)) return await this.#lookUpKnown(address, name, ask);
    // Concurrent requests with the same name share one look-up and count as one miss.
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
    // A failed look-up keeps its count, so that the limits also hold while the database is slow or down.
    if (isFound) giveBack();
    return await asked;
  }

  /**
   * @throws Refusal `too_many_requests` if too many names wait, or if the name does not exist and its address is over
   * its limit
   */
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

  /** Shares the answer with concurrent look-ups of the same name, and remembers it. An error is shared as well. */
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

/**
 * Names that wait for the next SQL statement, which looks up all of them. One statement at a time, at most one per
 * second.
 */
class Waiting {
  readonly #findExisting: (names: readonly SecretName[]) => Promise<ReadonlySet<SecretName>>;
  #waiters = new Map<SecretName, Waiter>();
  /** Names that the running statement looks up. */
  #asked: ReadonlyMap<SecretName, Waiter> = new Map();
  /** Number of names that wait or are being looked up, by address. */
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
   * Adds a name to the next statement.
   * @param name a name that is not waiting yet
   * @returns whether the name exists; undefined if too many names wait, from its address or in total
   */
  ask(name: SecretName, address: string): Promise<boolean> | undefined {
    if (!this.#takeSlot(address)) return undefined;
    const answer = new Promise<boolean>((resolve, reject) => {
      this.#waiters.set(name, { address, resolve, reject });
    });
    if (!this.#isAsking) void this.#askWhileSomeWait();
    return answer;
  }

  #takeSlot(address: string): boolean {
    const ofAddress = this.#ofAddress.get(address) ?? 0;
    if (ofAddress >= NAMES_OF_ADDRESS || this.#inAll >= NAMES_AT_ONCE) return false;
    this.#ofAddress.set(address, ofAddress + 1);
    this.#inAll += 1;
    return true;
  }

  #giveSlotBack(address: string): void {
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
      for (const { address } of waiters.values()) this.#giveSlotBack(address);
      await pause;
    }
    this.#isAsking = false;
  }
}
