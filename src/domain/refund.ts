import type { CurrencyCode } from './money.ts';
import type { RefundReason, RefundStatus } from './states.ts';

/** When a refund is asked for and queried, and when a person should look at it. All durations are milliseconds. */

/** While the channel has a refund in process it is queried after these waits; the last repeats for ever. */
export const REFUND_QUERY_MS: readonly number[] = [
  ...Array(5).fill(60_000),
  ...[300_000, 600_000, 1_200_000, 1_800_000],
];

/** A refund that the channel does not answer is asked for again ever more rarely, up to this. */
export const REFUND_ASKED_EVERY_AT_MOST_MS = 60_000;

/** How often a refund that is held back looks whether it still is. */
export const REFUND_HELD_BACK_MS = 5 * 60_000;

/** At one look in so many the channel is asked whether the dispute is decided: what told of that may be lost. */
export const REFUND_HELD_BACK_ASKS_EVERY = 12;

/** A refund in whose row nothing happened for so long has no workflow any more: every answer, or none, is written. */
export const REFUND_QUIET_FOR_MS = 3_600_000;

/** A channel that is silent on a refund for so long, or does not know it, is a person's business. */
export const REFUND_FAILING_AFTER_MS = 3_600_000;

/** Banks take days: what the channel plainly has in process is given as long. */
export const REFUND_PROCESSING_AT_MOST_MS = 7 * 24 * 3_600_000;

/**
 * A refund is asked for under so many keys at most whose stored failure leaves unknown what the channel did; after them it
 * needs a person.
 */
export const REFUND_KEYS_AT_MOST = 2;

/** Under so many keys at most in all: those count too whose stored failure is a refusal that can end. */
export const REFUND_NUMBERS_AT_MOST = 9_999;

/** With a refusal that can end stored under each key, the next is asked at least so often. */
const REFUSED_KEY_AT_MOST_MS = 3_600_000;

/** Nothing is asked for once more before two complete listings so far apart do not show it. */
export const LISTINGS_APART_MS = 10 * 60_000;

/**
 * How long after a key was spent the next is asked, ms, at least.
 * @param refused how many keys in a row the channel has stored a refusal that can end under, such as a balance that is too
 *   low; with many of them the channel is asked more rarely
 */
export const nextKeyAfter = (refused: number): number =>
  Math.min(LISTINGS_APART_MS * 2 ** Math.min(Math.max(0, refused - 1), 10), REFUSED_KEY_AT_MOST_MS);

/** A request takes its time, and clocks differ: so long before its end a channel's promise of repeatability is over. */
const REPEATABLE_MARGIN_MS = 5 * 60_000;

/**
 * Whether a repetition is certainly the same request to the channel.
 * @param repeatableForMs the channel's declaration
 * @param askedAt when it was first asked for under its key, epoch ms
 * @param now epoch ms
 */
export const isRepeatable = (repeatableForMs: number | null, askedAt: number, now: number): boolean =>
  repeatableForMs === null || now < askedAt + repeatableForMs - REPEATABLE_MARGIN_MS;

/** A refund that succeeded is looked at again after this: banks return money. */
export const REFUND_LOOKED_AT_AGAIN_AFTER_MS = 7 * 24 * 3_600_000;

/** No query takes so long: what was settled this long ago, a query's answer is newer than. */
export const QUERIES_TAKE_AT_MOST_MS = 60_000;

/**
 * The row as workflows see it. It goes into Temporal's histories: ids, states and amounts only. Times are epoch
 * milliseconds, amounts minor units.
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
  /** Since when the channel has been silent on it, or has not known it; null before it was asked and while it answers. */
  readonly unknownSince: number | null;
  /** It succeeded, and is to be looked at again: it may have failed since. */
  readonly isToLookAgain?: boolean;
}
