import type { ChannelAdapter } from '../domain/channel.ts';
import type { LedgerClient } from '../ledger/client.ts';
import type { DeliveryWorkflows } from '../temporal/delivery-workflows.ts';
import type { PaymentWorkflows } from '../temporal/payment-workflows.ts';

export interface ActivityDeps {
  readonly db: LedgerClient;
  readonly channels: ReadonlyMap<string, ChannelAdapter>;
  /** The API's public address, which channels and payers use. It has no trailing slash. */
  readonly publicUrl: string;
  /**
   * The value of NODROP_SECRET. nodrop derives the client token from it (see src/client-token.ts). The URL to which the
   * wallet returns the payer contains that token.
   */
  readonly secret: string;
  /**
   * An order counts as gone after its order service has answered for this time that it does not know the order.
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
