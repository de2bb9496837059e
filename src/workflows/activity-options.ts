import type { ActivityOptions, LocalActivityOptions } from '@temporalio/workflow';
import { DELIVERY_ATTEMPT_AT_MOST_MS } from '../domain/delivery.ts';
import { MAIN_TASK_QUEUE, ORDER_SERVICE_TASK_QUEUE, SWEEP_TASK_QUEUE } from '../domain/names.ts';
import { REFUND_ASKED_EVERY_AT_MOST_MS } from '../domain/refund.ts';

/**
 * The timeouts and retry policies of the workflows' activities. Each kind of work has one preset. Presets for channel
 * calls have no task queue, because the caller adds the queue of its channel.
 */

/** A retry policy without a limit, for work that must succeed. */
const UNTIL_DONE = { initialInterval: '1 s', backoffCoefficient: 2, maximumInterval: '1 m' } as const;

/**
 * Each failure of the activity carries the delay until the next attempt. The interval of 1 s applies only after a
 * worker was killed during an attempt.
 */
const AS_THE_FAILURE_SAYS = { initialInterval: '1 s', backoffCoefficient: 1 } as const;

/** Options of ledger writes that decide what the workflow does next. */
export const LEDGER = {
  taskQueue: MAIN_TASK_QUEUE,
  startToCloseTimeout: '10 s',
  retry: UNTIL_DONE,
} as const satisfies ActivityOptions;

/**
 * Options of ledger writes that must not delay the workflow. Such a write fails after 30 s, and the workflow repeats it
 * later.
 */
export const LEDGER_BRIEFLY = {
  ...LEDGER,
  scheduleToCloseTimeout: '30 s',
} as const satisfies ActivityOptions;

/**
 * Options of ledger reads, which are local activities with one attempt. local-activities.ts explains why they are not
 * retried.
 */
export const LEDGER_READ = {
  startToCloseTimeout: '10 s',
  retry: { maximumAttempts: 1 },
} as const satisfies LocalActivityOptions;

/**
 * The first attempt of an order update is a local activity, because a local activity takes one history event instead of
 * three, and needs no additional workflow task. The local activity holds a workflow task slot for at most 2 s. If it
 * fails, a regular activity with `LEDGER` continues the work.
 */
export const ORDER_UPDATE_AT_ONCE = {
  scheduleToCloseTimeout: '2 s',
  retry: { maximumAttempts: 1 },
} as const satisfies LocalActivityOptions;

/**
 * The longest time that one attempt to create a trade can take, even if the attempt's activity ends earlier. An attempt
 * sends no request after the payment's expiry, and an adapter's request times out after 8 s.
 */
export const CREATE_ATTEMPT_MS = 15_000;

/** Creating a trade is retried until the payment expires. The caller adds the schedule-to-close timeout. */
export const CREATE_TRADE = {
  startToCloseTimeout: CREATE_ATTEMPT_MS,
  retry: { ...UNTIL_DONE, maximumInterval: '30 s' },
} as const satisfies ActivityOptions;

/**
 * The timeout for renewing an expired next action. The API request that waits for the renewal times out earlier, and
 * is repeated.
 */
export const RENEWAL_MS = 15_000;

export const RENEW_ACTION = {
  startToCloseTimeout: RENEWAL_MS,
  retry: { maximumAttempts: 2 },
  cancellationType: 'ABANDON',
} as const satisfies ActivityOptions;

/**
 * If the ledger lacks the channel's own id of a trade, the activity first searches a listing of many pages
 * (`findTrade`). Each request for a page times out after 8 s.
 */
const LISTING_TAKES_AT_MOST = '60 s';

/** Options of the query before a payment is closed, and of the close itself. */
export const CLOSE_TRADE = {
  startToCloseTimeout: LISTING_TAKES_AT_MOST,
  retry: { ...UNTIL_DONE, maximumInterval: '5 m' },
} as const satisfies ActivityOptions;

/**
 * Options of a single query of the channel that an operator has requested. The operator's request waits for at most 12
 * s.
 */
export const ASK_ONCE = {
  startToCloseTimeout: '10 s',
  scheduleToCloseTimeout: '12 s',
  retry: { maximumAttempts: 1 },
  cancellationType: 'ABANDON',
} as const satisfies ActivityOptions;

export const QUERY_TRADE = {
  startToCloseTimeout: '10 s',
  retry: AS_THE_FAILURE_SAYS,
} as const satisfies ActivityOptions;

/** Options of scheduled queries of a trade, if the trade may have to be found in a listing first. */
export const FIND_AND_QUERY_TRADE = {
  ...QUERY_TRADE,
  startToCloseTimeout: LISTING_TAKES_AT_MOST,
} as const satisfies ActivityOptions;

/**
 * Options of a refund request. One attempt makes several calls of up to 8 s each. It queries the trade and the refund
 * number before the first request, queries the number after a refusal, and queries the trade at the end.
 */
export const REFUND_TRADE = {
  startToCloseTimeout: '60 s',
  retry: { ...UNTIL_DONE, maximumInterval: REFUND_ASKED_EVERY_AT_MOST_MS },
} as const satisfies ActivityOptions;

export const QUERY_REFUND = {
  startToCloseTimeout: '30 s',
  retry: AS_THE_FAILURE_SAYS,
} as const satisfies ActivityOptions;

export const ASK_TRADE_OF_REFUND = {
  startToCloseTimeout: LISTING_TAKES_AT_MOST,
  retry: UNTIL_DONE,
} as const satisfies ActivityOptions;

/**
 * Options of a delivery attempt. If the worker is killed during the attempt, the next attempt starts only after the
 * whole timeout.
 */
export const DELIVER_TO_ORDER_SERVICE = {
  taskQueue: ORDER_SERVICE_TASK_QUEUE,
  startToCloseTimeout: DELIVERY_ATTEMPT_AT_MOST_MS,
  retry: AS_THE_FAILURE_SAYS,
} as const satisfies ActivityOptions;

/** Options of the activity that sends signals to the workflows of one batch of deliveries. */
export const REDELIVER = {
  ...LEDGER,
  startToCloseTimeout: '30 s',
} as const satisfies ActivityOptions;

/**
 * Options of the check whether every delivery of a batch has been attempted. Each failure carries the delay until the
 * next check.
 */
export const AWAIT_BATCH = {
  ...LEDGER,
  retry: AS_THE_FAILURE_SAYS,
} as const satisfies ActivityOptions;

/** Options of one step of the sweep. After two failed attempts the step's work is left to the next sweep. */
export const SWEEP = {
  taskQueue: SWEEP_TASK_QUEUE,
  startToCloseTimeout: '50 s',
  retry: { maximumAttempts: 2 },
} as const satisfies ActivityOptions;

/**
 * After this number of failed attempts an attention is raised, and the retries continue. The attention is raised after
 * about 10 min (`updateOrder`), 2 min (`create`) or 1 min (`close`).
 */
export const ALARM_AFTER = { updateOrder: 16, create: 8, close: 6 } as const;
