import type { CurrencyCode } from './money.ts';
import type { RefundReason, RefundStatus } from './states.ts';

/** Defines when a refund is requested and queried, and when it needs attention. All durations are in milliseconds. */

/** The waits between queries of a refund while the channel processes it. The last wait repeats forever. */
export const REFUND_QUERY_MS: readonly number[] = [
  ...Array(5).fill(60_000),
  ...[300_000, 600_000, 1_200_000, 1_800_000],
];

/** The longest wait between two refund requests. nodrop repeats a refund request that the channel does not answer. */
export const REFUND_ASKED_EVERY_AT_MOST_MS = 60_000;

/** If a refund waits for the end of a dispute, nodrop checks at this interval whether it must still wait. */
export const REFUND_HELD_BACK_MS = 5 * 60_000;

/**
 * At every twelfth check, nodrop queries the channel about the dispute's end, because the callback that reports the end
 * may be lost.
 */
export const REFUND_HELD_BACK_ASKS_EVERY = 12;

/**
 * A running workflow records each answer of the channel, and each query without an answer, in the refund's row. So if
 * the row was not changed for this long, the workflow is not running.
 */
export const REFUND_QUIET_FOR_MS = 3_600_000;

/**
 * If the channel does not answer about a refund for this long, or only answers that it does not know the refund, nodrop
 * raises an attention.
 */
export const REFUND_FAILING_AFTER_MS = 3_600_000;

/**
 * If a refund is still processing at the channel after this time, nodrop raises an attention. Banks need several days
 * for a refund.
 */
export const REFUND_PROCESSING_AT_MOST_MS = 7 * 24 * 3_600_000;

/**
 * How many idempotency keys of a refund may end with a stored failure that leaves the outcome unknown. After that a
 * person must decide.
 */
export const REFUND_KEYS_AT_MOST = 2;

/**
 * The maximum number of idempotency keys of a refund. Keys that ended with a stored temporary refusal are also counted.
 */
export const REFUND_NUMBERS_AT_MOST = 9_999;

/**
 * The longest wait before nodrop uses the next key, if the channel has stored a temporary refusal under every key so
 * far.
 */
const REFUSED_KEY_AT_MOST_MS = 3_600_000;

/**
 * A refund is requested again only if two complete listings do not show it. nodrop reads the second listing this long
 * after the first one.
 */
export const LISTINGS_APART_MS = 10 * 60_000;

/**
 * If the channel has stored a failure under an idempotency key, nodrop waits at least this long (in ms) before it uses
 * the next key.
 * @param refused how many keys in a row have a stored temporary refusal, such as a balance that is too low. The wait
 *   grows with this number
 */
export const nextKeyAfter = (refused: number): number =>
  Math.min(LISTINGS_APART_MS * 2 ** Math.min(Math.max(0, refused - 1), 10), REFUSED_KEY_AT_MOST_MS);

/**
 * nodrop stops repeating a refund request this long before the end of the channel's idempotency horizon. This margin
 * covers the request's duration and clock differences.
 */
const REPEATABLE_MARGIN_MS = 5 * 60_000;

/**
 * True if the channel certainly treats a repeated refund request as the same one.
 * @param repeatableForMs the channel's idempotency horizon; null means forever
 * @param askedAt when the refund was first requested under its key, epoch ms
 * @param now epoch ms
 */
export const isRepeatable = (repeatableForMs: number | null, askedAt: number, now: number): boolean =>
  repeatableForMs === null || now < askedAt + repeatableForMs - REPEATABLE_MARGIN_MS;

/** nodrop checks a succeeded refund again after this time, because a bank can return the money. */
export const REFUND_LOOKED_AT_AGAIN_AFTER_MS = 7 * 24 * 3_600_000;

/**
 * The longest duration of a query. If an answer arrives at least this long after a settlement, its query was sent after
 * the settlement. So the answer is newer than the settlement.
 */
export const QUERIES_TAKE_AT_MOST_MS = 60_000;

/**
 * The part of a refund's row that workflows get. Temporal's histories store it. So it contains only ids, states and
 * amounts. Times are epoch milliseconds, and amounts are in minor units.
 */
export interface RefundSnapshot {
  readonly id: string;
  readonly paymentId: string;
  readonly orderId: string;
  readonly channel: string;
  readonly amount: number;
  readonly currency: CurrencyCode;
  readonly status: RefundStatus;
  readonly reason: RefundReason;
  readonly createdAt: number;
  /**
   * The time since which the channel has not answered about the refund, or has answered that it does not know the
   * refund. Null before the first request, and while the channel answers.
   */
  readonly unknownSince: number | null;
  /** True if the refund succeeded and nodrop must check it again now, because the bank may have returned the money. */
  readonly isToLookAgain?: boolean;
}
