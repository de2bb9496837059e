import { join } from 'node:path';
import type { TradeState } from '../channels/simulator/protocol.ts';
import { type Faults, NO_FAULTS } from './faults.ts';
import { Journal } from './journal.ts';
import type { Trigger } from './triggers.ts';

export type PayResult = 'success' | 'declined' | 'processing';

/** An action that the wallet performs on a trade automatically. */
export interface Act {
  /** ISO 8601 (UTC). */
  readonly at: string;
  readonly result: PayResult;
}

/** A trade in the wallet's ledger. Amounts are in minor units, and times are in ISO 8601 (UTC). */
export interface Trade {
  readonly account: string;
  readonly outTradeNo: string;
  readonly amount: number;
  readonly currency: string;
  readonly subject: string;
  readonly notifyUrl: string;
  readonly returnUrl: string;
  readonly expiresAt: string;
  readonly state: TradeState;
  /** The trade is closed, but a payer who is already in the wallet can still pay it. */
  readonly payableWhenClosed?: boolean;
  /** The triggers of the trade. Absent if there are none. */
  readonly triggers?: readonly Trigger[];
  /** The automatic actions that are still to come, the next action first. Absent if there are none. */
  readonly acts?: readonly Act[];
  /** The amount that the payer was charged, if it differs from `amount`. */
  readonly charged?: number;
  readonly transactionId: string | null;
  /** The time of the payer's last payment or decline. */
  readonly actedAt: string | null;
  readonly paidAt: string | null;
  /** The sum of finished refunds. */
  readonly refunded: number;
  /** The sum of refunds in process. */
  readonly refunding: number;
  readonly createdCount: number;
  readonly queryCount: number;
  readonly callbackAttempts: number;
}

export interface Refund {
  readonly account: string;
  readonly outRefundNo: string;
  readonly outTradeNo: string;
  readonly amount: number;
  readonly refundId: string;
  readonly state: 'PROCESSING' | 'SUCCESS';
  /** The simulator answers no query about the refund while the refund is in process. */
  readonly silent?: boolean;
  /** The planned time of the refund's success, or the actual time once it has succeeded. */
  readonly settlesAt: string;
}

/** A callback that is not acknowledged yet, with the faults that were drawn for the callback. */
export interface Notification {
  /** The `webhook-id` of the callback. It is the same on every delivery attempt and copy. */
  readonly id: string;
  readonly account: string;
  readonly outTradeNo: string;
  readonly url: string;
  readonly body: string;
  /** Number of copies of the callback that the first delivery attempt sends. */
  readonly copies: number;
  readonly corrupt: boolean;
  /** True if an outdated notification follows the first delivery attempt. */
  readonly thenStale: boolean;
  readonly attempts: number;
  /** The time of the next delivery attempt, in milliseconds since the epoch. */
  readonly nextAt: number;
}

/** One change of the ledger. The journal is a list of changes, and replaying it applies them again. */
type Entry =
  | { readonly trade: Trade }
  | { readonly queried: string }
  | { readonly refund: Refund }
  | { readonly notification: Notification }
  | { readonly notificationDone: string }
  | { readonly faults: Faults }
  | { readonly emptied: true };

/** The simulator's durable ledger. Reads use the copy in memory, and every change is also written to the journal. */
export class Store {
  readonly trades = new Map<string, Trade>();
  readonly refunds = new Map<string, Refund>();
  readonly notifications = new Map<string, Notification>();
  faults: Faults = NO_FAULTS;
  #journal: Journal | undefined;

  /** Opens the ledger in `folder` and creates it if missing. @throws Error if its journal is damaged. */
  static async open(folder: string): Promise<Store> {
    const store = new Store();
    store.#journal = await Journal.open(
      join(folder, 'journal.jsonl'),
      (entry) => store.#apply(entry as Entry),
      () => store.#snapshot(),
    );
    return store;
  }

  /** Changes the ledger in memory immediately. A caller must not answer a request before `durable()` resolves. */
  write(entry: Entry): void {
    this.#apply(entry);
    this.#journal?.append(entry);
  }

  /** Resolves when all changes so far are on disk and survive `kill -9`. @throws the file system's error. */
  async durable(): Promise<void> {
    await this.#journal?.durable();
  }

  async close(): Promise<void> {
    await this.#journal?.close();
  }

  #apply(entry: Entry): void {
    if ('trade' in entry) this.trades.set(entry.trade.outTradeNo, entry.trade);
    else if ('queried' in entry) {
      const trade = this.trades.get(entry.queried);
      if (trade) this.trades.set(trade.outTradeNo, { ...trade, queryCount: trade.queryCount + 1 });
    } else if ('refund' in entry) this.refunds.set(entry.refund.outRefundNo, entry.refund);
    else if ('notification' in entry) this.notifications.set(entry.notification.id, entry.notification);
    else if ('notificationDone' in entry) this.notifications.delete(entry.notificationDone);
    else if ('faults' in entry) {
      // An entry that an earlier version of the simulator wrote may lack some faults.
      this.faults = { ...entry.faults, close: { ...NO_FAULTS.close, ...entry.faults.close } };
    } else {
      this.trades.clear();
      this.refunds.clear();
      this.notifications.clear();
    }
  }

  *#snapshot(): Generator<Entry> {
    yield { faults: this.faults };
    for (const trade of this.trades.values()) yield { trade };
    for (const refund of this.refunds.values()) yield { refund };
    for (const notification of this.notifications.values()) yield { notification };
  }
}
