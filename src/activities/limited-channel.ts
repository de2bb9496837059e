import type { ChannelAdapter } from '../domain/channel.ts';
import { MerchantConcurrency } from '../order-service/merchant-concurrency.ts';
import { MerchantBusy } from './failures.ts';

/** So many activities of a channel's task queue a worker runs at once. */
export const CHANNEL_SLOTS = 100;
/** So many of one merchant's calls to the channel are under way at once, and never more than there are places left. */
export const CHANNEL_CALLS_AT_ONCE = 40;

/**
 * The same channel, whose calls of one merchant never take every place of the task queue while they hang. A call that
 * finds no place is not made and throws `MerchantBusy`, which is no `ChannelError`: nothing is learnt of the trade, and
 * nothing is written down. One for each worker.
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
