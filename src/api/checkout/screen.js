import { payUrlOf } from './browsers.js';

/**
 * Types of next actions that the cashier page supports. Any other next action needs an app or a shop page with the
 * channel's own SDK.
 */
const IN_PAGES = new Set(['redirect', 'qr']);

/** If the channel does not answer in this time, the page says that the payment takes longer. */
const PREPARED_WITHIN_MS = 8_000;

/**
 * Decides which screen the page shows. The page never shows an unknown state as unpaid. If the page does not know a
 * state, or if the service is still querying the channel, the screen is `asking`. If another attempt has paid the
 * order, the screen is `settled`. If another attempt is undecided, the screen is `asking`.
 *
 * @typedef {'loading' | 'preparing' | 'slow' | 'pay' | 'outside' | 'elsewhere' | 'no-form' | 'lapsed' | 'asking' |
 * 'telling' | 'paid' | 'settled' | 'review' | 'returning' | 'returned' | 'unpaid' | 'expired' | 'gone'} Screen
 *
 * @param {import('./nodrop.js').PaymentForPayer} payment
 * @param {{ now: number, mayHavePaid: boolean, where?: import('./browsers.js').Where }} options `now` in epoch ms by
 * the service's clock; `mayHavePaid` if the payer returned from the wallet or pressed "I have paid"; `where` says
 * where the payer can pay
 * @returns {Screen}
 */
export function screenOf(payment, { now, mayHavePaid, where = 'here' }) {
  if (payment.status === 'succeeded') return screenOfMoney(payment);
  if (payment.orderState === 'paid') return 'settled';
  if (payment.orderState !== 'open' && payment.orderState !== 'over') return 'asking';
  const expired = now >= Date.parse(payment.expiresAt);
  switch (payment.status) {
    case 'failed':
    case 'cancelled':
      return 'unpaid';
    case 'closed':
      return expired ? 'expired' : 'unpaid';
    case 'created':
    case 'paying':
      if (expired || mayHavePaid || payment.orderState !== 'open') return 'asking';
      if (isPayable(payment)) return where === 'here' ? 'pay' : 'outside';
      if (payment.status === 'created')
        return now >= Date.parse(payment.createdAt) + PREPARED_WITHIN_MS ? 'slow' : 'preparing';
      // The order is open, so a missing next action means that the channel's URL or code has expired.
      if (payment.nextAction === null) return 'lapsed';
      if (IN_PAGES.has(payment.nextAction.type)) return 'asking';
      return where === 'here' ? 'elsewhere' : 'outside';
    default:
      return 'asking';
  }
}

/** @param {import('./nodrop.js').PaymentForPayer} payment @returns {Screen} */
function screenOfMoney({ orderUpdate, receivedAmount, refundedAmount, refundReason, refundStatus }) {
  if (refundReason !== null) return refundStatus === 'succeeded' ? 'returned' : 'returning';
  // The refunded amount is compared with the received amount. The received amount can differ from the requested amount.
  const isAllBack = receivedAmount !== null && refundedAmount >= receivedAmount;
  switch (orderUpdate) {
    case 'applied':
      return isAllBack ? 'returned' : 'paid';
    // The money has arrived, and the event is being delivered to the shop.
    case 'pending':
      return 'telling';
    case 'conflict':
      // nodrop does not owe a refund, but all money may have been refunded in another way.
      return isAllBack ? 'returned' : 'returning';
    default:
      return 'review';
  }
}

/** Screens that count down the time left to pay. @type {ReadonlySet<Screen>} */
export const COUNTED = new Set(['slow', 'pay', 'outside', 'elsewhere', 'no-form']);
/** Final screens. @type {ReadonlySet<Screen>} */
export const ENDS = new Set(['paid', 'returned', 'gone']);
/**
 * Screens that show no link back to the shop, because the payer should pay or wait first. @type {ReadonlySet<Screen>}
 */
const BEFORE_THE_WAY_BACK = new Set(['pay', 'lapsed', 'loading', 'preparing']);

/**
 * True if the page shows the link back to the shop. The service already refuses forbidden schemes. The page checks the
 * URL again, because the URL may come from the tab's storage or from an old row.
 * @param {Screen} screen
 * @param {string | undefined} url
 * @param {readonly string[]} neverSchemes
 * @returns {url is string}
 */
export function showsWayBack(screen, url, neverSchemes) {
  return !BEFORE_THE_WAY_BACK.has(screen) && leadsBack(url, neverSchemes);
}

/**
 * True for a URL that the page may use as the link back to the shop. Return URLs are stored normalised, with a
 * lower-case scheme.
 * @param {string | undefined} url
 * @param {readonly string[]} neverSchemes
 * @returns {url is string}
 */
export function leadsBack(url, neverSchemes) {
  const scheme = /^([a-z][a-z0-9+.-]*):/.exec(url ?? '')?.[1];
  return scheme !== undefined && !neverSchemes.includes(scheme);
}

/**
 * True if the payment has a link or a code with which the payer can pay on this page.
 * @param {import('./nodrop.js').PaymentForPayer} payment
 */
export function isPayable(payment) {
  return payUrlOf(payment) !== undefined || payment.nextAction?.qr !== undefined;
}
