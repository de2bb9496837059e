import type { ChannelAdapter } from '../domain/channel.ts';
import { MerchantConcurrency } from '../order-service/merchant-concurrency.ts';
import { MerchantBusy } from './failures.ts';

/** How many activities of one channel task queue a worker runs at the same time. */
export const CHANNEL_SLOTS = 100;
/**
 * The largest number of calls that one merchant may have in flight to a channel. When few slots are free, one
 * merchant may have fewer calls in flight.
 */
export const CHANNEL_CALLS_AT_ONCE = 40;

/**
 * Limits the concurrent calls of one merchant to a channel, so that hanging calls cannot use up the task queue's slots.
 * A call beyond the limit is not made and throws `MerchantBusy`. `MerchantBusy` is not a `ChannelError`, because a call
 * that was not made says nothing about the trade. Nothing is recorded for such a call. Each worker must create its own
 * limited adapter.
 */
export function limitedChannel(adapter: ChannelAdapter): ChannelAdapter {
  const concurrency = new MerchantConcurrency(CHANNEL_SLOTS, CHANNEL_CALLS_AT_ONCE);
  const onBusy = (waitMs: number): never => {
    throw new MerchantBusy(waitMs);
  };
  const { findTrade } = adapter;
  return {
    ...adapter,
    createTrade: (account, trade, signal) =>
      concurrency.hold(account.merchantId, trade.outTradeNo, onBusy, () =>
        adapter.createTrade(account, trade, signal),
      ),
    ...(findTrade === undefined
      ? {}
      : {
          findTrade: (account, trade, signal) =>
            concurrency.hold(account.merchantId, trade.outTradeNo, onBusy, () =>
              findTrade(account, trade, signal),
            ),
        }),
    queryTrade: (account, trade, signal) =>
      concurrency.hold(account.merchantId, trade.outTradeNo, onBusy, () =>
        adapter.queryTrade(account, trade, signal),
      ),
    closeTrade: (account, trade, signal) =>
      concurrency.hold(account.merchantId, trade.outTradeNo, onBusy, () =>
        adapter.closeTrade(account, trade, signal),
      ),
    refundTrade: (account, trade, refund, signal) =>
      concurrency.hold(account.merchantId, refund.outRefundNo, onBusy, () =>
        adapter.refundTrade(account, trade, refund, signal),
      ),
    queryRefund: (account, trade, refund, signal) =>
      concurrency.hold(account.merchantId, refund.outRefundNo, onBusy, () =>
        adapter.queryRefund(account, trade, refund, signal),
      ),
  };
}
