import { Refusal } from '../domain/refusal.ts';
import { findChannelAccount, listChannelAccounts, type OpenedAccount } from '../ledger/channel-accounts.ts';
import type { LedgerClient } from '../ledger/client.ts';
import { type FailedLookups, tooMany } from './http/failed-lookups.ts';

/**
 * How long an account is cached. New credentials work immediately, because the process reads the account again after a
 * wrong signature. After an account is disabled, the process may still accept its callbacks for this time. This is
 * harmless, because these callbacks still report true states.
 */
export const ACCOUNT_FRESH_MS = 60_000;
/** Minimum time between two reads of an account while senders exceed their limits. */
export const ACCOUNT_READ_EVERY_MS = 2_000;
/**
 * A transaction commits at most this long after the creation time of its account. So an account can become visible
 * after newer accounts. To find such accounts, a read of new accounts starts this long before the newest known account.
 */
const COMMITTED_WITHIN_MS = 60_000;

/** The account that the path of a callback names. */
export interface AccountName {
  readonly channel: string;
  /** Undefined if the callback URL of the channel contains no account id. */
  readonly id: string | undefined;
}

interface Read {
  readonly account: OpenedAccount;
  /** Epoch ms. */
  readonly at: number;
}

/** Caches, for one minute, each account that a callback has named. So most callbacks need no database query. */
export class ChannelAccounts {
  readonly #db: LedgerClient;
  readonly #nodropSecret: string;
  readonly #failedLookups: FailedLookups;
  readonly #now: () => Date;
  /** The cached accounts. An account has one entry for each of its callback URLs. */
  readonly #read = new Map<string, Read>();
  readonly #reading = new Map<string, Promise<OpenedAccount | null>>();
  #readingNew: Promise<void> | undefined;
  #readNewAt = Number.NEGATIVE_INFINITY;
  /** Creation time of the newest account that `#readNew` has read. */
  #youngest: Date | undefined;

  constructor(db: LedgerClient, nodropSecret: string, failedLookups: FailedLookups, now: () => Date) {
    this.#db = db;
    this.#nodropSecret = nodropSecret;
    this.#failedLookups = failedLookups;
    this.#now = now;
  }

  /**
   * The account, or null if it does not exist.
   * @throws Refusal `too_many_requests` if the sender has reached the limit for names that do not exist, and the last
   * read of new accounts did not find this account
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
      // Read new accounts although a limit is reached, because a channel may share its address with a client that sent
      // too many wrong names.
      await this.#readNew();
      const account = this.#read.get(key)?.account;
      if (account === undefined) throw tooMany(error.message, ACCOUNT_READ_EVERY_MS / 1_000);
      return account;
    }
  }

  /** Reads the account now. Concurrent callers share one query. */
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

  /**
   * Returns the cached account if it was read less than `ACCOUNT_READ_EVERY_MS` ago. Otherwise reads the account now.
   */
  async readRarely(name: AccountName): Promise<OpenedAccount | null> {
    const read = this.#read.get(keyOf(name));
    if (read !== undefined && this.#msSince(read.at) < ACCOUNT_READ_EVERY_MS) return read.account;
    return await this.readNow(name);
  }

  /** Reads all new accounts, at most once in `ACCOUNT_READ_EVERY_MS`. The first call reads all accounts. */
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

  /**
   * Milliseconds since `at`. If the clock was set back since then, the result is infinite, so that cached values are
   * read again.
   */
  #msSince(at: number): number {
    const since = this.#now().getTime() - at;
    return since < 0 ? Number.POSITIVE_INFINITY : since;
  }
}

const keyOf = ({ channel, id }: AccountName): string => `${channel}/${id ?? ''}`;
