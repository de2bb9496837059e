/**
 * All deadlines of the API, in milliseconds. `test/api/deadlines.test.ts` checks their order. The deadline of a signal
 * is shorter than the deadline of its request. A stopping process answers its requests, then closes their connections,
 * then exits.
 */

/** Maximum time from the start of a request to its answer, even if the channel or Temporal is slow. */
export const ANSWER_WITHIN_MS = 8_000;

/**
 * A request waits at least this long for a next action, even if its earlier steps have used up the time. So a request
 * may take longer than `ANSWER_WITHIN_MS`.
 */
export const NEXT_ACTION_AT_LEAST_MS = 2_000;

/**
 * Deadline of a query to a channel. Several requests may share one query. No request waits longer than this for its
 * query.
 */
export const CHANNEL_ANSWERS_WITHIN_MS = 8_000;

/** Deadline for the channel's answer about a trade that nodrop should adopt. */
export const ADOPTED_TRADE_WITHIN_MS = 5_000;

/**
 * Deadline for the query before a refund of the whole remaining amount. If the channel does not answer in time, the
 * refund uses the remaining amount in the ledger.
 */
export const TRADE_ASKED_WITHIN_MS = 3_000;

/**
 * Deadline for a check of Temporal after a query has timed out. The check shows whether Temporal is down, or whether
 * only the channel did not answer.
 */
export const TEMPORAL_LOOK_MS = 1_000;

/** `/readyz` and `/details` report the database or Temporal as unreachable if it does not answer within this time. */
export const HEALTH_WITHIN_MS = 2_000;

/**
 * Deadline for Temporal to accept a signal. If a signal fails, nothing is lost, because the ledger already contains the
 * content of the signal.
 */
export const SIGNAL_WITHIN_MS = 2_000;

/**
 * Deadline for a signal to the other attempts of an order. It is shorter than `SIGNAL_WITHIN_MS`, because the request
 * also waits until those attempts have ended.
 */
export const SIGNAL_OTHERS_WITHIN_MS = 1_000;

/** Deadline for each number in `/metrics` and `/details`. A number that is not ready in time is left out. */
export const COUNT_WITHIN_MS = 2_000;

/**
 * Deadline for the count of workflows whose row is missing. It is longer than `COUNT_WITHIN_MS`. So if a count is slow,
 * the current request gets no number, but the next request can get the result.
 */
export const LOST_COUNT_WITHIN_MS = 5_000;

/** A stopping process cuts off open requests after this time, before supervisors and container engines kill it. */
export const REQUEST_GIVEN_UP_MS = 9_000;

/** A stopping process exits after this time, even if it could not stop cleanly. */
export const STOP_WITHIN_MS = 10_000;
