import { payUrlOf } from './browsers.js';

/** What a page can do. Any other next action is done by the app or the shop's page that has the channel's own kit. */
const IN_PAGES = new Set(['redirect', 'qr']);

/** A channel that has not answered by then may be in trouble. */
const PREPARED_WITHIN_MS = 8_000;

/**
 * Which of its screens the page shows. What is not known is never shown as unpaid: whatever this page does not
 * understand, and whatever the service still asks about, is `asking`. Nor is this attempt ever taken for the order:
 * another one may have paid it (`settled`), or be undecided.
 *
 * @typedef {'loading' | 'preparing' | 'slow' | 'pay' | 'outside' | 'elsewhere' | 'no-form' | 'lapsed' | 'asking' | 'telling' | 'paid'
 *   | 'settled' | 'review' | 'returning' | 'returned' | 'unpaid' | 'expired' | 'gone'} Screen
 *
 * @param {import('./nodrop.js').PaymentForPayer} payment
 * @param {{ now: number, mayHavePaid: boolean, where?: import('./browsers.js').Where }} what `now` in epoch ms by the
 *   service's clock; `mayHavePaid` since the payer came back from the wallet or said so; `where` the payer can pay
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
      // Nothing is undecided: the channel's address or code has had its time.
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
  // Of what came in, which need not be what was asked for.
  const isAllBack = receivedAmount !== null && refundedAmount >= receivedAmount;
  switch (orderUpdate) {
    case 'applied':
      return isAllBack ? 'returned' : 'paid';
    // The money is in and the order is this payment's; the shop is being told.
    case 'pending':
      return 'telling';
    case 'conflict':
      // Where nothing is owed any more, all has gone back by other ways.
      return isAllBack ? 'returned' : 'returning';
    default:
      return 'review';
  }
}

/** Here the payer still has time to pay. @type {ReadonlySet<Screen>} */
export const COUNTED = new Set(['slow', 'pay', 'outside', 'elsewhere', 'no-form']);
/** Nothing comes after these. @type {ReadonlySet<Screen>} */
export const ENDS = new Set(['paid', 'returned', 'gone']);
/** Here the payer has something to do before the way back to the shop. @type {ReadonlySet<Screen>} */
const BEFORE_THE_WAY_BACK = new Set(['pay', 'lapsed', 'loading', 'preparing']);

/**
 * True where the page shows the way back to the shop. The service allows no other schemes; what a tab remembers, and
 * what stands in the ledger, is checked as well. As it was normalised it begins with its scheme in small letters.
 * @param {Screen} screen
 * @param {string | undefined} url
 * @param {readonly string[]} neverSchemes
 * @returns {url is string}
 */
export function showsWayBack(screen, url, neverSchemes) {
  return !BEFORE_THE_WAY_BACK.has(screen) && leadsBack(url, neverSchemes);
}

/**
 * True for an address that the page may lead back to.
 * @param {string | undefined} url
 * @param {readonly string[]} neverSchemes
 * @returns {url is string}
 */
export function leadsBack(url, neverSchemes) {
  const scheme = /^([a-z][a-z0-9+.-]*):/.exec(url ?? '')?.[1];
  return scheme !== undefined && !neverSchemes.includes(scheme);
}

/** True when the payer has something to act on here. @param {import('./nodrop.js').PaymentForPayer} payment */
export function isPayable(payment) {
  return payUrlOf(payment) !== undefined || payment.nextAction?.qr !== undefined;
}
