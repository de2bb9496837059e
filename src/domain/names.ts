/**
 * Defines the ids of workflows and schedules, and the names of task queues. This file has no imports, because workflow
 * code imports it.
 */

export const paymentWorkflowId = (paymentId: string): string => `payment/${paymentId}`;
export const paymentIdOf = (workflowId: string): string => workflowId.slice('payment/'.length);

export const refundWorkflowId = (refundId: string): string => `refund/${refundId}`;

export const deliveryWorkflowId = (deliveryId: string): string => `delivery/${deliveryId}`;

/** The id of the workflow that redelivers a merchant's undelivered events. */
export const redeliveryWorkflowId = (merchantId: string): string => `redelivery/${merchantId}`;

/** The id of the merchant to which the development API key belongs. */
export const DEVELOPMENT_MERCHANT = 'demo';

export const SWEEP_SCHEDULE_ID = 'nodrop-sweep';

/**
 * An activity fails with an error of this type if the ledger does not have the row. Temporal does not retry this error.
 */
export const ROW_LOST_FAILURE = 'RowLost';

/** The task queue of the workflows, and of activities that only use the ledger. */
export const MAIN_TASK_QUEUE = 'nodrop';
/**
 * The task queue of the sweep and its activities. It is separate, so that a backlog in another queue does not stop the
 * sweep.
 */
export const SWEEP_TASK_QUEUE = 'nodrop-sweep';
/**
 * The task queue of deliveries to order services. It is separate, so that an order service that hangs delays only
 * deliveries.
 */
export const ORDER_SERVICE_TASK_QUEUE = 'nodrop-order-services';
/** The task queue of creates, closes, refunds and single queries at a channel. */
export const channelTaskQueue = (channel: string): string => `channel-${channel}`;
/**
 * The task queue of a channel's scheduled queries. It is a separate queue, so that a backlog of scheduled queries never
 * delays a payer.
 */
export const pollTaskQueue = (channel: string): string => `channel-${channel}-poll`;
