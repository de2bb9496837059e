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
   * The value of NODROP_SECRET. nodrop derives each payment's client token from it (see src/client-token.ts). The
   * return URL, which the wallet opens after the payment, contains that token.
   */
  readonly secret: string;
  /**
   * If an order service answers for this long that it does not know an order, nodrop treats the order as deleted.
   * @default a day
   */
  readonly orderUnknownForMs?: number;
  /** Starts the deliveries of new events immediately. */
  readonly deliveryWorkflows: Pick<DeliveryWorkflows, 'start' | 'redeliverWaiting'>;
  /** Wakes a payment's workflow after a refund has changed the payment's row. The workflow then reads the row again. */
  readonly workflows: Pick<PaymentWorkflows, 'wake'>;
  /**
   * The clock for everything that is written to the ledger. Tests with a time-skipping server pass that server's clock.
   */
  readonly now: () => Promise<Date>;
}
