import type { LedgerClient } from '../ledger/client.ts';
import {
  minuteOf,
  recordUnverified,
  STORED_A_MINUTE,
  type UnverifiedCallback,
  type UnverifiedSender,
  unverifiedCallback,
} from '../ledger/unverified-callbacks.ts';
import type { Logger } from '../log.ts';

const FLUSH_EVERY_MS = 1_000;
/**
 * Maximum number of senders that one batch counts separately. All further senders of an account are counted together,
 * as one sender. Their callbacks are counted for the minute in which the first of them arrived.
 */
const SENDERS_AT_MOST = 1_000;
const OTHERS = 'others';
/** Maximum number of callbacks whose content one batch keeps, up to 4 KiB each. Further callbacks are only counted. */
const CALLBACKS_AT_MOST = 1_000;

/**
 * Buffers unverifiable callbacks in memory and writes them to the database once a second. So not every callback needs
 * an SQL statement. At most two batches are in memory: one that is being written, and one that is being filled. The
 * size of a batch is limited, even if the database is slow. If the process dies, batches that are not written yet are
 * lost.
 */
export class UnverifiedCallbacks {
  readonly #db: LedgerClient;
  readonly #log: Pick<Logger, 'warn'>;
  #senders = new Map<string, UnverifiedSender & { count: number; callbacks: UnverifiedCallback[] }>();
  #kept = 0;
  #timer: NodeJS.Timeout | undefined;
  #writing: Promise<void> | undefined;

  constructor(db: LedgerClient, log: Pick<Logger, 'warn'>) {
    this.#db = db;
    this.#log = log;
  }

  /**
   * Counts an unverifiable callback. While the batch has room, also keeps the start of the callback and the reason for
   * the failure for operators.
   */
  add(accountId: string, address: string, body: Buffer, reason: string, now: Date): void {
    const minute = minuteOf(now);
    const own = `${accountId} ${address} ${minute.getTime()}`;
    const isOther = this.#senders.size >= SENDERS_AT_MOST && !this.#senders.has(own);
    const from = isOther ? OTHERS : address;
    const key = isOther ? `${accountId} ${OTHERS}` : own;
    const sender = this.#senders.get(key) ?? { accountId, address: from, minute, count: 0, callbacks: [] };
    this.#senders.set(key, sender);
    sender.count += 1;
    if (sender.callbacks.length < STORED_A_MINUTE && this.#kept < CALLBACKS_AT_MOST) {
      sender.callbacks.push(unverifiedCallback(body, reason, now));
      this.#kept += 1;
    }
    this.#flushSoon();
  }

  /**
   * Writes the current batch and waits until the batch is written. Never throws. A batch that cannot be written is
   * dropped.
   */
  async flush(): Promise<void> {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    while (this.#writing !== undefined) await this.#writing;
    if (this.#senders.size === 0) return;
    const senders = [...this.#senders.values()];
    this.#senders = new Map();
    this.#kept = 0;
    this.#writing = this.#write(senders).finally(() => {
      this.#writing = undefined;
      this.#flushSoon();
    });
    await this.#writing;
  }

  #flushSoon(): void {
    if (this.#writing !== undefined || this.#senders.size === 0) return;
    this.#timer ??= setTimeout(() => void this.flush(), FLUSH_EVERY_MS).unref();
  }

  async #write(senders: readonly UnverifiedSender[]): Promise<void> {
    try {
      await recordUnverified(this.#db, senders);
    } catch (error) {
      this.#log.warn({ err: error }, 'unverified callbacks could not be recorded');
    }
  }
}
