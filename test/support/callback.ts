import { randomUUID } from 'node:crypto';
import type { TradeCallback } from '../../src/ledger/callbacks.ts';
import { signature } from '../simulator/support.ts';
import type { System } from './system.ts';

/**
 * Builds the request of a `trade.succeeded` callback for `fetch(...)`, as the simulator sends it. A test can
 * replace any part to make the request invalid.
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
      // The body that is sent may differ from the body that was signed.
      body: change.body ?? body,
    },
  ];
}

/** A verified callback that identifies its trade by the out-trade-no. */
export const ofTrade = ({
  outTradeNo,
  ...said
}: Pick<TradeCallback, 'notificationId' | 'answer' | 'refund'> & {
  readonly outTradeNo: string;
}): TradeCallback => ({ kind: 'trade', about: { outTradeNo }, ...said });
