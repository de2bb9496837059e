import { randomUUID } from 'node:crypto';
import type { Logger } from 'pino';
import type { Webhook } from 'standardwebhooks';
import { sign } from '../channels/simulator/protocol.ts';
import type { Dice } from './faults.ts';
import type { Notification, Store, Trade } from './store.ts';
import { LATE_CALLBACK_MS } from './triggers.ts';
import { type TradeView, tradeView } from './view.ts';

const SECOND = 1_000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;

/**
 * The waits between delivery attempts of a callback. They are the waits of WeChat Pay v3, according to its notification
 * document.
 */
export const CALLBACK_RETRY_MS: readonly number[] = [
  ...[15 * SECOND, 15 * SECOND, 30 * SECOND, 3 * MINUTE, 10 * MINUTE, 20 * MINUTE],
  ...[30 * MINUTE, 30 * MINUTE, 30 * MINUTE, HOUR, 3 * HOUR, 3 * HOUR, 3 * HOUR, 6 * HOUR, 6 * HOUR],
];

/** Timeout of a callback. WeChat Pay also treats a callback as failed if no answer arrives within 5 s. */
const ANSWER_WITHIN_MS = 5_000;

export type NotificationType = 'trade.succeeded' | 'trade.failed' | 'trade.processing' | 'refund.succeeded';

/**
 * Sends callbacks until they are acknowledged. The durable ledger contains these callbacks, so the simulator continues
 * to send them after a restart.
 */
export class Notifier {
  readonly #store: Store;
  readonly #dice: Dice;
  readonly #signers: ReadonlyMap<string, Webhook>;
  readonly #retryMs: readonly number[];
  readonly #logger: Logger;
  readonly #timers = new Map<string, NodeJS.Timeout>();
  readonly #running = new Set<Promise<void>>();
  #stopped = false;

  constructor(
    store: Store,
    dice: Dice,
    signers: ReadonlyMap<string, Webhook>,
    retryMs: readonly number[],
    logger: Logger,
  ) {
    this.#store = store;
    this.#dice = dice;
    this.#signers = signers;
    this.#retryMs = retryMs;
    this.#logger = logger;
  }

  /** Schedules the callbacks that an earlier process did not deliver. */
  start(): void {
    for (const notification of this.#store.notifications.values()) this.#schedule(notification);
  }

  /** Cancels all scheduled callbacks. Called after the ledger was emptied. */
  forget(): void {
    for (const timer of this.#timers.values()) clearTimeout(timer);
    this.#timers.clear();
  }

  /** Stops sending and waits for the attempts in progress. */
  async stop(): Promise<void> {
    this.#stopped = true;
    this.forget();
    await Promise.all(this.#running);
  }

  /**
   * Records a callback with the current state of the trade, and with the faults that were drawn for the callback. Sends
   * it when it is due.
   */
  notify(trade: Trade, type: NotificationType, extra: Readonly<Record<string, unknown>> = {}): void {
    const faults = this.#store.faults.callback;
    const strikes = (chance: number, fault: string) =>
      this.#dice.strikes(chance, `callback.${fault}`, trade.outTradeNo);
    const { triggers = [] } = trade;
    if (triggers.includes('callback-lost') || strikes(faults.dropRate, 'drop')) return;
    const view = tradeView(trade);
    const amount = strikes(faults.wrongAmountRate, 'wrongAmount') ? view.amount + 1 : view.amount;
    const delayMs = triggers.includes('callback-late')
      ? Math.max(faults.delayMs, LATE_CALLBACK_MS)
      : faults.delayMs;
    const duplicates = triggers.includes('callback-doubled')
      ? Math.max(faults.duplicates, 1)
      : faults.duplicates;
    this.#enqueue(
      trade,
      type,
      { ...view, amount, ...extra },
      {
        copies: 1 + duplicates,
        corrupt: strikes(faults.corruptSignatureRate, 'corruptSignature'),
        thenStale: faults.outOfOrder && type === 'trade.succeeded',
        nextAt: Date.now() + delayMs,
      },
    );
  }

  #enqueue(
    trade: Trade,
    type: NotificationType,
    data: TradeView,
    delivery: Pick<Notification, 'copies' | 'corrupt' | 'thenStale' | 'nextAt'>,
  ): void {
    const notification: Notification = {
      id: `msg_${randomUUID()}`,
      account: trade.account,
      outTradeNo: trade.outTradeNo,
      url: trade.notifyUrl,
      body: JSON.stringify({ type, data }),
      attempts: 0,
      ...delivery,
    };
    this.#store.write({ notification });
    this.#schedule(notification);
  }

  /**
   * After the payment's own callback, sends another callback with the state before the payment. A receiver must not
   * return to the older state.
   */
  #enqueueStale(trade: Trade): void {
    const before: Trade = { ...trade, state: 'PROCESSING', paidAt: null, transactionId: null };
    const delivery = { copies: 1, corrupt: false, thenStale: false, nextAt: Date.now() };
    this.#enqueue(trade, 'trade.processing', tradeView(before), delivery);
  }

  #schedule(notification: Notification): void {
    if (this.#stopped) return;
    const run = () => {
      this.#timers.delete(notification.id);
      const attempt = this.#attempt(notification.id)
        .catch((err: unknown) => this.#logger.error({ err, id: notification.id }, 'callback not sent'))
        .finally(() => this.#running.delete(attempt));
      this.#running.add(attempt);
    };
    this.#timers.set(notification.id, setTimeout(run, Math.max(0, notification.nextAt - Date.now())));
  }

  async #attempt(id: string): Promise<void> {
    const due = this.#store.notifications.get(id);
    const trade = due && this.#store.trades.get(due.outTradeNo);
    if (due === undefined || trade === undefined) return;
    const copies = due.attempts === 0 ? due.copies : 1;
    const wait = this.#retryMs[due.attempts];
    const notification = {
      ...due,
      attempts: due.attempts + 1,
      nextAt: Date.now() + (wait ?? 0),
    };
    // The attempt is recorded before it is sent. If the process is killed in between, the next process sends the
    // callback again, and the attempt is still counted.
    this.#store.write({ notification });
    this.#store.write({ trade: { ...trade, callbackAttempts: trade.callbackAttempts + copies } });
    await this.#store.durable();

    const acknowledged = await Promise.all(Array.from({ length: copies }, () => this.#send(notification)));
    const current = this.#store.trades.get(due.outTradeNo);
    if (!this.#store.notifications.has(id) || current === undefined) return;
    if (due.thenStale && due.attempts === 0) this.#enqueueStale(current);
    if (acknowledged.includes(true) || wait === undefined) this.#store.write({ notificationDone: id });
    else this.#schedule(notification);
    await this.#store.durable();
  }

  /** Sends one request. Returns true if the receiver acknowledged it with a 2xx status. */
  async #send(notification: Notification): Promise<boolean> {
    const signer = this.#signers.get(notification.account);
    if (signer === undefined) throw new Error(`no secret for account ${notification.account}`);
    const signed = notification.corrupt ? `${notification.body} ` : notification.body;
    try {
      const response = await fetch(notification.url, {
        method: 'POST',
        headers: { 'content-type': 'application/json', ...sign(signer, notification.id, signed) },
        body: notification.body,
        redirect: 'manual',
        signal: AbortSignal.timeout(ANSWER_WITHIN_MS),
      });
      await response.body?.cancel();
      return response.ok;
    } catch (err) {
      this.#logger.debug({ err, outTradeNo: notification.outTradeNo }, 'callback unanswered');
      return false;
    }
  }
}
