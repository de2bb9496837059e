import type { Refund, Trade } from './store.ts';

/** A trade as the channel side and the callbacks show it. */
export type TradeView = Pick<
  Trade,
  'outTradeNo' | 'state' | 'amount' | 'currency' | 'transactionId' | 'paidAt' | 'refunded'
>;

export function tradeView(trade: Trade): TradeView {
  const { outTradeNo, state, amount, currency, transactionId, paidAt, refunded } = trade;
  return { outTradeNo, state, amount, currency, transactionId, paidAt, refunded };
}

/** A trade as the ledger of the control side shows it. */
export function ledgerView(trade: Trade) {
  const { outTradeNo, amount, currency, state, paidAt, refunded } = trade;
  const { createdCount, queryCount, callbackAttempts } = trade;
  return {
    outTradeNo,
    amount,
    currency,
    state,
    paidAt,
    refunded,
    createdCount,
    queryCount,
    callbackAttempts,
  };
}

/** A refund as the channel side shows it; `refundedAt` is null while it is in process. */
export function refundView(refund: Refund) {
  const { outRefundNo, outTradeNo, refundId, amount, state, settlesAt } = refund;
  const refundedAt = state === 'SUCCESS' ? settlesAt : null;
  return { outRefundNo, outTradeNo, refundId, amount, state, refundedAt };
}
