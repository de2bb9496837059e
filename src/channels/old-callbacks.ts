/**
 * A callback says what was true when it was made. For a payment that is older than this when it comes in, the channel is
 * asked instead: at its merchant platform the money may have gone back since, and an order must not become paid by money
 * that is gone. The first callbacks of a payment come within seconds and spare the query; 10 min leave room for their
 * first repetitions (Alipay: 4 min and 10 min later, WeChat Pay: 15 s to 10 min) and for a clock that is off.
 */
const OLD_CALLBACK_MS = 10 * 60_000;

/** @param paidAt ISO 8601, by the channel's clock. @param now epoch ms */
export const isOldCallback = (paidAt: string, now: number): boolean =>
  now - Date.parse(paidAt) > OLD_CALLBACK_MS;
