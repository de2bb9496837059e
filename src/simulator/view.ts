import type { Refund, Trade } from './store.ts';

/** The amount of a trade in minor units. Once the trade is paid, it is the amount that the payer was charged. */
export const amountOf = ({ amount, charged, paidAt }: Trade): number =>
  paidAt !== null && charged !== undefined ? charged : amount;

/** A trade as merchants see it, in answers and in callbacks. */
export type TradeView = Pick<
  Trade,
  'outTradeNo' | 'state' | 'amount' | 'currency' | 'transactionId' | 'paidAt' | 'refunded'
>;

export function tradeView(trade: Trade): TradeView {
  const { outTradeNo, state, currency, transactionId, paidAt, refunded } = trade;
  return { outTradeNo, state, amount: amountOf(trade), currency, transactionId, paidAt, refunded };
}

/** A trade as the interface for tests and demos shows it in the ledger. */
export function ledgerView(trade: Trade) {
  const { outTradeNo, currency, state, paidAt, refunded, triggers = [] } = trade;
  const { createdCount, queryCount, callbackAttempts } = trade;
  return {
    outTradeNo,
    amount: amountOf(trade),
    currency,
    state,
    paidAt,
    refunded,
    triggers,
    createdCount,
    queryCount,
    callbackAttempts,
  };
}

/** A refund as merchants see it. `refundedAt` is null while the refund is in process. */
export function presentRefund(refund: Refund) {
  const { outRefundNo, outTradeNo, refundId, amount, state, settlesAt } = refund;
  const refundedAt = state === 'SUCCESS' ? settlesAt : null;
  return { outRefundNo, outTradeNo, refundId, amount, state, refundedAt };
}
