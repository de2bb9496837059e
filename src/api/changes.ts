import { createHash, randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { FairSlots } from '../domain/fair-slots.ts';
import { Connection } from '../ledger/connection.ts';
import type { Logger } from '../log.ts';

/** The name of a payment's changes, as the ledger notifies of them (src/ledger/notify.ts). */
export const paymentKey = (paymentId: string): string => `payment/${paymentId}`;
/** The same for an order; hashed there because a notification's text is short. */
export const orderKey = (merchantId: string, orderId: string): string =>
  `order/${merchantId}/${createHash('md5').update(orderId).digest('hex')}`;

/** The same for a merchant's events. */
export const eventsKey = (merchantId: string): string => `events/${merchantId}`;

/** How often waiters read again by themselves. */
const PAUSES = {
  /** About, while nobody listens for them. */
  fallbackMs: 2_000,
  /** At the latest, in any case: a notification can be lost with the process that was to send it. */
  readAgainMs: 15_000,
};
const PING_EVERY_MS = 10_000;
const RECONNECT_AT_MOST_MS = 5_000;
/** Each holds a connection and some memory; beyond this nobody is kept waiting. */
const WAITERS_AT_MOST = 6_000;
/** Of these for `?wait=`, besides the streams. */
const POLLS_AT_MOST = 2_000;
/** Of these for one payment or order: a payer's token makes 20 attempts of an order, and all of them leave room. */
const SAME_AT_MOST = 240;

export interface Follow<T> {
  /** Reads the current state. Runs at once, after every change, at least every 15 s, and when the time is up. */
  readonly read: () => Promise<T>;
  readonly timeoutMs: number;
  /** Aborted when nobody is interested any more. */
  readonly signal?: AbortSignal;
  /** True for a failure of `read` after which it is tried again soon; any other is thrown. */
  readonly survives?: (error: unknown) => boolean;
  /**
   * For a request whose answer is what it waits for, and which takes seconds at most: it has a place however many wait,
   * and goes on while the service stops, when it looks for itself.
   * @default false
   */
  readonly mustWait?: boolean;
}

export interface Wait<T> extends Omit<Follow<T>, 'survives'> {
  /** True when there is nothing more to wait for. */
  readonly done: (value: T) => boolean;
  /** Whom a request with `wait` counts for; left out by what the service itself waits for. */
  readonly for?: Poller | undefined;
}

export interface Poller {
  readonly address: string;
  readonly merchantId: string;
}

/**
 * Tells waiters (`?wait=`, event streams) of changes, whichever process made them: one connection that LISTENs, for
 * all of them. It reconnects by itself; whatever may have been missed meanwhile is read again.
 */
export class Changes {
  readonly #databaseUrl: string;
  readonly #log: Pick<Logger, 'warn' | 'info'>;
  readonly #waitersAtMost: number;
  readonly #pauses: Readonly<typeof PAUSES>;
  readonly #pollsByAddress: FairSlots;
  readonly #pollsByMerchant: FairSlots;
  readonly #subscriptions = new Map<string, Set<Subscription>>();
  readonly #closing = new AbortController();
  #listening = false;
  #waiting = 0;
  #running: Promise<void> | undefined;

  constructor(
    databaseUrl: string,
    log: Pick<Logger, 'warn' | 'info'>,
    waitersAtMost: number = WAITERS_AT_MOST,
    pollsAtMost: number = POLLS_AT_MOST,
    pauses: Readonly<typeof PAUSES> = PAUSES,
  ) {
    this.#databaseUrl = databaseUrl;
    this.#log = log;
    this.#waitersAtMost = waitersAtMost;
    this.#pauses = pauses;
    this.#pollsByAddress = new FairSlots(pollsAtMost, pollsAtMost / 2);
    this.#pollsByMerchant = new FairSlots(pollsAtMost, pollsAtMost / 2);
  }

  /** Begins to listen, and goes on trying until `close`. */
  start(): void {
    this.#running ??= this.#run();
  }

  /** True while changes are heard at once; else waiters look every two seconds. */
  get listening(): boolean {
    return this.#listening;
  }

  /** How many waiters there are. */
  get waiting(): number {
    return this.#waiting;
  }

  /** False with as many waiters as there may be, in all or for this key. */
  hasRoom(key: string): boolean {
    return this.#waiting < this.#waitersAtMost && (this.#subscriptions.get(key)?.size ?? 0) < SAME_AT_MOST;
  }

  /**
   * The current state, and the state after every change and at least every 15 s, until the time is up, the signal is
   * aborted or the service stops, with one last look at the end. Changes that come while one state is being dealt with are
   * one: whoever is slow misses states in between and never the last. Holds no database connection while it waits.
   */
  async *follow<T>(
    key: string,
    { read, timeoutMs, signal, survives, mustWait }: Follow<T>,
  ): AsyncGenerator<T> {
    const deadline = Date.now() + timeoutMs;
    // Before the first read, so that no change falls between the two.
    const subscription = this.#subscribe(key);
    const stop = () => subscription.notify();
    signal?.addEventListener('abort', stop);
    if (signal?.aborted === true) stop();
    try {
      for (;;) {
        const outcome = await read().then(
          (value) => ({ value }),
          (error: unknown) => {
            if (survives?.(error) !== true) throw error;
          },
        );
        if (outcome !== undefined) yield outcome.value;
        const left = deadline - Date.now();
        if (left <= 0 || (this.#closing.signal.aborted && mustWait !== true)) return;
        const hears = this.#listening && outcome !== undefined;
        // Those who began at the same time do not go on reading at the same time.
        const { fallbackMs, readAgainMs } = this.#pauses;
        const pause = hears ? readAgainMs * (1 - Math.random() / 4) : fallbackMs * (0.5 + Math.random());
        await subscription.next(Math.min(left, pause));
        if (signal?.aborted === true) return;
      }
    } finally {
      signal?.removeEventListener('abort', stop);
      this.#unsubscribe(key, subscription);
    }
  }

  /**
   * Follows until `done`; resolves with what was read last. With too many waiters already, in all or of one address or
   * merchant, it only reads, unless it `mustWait`.
   */
  async until<T>(key: string, { done, for: poller, ...follow }: Wait<T>): Promise<T> {
    const hasPlace = follow.mustWait === true || this.hasRoom(key);
    if (follow.timeoutMs <= 0 || !hasPlace) return await follow.read();
    const leave = poller === undefined ? () => undefined : this.#enter(poller);
    if (leave === undefined) return await follow.read();
    try {
      let last: T | undefined;
      for await (const value of this.follow(key, follow)) {
        last = value;
        if (done(value)) break;
      }
      // It has read once at least, or thrown.
      return last as T;
    } finally {
      leave();
    }
  }

  /** @returns what gives the place back; undefined when there is none. */
  #enter({ address, merchantId }: Poller): (() => void) | undefined {
    if (!this.#pollsByAddress.take(address)) return undefined;
    if (!this.#pollsByMerchant.take(merchantId)) {
      this.#pollsByAddress.give(address);
      return undefined;
    }
    return () => {
      this.#pollsByAddress.give(address);
      this.#pollsByMerchant.give(merchantId);
    };
  }

  /** Stops listening; everybody who waits answers with the current state. */
  async close(): Promise<void> {
    this.#closing.abort();
    this.#notifyAll();
    await this.#running;
  }

  #subscribe(key: string): Subscription {
    const subscription = new Subscription();
    this.#waiting += 1;
    const same = this.#subscriptions.get(key);
    if (same === undefined) this.#subscriptions.set(key, new Set([subscription]));
    else same.add(subscription);
    return subscription;
  }

  #unsubscribe(key: string, subscription: Subscription): void {
    this.#waiting -= 1;
    const same = this.#subscriptions.get(key);
    same?.delete(subscription);
    if (same?.size === 0) this.#subscriptions.delete(key);
  }

  #notifyAll(): void {
    for (const subscriptions of this.#subscriptions.values()) {
      for (const subscription of subscriptions) subscription.notify();
    }
  }

  /** The same, but not all at the same time: about one a ms, and within the fallback's time. */
  #notifyAllSoon(): void {
    const withinMs = Math.min(this.#waiting, this.#pauses.fallbackMs);
    for (const subscriptions of this.#subscriptions.values()) {
      for (const subscription of subscriptions) {
        setTimeout(() => subscription.notify(), Math.random() * withinMs).unref();
      }
    }
  }

  async #run(): Promise<void> {
    let failures = 0;
    while (!this.#closing.signal.aborted) {
      try {
        await this.#listen(() => {
          failures = 0;
        });
      } catch (error) {
        if (failures === 0)
          this.#log.warn({ err: error }, 'not listening for changes: waiters look every 2 s');
      }
      const pause = Math.min(100 * 2 ** failures++, RECONNECT_AT_MOST_MS);
      await sleep(pause, undefined, { signal: this.#closing.signal }).catch(() => undefined);
    }
  }

  /** Listens until the connection ends. */
  async #listen(onListening: () => void): Promise<void> {
    const client = new Connection({
      connectionString: this.#databaseUrl,
      application_name: 'nodrop-changes',
      connectionTimeoutMillis: 3_000,
      query_timeout: 5_000,
      keepAlive: true,
    });
    const ended = new Promise<void>((resolve, reject) => {
      client.on('error', reject);
      client.once('end', resolve);
    });
    // Awaited below; a failure before that must not count as unhandled.
    ended.catch(() => undefined);
    const end = () => void client.end().catch(() => undefined);
    this.#closing.signal.addEventListener('abort', end);
    let ping: NodeJS.Timeout | undefined;
    try {
      await client.connect();
      // A connection that died silently, or that a pooler lends to others between two statements, looks like one on
      // which nothing happens: only what comes back says that it hears.
      const own = `ping/${randomUUID()}`;
      let heard = true;
      client.on('notification', ({ payload }) => {
        if (payload === own) {
          heard = true;
          if (this.#listening) return;
          onListening();
          this.#listening = true;
          this.#log.info('listening for changes');
          this.#notifyAllSoon();
        }
        for (const subscription of this.#subscriptions.get(payload ?? '') ?? []) subscription.notify();
      });
      const sendPing = () => {
        if (!heard) return void client.emit('error', new Error('its own notification did not come back'));
        heard = false;
        client
          // Its commit waits for no flush, as those of the ledger's notifications.
          .query("SELECT pg_notify('nodrop', $1) FROM set_config('synchronous_commit', 'off', true)", [own])
          .catch((error: unknown) => client.emit('error', error));
      };
      await client.query('LISTEN nodrop');
      sendPing();
      ping = setInterval(sendPing, PING_EVERY_MS);
      await ended;
    } finally {
      clearInterval(ping);
      this.#listening = false;
      this.#closing.signal.removeEventListener('abort', end);
      end();
      this.#notifyAllSoon();
    }
  }
}

/** Remembers a change that comes while its waiter is busy reading. */
class Subscription {
  #changed = false;
  #wake: (() => void) | undefined;

  notify(): void {
    this.#changed = true;
    this.#wake?.();
  }

  /** Resolves at the next change, at once if there was one since the last call, or after `timeoutMs`. */
  async next(timeoutMs: number): Promise<void> {
    if (!this.#changed) {
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, timeoutMs);
        this.#wake = () => {
          clearTimeout(timer);
          resolve();
        };
      });
    }
    this.#changed = false;
    this.#wake = undefined;
  }
}
