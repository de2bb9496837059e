import type { ChannelAdapter } from '../domain/channel.ts';
import type { LedgerClient } from '../ledger/client.ts';
import type { DeliveryWorkflows } from '../temporal/delivery-workflows.ts';
import type { PaymentWorkflows } from '../temporal/payment-workflows.ts';

/** What activities work with. */
export interface ActivityDeps {
  readonly db: LedgerClient;
  readonly channels: ReadonlyMap<string, ChannelAdapter>;
  /** The API's address as channels and payers reach it, without a trailing slash. */
  readonly publicUrl: string;
  /** Makes the token in the wallet's return address, see src/client-token.ts. */
  readonly secret: string;
  /** How long an order service may not know an order before money moves. @default a day */
  readonly orderUnknownForMs?: number;
  /** Has order services told at once of what the ledger records. */
  readonly deliveryWorkflows: Pick<DeliveryWorkflows, 'start' | 'redeliverWaiting'>;
  /** Has a payment's workflow look again when a refund has decided it. */
  readonly workflows: Pick<PaymentWorkflows, 'wake'>;
  /** The clock of everything written to the ledger; the time-skipping tests bring their own. */
  readonly now: () => Promise<Date>;
}
