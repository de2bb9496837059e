/**
 * How long the API waits for what, in milliseconds. `test/api/deadlines.test.ts` holds what must be true of them: a
 * signal takes a part of its request's time, a request is answered before a stopping process gives it up, and that
 * comes before the process ends.
 */

/** From a request's start to its answer, whatever the channel and Temporal do. */
export const ANSWER_WITHIN_MS = 8_000;

/**
 * What Temporal gets at least for a next action, however long the database and the order's other channels took. A part
 * of `ANSWER_WITHIN_MS`, and beyond it only in a request whose time is nearly over.
 */
export const NEXT_ACTION_AT_LEAST_MS = 2_000;

/** One query of a channel, for whichever of those who share it has the most time. */
export const CHANNEL_ANSWERS_WITHIN_MS = 8_000;

/** The channel tells what a trade is that is to be adopted. */
export const ADOPTED_TRADE_WITHIN_MS = 5_000;

/** The same before a refund of all that is left: when the channel is silent, the ledger says how much that is. */
export const TRADE_ASKED_WITHIN_MS = 3_000;

/** Is Temporal there? Asked after a query that ended in its deadline: either can be the one that did not answer. */
export const TEMPORAL_LOOK_MS = 1_000;

/** Database and Temporal answer `/readyz` and `/details`, or count as unreachable. */
export const HEALTH_WITHIN_MS = 2_000;

/** Temporal takes a signal of what is in the ledger already. */
export const SIGNAL_WITHIN_MS = 2_000;

/** The same for an order's other attempts, whose end the request then waits for. */
export const SIGNAL_OTHERS_WITHIN_MS = 1_000;

/** A number of `/metrics` or `/details` is there, or is left out. */
export const COUNT_WITHIN_MS = 2_000;

/** The count of lost rows: it goes on for the next who looks. */
export const LOST_COUNT_WITHIN_MS = 5_000;

/** A stopping process ends requests that are still under way: before supervisors and container engines kill it. */
export const REQUEST_GIVEN_UP_MS = 9_000;

/** A stop that has not come to its end is one all the same. */
export const STOP_WITHIN_MS = 10_000;
