import type { Trade } from './channel.ts';

/**
 * Rules for creating a trade: when nodrop may repeat a create request, and which expiry nodrop sends to the channel.
 * All functions in this file are pure, and all durations are in ms.
 */

/** A safety margin. It covers the longest duration of a request and the difference between workers' clocks. */
const REPEAT_MARGIN_MS = 60_000;

/**
 * True if the channel certainly treats a repeated create request as the same request.
 * @param firstAskedAt when nodrop sent the first create request
 * @param repeatableForMs the channel's idempotency horizon; null means forever
 */
export const mayRepeatCreate = (firstAskedAt: Date, repeatableForMs: number | null, now: Date): boolean =>
  repeatableForMs === null || now.getTime() < firstAskedAt.getTime() + repeatableForMs - REPEAT_MARGIN_MS;

/**
 * The expiry of a trade at the channel, ISO 8601. It is the payment's expiry, or a later time if the channel requires a
 * longer lifetime of the trade. The lifetime is measured from the first create request, so that every repetition sends
 * the same expiry.
 * @param atLeastMs the shortest lifetime that the channel accepts
 */
export const expiryAtChannel = (
  { expiresAt }: Pick<Trade, 'expiresAt'>,
  firstAskedAt: Date,
  atLeastMs: number,
): string => new Date(Math.max(Date.parse(expiresAt), firstAskedAt.getTime() + atLeastMs)).toISOString();
