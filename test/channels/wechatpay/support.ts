import { randomUUID } from 'node:crypto';
import { createWechatpayAdapter } from '../../../src/channels/wechatpay/adapter.ts';
import type {
  CallbackRequest,
  ChannelAccount,
  ChannelError,
  CreatedTrade,
  Credentials,
  NewRefund,
  NewTrade,
} from '../../../src/domain/channel.ts';

export const accountOf = (...credentials: readonly Credentials[]): ChannelAccount => ({
  ...{ id: 'acc_1', merchantId: 'default', channel: 'wechatpay', credentials },
});

export const newAdapter = createWechatpayAdapter;

const MINUTE_MS = 60_000;

/** A new payment. With `ageMinutes`, the payment was created that many minutes ago. */
export function newTrade(changes: Partial<NewTrade> = {}, ageMinutes = 0): NewTrade {
  const created = Date.now() - ageMinutes * MINUTE_MS;
  return {
    outTradeNo: `p_${randomUUID().replaceAll('-', '').slice(0, 26)}`,
    ...{ method: 'native', amount: 1990, currency: 'CNY', reference: null, subject: '两张电影票' },
    createdAt: new Date(created).toISOString(),
    expiresAt: new Date(created + 30 * MINUTE_MS).toISOString(),
    notifyUrl: 'http://127.0.0.1:9/callbacks/wechatpay/acc_1/p/proof',
    returnUrl: 'https://shop.example/return/p?token=ct_1',
    payer: { id: 'o-openid-1', ip: '203.0.113.7' },
    ...changes,
  };
}

let nth = 0;
export function refundOf({ amount: total, currency }: NewTrade, amount = 500): NewRefund {
  nth += 1;
  return {
    outRefundNo: `r_${Date.now()}_${nth}`,
    channelRefundId: null,
    attempt: 1,
    amount,
    total,
    currency,
  };
}

export function actionOf(created: CreatedTrade | 'not_renewable') {
  if (created === 'not_renewable') throw new Error('the trade has no next action');
  return created.action;
}

/** Returns the error of a call that must fail. */
export const errorOf = (call: Promise<unknown>): Promise<ChannelError> =>
  call.then(
    (value) => {
      throw new Error(`the call returned ${JSON.stringify(value)}`);
    },
    (error: ChannelError) => error,
  );

export const requestOf = (made: unknown): CallbackRequest => {
  const { headers, body } = made as { headers: Record<string, string>; body: string };
  return { headers, rawBody: Buffer.from(body) };
};
