import { defineSignal, defineUpdate } from '@temporalio/workflow';
import { ROW_LOST } from '../domain/attention.ts';
import type { CallbackNotice, PaymentTerms } from '../domain/payment.ts';

/**
 * The inputs, signals and updates of the workflows. They are in a separate file, so that clients do not import
 * workflow code.
 */

export const PAYMENT_WORKFLOW = 'payment';
export const REFUND_WORKFLOW = 'refund';
export const DELIVERY_WORKFLOW = 'delivery';
export const REDELIVERY_WORKFLOW = 'redelivery';
export const SWEEP_WORKFLOW = 'sweep';
/** The result of a sweep. For each step it has the number of repaired rows, or the reason why the step failed. */
export type SweepResult = Readonly<Record<string, number | string>>;

/**
 * Input of a payment's workflow. It contains the configuration as it was at the workflow's start, because workflow code
 * never reads configuration.
 */
export interface PaymentInput extends PaymentTerms {
  /** The waits between scheduled queries, in ms; the last wait repeats until the expiry. */
  readonly queryScheduleMs: readonly number[];
  /** Set when the starter of the run has just inserted the payment's row, see `isUntouched`. */
  readonly isNew?: true;
}

/** Input of a refund's workflow. The workflow reads all other data from the ledger. */
export interface RefundInput {
  readonly refundId: string;
  /** The refunded payment. `recover --lost` needs this id if the refund's row is lost. */
  readonly paymentId: string;
  readonly channel: string;
}

/** Input of the workflow that delivers one event. The workflow reads all other data from the ledger. */
export interface DeliveryInput {
  readonly deliveryId: string;
}

/**
 * Input of the workflow that redelivers a merchant's waiting events. The workflow's activities read all other data from
 * the ledger.
 */
export interface RedeliveryInput {
  readonly merchantId: string;
  /** How many events the first batch holds. @default 1 */
  readonly size?: number;
}

/** Sent when a person requests that an event is delivered now, even if its delivery is already settled. */
export const redeliverSignal = defineSignal('redeliver');

/** A verified callback about the refund was stored. The argument is the callback's id. */
export const refundCallbackSignal = defineSignal<[string]>('callback');

/** A verified callback about the payment was stored. */
export const callbackSignal = defineSignal<[CallbackNotice]>('callback');
/**
 * The payer may have paid. With `tight` the workflow queries immediately and then every few seconds. Otherwise it
 * queries once.
 */
export const hintSignal = defineSignal<[{ readonly tight: boolean }]>('hint');
/**
 * The channel sent a notice, and the notice is in the ledger. After this signal the workflow queries the channel,
 * whatever the payment's status.
 */
export const noticeSignal = defineSignal('notice');
/** Sent after cancellation of the payment was requested. The request is already in the ledger. */
export const cancelSignal = defineSignal('cancel');
/**
 * Makes the workflow read its row again. The sweep, the API and the CLI send this signal after a change in the ledger.
 */
export const wakeSignal = defineSignal('wake');

/**
 * Renews an expired next action. If the renewal takes longer than 15 s, the payment keeps the expired action. If the
 * payment's status is `created`, the update completes when the status changes.
 */
export const nextActionUpdate = defineUpdate<void, []>('nextAction');
/** Queries the channel once, immediately. Returns false if the channel gave no readable answer. */
export const askChannelUpdate = defineUpdate<boolean, []>('askChannel');

/** Search attributes of type Keyword, which the Web UI shows and filters by. */
export const searchAttributes = {
  status: 'PaymentStatus',
  channel: 'PaymentChannel',
  orderId: 'OrderId',
  attention: 'PaymentAttention',
} as const;

/** The visibility query that finds the workflows that wait for a lost row. */
export const LOST_QUERY = `${searchAttributes.attention} = '${ROW_LOST}' AND ExecutionStatus = 'Running'`;
