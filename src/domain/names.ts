/** The names of workflows, schedules and task queues, in one place. Imported by workflow code: nothing heavy here. */

export const paymentWorkflowId = (paymentId: string): string => `payment/${paymentId}`;
export const paymentIdOf = (workflowId: string): string => workflowId.slice('payment/'.length);

export const refundWorkflowId = (refundId: string): string => `refund/${refundId}`;

export const deliveryWorkflowId = (deliveryId: string): string => `delivery/${deliveryId}`;

/** Tells what waits for the order service of a merchant. */
export const redeliveryWorkflowId = (merchantId: string): string => `redelivery/${merchantId}`;

/** The merchant that the development key speaks for. */
export const DEVELOPMENT_MERCHANT = 'demo';

export const SWEEP_SCHEDULE_ID = 'nodrop-sweep';

/** The type of an activity's failure that says that the ledger has no such row, and that trying again is no use. */
export const ROW_LOST_FAILURE = 'RowLost';

/** Workflows and the ledger. */
export const MAIN_TASK_QUEUE = 'nodrop';
/** The sweep and its activities, apart: nothing that fills the other queues stops it. */
export const SWEEP_TASK_QUEUE = 'nodrop-sweep';
/** Calls of merchants' order services, apart: one that hangs keeps nothing else waiting. */
export const ORDER_SERVICE_TASK_QUEUE = 'nodrop-order-services';
/** Create, close, refund and single queries at a channel. */
export const channelTaskQueue = (channel: string): string => `channel-${channel}`;
/** The scheduled queries, apart, so that a backlog of polls never delays a payer. */
export const pollTaskQueue = (channel: string): string => `channel-${channel}-poll`;
