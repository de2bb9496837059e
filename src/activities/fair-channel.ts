import type { ChannelAdapter } from '../domain/channel.ts';
import { Crowd } from '../order-service/calls-per-merchant.ts';
import { TurnedAway } from './failures.ts';

/** So many activities of a channel's task queue a worker runs at once. */
export const CHANNEL_PLACES = 100;
/** So many of one merchant's calls to the channel are under way at once, and never more than there are places left. */
export const CHANNEL_CALLS_AT_ONCE = 40;

/**
 * The same channel, whose calls of one merchant never take every place of the task queue while they hang. A call that
 * finds no place is not made and throws `TurnedAway`, which is no `ChannelError`: nothing is learnt of the trade, and
 * nothing is written down. One for each worker.
 */
export function fairChannel(adapter: ChannelAdapter): ChannelAdapter {
  const crowd = new Crowd(CHANNEL_PLACES, CHANNEL_CALLS_AT_ONCE);
  const turnAway = (waitMs: number): never => {
    throw new TurnedAway(waitMs);
  };
  return {
    ...adapter,
    createTrade: (account, trade, signal) =>
      crowd.hold(account.merchantId, trade.outTradeNo, turnAway, () =>
        adapter.createTrade(account, trade, signal),
      ),
    queryTrade: (account, outTradeNo, signal) =>
      crowd.hold(account.merchantId, outTradeNo, turnAway, () =>
        adapter.queryTrade(account, outTradeNo, signal),
      ),
    closeTrade: (account, outTradeNo, signal) =>
      crowd.hold(account.merchantId, outTradeNo, turnAway, () =>
        adapter.closeTrade(account, outTradeNo, signal),
      ),
    refundTrade: (account, refund, signal) =>
      crowd.hold(account.merchantId, refund.outRefundNo, turnAway, () =>
        adapter.refundTrade(account, refund, signal),
      ),
    queryRefund: (account, outTradeNo, outRefundNo, signal) =>
      crowd.hold(account.merchantId, outRefundNo, turnAway, () =>
        adapter.queryRefund(account, outTradeNo, outRefundNo, signal),
      ),
  };
}
