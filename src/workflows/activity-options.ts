import type { ActivityOptions, LocalActivityOptions } from '@temporalio/workflow';
import { DELIVERY_ATTEMPT_AT_MOST_MS } from '../domain/delivery.ts';
import { MAIN_TASK_QUEUE, ORDER_SERVICE_TASK_QUEUE, SWEEP_TASK_QUEUE } from '../domain/names.ts';
import { REFUND_ASKED_EVERY_AT_MOST_MS } from '../domain/refund.ts';

/**
 * How long the workflows' activities may take, and how often they are retried: one preset for each kind of work. The
 * channel's task queues are added where the channel is known.
 */

/** Retried without end, as the work must be done. */
const UNTIL_DONE = { initialInterval: '1 s', backoffCoefficient: 2, maximumInterval: '1 m' } as const;

/** Every delay comes with the failure; only a worker that was killed in an attempt costs this second. */
const AS_THE_FAILURE_SAYS = { initialInterval: '1 s', backoffCoefficient: 1 } as const;

/** Writes that decide what happens next. */
export const LEDGER = {
  taskQueue: MAIN_TASK_QUEUE,
  startToCloseTimeout: '10 s',
  retry: UNTIL_DONE,
} as const satisfies ActivityOptions;

/** Writes that must not delay anything: given up soon, and repeated later. */
export const LEDGER_BRIEFLY = {
  ...LEDGER,
  scheduleToCloseTimeout: '30 s',
} as const satisfies ActivityOptions;

/** Reads, as local activities. One attempt, as a retry would hold the workflow task or a timer: see local.ts. */
export const LEDGER_READ = {
  startToCloseTimeout: '10 s',
  retry: { maximumAttempts: 1 },
} as const satisfies LocalActivityOptions;

/**
 * The order update is tried once as a local activity, as nearly always nothing is in its way: one event instead of three
 * and no workflow task of its own. It waits for no turn, and holds a task slot no longer than this; then it is `LEDGER`'s.
 */
export const ORDER_UPDATE_AT_ONCE = {
  scheduleToCloseTimeout: '2 s',
  retry: { maximumAttempts: 1 },
} as const satisfies LocalActivityOptions;

/**
 * No attempt to create a trade is under way for longer, also one whose activity has ended before it: it sends no request
 * after the expiry, and an adapter gives a request up after 8 s.
 */
export const CREATE_ATTEMPT_MS = 15_000;

/** Until the payment expires: a schedule-to-close time-out is added where that is known. */
export const CREATE_TRADE = {
  startToCloseTimeout: CREATE_ATTEMPT_MS,
  retry: { ...UNTIL_DONE, maximumInterval: '30 s' },
} as const satisfies ActivityOptions;

/** A new next action is given up after this: whoever wants it has given up before, and asks again. */
export const RENEWAL_MS = 15_000;

export const RENEW_ACTION = {
  startToCloseTimeout: RENEWAL_MS,
  retry: { maximumAttempts: 2 },
  cancellationType: 'ABANDON',
} as const satisfies ActivityOptions;

/**
 * Where the channel's own id of a trade is not on record it is looked for first (`findTrade`), in a listing of many pages.
 * Each of its requests is given up after 8 s.
 */
const LISTING_TAKES_AT_MOST = '60 s';

/** The query before a payment is closed, and the close. */
export const CLOSE_TRADE = {
  startToCloseTimeout: LISTING_TAKES_AT_MOST,
  retry: { ...UNTIL_DONE, maximumInterval: '5 m' },
} as const satisfies ActivityOptions;

/** One query for an operator, who does not wait longer than this. */
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

/** The same of a trade that may have to be looked for first. */
export const FIND_AND_QUERY_TRADE = {
  ...QUERY_TRADE,
  startToCloseTimeout: LISTING_TAKES_AT_MOST,
} as const satisfies ActivityOptions;

/** Calls of 8 s: trade and number before the first, a refusal is looked into, and the trade is queried last. */
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

/** A worker that was killed while it told an order service costs the whole time-out. */
export const DELIVER_TO_ORDER_SERVICE = {
  taskQueue: ORDER_SERVICE_TASK_QUEUE,
  startToCloseTimeout: DELIVERY_ATTEMPT_AT_MOST_MS,
  retry: AS_THE_FAILURE_SAYS,
} as const satisfies ActivityOptions;

/** Signals to as many workflows as are told at once. */
export const REDELIVER = {
  ...LEDGER,
  startToCloseTimeout: '30 s',
} as const satisfies ActivityOptions;

/** Looks again as often as its failure says, until a batch has been told. */
export const AWAIT_BATCH = {
  ...LEDGER,
  retry: AS_THE_FAILURE_SAYS,
} as const satisfies ActivityOptions;

/** A step that cannot be finished is left to the next sweep. */
export const SWEEP = {
  taskQueue: SWEEP_TASK_QUEUE,
  startToCloseTimeout: '50 s',
  retry: { maximumAttempts: 2 },
} as const satisfies ActivityOptions;

/** Attempts after which somebody is told, and the work goes on all the same: about 10 min, 2 min and 1 min. */
export const ALARM_AFTER = { updateOrder: 16, create: 8, close: 6 } as const;
