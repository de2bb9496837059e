import type { Trade } from './books.ts';
import type { Callback } from './callback-proxy.ts';
import type { DoubledChannel } from './options.ts';
import type { Payer } from './payers.ts';
import type { Bought, Pressed } from './wallets.ts';

/** One double as the demo plays it. */
export interface DoubledWallet {
  readonly channel: DoubledChannel;
  /** The settings of the merchant's account, as `channels add` takes them. */
  readonly settings: Readonly<Record<string, string>>;
  /** The merchant says at the channel what there is to say of nodrop. @param callbackUrl the account's address. */
  register(callbackUrl: string): Promise<void>;
  pay(payment: Bought, isDeclined: boolean): Promise<Pressed>;
  /** Its own books, without what came of its callbacks. */
  ledger(signal: AbortSignal): Promise<readonly Omit<Trade, 'callbackAttempts'>[]>;
  /** One callback of each kind that a forger may send of a payment that nobody paid. */
  forge(payer: Payer, paymentId: string): Promise<readonly Callback[]>;
  /** A callback that the channel itself signs, and that says of the payment another amount than was paid. */
  withOtherAmount(paymentId: string): Promise<Callback>;
  /** What goes wrong with the requests of a second, and what the channel decides in it. @param second counted from 0. */
  tick(second: number): Promise<void>;
  stop(): Promise<void>;
}
