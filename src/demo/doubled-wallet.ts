import type { Trade } from './books.ts';
import type { Callback } from './callback-proxy.ts';
import type { DoubledChannel } from './options.ts';
import type { Payer } from './payers.ts';
import type { Bought, Pressed } from './wallets.ts';

/** What the demo does with one double: it pays, forges and reads the double's books. */
export interface DoubledWallet {
  readonly channel: DoubledChannel;
  /** The settings of the merchant's account, as input of `channels add`. */
  readonly settings: Readonly<Record<string, string>>;
  /**
   * Configures nodrop's address at the channel, as a merchant would.
   * @param callbackUrl the account's callback address.
   */
  register(callbackUrl: string): Promise<void>;
  pay(payment: Bought, isDeclined: boolean): Promise<Pressed>;
  /** The double's own books, which do not know whether its callbacks arrived. */
  ledger(signal: AbortSignal): Promise<readonly Omit<Trade, 'callbackAttempts'>[]>;
  /** Forged callbacks of every kind, which claim that an unpaid payment was paid. */
  forge(payer: Payer, paymentId: string): Promise<readonly Callback[]>;
  /** A callback that the channel signs, with another amount than was paid. */
  withOtherAmount(paymentId: string): Promise<Callback>;
  /** Sets the request faults of the coming second, and completes pending refunds. @param second counted from 0. */
  tick(second: number): Promise<void>;
  stop(): Promise<void>;
}
