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
  const { findTrade } = adapter;
  return {
    ...adapter,
    createTrade: (account, trade, signal) =>
      crowd.hold(account.merchantId, trade.outTradeNo, turnAway, () =>
        adapter.createTrade(account, trade, signal),
      ),
    ...(findTrade === undefined
      ? {}
      : {
          findTrade: (account, trade, signal) =>
            crowd.hold(account.merchantId, trade.outTradeNo, turnAway, () =>
              findTrade(account, trade, signal),
            ),
        }),
    queryTrade: (account, trade, signal) =>
      crowd.hold(account.merchantId, trade.outTradeNo, turnAway, () =>
        adapter.queryTrade(account, trade, signal),
      ),
    closeTrade: (account, trade, signal) =>
      crowd.hold(account.merchantId, trade.outTradeNo, turnAway, () =>
        adapter.closeTrade(account, trade, signal),
      ),
    refundTrade: (account, trade, refund, signal) =>
      crowd.hold(account.merchantId, refund.outRefundNo, turnAway, () =>
        adapter.refundTrade(account, trade, refund, signal),
      ),
    queryRefund: (account, trade, refund, signal) =>
      crowd.hold(account.merchantId, refund.outRefundNo, turnAway, () =>
        adapter.queryRefund(account, trade, refund, signal),
      ),
  };
}
