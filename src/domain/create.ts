import type { Trade } from './channel.ts';

/** When a request to create a trade may go out, and what it says of the expiry. Pure; all durations are milliseconds. */

/** What a request takes at most, and what the clocks of workers differ. */
const REPEAT_MARGIN_MS = 60_000;

/**
 * Whether a repeated create is certainly the same request to the channel.
 * @param firstAskedAt when the first one went out
 * @param repeatableForMs the channel's idempotency horizon; null: for ever
 */
export const mayRepeatCreate = (firstAskedAt: Date, repeatableForMs: number | null, now: Date): boolean =>
  repeatableForMs === null || now.getTime() < firstAskedAt.getTime() + repeatableForMs - REPEAT_MARGIN_MS;

/**
 * Until when a channel is to let a trade live, ISO 8601: the payment's expiry, or the channel's shortest. The channel counts
 * from the request, so the time of the first one counts, which stays the same.
 * @param atLeastMs the channel's shortest
 */
export const expiryAtChannel = (
  { expiresAt }: Pick<Trade, 'expiresAt'>,
  firstAskedAt: Date,
  atLeastMs: number,
): string => new Date(Math.max(Date.parse(expiresAt), firstAskedAt.getTime() + atLeastMs)).toISOString();
