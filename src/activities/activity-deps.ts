import type { ChannelAdapter } from '../domain/channel.ts';
import type { LedgerClient } from '../ledger/client.ts';
import type { DeliveryWorkflows } from '../temporal/delivery-workflows.ts';
import type { PaymentWorkflows } from '../temporal/payment-workflows.ts';

export interface ActivityDeps {
  readonly db: LedgerClient;
  readonly channels: ReadonlyMap<string, ChannelAdapter>;
  /** The API's address as channels and payers reach it, without a trailing slash. */
  readonly publicUrl: string;
  /**
   * The value of NODROP_SECRET. It derives the client token in the URL to which the wallet returns the payer, see
   * src/client-token.ts.
   */
  readonly secret: string;
  /**
   * If an order service answers for this long that it does not know an order, the order counts as gone.
   * @default a day
   */
  readonly orderUnknownForMs?: number;
  /** Starts the deliveries of new events immediately. */
  readonly deliveryWorkflows: Pick<DeliveryWorkflows, 'start' | 'redeliverWaiting'>;
  /** Makes a payment's workflow read the payment's row again after a refund has changed the row. */
  readonly workflows: Pick<PaymentWorkflows, 'wake'>;
  /**
   * The clock for everything that is written to the ledger. Tests with a time-skipping server pass that server's clock.
   */
  readonly now: () => Promise<Date>;
}
