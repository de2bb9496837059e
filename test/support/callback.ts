import { randomUUID } from 'node:crypto';
import type { TradeCallback } from '../../src/ledger/callbacks.ts';
import { signature } from '../simulator/support.ts';
import type { System } from './system.ts';

/**
 * The request of a `trade.succeeded` callback as the simulator sends it, for `fetch(...)`. Any part can be overridden
 * to make it invalid.
 */
export function callbackFor(
  system: System,
  outTradeNo: string,
  change: {
    amount?: number;
    secret?: string;
    id?: string;
    timestamp?: number;
    body?: string;
    path?: string;
  } = {},
): [string, RequestInit] {
  const id = change.id ?? `msg_${randomUUID()}`;
  const timestamp = change.timestamp ?? Math.floor(Date.now() / 1000);
  const data = {
    outTradeNo,
    state: 'SUCCESS',
    amount: change.amount ?? 1990,
    currency: 'CNY',
    transactionId: `trx-${outTradeNo}`,
    paidAt: new Date().toISOString(),
  };
  const body = JSON.stringify({ type: 'trade.succeeded', data });
  const secret = change.secret ?? system.config.simulator.secrets.simulator ?? '';
  return [
    `${system.apiUrl}${change.path ?? '/callbacks/simulator'}`,
    {
      method: 'POST',
      headers: {
        'content-type': 'application/json',
        'webhook-id': id,
        'webhook-timestamp': String(timestamp),
        'webhook-signature': signature(secret, id, timestamp, body),
      },
      // The sent body may differ from the signed body.
      body: change.body ?? body,
    },
  ];
}

/** A verified callback that reports a trade by its out-trade-no. */
export const ofTrade = ({
  outTradeNo,
  ...said
}: Pick<TradeCallback, 'notificationId' | 'answer' | 'refund'> & {
  readonly outTradeNo: string;
}): TradeCallback => ({ kind: 'trade', about: { outTradeNo }, ...said });
