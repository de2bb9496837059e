import { createHash, randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { FairSlots } from '../domain/fair-slots.ts';
import { Connection } from '../ledger/connection.ts';
import type { Logger } from '../log.ts';

/** The key of the notifications that the ledger sends when a payment changes (src/ledger/notify.ts). */
export const paymentKey = (paymentId: string): string => `payment/${paymentId}`;
/**
 * The key of the notifications that the ledger sends when an order changes. The order id is hashed, because PostgreSQL
 * limits the length of a notification's payload.
 */
export const orderKey = (merchantId: string, orderId: string): string =>
  `order/${merchantId}/${createHash('md5').update(orderId).digest('hex')}`;

/** The key of the notifications that the ledger sends when a merchant has a new event. */
export const eventsKey = (merchantId: string): string => `events/${merchantId}`;

/** Pauses after which a waiting request reads the state again, even without a notification. */
const PAUSES = {
  /** Average pause between two reads while no database connection listens for notifications. */
  fallbackMs: 2_000,
  /**
   * Maximum pause between two reads while the process listens for notifications. The reads are needed, because the
   * process that makes a change can die before it sends the notification.
   */
  readAgainMs: 15_000,
};
const PING_EVERY_MS = 10_000;
const RECONNECT_AT_MOST_MS = 5_000;
/** Maximum number of waiting requests and streams in a process. Each of them holds a connection and some memory. */
const WAITERS_AT_MOST = 6_000;
/**
 * Maximum number of requests with `?wait=` in a process. The remaining slots for waiting requests are reserved for
 * event streams.
 */
const POLLS_AT_MOST = 2_000;
/** Maximum number of waiting requests and streams for one payment or order. */
const SAME_AT_MOST = 240;

export interface Follow<T> {
  /**
   * Reads the current state. The function is called immediately, after every change, at least every 15 s, and once
   * more when the time is up.
   */
  readonly read: () => Promise<T>;
  readonly timeoutMs: number;
  /** Aborted when the caller no longer needs the state. */
  readonly signal?: AbortSignal;
  /** Returns true if `read` should be retried after the error. Any other error is thrown. */
  readonly survives?: (error: unknown) => boolean;
  /**
   * True for a request that must wait for a change before it can be answered, for example the creation of a payment.
   * Such a request waits for a few seconds, even if the maximum of waiting requests is reached. If the service stops
   * meanwhile, the request keeps waiting and polls the database.
   * @default false
   */
  readonly mustWait?: boolean;
}

export interface Wait<T> extends Omit<Follow<T>, 'survives'> {
  /** True if the wait can end with this value. */
  readonly done: (value: T) => boolean;
  /** The address and the merchant whose limits apply to the request. Undefined if the service itself waits. */
  readonly for?: Poller | undefined;
}

export interface Poller {
  readonly address: string;
  readonly merchantId: string;
}

/**
 * Wakes waiting requests (`?wait=`, event streams) after changes by any process. One database connection LISTENs for
 * all waiting requests. After a lost connection, the process reconnects, and every waiting request reads again,
 * because notifications may have been missed.
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

  /** Starts to listen for notifications. Reconnects automatically until `close` is called. */
  start(): void {
    this.#running ??= this.#run();
  }

  /** True while the process can receive notifications. Otherwise waiting requests read about every 2 s. */
  get listening(): boolean {
    return this.#listening;
  }

  /** Number of waiting requests and streams. */
  get waiting(): number {
    return this.#waiting;
  }

  /** False if the process, or the payment or order with this key, has reached its maximum of waiting requests. */
  hasRoom(key: string): boolean {
    return this.#waiting < this.#waitersAtMost && (this.#subscriptions.get(key)?.size ?? 0) < SAME_AT_MOST;
  }

  /**
   * Yields the current state first. After that, yields the state again after every change, and at least every 15 s.
   * When the time is up or the service stops, the function reads once more and ends. When the signal is aborted, the
   * function ends without another read. A slow caller misses intermediate states, but never the last state. The
   * function holds no database connection while it waits.
   */
  async *follow<T>(
    key: string,
    { read, timeoutMs, signal, survives, mustWait }: Follow<T>,
  ): AsyncGenerator<T> {
    const deadline = Date.now() + timeoutMs;
    // Subscribe before the first read. A change between the read and a later subscription would be missed.
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
        const isNotified = this.#listening && outcome !== undefined;
        // The pause is random, so that requests that started at the same time do not all read again at the same time.
        const { fallbackMs, readAgainMs } = this.#pauses;
        const pause = isNotified ? readAgainMs * (1 - Math.random() / 4) : fallbackMs * (0.5 + Math.random());
        await subscription.next(Math.min(left, pause));
        if (signal?.aborted === true) return;
      }
    } finally {
      signal?.removeEventListener('abort', stop);
      this.#unsubscribe(key, subscription);
    }
  }

  /**
   * Waits until `done` accepts a state or the time is up, and resolves with the last state. If the process, the payment
   * or order, the address or the merchant has reached its maximum of waiting requests, the function reads once and does
   * not wait. With `mustWait`, the function waits anyway.
   */
  async until<T>(key: string, { done, for: poller, ...follow }: Wait<T>): Promise<T> {
    const mayWait = follow.mustWait === true || this.hasRoom(key);
    if (follow.timeoutMs <= 0 || !mayWait) return await follow.read();
    const leave = poller === undefined ? () => undefined : this.#enter(poller);
    if (leave === undefined) return await follow.read();
    try {
      let last: T | undefined;
      for await (const value of this.follow(key, follow)) {
        last = value;
        if (done(value)) break;
      }
      // `last` always has a value here, because `follow` yields at least one state or throws.
      return last as T;
    } finally {
      leave();
    }
  }

  /**
   * Takes a slot for a waiting request.
   * @returns a function that gives the slot back, or undefined if no slot is free
   */
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

  /** Stops listening. All waiting requests answer with the current state. */
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

  /**
   * Wakes all waiting requests within `fallbackMs`. The times are random, so that the requests do not all read at once.
   */
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
          this.#log.warn({ err: error }, 'not listening for changes: waiting requests read every 2 s');
      }
      const pause = Math.min(100 * 2 ** failures++, RECONNECT_AT_MOST_MS);
      await sleep(pause, undefined, { signal: this.#closing.signal }).catch(() => undefined);
    }
  }

  /** Listens for notifications until the connection ends. */
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
    // `ended` is awaited only further below. If it fails earlier, this handler prevents an unhandled rejection.
    ended.catch(() => undefined);
    const end = () => void client.end().catch(() => undefined);
    this.#closing.signal.addEventListener('abort', end);
    let ping: NodeJS.Timeout | undefined;
    try {
      await client.connect();
      // A dead connection looks like an idle connection. A connection that a pooler shares between clients also looks
      // idle. So the process sends a notification to itself and checks that the notification arrives.
      const own = `ping/${randomUUID()}`;
      let hasReturned = true;
      client.on('notification', ({ payload }) => {
        if (payload === own) {
          hasReturned = true;
          if (this.#listening) return;
          onListening();
          this.#listening = true;
          this.#log.info('listening for changes');
          this.#notifyAllSoon();
        }
        for (const subscription of this.#subscriptions.get(payload ?? '') ?? []) subscription.notify();
      });
      const sendPing = () => {
        if (!hasReturned)
          return void client.emit('error', new Error('the own notification did not come back'));
        hasReturned = false;
        client
          // Commit the notification without a flush to disk, as the ledger does for its notifications.
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

/** The subscription of one waiting request. It remembers a change that arrives while the request is still reading. */
class Subscription {
  #changed = false;
  #wake: (() => void) | undefined;

  notify(): void {
    this.#changed = true;
    this.#wake?.();
  }

  /**
   * Resolves at the next change, or after `timeoutMs`. If a change has come since the last call, resolves immediately.
   */
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
