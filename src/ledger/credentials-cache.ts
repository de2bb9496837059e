import type { Credentials } from '../domain/channel.ts';
import { readCredentials } from './channel-accounts.ts';
import type { LedgerClient } from './client.ts';

/** Credentials are taken as they were read for so long: new ones reach every process within it. */
export const CREDENTIALS_FRESH_MS = 30_000;
/** However many calls the channel does not take, the credentials are read once in this time. */
export const CREDENTIALS_READ_EVERY_MS = 1_000;

interface Read {
  readonly credentials: readonly Credentials[];
  /** Epoch ms. */
  readonly at: number;
}

/** The valid credentials of accounts by the account's id, the newest first: a payment costs no statement for them. */
export class CredentialsCache {
  readonly #db: LedgerClient;
  readonly #nodropSecret: string;
  readonly #now: () => number;
  /** As many as there are accounts at most. */
  readonly #read = new Map<string, Read>();
  readonly #reading = new Map<string, Promise<readonly Credentials[]>>();

  /** @param now epoch ms */
  constructor(db: LedgerClient, nodropSecret: string, now: () => number = Date.now) {
    this.#db = db;
    this.#nodropSecret = nodropSecret;
    this.#now = now;
  }

  /**
   * @param maxAgeMs how old they may be; @default CREDENTIALS_FRESH_MS
   * @throws UnreadableSecret. Any other error: the database cannot be asked now.
   */
  async of(accountId: string, maxAgeMs = CREDENTIALS_FRESH_MS): Promise<readonly Credentials[]> {
    const read = this.#read.get(accountId);
    const age = read === undefined ? Number.POSITIVE_INFINITY : this.#now() - read.at;
    // Negative when the clock was set back since then: what was read is then old.
    if (read !== undefined && age >= 0 && age < maxAgeMs) return read.credentials;
    const reading = this.#reading.get(accountId) ?? this.#readNow(accountId);
    this.#reading.set(accountId, reading);
    return await reading;
  }

  async #readNow(accountId: string): Promise<readonly Credentials[]> {
    try {
      const at = this.#now();
      const credentials = await readCredentials(this.#db, this.#nodropSecret, accountId, new Date(at));
      this.#read.set(accountId, { credentials, at });
      return credentials;
    } finally {
      this.#reading.delete(accountId);
    }
  }
}
