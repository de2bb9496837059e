import { Refusal } from '../domain/refusal.ts';
import type { LedgerClient } from '../ledger/client.ts';
import { findChannelAccount, findChannelAccounts } from '../ledger/merchants.ts';
import type { ChannelAccount } from '../ledger/rows.ts';
import { type Misses, tooMany } from './http/misses.ts';

/** An account is taken as it was read for so long. */
export const ACCOUNT_FRESH_MS = 5_000;
/** Beyond the bounds an account is read once in this time, however many callbacks speak of it. */
export const ACCOUNT_READ_EVERY_MS = 2_000;
/** Of so many names at once; those that came first are left out. */
export const ACCOUNT_NAMES_AT_MOST = 1_000;

/** What a callback's path names. */
export interface AccountName {
  readonly channel: string;
  /** Undefined: the channel's default account. */
  readonly id: string | undefined;
}

interface Read {
  readonly account: ChannelAccount;
  /** Epoch ms. */
  readonly at: number;
}

/** The accounts that callbacks speak of, kept for seconds: nobody pays for a query by sending a callback. */
export class ChannelAccounts {
  readonly #db: LedgerClient;
  readonly #misses: Misses;
  readonly #now: () => Date;
  /** Those that exist, or did when they were last read: as many as there are accounts at most. */
  readonly #read = new Map<string, Read>();
  readonly #reading = new Map<string, Promise<ChannelAccount | null>>();
  /** Names beyond the bounds that are not known, for the next query; the oldest first. */
  #waiting = new Map<string, AccountName>();
  /** Names that are being asked for. */
  #asked: { readonly keys: ReadonlySet<string>; readonly done: Promise<void> } | undefined;
  #askedAt = Number.NEGATIVE_INFINITY;

  constructor(db: LedgerClient, misses: Misses, now: () => Date) {
    this.#db = db;
    this.#misses = misses;
    this.#now = now;
  }

  /**
   * The account, or null when there is none.
   * @throws Refusal `too_many_requests` when the address asked for too many that do not exist, and this is not known; it
   * is looked up with the next query for all of these
   */
  async find(name: AccountName, address: string): Promise<ChannelAccount | null> {
    const key = keyOf(name);
    const read = this.#read.get(key);
    if (read !== undefined)
      return this.#age(read) < ACCOUNT_FRESH_MS ? read.account : await this.readNow(name);
    try {
      return await this.#misses.lookUp(address, `account/${key}`, () => this.readNow(name));
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
      // A channel may share the address of whoever asked for too many.
      await this.#readWith(name);
      const account = this.#read.get(key)?.account;
      if (account === undefined) throw tooMany(error.message, ACCOUNT_READ_EVERY_MS / 1_000);
      return account;
    }
  }

  /** The account as it is now; those who ask at the same time share one query. */
  async readNow(name: AccountName): Promise<ChannelAccount | null> {
    const key = keyOf(name);
    const reading =
      this.#reading.get(key) ??
      findChannelAccount(this.#db, name.channel, name.id)
        .then((account) => {
          if (account === null) this.#read.delete(key);
          else this.#read.set(key, { account, at: this.#now().getTime() });
          return account;
        })
        .finally(() => this.#reading.delete(key));
    this.#reading.set(key, reading);
    return await reading;
  }

  /** The same, but as it was read in the last `ACCOUNT_READ_EVERY_MS` if it was. */
  async readRarely(name: AccountName): Promise<ChannelAccount | null> {
    const read = this.#read.get(keyOf(name));
    if (read !== undefined && this.#age(read) < ACCOUNT_READ_EVERY_MS) return read.account;
    return await this.readNow(name);
  }

  /** Asks for this and all others that wait, unless that was done in the last `ACCOUNT_READ_EVERY_MS`: then it waits too. */
  async #readWith(name: AccountName): Promise<void> {
    const key = keyOf(name);
    if (this.#asked?.keys.has(key)) return await this.#asked.done;
    this.#waiting.delete(key);
    this.#waiting.set(key, name);
    // Made-up names come faster than a channel calls back again: of too many the newest are asked for, this one among them.
    if (this.#waiting.size > ACCOUNT_NAMES_AT_MOST) {
      this.#waiting.delete(this.#waiting.keys().next().value ?? '');
    }
    const at = this.#now().getTime();
    if (this.#asked !== undefined || at - this.#askedAt < ACCOUNT_READ_EVERY_MS) return;
    this.#askedAt = at;
    const names = this.#waiting;
    this.#waiting = new Map();
    const done = findChannelAccounts(this.#db, [...names.values()])
      .then((accounts) => {
        for (const account of accounts) {
          const { channel, id, isDefault } = account;
          this.#read.set(keyOf({ channel, id }), { account, at });
          if (isDefault) this.#read.set(keyOf({ channel, id: undefined }), { account, at });
        }
      })
      .finally(() => {
        this.#asked = undefined;
      });
    this.#asked = { keys: new Set(names.keys()), done };
    await done;
  }

  #age({ at }: Read): number {
    return this.#now().getTime() - at;
  }
}

const keyOf = ({ channel, id }: AccountName): string => `${channel}/${id ?? ''}`;
