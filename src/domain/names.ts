/** The names of workflows, schedules and task queues, in one place. Imported by workflow code: nothing heavy here. */

export const paymentWorkflowId = (paymentId: string): string => `payment/${paymentId}`;
export const paymentIdOf = (workflowId: string): string => workflowId.slice('payment/'.length);

export const refundWorkflowId = (refundId: string): string => `refund/${refundId}`;

export const SWEEP_SCHEDULE_ID = 'nodrop-sweep';

/** Workflows and the ledger. */
export const MAIN_TASK_QUEUE = 'nodrop';
/** Create, close, refund and single queries at a channel. */
export const channelTaskQueue = (channel: string): string => `channel-${channel}`;
/** The scheduled queries, apart, so that a backlog of polls never delays a payer. */
export const pollTaskQueue = (channel: string): string => `channel-${channel}-poll`;
