import { Refusal } from '../domain/refusal.ts';
import { findChannelAccount, listChannelAccounts, type OpenedAccount } from '../ledger/channel-accounts.ts';
import type { LedgerClient } from '../ledger/client.ts';
import { type FailedLookups, tooMany } from './http/failed-lookups.ts';

/**
 * An account is taken as it was read for so long. New credentials need no less: it is read again when a signature fails.
 * Callbacks of an account that is disabled are taken a little longer, as what they tell is true.
 */
export const ACCOUNT_FRESH_MS = 60_000;
/** Beyond the bounds an account is read once in this time, however many callbacks speak of it. */
export const ACCOUNT_READ_EVERY_MS = 2_000;
/** A transaction that made an account can commit after a younger one. */
const COMMITTED_WITHIN_MS = 60_000;

/** What a callback's path names. */
export interface AccountName {
  readonly channel: string;
  /** Undefined: the account that owns the channel's address without an id. */
  readonly id: string | undefined;
}

interface Read {
  readonly account: OpenedAccount;
  /** Epoch ms. */
  readonly at: number;
}

/** The accounts that callbacks speak of, kept for a minute: nobody pays for a query by sending a callback. */
export class ChannelAccounts {
  readonly #db: LedgerClient;
  readonly #nodropSecret: string;
  readonly #failedLookups: FailedLookups;
  readonly #now: () => Date;
  /** Those that exist, or did when they were last read: as many as there are accounts at most. */
  readonly #read = new Map<string, Read>();
  readonly #reading = new Map<string, Promise<OpenedAccount | null>>();
  #readingNew: Promise<void> | undefined;
  #readNewAt = Number.NEGATIVE_INFINITY;
  /** When the youngest account was made that such a query has read. */
  #youngest: Date | undefined;

  constructor(db: LedgerClient, nodropSecret: string, failedLookups: FailedLookups, now: () => Date) {
    this.#db = db;
    this.#nodropSecret = nodropSecret;
    this.#failedLookups = failedLookups;
    this.#now = now;
  }

  /**
   * The account, or null when there is none.
   * @throws Refusal `too_many_requests` when the address asked for too many that do not exist, and this is none of those
   * that existed `ACCOUNT_READ_EVERY_MS` ago
   */
  async find(name: AccountName, address: string): Promise<OpenedAccount | null> {
    const key = keyOf(name);
    const read = this.#read.get(key);
    if (read !== undefined)
      return this.#msSince(read.at) < ACCOUNT_FRESH_MS ? read.account : await this.readNow(name);
    try {
      return await this.#failedLookups.lookUp(address, `account/${key}`, () => this.readNow(name));
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
      // A channel may share the address of whoever asked for too many.
      await this.#readNew();
      const account = this.#read.get(key)?.account;
      if (account === undefined) throw tooMany(error.message, ACCOUNT_READ_EVERY_MS / 1_000);
      return account;
    }
  }

  /** The account as it is now; those who ask at the same time share one query. */
  async readNow(name: AccountName): Promise<OpenedAccount | null> {
    const key = keyOf(name);
    const reading =
      this.#reading.get(key) ??
      findChannelAccount(this.#db, this.#nodropSecret, name.channel, name.id, this.#now())
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
  async readRarely(name: AccountName): Promise<OpenedAccount | null> {
    const read = this.#read.get(keyOf(name));
    if (read !== undefined && this.#msSince(read.at) < ACCOUNT_READ_EVERY_MS) return read.account;
    return await this.readNow(name);
  }

  /** Reads the accounts that are new, at first all of them, unless that was done in the last `ACCOUNT_READ_EVERY_MS`. */
  async #readNew(): Promise<void> {
    const at = this.#now().getTime();
    if (this.#readingNew === undefined && this.#msSince(this.#readNewAt) >= ACCOUNT_READ_EVERY_MS) {
      this.#readNewAt = at;
      const madeSince = new Date((this.#youngest?.getTime() ?? COMMITTED_WITHIN_MS) - COMMITTED_WITHIN_MS);
      this.#readingNew = listChannelAccounts(this.#db, this.#nodropSecret, madeSince, this.#now())
        .then((accounts) => {
          for (const account of accounts) {
            const { channel, id, ownsChannelAddress } = account;
            this.#read.set(keyOf({ channel, id }), { account, at });
            if (ownsChannelAddress) this.#read.set(keyOf({ channel, id: undefined }), { account, at });
          }
          this.#youngest = accounts.at(-1)?.createdAt ?? this.#youngest;
        })
        .finally(() => {
          this.#readingNew = undefined;
        });
    }
    await this.#readingNew;
  }

  /** Infinite when the clock was set back since then: what was read is then old. */
  #msSince(at: number): number {
    const since = this.#now().getTime() - at;
    return since < 0 ? Number.POSITIVE_INFINITY : since;
  }
}

const keyOf = ({ channel, id }: AccountName): string => `${channel}/${id ?? ''}`;
