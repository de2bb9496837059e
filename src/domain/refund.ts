import type { CurrencyCode } from './money.ts';
import type { RefundReason, RefundStatus } from './states.ts';

/** When a refund is requested and queried, and when it needs attention. All durations are milliseconds. */

/** The waits between queries of a refund that the channel processes; the last one repeats forever. */
export const REFUND_QUERY_MS: readonly number[] = [
  ...Array(5).fill(60_000),
  ...[300_000, 600_000, 1_200_000, 1_800_000],
];

/** The longest interval between requests of a refund that the channel does not answer. */
export const REFUND_ASKED_EVERY_AT_MOST_MS = 60_000;

/** The interval at which a refund that waits for a dispute checks whether it must still wait. */
export const REFUND_HELD_BACK_MS = 5 * 60_000;

/** At every twelfth check the channel is queried for the dispute's end, because the callback about it may be lost. */
export const REFUND_HELD_BACK_ASKS_EVERY = 12;

/**
 * If a refund's row was unchanged for this long, its workflow is gone, because a running workflow records every answer
 * and every missing answer.
 */
export const REFUND_QUIET_FOR_MS = 3_600_000;

/** If the channel does not answer about a refund, or does not know it, for this long, an attention is raised. */
export const REFUND_FAILING_AFTER_MS = 3_600_000;

/** If the channel processes a refund for this long, an attention is raised. Banks take days. */
export const REFUND_PROCESSING_AT_MOST_MS = 7 * 24 * 3_600_000;

/**
 * How many keys of a refund may end with a stored failure that leaves the outcome unknown. After that a person must
 * decide.
 */
export const REFUND_KEYS_AT_MOST = 2;

/** The maximum number of keys of a refund. Keys whose stored failure is a temporary refusal are included. */
export const REFUND_NUMBERS_AT_MOST = 9_999;

/** The longest wait before the next key, if the channel has stored a temporary refusal under each key so far. */
const REFUSED_KEY_AT_MOST_MS = 3_600_000;

/**
 * A refund is requested again only if two complete listings do not show it. The second listing is read this long after
 * the first.
 */
export const LISTINGS_APART_MS = 10 * 60_000;

/**
 * The shortest wait before the next key, in ms, after the channel has stored a failure under the previous one.
 * @param refused the number of keys in a row with a stored temporary refusal, such as a balance that is too low; the
 *   wait grows with it
 */
export const nextKeyAfter = (refused: number): number =>
  Math.min(LISTINGS_APART_MS * 2 ** Math.min(Math.max(0, refused - 1), 10), REFUSED_KEY_AT_MOST_MS);

/**
 * Safety margin before the end of the channel's idempotency horizon, for the request's duration and clock differences.
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

/** A succeeded refund is checked again after this time, because banks can return the money. */
export const REFUND_LOOKED_AT_AGAIN_AFTER_MS = 7 * 24 * 3_600_000;

/**
 * The longest duration of a query. The answer of a query is newer than everything that was settled this long before the
 * answer.
 */
export const QUERIES_TAKE_AT_MOST_MS = 60_000;

/**
 * The refund's row as workflows see it. Temporal's histories store it, so it contains only ids, states and amounts.
 * Times are epoch milliseconds, amounts minor units.
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
   * Since when the channel has not answered about the refund, or has answered that it does not know the refund. Null
   * before the first request and while the channel answers.
   */
  readonly unknownSince: number | null;
  /** True if the refund succeeded and is due for another check, because the bank may have returned the money. */
  readonly isToLookAgain?: boolean;
}
