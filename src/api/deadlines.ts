/**
 * All deadlines of the API, in milliseconds. `test/api/deadlines.test.ts` checks how they relate: a signal takes only a
 * part of its request's time, a request is answered before a stopping process cuts it off, and that happens before the
 * process exits.
 */

/** From a request's start to its answer, even if the channel or Temporal is slow. */
export const ANSWER_WITHIN_MS = 8_000;

/**
 * The minimum time for Temporal to get a next action, even if the database and the order's other channels were slow.
 * Part of `ANSWER_WITHIN_MS`; a request can only exceed that if its time is nearly up when this wait begins.
 */
export const NEXT_ACTION_AT_LEAST_MS = 2_000;

/** Deadline of a query to a channel. Callers share one query, so this is the longest time that any of them allows. */
export const CHANNEL_ANSWERS_WITHIN_MS = 8_000;

/** Deadline for the channel's answer about a trade to adopt. */
export const ADOPTED_TRADE_WITHIN_MS = 5_000;

/**
 * Deadline for the query before a refund of all that is left. Without an answer, the ledger decides how much that is.
 */
export const TRADE_ASKED_WITHIN_MS = 3_000;

/**
 * Deadline for a check of Temporal after a query timed out, to find out whether Temporal or the channel did not answer.
 */
export const TEMPORAL_LOOK_MS = 1_000;

/** Database and Temporal count as unreachable in `/readyz` and `/details` if they do not answer within this time. */
export const HEALTH_WITHIN_MS = 2_000;

/**
 * Deadline for Temporal to accept a signal. The ledger already has what the signal says, so a failure loses nothing.
 */
export const SIGNAL_WITHIN_MS = 2_000;

/**
 * Deadline for a signal to an order's other attempts. Shorter than `SIGNAL_WITHIN_MS`, because the request then waits
 * until those attempts end.
 */
export const SIGNAL_OTHERS_WITHIN_MS = 1_000;

/** Deadline for each number in `/metrics` and `/details`; a number that is not ready by then is left out. */
export const COUNT_WITHIN_MS = 2_000;

/**
 * Deadline for the count of lost rows. Longer than the deadline of a reader, so that the next reader gets the result of
 * a slow count.
 */
export const LOST_COUNT_WITHIN_MS = 5_000;

/** A stopping process cuts off open requests after this time, before supervisors and container engines kill it. */
export const REQUEST_GIVEN_UP_MS = 9_000;

/** A stopping process exits after this time, even if it could not stop cleanly. */
export const STOP_WITHIN_MS = 10_000;
