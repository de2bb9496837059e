import type { Trade } from './books.ts';
import type { Callback } from './callback-proxy.ts';
import type { DoubledChannel } from './options.ts';
import type { Payer } from './payers.ts';
import type { Bought, Pressed } from './wallets.ts';

/** The actions that the demo needs from one double: to pay, to forge callbacks, and to read the double's books. */
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
  /** Reads the double's own books. They do not show whether the double's callbacks arrived. */
  ledger(signal: AbortSignal): Promise<readonly Omit<Trade, 'callbackAttempts'>[]>;
  /** Makes forged callbacks of every kind. They claim that an unpaid payment was paid. */
  forge(payer: Payer, paymentId: string): Promise<readonly Callback[]>;
  /** Makes a callback whose amount differs from the amount that the payer paid. The channel signs this callback. */
  withOtherAmount(paymentId: string): Promise<Callback>;
  /**
   * Sets the faults of the requests in the next second, and completes pending refunds.
   * @param second counted from 0.
   */
  tick(second: number): Promise<void>;
  stop(): Promise<void>;
}
