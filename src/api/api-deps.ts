import type { Config } from '../config.ts';
import type { ChannelAdapter, ConfiguredAccount } from '../domain/channel.ts';
import type { LedgerClient } from '../ledger/client.ts';
import type { Payment } from '../ledger/rows.ts';
import type { Logger } from '../log.ts';
import type { DeliveryWorkflows } from '../temporal/delivery-workflows.ts';
import type { PaymentWorkflows } from '../temporal/payment-workflows.ts';
import type { RefundWorkflows } from '../temporal/refund-workflows.ts';
import type { Changes } from './changes.ts';
import type { StreamLimits } from './http/event-stream.ts';
import type { FailedLookups } from './http/failed-lookups.ts';
import type { StreamSlots } from './http/stream-slots.ts';
import type { Metrics } from './metrics.ts';
import type { Readiness } from './readiness.ts';
import type { UnverifiedCallbacks } from './unverified-callbacks.ts';

/**
 * Queries the channel of a payment now. At most one query per payment runs at a time. Returns true if the channel
 * answered.
 * @throws TemporalUnavailable
 */
export type AskChannel = (payment: Payment) => Promise<boolean>;

/** The dependencies of the API. */
export interface ApiDeps {
  readonly config: Pick<
    Config,
    'mode' | 'embeddedDatabase' | 'secret' | 'temporal' | 'api' | 'paymentExpiryMs'
  >;
  readonly db: LedgerClient;
  readonly workflows: Pick<
    PaymentWorkflows,
    'start' | 'awaitNextAction' | 'askChannel' | 'hint' | 'cancel' | 'wake' | 'deliverCallback' | 'notice'
  >;
  readonly refundWorkflows: Pick<RefundWorkflows, 'start' | 'deliverCallback'>;
  readonly deliveryWorkflows: Pick<DeliveryWorkflows, 'start' | 'wake' | 'redeliver' | 'redeliverWaiting'>;
  /** True if the Temporal server answers within `deadlineMs`. */
  readonly isTemporalReachable: (deadlineMs: number) => Promise<boolean>;
  readonly channels: ReadonlyMap<string, ChannelAdapter>;
  /**
   * The channel accounts that nodrop gives to the merchant of the development key.
   * @default none
   */
  readonly configured?: readonly ConfiguredAccount[];
  readonly changes: Changes;
  readonly log: Logger;
  readonly metrics: Metrics;
  /**
   * Checks that the database was written with the configured NODROP_SECRET.
   * @throws if the secret of the database differs, or if the database cannot be read now
   * @default no check
   */
  readonly requireSecret?: () => Promise<void>;
  /** @default the system's clock */
  readonly now?: () => Date;
  /** @default a new instance */
  readonly readiness?: Readiness;
  /** @default STREAMS */
  readonly streams?: StreamLimits;
  /** The buffer of unverifiable callbacks. It must be flushed when the API stops. @default a new instance */
  readonly unverified?: UnverifiedCallbacks;
}

/** The dependencies of the API with all defaults filled in, and the objects that all routes share. */
export interface Api extends Required<ApiDeps> {
  readonly askChannel: AskChannel;
  readonly streamSlots: StreamSlots;
  readonly failedLookups: FailedLookups;
}
