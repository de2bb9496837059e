import { defineSignal, defineUpdate } from '@temporalio/workflow';

/** The names of the bare workflow, its update and its signal. */

export const BARE_TASK_QUEUE = 'bench-bare';
export const BARE_WORKFLOW = 'bare';

/** The update that resolves when the create activity has finished. */
export const createdUpdate = defineUpdate<void, []>('created');
export const paidSignal = defineSignal('paid');
