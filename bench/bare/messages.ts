import { defineSignal, defineUpdate } from '@temporalio/workflow';

/** The names, update and signal of the bare workflow. */

export const BARE_TASK_QUEUE = 'bench-bare';
export const BARE_WORKFLOW = 'bare';

/** Resolves when the create activity has finished. */
export const createdUpdate = defineUpdate<void, []>('created');
export const paidSignal = defineSignal('paid');
