import type { LedgerClient } from '../ledger/client.ts';
import {
  minuteOf,
  recordUnverified,
  STORED_A_MINUTE,
  type UnverifiedCallback,
  type UnverifiedSender,
  unverifiedCallback,
} from '../ledger/unverified.ts';
import type { Logger } from '../log.ts';

const FLUSH_EVERY_MS = 1_000;
/** Senders of one second that are told apart; all others of an account count as one. */
const SENDERS_AT_MOST = 1_000;
const OTHERS = 'others';
/** Callbacks of one second that are kept, of at most 4 KiB each. */
const CALLBACKS_AT_MOST = 1_000;

/**
 * Unverifiable callbacks on their way to the ledger: counted here per address and account, and written once a second, so
 * that a callback costs no statement. A process that dies loses the last second of them.
 */
export class UnverifiedCallbacks {
  readonly #db: LedgerClient;
  readonly #log: Pick<Logger, 'warn'>;
  #senders = new Map<string, UnverifiedSender & { count: number; callbacks: UnverifiedCallback[] }>();
  #kept = 0;
  #timer: NodeJS.Timeout | undefined;
  #flushing: Promise<void> = Promise.resolve();

  constructor(db: LedgerClient, log: Pick<Logger, 'warn'>) {
    this.#db = db;
    this.#log = log;
  }

  /** Counts one, and keeps what a person needs of it while there is room. */
  add(accountId: string, address: string, body: Buffer, reason: string, now: Date): void {
    const minute = minuteOf(now);
    const keyOf = (from: string) => `${accountId} ${from} ${minute.getTime()}`;
    const isOther = this.#senders.size >= SENDERS_AT_MOST && !this.#senders.has(keyOf(address));
    const from = isOther ? OTHERS : address;
    const key = keyOf(from);
    const sender = this.#senders.get(key) ?? { accountId, address: from, minute, count: 0, callbacks: [] };
    this.#senders.set(key, sender);
    sender.count += 1;
    if (sender.callbacks.length < STORED_A_MINUTE && this.#kept < CALLBACKS_AT_MOST) {
      sender.callbacks.push(unverifiedCallback(body, reason, now));
      this.#kept += 1;
    }
    this.#timer ??= setTimeout(() => void this.flush(), FLUSH_EVERY_MS).unref();
  }

  /** Writes what there is, and waits for what is being written. Never fails: what cannot be written is left out. */
  async flush(): Promise<void> {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    const senders = [...this.#senders.values()];
    this.#senders = new Map();
    this.#kept = 0;
    this.#flushing = this.#flushing.then(() => this.#write(senders));
    await this.#flushing;
  }

  async #write(senders: readonly UnverifiedSender[]): Promise<void> {
    try {
      await recordUnverified(this.#db, senders);
    } catch (error) {
      this.#log.warn({ err: error }, 'unverified callbacks are not on record');
    }
  }
}
