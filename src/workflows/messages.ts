import { defineSignal, defineUpdate } from '@temporalio/workflow';
import { ROW_LOST } from '../domain/attention.ts';
import type { CallbackNotice, PaymentTerms } from '../domain/payment.ts';

/** What workflows are started with and told. Kept apart from the workflow so that clients need no more. */

export const PAYMENT_WORKFLOW = 'payment';
export const REFUND_WORKFLOW = 'refund';
export const DELIVERY_WORKFLOW = 'delivery';
export const REDELIVERY_WORKFLOW = 'redelivery';
export const SWEEP_WORKFLOW = 'sweep';
/** Of each step how many rows it repaired, or why it could not. */
export type SweepResult = Readonly<Record<string, number | string>>;

/** Snapshotted at the start: configuration is never read in workflow code. */
export interface PaymentInput extends PaymentTerms {
  /** The waits between active queries, in ms, the last repeated up to the expiry. */
  readonly queryScheduleMs: readonly number[];
  /** Whoever started the run had just written the row: see `isUntouched`. */
  readonly isNew?: true;
}

/** What there is to know beyond it is in the ledger. */
export interface RefundInput {
  readonly refundId: string;
  /** Of which the money goes back: asked about when the refund's row is lost. */
  readonly paymentId: string;
  readonly channel: string;
}

/** What there is to know beyond it is in the ledger. */
export interface DeliveryInput {
  readonly deliveryId: string;
}

/** What there is to know beyond it is in the ledger. */
export interface RedeliveryInput {
  readonly merchantId: string;
  /** So many are told at first. @default 1 */
  readonly size?: number;
}

/** A person wants the order service told now, also of what is settled. */
export const redeliverSignal = defineSignal('redeliver');

/** A verified callback was stored that tells of the refund: its id. */
export const refundCallbackSignal = defineSignal<[string]>('callback');

/** A verified callback was stored. */
export const callbackSignal = defineSignal<[CallbackNotice]>('callback');
/** The payer may have paid: `tight` asks at once and then every few seconds, otherwise one query is due. */
export const hintSignal = defineSignal<[{ readonly tight: boolean }]>('hint');
/** The channel has news of the payment, in whatever status it is: it is asked. That it has is in the ledger. */
export const noticeSignal = defineSignal('notice');
/** The wish to cancel is in the ledger. */
export const cancelSignal = defineSignal('cancel');
/** Look at the ledger again: the sweep or an operator says so. */
export const wakeSignal = defineSignal('wake');

/**
 * Makes an expired next action anew. That is given up after 15 s, and then the old action is all there is. Of a payment
 * that is `created` it resolves when it has left that.
 */
export const nextActionUpdate = defineUpdate<void, []>('nextAction');
/** Asks the channel once, now. False when it gave no readable answer. */
export const askChannelUpdate = defineUpdate<boolean, []>('askChannel');

/** Keyword search attributes, shown and filtered by in the Web UI. */
export const searchAttributes = {
  status: 'PaymentStatus',
  channel: 'PaymentChannel',
  orderId: 'OrderId',
  attention: 'PaymentAttention',
} as const;

/** Lists the workflows that wait for a row that is gone. */
export const LOST_QUERY = `${searchAttributes.attention} = '${ROW_LOST}' AND ExecutionStatus = 'Running'`;
