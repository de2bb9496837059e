/**
 * Which of its screens the page shows. What is not known is never shown as unpaid: whatever this page does not
 * understand, and whatever the service still asks about, is `asking`.
 *
 * @typedef {'loading' | 'preparing' | 'pay' | 'asking' | 'paid' | 'review' | 'returning' | 'returned' | 'unpaid'
 *   | 'expired' | 'gone'} Screen
 *
 * @param {import('./nodrop.js').VisiblePayment} payment
 * @param {{ now: number, mayHavePaid: boolean }} what `now` in epoch ms by the service's clock; `mayHavePaid` since
 *   the payer came back from the wallet or said so
 * @returns {Screen}
 */
export function screenOf(payment, { now, mayHavePaid }) {
  const expired = now >= Date.parse(payment.expiresAt);
  switch (payment.status) {
    case 'succeeded':
      return screenOfMoney(payment);
    case 'failed':
    case 'cancelled':
      return 'unpaid';
    case 'closed':
      return expired ? 'expired' : 'unpaid';
    case 'created':
      return expired || mayHavePaid ? 'asking' : isPayable(payment) ? 'pay' : 'preparing';
    case 'paying':
      return expired || mayHavePaid || !isPayable(payment) ? 'asking' : 'pay';
    default:
      return 'asking';
  }
}

/** @param {import('./nodrop.js').VisiblePayment} payment @returns {Screen} */
function screenOfMoney({ orderUpdate, refundedAmount, receivedAmount, amount }) {
  if (refundedAmount > 0 && refundedAmount >= (receivedAmount ?? amount)) return 'returned';
  switch (orderUpdate) {
    // Pending: the money is in and the order is ours; the shop is being told.
    case 'applied':
    case 'pending':
      return 'paid';
    case 'conflict':
      return 'returning';
    default:
      return 'review';
  }
}

/** True when the payer has something to act on here. @param {import('./nodrop.js').VisiblePayment} payment */
export function isPayable(payment) {
  return payUrlOf(payment) !== undefined || qrTextOf(payment) !== undefined;
}

/**
 * Where the pay button leads: a page, or a wallet's app. Nothing else, whatever a channel answered.
 * @param {import('./nodrop.js').VisiblePayment} payment
 */
export function payUrlOf({ nextAction }) {
  const url = nextAction?.url;
  return url !== undefined && /^(?:https?|alipays?|weixin|wxpay):/i.test(url) ? url : undefined;
}

/** What the QR code says. @param {import('./nodrop.js').VisiblePayment} payment */
export function qrTextOf(payment) {
  return payment.nextAction?.qr ?? payUrlOf(payment);
}
