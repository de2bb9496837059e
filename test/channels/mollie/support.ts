import { randomUUID } from 'node:crypto';
import { createMollieAdapter } from '../../../src/channels/mollie/adapter.ts';
import type {
  ChannelAccount,
  ChannelAdapter,
  ChannelError,
  Credentials,
  NewRefund,
  NewTrade,
  Trade,
} from '../../../src/domain/channel.ts';
import type { Chargeback, Payment, Refund } from '../../doubles/mollie/books.ts';
import type { MollieDouble } from '../../doubles/mollie/start.ts';

export const CREDENTIALS = { api_key: 'test_doubleOursOursOursOurs' } as const;
export const THEIRS = { api_key: 'test_doubleTheirsTheirsTheirs' } as const;

export const accountOf = (...credentials: readonly Credentials[]): ChannelAccount => ({
  id: 'acc_1',
  merchantId: 'default',
  channel: 'mollie',
  credentials,
});

export const ACCOUNT = accountOf(CREDENTIALS);

export const adapterAt = (url: string): ChannelAdapter => createMollieAdapter({ url });

export function newTrade(changes: Partial<NewTrade> = {}): NewTrade {
  const now = Date.now();
  return {
    outTradeNo: `pay_${randomUUID().replaceAll('-', '')}`.slice(0, 32),
    method: 'checkout',
    amount: 1050,
    currency: 'EUR',
    createdAt: new Date(now).toISOString(),
    expiresAt: new Date(now + 15 * 60_000).toISOString(),
    reference: null,
    subject: 'Two tickets',
    notifyUrl: 'https://shop.example/callbacks/mollie/acc_1/pay_1/proof',
    returnUrl: 'https://shop.example/done',
    payer: {},
    ...changes,
  };
}

/** Creates the trade, and returns it with its reference. */
export async function created(adapter: ChannelAdapter, trade: NewTrade = newTrade()): Promise<NewTrade> {
  const made = await adapter.createTrade(ACCOUNT, trade);
  if (made === 'not_renewable' || made.reference === undefined) throw new Error('no trade was created');
  return { ...trade, reference: made.reference };
}

export const idOf = (trade: Trade): string => trade.reference?.id ?? '';

export const refundOf = (trade: Trade, changes: Partial<NewRefund> = {}): NewRefund => ({
  outRefundNo: `ref_${randomUUID().replaceAll('-', '')}`.slice(0, 32),
  channelRefundId: null,
  attempt: 1,
  amount: 400,
  currency: trade.currency,
  total: trade.amount,
  ...changes,
});

/** Returns the error of a call that must fail. */
export const errorOf = (call: Promise<unknown>): Promise<ChannelError> =>
  call.then(
    (value) => {
      throw new Error(`the call returned ${JSON.stringify(value)}`);
    },
    (error: ChannelError) => error,
  );

export interface State {
  readonly payments: readonly (Payment & { readonly metadata: { nodrop_payment?: string } | null })[];
  readonly refunds: readonly (Refund & { readonly metadata: { nodrop_refund?: string } | null })[];
  readonly chargebacks: readonly Chargeback[];
}

/** Returns the content of the double's books. */
export const stateOf = async (double: MollieDouble): Promise<State> =>
  (await double.tell('state', {})) as State;
