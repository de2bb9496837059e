import { afterAll, beforeAll, beforeEach } from 'vitest';
import type { ChannelAccount, Credentials, NewRefund, NewTrade } from '../../../src/domain/channel.ts';
import { type AlipayDouble, oracleFolder, startAlipayDouble } from '../../doubles/alipay/start.ts';
import { accountOf, adapter, settingsOf } from './support.ts';

/** Shared set-up of the Alipay adapter's tests against the double. The double has its own code to verify and sign. */

export const METHODS = ['page', 'wap', 'precreate'] as const;

export let double: AlipayDouble;
export let account: ChannelAccount;

beforeAll(async () => {
  if (oracleFolder() !== undefined) double = await startAlipayDouble();
});
afterAll(() => double?.stop());
beforeEach(async () => {
  await double.tell('reset');
  // These tests receive no notifications.
  await double.tell('fate', { fate: 'lost' });
  account = accountOf(settingsOf(double));
});

/** Makes the adapter use another account for the rest of the test. */
export function useAccount(settings: Credentials): void {
  account = accountOf(settings);
}

export const query = (trade: NewTrade) => adapter.queryTrade(account, trade);
export const refundOf = (changes: Partial<NewRefund> = {}): NewRefund => ({
  outRefundNo: `ref_${Math.random().toString(36).slice(2)}`,
  channelRefundId: null,
  attempt: 1,
  amount: 1050,
  currency: 'CNY',
  total: 1050,
  ...changes,
});
export const seen = () => double.tell<{ method: string; params: Record<string, string> }[]>('seen');
