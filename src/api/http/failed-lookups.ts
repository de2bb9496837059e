import { Refusal } from '../../domain/refusal.ts';
import { Counts, type GiveBack } from './counts.ts';

/**
 * Maximum number of wrong names per minute from one address. A name is a key, a client token, a payment id or an
 * account. A name is wrong if it does not exist.
 */
export const MISSES_A_MINUTE = 60;
/**
 * Maximum number of wrong names per minute from all addresses together. This maximum is needed, because one sender can
 * use any number of addresses.
 */
export const MISSES_A_MINUTE_IN_ALL = 600;
/**
 * After a limit is reached, new names wait for a look-up. At most one database query in this time looks up the waiting
 * names of all senders.
 */
export const ASKED_EVERY_MS = 1_000;
/** Maximum number of names that wait for a look-up or are being looked up, from all addresses. */
export const NAMES_AT_ONCE = 5_000;
/**
 * Maximum number of waiting names from one address, so that one address does not use up the slots of other addresses.
 */
export const NAMES_OF_ADDRESS = 500;
/** Maximum number of existing names in memory, for each kind of name. */
const KNOWN_AT_MOST = 10_000;
const WINDOW_MS = 60_000;

/** Creates the refusal for an address that has reached its limit in the current time window. */
export const tooMany = (detail: string, retryAfterSeconds: number): Refusal =>
  new Refusal('too_many_requests', detail, { retryAfterSeconds });

/**
 * The name of a secret: the hash of a key, or a payment's id with the hash of its client token. A sender cannot guess
 * such a name.
 */
export type SecretName = `key/${string}` | `token/${string}/${string}`;
/**
 * The name under which a key, client token, account or payment is looked up. Names of different kinds are never equal.
 */
export type Name = SecretName | `account/${string}` | `payment/${string}`;

const refuseFor = (retryAfterSeconds: number): Refusal =>
  tooMany('Too many requests named a key, token, payment or account that does not exist.', retryAfterSeconds);

const isSecret = (name: Name): name is SecretName => name.startsWith('key/') || name.startsWith('token/');
const kindOf = (name: Name): string => name.slice(0, name.indexOf('/'));

/**
 * Looks up names that unauthenticated senders give. Names that do not exist count against the limit of the sender's
 * address and against a limit for all addresses. Names that were found before are looked up immediately. If a limit is
 * reached, other names wait, and one SQL statement per second looks up all of them. So wrong names cost at most one
 * statement per second, and a valid name waits about one second. If too many names are waiting, a further name is
 * refused.
 */
export class FailedLookups {
  readonly #byAddress: Counts;
  readonly #inAll: Counts;
  /** Keys and client tokens that were not found in the current time window. */
  readonly #missing: Counts;
  /**
   * Names that were found, the oldest first. Each kind of name has its own set, so that many client tokens cannot
   * displace merchants' keys.
   */
  readonly #known = new Map<string, Set<string>>();
  /**
   * The running look-up of each name. Later callers wait for the same look-up. The result is true if the name exists.
   */
  readonly #asking = new Map<string, Promise<boolean>>();
  readonly #waiting: Waiting;

  /** @param findExisting returns the names that exist, with one SQL statement */
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
   * Looks up a name. If a limit is reached, new names of accounts and payments are refused immediately. Valid
   * callers are not affected: `ChannelAccounts` then reads the accounts itself, and payments are looked up here
   * only for callbacks that are refused anyway. Accounts and payments are not remembered as missing, because
   * they may be created later.
   * @param mayWait false if the request holds a scarce slot. Such a request is refused if its name would have to wait.
   * The look-up continues, so a retry after one second succeeds if the name exists
   * @returns the result of `ask`, or null if the name does not exist
   * @throws Refusal `too_many_requests`, and everything that `ask` throws
   */
  async lookUp<T>(
    address: string,
    name: Name,
    ask: () => Promise<T | null>,
    mayWait = true,
  ): Promise<T | null> {
    if (this.#known.get(kindOf(name))?.has(name)) return await this.#lookUpKnown(address, name, ask);
    // Concurrent requests with the same name share one look-up. If the name does not exist, they are counted once.
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
    // A look-up that fails with an error is counted as a wrong name. So the limits also apply while the database is
    // slow or down.
    if (isFound) giveBack();
    return await asked;
  }

  /**
   * @throws Refusal `too_many_requests` if too many names are waiting, or if the name does not exist and the sender's
   * address has reached its limit
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

  /**
   * Shares the result or the error of a look-up with concurrent look-ups of the same name. Remembers whether the name
   * exists.
   */
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
 * Names that wait for the next SQL statement. One statement looks up all waiting names. At most one statement runs at
 * a time, and at most one per second.
 */
class Waiting {
  readonly #findExisting: (names: readonly SecretName[]) => Promise<ReadonlySet<SecretName>>;
  #waiters = new Map<SecretName, Waiter>();
  /** Names that the running statement looks up. */
  #asked: ReadonlyMap<SecretName, Waiter> = new Map();
  /** For each address, the number of its names that wait or are being looked up. */
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
   * Adds a name to the names that the next SQL statement looks up.
   * @param name a name that is not waiting yet
   * @returns a promise that resolves to true if the name exists. Undefined if too many names are already waiting, from
   * this address or in total
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
