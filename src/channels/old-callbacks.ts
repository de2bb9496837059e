/**
 * A callback reports the state of the payment at the time when the channel sent it. If the payer paid more than 10 min
 * before the callback arrives, nodrop queries the channel and does not rely on the callback. The merchant may have
 * refunded the payment at the channel meanwhile, and an order must not become paid with refunded money. The first
 * callback of a payment usually arrives within seconds, so it needs no query. The limit is 10 min, so that nodrop can
 * also rely on the first repetitions of a callback (Alipay: after 4 min and 10 min, WeChat Pay: after 15 s to 10 min)
 * and tolerate a wrong clock.
 */
const OLD_CALLBACK_MS = 10 * 60_000;

/** @param paidAt ISO 8601, by the channel's clock. @param now epoch ms */
export const isOldCallback = (paidAt: string, now: number): boolean =>
  now - Date.parse(paidAt) > OLD_CALLBACK_MS;
