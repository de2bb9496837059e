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

/** Asks the channel about the payment now, once at a time; true when it answered. @throws TemporalUnavailable */
export type AskChannel = (payment: Payment) => Promise<boolean>;

/** What the API stands on. */
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
  /** True when the Temporal server answers within the deadline. */
  readonly isTemporalReachable: (deadlineMs: number) => Promise<boolean>;
  readonly channels: ReadonlyMap<string, ChannelAdapter>;
  /**
   * What the merchant of the development key gets accounts of.
   * @default none
   */
  readonly configured?: readonly ConfiguredAccount[];
  readonly changes: Changes;
  readonly log: Logger;
  readonly metrics: Metrics;
  /**
   * Returns when NODROP_SECRET is known to be the database's.
   * @throws when it is another, or the database cannot be asked now
   * @default nothing is checked
   */
  readonly requireSecret?: () => Promise<void>;
  /** @default the system's clock */
  readonly now?: () => Date;
  /** @default one of its own */
  readonly readiness?: Readiness;
  /** @default STREAMS */
  readonly streams?: StreamLimits;
  /** @default one of its own; whoever stops the API flushes it */
  readonly unverified?: UnverifiedCallbacks;
}

/** The same with its defaults filled in, and what its routes share. */
export interface Api extends Required<ApiDeps> {
  readonly askChannel: AskChannel;
  readonly streamSlots: StreamSlots;
  readonly failedLookups: FailedLookups;
}
