import type { Credentials } from '../domain/channel.ts';
import { readCredentials } from './channel-accounts.ts';
import type { LedgerClient } from './client.ts';

/**
 * Cached credentials are read again when they are older than this time. Therefore every process uses new credentials
 * within this time.
 */
export const CREDENTIALS_FRESH_MS = 30_000;
/** Credentials are read at most once in this time, even if the channel rejects many calls. */
export const CREDENTIALS_READ_EVERY_MS = 1_000;

interface Read {
  readonly credentials: readonly Credentials[];
  /** Epoch ms. */
  readonly at: number;
}

/**
 * A cache of the accounts' valid credentials by account id, newest first. Without the cache, every payment would need
 * one more database statement.
 */
export class CredentialsCache {
  readonly #db: LedgerClient;
  readonly #nodropSecret: string;
  readonly #now: () => number;
  /** The credentials that were read last, by account id. */
  readonly #read = new Map<string, Read>();
  readonly #reading = new Map<string, Promise<readonly Credentials[]>>();

  /** @param now epoch ms */
  constructor(db: LedgerClient, nodropSecret: string, now: () => number = Date.now) {
    this.#db = db;
    this.#nodropSecret = nodropSecret;
    this.#now = now;
  }

  /**
   * @param maxAgeMs cached credentials that are older are read again; @default CREDENTIALS_FRESH_MS
   * @throws UnreadableSecret, or the database's error if the database cannot be reached
   */
  async of(accountId: string, maxAgeMs = CREDENTIALS_FRESH_MS): Promise<readonly Credentials[]> {
    const read = this.#read.get(accountId);
    const age = read === undefined ? Number.POSITIVE_INFINITY : this.#now() - read.at;
    // If the clock was set back, the age is negative. In that case the credentials are read again.
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
